#!/usr/bin/env bash
# Removes what test binaries that were killed left behind: mounts, processes and directories under target/tests-run.
# Touches nothing else. Called by `make clean-test` and at the end of `make test`.
set -euo pipefail
run=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/target/tests-run
[ -d "$run" ] || exit 0

awk -v run="$run/" 'index($2, run) == 1 {print $2}' /proc/self/mounts | while read -r dir; do
  umount -l "$dir" 2>/dev/null || fusermount3 -uz "$dir" || true
done
for process in /proc/[0-9]*; do
  if tr '\0' '\n' <"$process/cmdline" 2>/dev/null | grep -qF -- "$run/"; then
    kill -9 "${process#/proc/}" 2>/dev/null || true
  fi
done
rm -rf --one-file-system "$run"
