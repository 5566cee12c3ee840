# What the scenarios' scripts share, sourced in the guest. Results go to /ctl/results line by line, so that they survive a guest that hangs.
source /ctl/env

# check NAME COMMAND...: one test; COMMAND's output is shown when it fails
check() {
  local name=$1 started=$EPOCHREALTIME status; shift
  ( set -eu; "$@" ) >/tmp/check.log 2>&1; status=$?
  local seconds; seconds=$(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $started }")
  if [[ $status == 0 ]]; then echo "ok $name ($seconds s)" >>/ctl/results
  else printf 'not ok %s (%s s, exit status %s)\n%s\n' "$name" "$seconds" "$status" "$(tail -c 2000 /tmp/check.log | sed 's/^/  /')" >>/ctl/results; fi
}

# what a kernel that is well never says
no_kernel_warning() {
  ! dmesg | grep -E 'WARNING:|BUG:|Oops|general protection|Call Trace:|refcount_t:|use-after-free|hung_task|blocked for more than|NULL pointer|stack-protector|DMA-API'
}

# wait_for FILE SECONDS: until the other side has made it
wait_for() { local i; for ((i = 0; i < $2 * 10; i++)); do [[ -e $1 ]] && return; sleep 0.1; done; echo "no $1 within $2 s"; return 1; }

finish() {
  check "no kernel warning" no_kernel_warning
  echo done >>/ctl/results
}
