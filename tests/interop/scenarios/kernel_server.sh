# The kernel's own NFS server, for our client: exports a tmpfs at /srv/x, over RDMA on port 20049 and TCP on 2049, MOUNT on 20048.
source /ctl/lib.sh

serve() {
  mkdir -p /srv/x; mount -t tmpfs -o size=2g export /srv/x
  rpcbind -w; modprobe nfsd; modprobe rpcrdma; mount -t nfsd nfsd /proc/fs/nfsd
  exportfs -o rw,insecure,no_root_squash,fsid=7,no_subtree_check '*:/srv/x'
  rpc.mountd -p 20048; rpc.nfsd -N 4 4
  echo "rdma 20049" >/proc/fs/nfsd/portlist
  grep -q 'rdma 20049' /proc/fs/nfsd/portlist
}
make_files() {
  mkdir -p /srv/x/from_guest/many; cd /srv/x/from_guest
  for size in $SIZES; do head -c "$size" /dev/urandom >"$size"; done
  sha256sum [0-9]* >/ctl/from_guest.sha256
  truncate -s 5G sparse; echo -n "far out" | dd of=sparse bs=4096 seek=1310000 conv=notrunc status=none
  for i in $(seq 500); do echo "$i" >"many/$i"; done
}
far_in() { # what our client put there the last time, as the guest sees it
  [[ $(stat -c %s /srv/x/far_in) == 5368709120 && $(dd if=/srv/x/far_in bs=4096 skip=1310000 count=1 status=none | tr -d '\0') == "far out" ]]
}
files_of() { cd "/srv/x/from_host_$1"; sha256sum --quiet -c /ctl/from_host.sha256; }
attributes_of() {
  cd "/srv/x/from_host_$1"
  [[ $(stat -c '%a %.3Y' attributes) == "640 981173106.125" && $(readlink soft) == attributes && $(stat -c %h hard) == 2 ]]
}

check "the kernel serves over RDMA" serve
check "files for the client" make_files
touch /ctl/exported
check "the client comes to its end" wait_for /ctl/client_done 600
check "a sparse file that our client wrote beyond 4 GiB" far_in
for route in rdma rdma-crc tcp; do
  check "files that our client wrote ($route)" files_of $route
  check "attributes and links that our client set ($route)" attributes_of $route
done
finish
