# shellcheck shell=bash
# What the suites share; sourced by them. A cluster of three real nodes with a mount, somebody who kills its leader,
# pinned tools, and counted checks. Everything lives under target/suites/NAME of the suite that runs.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
suite=$(basename "$0" .sh)
work=$root/target/suites/$suite
export CARGO_INCREMENTAL=0 PROFILE=${PROFILE:-debug} TOUR=0 DEMO_DIR=$work/demo
mnt=$DEMO_DIR/mnt
bin=${CARGO_TARGET_DIR:-$root/target}/$PROFILE
tools=$root/target/tools
passed=0
failed=0
killer=

say() { printf '%s\n' "$*"; }
die() { printf 'suites: %s\n' "$*" >&2; exit 1; }

# check NAME COMMAND...: one line and one count.
check() {
  local name=$1 start=$SECONDS
  shift
  if "$@"; then
    passed=$((passed + 1))
    printf 'suites: %s %s ... ok (%d s)\n' "$suite" "$name" $((SECONDS - start))
  else
    failed=$((failed + 1))
    printf 'suites: %s %s ... FAILED (%d s)\n' "$suite" "$name" $((SECONDS - start))
  fi
}

# The last line of every suite. What the nodes keep must be sound and equal after all of it.
finish() {
  check "the nodes' states are sound and equal" cluster_verified
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}

# tool NAME VERSION: the crate's program, installed once under target/tools.
tool() {
  if ! "$tools/bin/$1" --version 2>/dev/null | grep -qF " $2"; then
    say "installing $1 $2"
    CARGO_TARGET_DIR=$tools/build cargo install --quiet --root "$tools" --locked "$1@$2" || die "$1 $2 does not install"
    rm -rf "$tools/build"
  fi
}

# ---- the cluster ---------------------------------------------------------------------------------------------------------

cluster_start() {
  mkdir -p "$work"
  trap cluster_stop EXIT
  "$root/deploy/demo.sh" start >"$work/start.log" 2>&1 || { tail -n 20 "$work/start.log"; die "the cluster does not start"; }
}

cluster_verified() (. "$DEMO_DIR/env" && holdfast cluster verify)

cluster_stop() {
  killer_stop
  "$root/deploy/demo.sh" stop >>"$work/start.log" 2>&1 || tail -n 3 "$work/start.log"
}

# ---- somebody who kills the leader every 5 seconds -----------------------------------------------------------------------

kill_leaders() {
  while sleep 5; do "$root/deploy/demo.sh" kill-leader || true; done
}

killer_start() {
  : >"$work/kills"
  kill_leaders >"$work/kills" 2>&1 &
  killer=$!
}

killer_stop() {
  [ -n "$killer" ] || return 0
  kill "$killer" 2>/dev/null
  wait "$killer" 2>/dev/null
  killer=
}

leaders_killed() { grep -c '^killed metad' "$work/kills"; }

# A run whose fault never came proves nothing. At least $1 leaders were killed.
leaders_died() {
  say "leaders killed: $(leaders_killed)"
  [ "$(leaders_killed)" -ge "$1" ]
}
