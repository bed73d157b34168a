#!/usr/bin/env bash
# Real work on a directory: anyone can run it on a mount, and on any other filesystem to compare.
#
#   tests/realwork/run.sh DIR [NAME...]      names: the scripts beside this one (default: all)
#
# REALWORK_SECOND names DIR as another mount of the same volume shows it; flock.sh then works on both. Each item is a script of its own
# (NAME.sh DIR), which removes what it made. Each prints one line "realwork: NAME ok|FAILED"; the last line is "N passed, N failed".
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
all=(build git sqlite bigfile rsync postgres tar vim mmap flock)
[ $# -ge 1 ] && [ -d "$1" ] || { echo "usage: $0 DIR [NAME...]; names: ${all[*]}" >&2; exit 2; }
base=$1
shift
items=("$@")
[ ${#items[@]} != 0 ] || items=("${all[@]}")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
passed=0
failed=0

for name in "${items[@]}"; do
  [[ " ${all[*]} " == *" $name "* ]] || { echo "no item $name" >&2; exit 2; }
  start=$SECONDS
  if "$here/$name.sh" "$base" >"$log" 2>&1; then
    passed=$((passed + 1))
    printf 'realwork: %s ok (%d s) %s\n' "$name" $((SECONDS - start)) "$(sed -n 's/^note: //p' "$log" | paste -sd ';')"
  else
    failed=$((failed + 1))
    tail -n 15 "$log"
    printf 'realwork: %s FAILED (%d s)\n' "$name" $((SECONDS - start))
  fi
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
