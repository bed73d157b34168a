#!/usr/bin/env bash
# `make demo` and `make demo-stop` keep what README.md says of them, and real work runs on the demo's mount.
# Called by tests/run-all.sh. Ends with "N passed, N failed".
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PROFILE=${PROFILE:-debug}
demo=$PWD/target/demo
passed=0
failed=0

check() {
  local name=$1
  shift
  if "$@"; then
    passed=$((passed + 1))
    printf 'demo: %s ... ok\n' "$name"
  else
    failed=$((failed + 1))
    printf 'demo: %s ... FAILED\n' "$name"
  fi
}

pids() { cat "$demo"/metad-{1,2,3}/metad.pid; }
alive() { local pid; for pid in $(pids); do kill -0 "$pid" || return 1; done; }
mounted() { grep -qF -- " $demo/mnt fuse" /proc/self/mounts; }
sourced() { (. "$demo/env" && holdfast status >/dev/null && [ -n "$HOLDFAST_META" ]); }
tour_is_true() { [ "$(cat "$demo/mnt/hello" "$demo/mnt/hello-again")" = "$(printf 'written before the crash\nwritten after the crash')" ]; }
says_pause() { grep -qE '[0-9]+ ms after the kill' target/test-log/demo-out; }
leaves_alone() {
  local before
  before="$(pids) $(pgrep -f "holdfast.*$demo/mnt" | tr '\n' ' ')"
  make demo >/dev/null && [ "$before" = "$(pids) $(pgrep -f "holdfast.*$demo/mnt" | tr '\n' ' ')" ]
}
starts_what_is_missing() {
  local old
  old=$(cat "$demo/metad-2/metad.pid")
  kill -9 "$old" && umount -l "$demo/mnt" && sleep 1
  make demo >/dev/null && alive && mounted && tour_is_true && [ "$old" != "$(cat "$demo/metad-2/metad.pid")" ]
}
# pgrep does not find itself.
nothing_left() { [ ! -e "$demo" ] && ! mounted && ! pgrep -f -- "$demo/"; }

mkdir -p target/test-log
make demo-stop >/dev/null
make demo 2>&1 | tee target/test-log/demo-out
check "make demo ends with 0" [ "${PIPESTATUS[0]}" = 0 ]
check "three nodes run" alive
check "the mount is up" mounted
check "target/demo/env can be sourced" sourced
check "the tour's files are there" tour_is_true
check "the tour names the pause" says_pause
check "run again, it leaves what runs alone" leaves_alone
check "run again, it starts what is missing" starts_what_is_missing
# The same volume once more, for the work that two clients do together.
second_mount() (. "$demo/env" && mkdir -p "$demo/second" && holdfast mount "$demo/second" -d --log "$demo/second.log")
second_umount() (. "$demo/env" && holdfast umount "$demo/second" && rmdir "$demo/second")
if mounted; then
  check "the volume is mounted twice" second_mount
  REALWORK_SECOND=$demo/second tests/realwork/run.sh "$demo/mnt" 2>&1 | tee target/test-log/realwork || true
  check "the second mount goes" second_umount
  passed=$((passed + $(grep -c '^realwork: .* ok' target/test-log/realwork)))
  failed=$((failed + $(grep -c '^realwork: .* FAILED' target/test-log/realwork)))
fi
states_are_sound() (. "$demo/env" && holdfast cluster verify)
check "the nodes' states are sound and equal" states_are_sound
check "make demo-stop ends with 0" make demo-stop
check "make demo-stop leaves nothing behind" nothing_left

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
