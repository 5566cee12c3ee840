# The kernel's NFSv3 client on our server, over $PROTO. Made before: /ctl/expected.sha256 (files that lie in the export under from_host/),
# tree/ in the export with $TREE_FILES files of $TREE_BYTES bytes in all, from_host_sparse of 5 GiB with its md5sum in /ctl/sparse.md5.
# Left for after: to_host/ in the export, /ctl/written.sha256, and in /ctl/sparse what was written where in to_host/sparse.
source /ctl/lib.sh
mnt=/mnt/n

mount_export() {
  timeout 60 mount -t nfs -o "vers=3,proto=$PROTO,port=$PORT,mountport=$MOUNTPORT,mountproto=tcp,nolock,noacl,timeo=300" "$SERVER:$EXPORT" $mnt
  grep -q ",proto=$PROTO," <(grep " $mnt " /proc/mounts)
}
unmount_export() { cd /; timeout 60 umount $mnt; }
remount() { unmount_export; mount_export; echo 3 >/proc/sys/vm/drop_caches; }

read_files() { cd $mnt/from_host; sha256sum --quiet -c /ctl/expected.sha256; }

write_files() {
  mkdir $mnt/to_host; cd /tmp; rm -rf source; mkdir source
  for size in $SIZES; do head -c "$size" /dev/urandom >"source/$size"; done
  cp source/* $mnt/to_host/
  (cd source; sha256sum ./*) >/tmp/written.sha256; cp /tmp/written.sha256 /ctl/written.sha256
  rm -r source
}
read_back() { remount; cd $mnt/to_host; sha256sum --quiet -c /tmp/written.sha256; }

# a file beyond 2^32 bytes: written in a few places, holes between them read as zeros
sparse_file() {
  local file=$mnt/to_host/sparse at
  truncate -s 5G $file
  for at in 0 2147479552 4294963200 5368700928; do
    head -c 8192 /dev/urandom >/tmp/piece
    dd if=/tmp/piece of=$file bs=4096 seek=$((at / 4096)) conv=notrunc,fsync status=none
    echo "$at $(sha256sum </tmp/piece | cut -d' ' -f1)" >>/ctl/sparse
  done
  [[ $(stat -c %s $file) == 5368709120 ]]
  remount
  while read -r at hash; do
    [[ $(dd if=$file bs=4096 skip=$((at / 4096)) count=2 status=none | sha256sum | cut -d' ' -f1) == "$hash" ]] || { echo "differs at $at"; exit 1; }
  done </ctl/sparse
  [[ $(dd if=$file bs=1M skip=3072 count=64 status=none | tr -d '\0' | wc -c) == 0 ]]
}

read_5_gib() { md5sum <$mnt/from_host_sparse | cmp - /ctl/sparse.md5; }

fio_verify() { # $1: extra options
  mkdir -p $mnt/fio
  # shellcheck disable=SC2086
  timeout 300 fio --name=verify --directory=$mnt/fio --size=24M --bsrange=512-256k --rw=randrw --verify=crc32c --verify_fatal=1 --end_fsync=1 $1
  rm -r $mnt/fio
}

list_tree() {
  [[ $(ls -lR $mnt/tree | awk '/^-/ { n++; bytes += $5 } END { print n, bytes }') == "$TREE_FILES $TREE_BYTES" ]]
}
read_tree() { [[ $(find $mnt/tree -type f -exec cat {} + | wc -c) == "$TREE_BYTES" ]]; }

names_and_links() {
  cd $mnt; mkdir -p names/a/b; cd names
  echo text >file; mv file a/moved; ln a/moved hard; ln -s a/moved soft
  [[ $(cat soft) == text && $(stat -c %h hard) == 2 && $(readlink soft) == a/moved ]]
  touch $'not utf-8 \xff\xfe' 'spaces and "quotes"'; [[ $(ls | wc -l) == 5 ]]
  mkfifo fifo; [[ $(stat -c %F fifo) == fifo ]]
  mv a/moved a/b/again; mv a/b c; [[ $(cat c/again) == text ]]
  rm -r a; [[ ! -e a ]]
  if rmdir c; then echo "rmdir removed a directory with a file in it"; exit 1; fi
  cd $mnt; rm -r names; [[ ! -e names ]]
}
attributes() {
  cd $mnt; echo text >attr; chmod 0604 attr; chown 1234:5678 attr
  touch -d '2001-02-03T04:05:06.123456789Z' attr
  remount; cd $mnt
  [[ $(stat -c '%a %u %g %s' attr) == "604 1234 5678 5" ]]
  [[ $(stat -c '%.9Y' attr) == 981173106.123456789 ]]
  truncate -s 2 attr; [[ $(cat attr) == te ]]; truncate -s 6 attr; [[ $(od -An -c attr | tr -d ' \n') == 'te\0\0\0\0' ]]
  df $mnt | tail -1 | awk '$2 > 0 && $4 > 0 { found = 1 } END { exit !found }'
  rm attr
}
append_and_overwrite() {
  cd $mnt; rm -f log; local i
  for i in $(seq 200); do echo "line $i" >>log; done
  [[ $(wc -l <log) == 200 && $(tail -1 log) == "line 200" ]]
  printf 'LINE' | dd of=log conv=notrunc status=none; [[ $(head -1 log) == "LINE 1" ]]
  exec 9>>log; rm log; echo "removed while open" >&9; exec 9>&-; [[ ! -e log ]]
}
several_at_once() { # eight writers and readers, one connection
  cd $mnt; mkdir many; local i
  for i in 1 2 3 4 5 6 7 8; do
    ( head -c 2000003 /dev/urandom >/tmp/many.$i; for _ in 1 2 3; do cp /tmp/many.$i many/$i; cmp /tmp/many.$i many/$i; done ) &
  done
  for i in $(jobs -p); do wait "$i"; done
  rm -r many /tmp/many.*
}

check "mount vers=3,proto=$PROTO ($LABEL)" mount_export
check "read files from the host ($LABEL)" read_files
check "write files to the host ($LABEL)" write_files
check "read them back after a remount ($LABEL)" read_back
check "a sparse file of 5 GiB ($LABEL)" sparse_file
check "read 5 GiB from end to end ($LABEL)" read_5_gib
check "fio --verify=crc32c through the page cache ($LABEL)" fio_verify "--ioengine=psync"
check "fio --verify=crc32c direct, 8 at once ($LABEL)" fio_verify "--ioengine=libaio --direct=1 --iodepth=8"
check "ls -lR on $TREE_FILES files ($LABEL)" list_tree
check "read $TREE_FILES files ($LABEL)" read_tree
check "names and links ($LABEL)" names_and_links
check "attributes ($LABEL)" attributes
check "append, overwrite, remove while open ($LABEL)" append_and_overwrite
check "eight processes at once ($LABEL)" several_at_once
check "unmount ($LABEL)" unmount_export
finish
