# perftest's programs over siw against `weft perf --perftest`, both ways. $CLIENTS, $SERVERS: words TOOL:PORT, of servers there and of servers here, for
# all sizes; $SHORT_CLIENTS, $SHORT_SERVERS: the same for runs that are captured. $N messages of a size. $TIMED: the port of a write_bw server.
source /ctl/lib.sh
all_sizes=$(for ((i = 1; i < 24; i++)); do echo $((1 << i)); done)

# the sizes of the rows in a table
rows() { awk -v n="$N" '$1 ~ /^[0-9]+$/ && $2 == n { print $1 }' "$1"; }

# client TOOL PORT OPTION...: measures with the server there
client() {
  local tool=$1 port=$2 status=0; shift 2
  timeout 120 "ib_$tool" -R -F -p "$port" "$@" "$SERVER" >/tmp/client.out 2>/tmp/client.err || status=$?
  cat /tmp/client.out /tmp/client.err
  [[ $status == 0 ]]
}
whole() { client "$@" -a -n "$N"; [[ $(rows /tmp/client.out) == "$all_sizes" ]]; }
short() { client "$@" -s 64 -n "$N"; [[ $(rows /tmp/client.out) == 64 ]]; }

# refused WORDS TOOL PORT: it ends by itself, and not well, with these words
refused() {
  local status=0
  timeout 40 "ib_$2" -R -F -n 5 -p "$3" "$SERVER" >/tmp/client.out 2>&1 || status=$?
  cat /tmp/client.out
  [[ $status != 0 && $status != 124 ]]; grep -q "$1" /tmp/client.out
}

is_listening() { grep -q ":$(printf %04X "$1") 00000000:0000 0A" /proc/net/tcp; }

# server TOOL PORT OPTION...: serves the client there
server() {
  local tool=$1 port=$2 pid i; shift 2
  timeout 120 "ib_$tool" -R -F -n "$N" -p "$port" "$@" >/tmp/server.out 2>/tmp/server.err &
  pid=$!
  for ((i = 0; i < 100; i++)); do is_listening "$port" && break; sleep 0.1; done
  touch "/ctl/listening_$port"
  local status=0; wait $pid || status=$?
  cat /tmp/server.out /tmp/server.err
  [[ $status == 0 ]]
}
# what a server prints: rows where it takes part, the client's last one where it is told
served() {
  server "$@" -a
  case $1 in
    read_lat) ;;
    write_bw | read_bw) [[ $(rows /tmp/server.out) == 8388608 ]] ;;
    *) [[ $(rows /tmp/server.out) == "$all_sizes" ]] ;;
  esac
}

for word in $CLIENTS; do
  tool=${word%:*} port=${word#*:}
  case $tool in
    write_lat) check "ib_$tool in the guest ends when our server refuses it" refused "Failed to sync between client and server" "$tool" "$port" ;;
    atomic_lat) check "siw refuses ib_$tool with our server" refused "Couldn't post send" "$tool" "$port" ;;
    *) check "ib_$tool in the guest, our server: all sizes" whole "$tool" "$port" ;;
  esac
done
for word in $SERVERS; do check "ib_${word%:*} in the guest, our client: all sizes" served "${word%:*}" "${word#*:}"; done
check "ib_write_bw in the guest for a time, our server" client write_bw "$TIMED" -s 4096 -D 2
for word in $SHORT_CLIENTS; do check "ib_${word%:*} in the guest, our server: captured" short "${word%:*}" "${word#*:}"; done
for word in $SHORT_SERVERS; do check "ib_${word%:*} in the guest, our client: captured" server "${word%:*}" "${word#*:}" -s 64; done
finish
