# rdma-core's rping against ours, both ways. Ports: $CLIENT_PORT is our server, $SERVER_PORT is where ours finds the guest's.
source /ctl/lib.sh

client() { timeout 30 rping -c -a "$SERVER" -p "$CLIENT_PORT" -C 10 -V -v | tee /dev/stderr | grep -c 'ping data' | grep -qx 10; }
server() {
  timeout 60 rping -s -a 0.0.0.0 -p "$SERVER_PORT" -C 10 -V -v >/tmp/rping.out 2>&1 &
  local pid=$!
  sleep 1; touch /ctl/listening
  wait_for /ctl/client_done 40
  wait $pid; cat /tmp/rping.out
  [[ $(grep -c 'ping data' /tmp/rping.out) == 10 ]]
}

check "rping -c in the guest, our server" client
check "rping -s in the guest, our client" server
finish
