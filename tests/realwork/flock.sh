#!/usr/bin/env bash
# Real work: four processes append to one log and count in one file, each time under flock(1); two of them through DIR, and two through
# $REALWORK_SECOND, another mount of the volume, where it is set. No line is lost or torn, and the count is right.
# Usage: flock.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need flock util-linux
lines=${FLOCK_LINES:-50}
pad=$(printf 'x%.0s' $(seq 300))
echo 0 >"$dir/count"
: >"$dir/log"
: >"$dir/lock"

append() {
  local who=$1 at=$2 n
  for n in $(seq "$lines"); do
    (
      flock 9
      printf '%s %s %s\n' "$who" "$n" "$pad" >>"$at/log"
      echo $(($(cat "$at/count") + 1)) >"$at/count"
    ) 9<"$at/lock"
  done
}

workers=()
for who in 1 2; do append "$who" "$dir" & workers+=($!); done
for who in 3 4; do append "$who" "$other" & workers+=($!); done
for pid in "${workers[@]}"; do wait "$pid"; done
for at in "$dir" "$other"; do
  [ "$(cat "$at/count")" = $((4 * lines)) ] || fail "counted $(cat "$at/count"), not $((4 * lines))"
  [ "$(wc -l <"$at/log")" = $((4 * lines)) ] || fail "$(wc -l <"$at/log") lines, not $((4 * lines))"
  for who in 1 2 3 4; do
    seq "$lines" | sed "s/.*/$who & $pad/" | cmp - <(grep "^$who " "$at/log")
  done
done
note "$((4 * lines)) lines$([ "$dir" = "$other" ] || echo ' from two mounts')"
