#!/usr/bin/env bash
# Real work: rsync -a of this repository onto DIR and from there on; a second run finds nothing to do. Usage: rsync.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need rsync rsync

rsync -a --exclude target --exclude .git "$repo/" "$dir/tree/"
diff -r --no-dereference --exclude target --exclude .git "$repo" "$dir/tree"
# Nothing is left to do: times, modes and sizes arrived too.
[ -z "$(rsync -ain --exclude target --exclude .git "$repo/" "$dir/tree/")" ]
rsync -a "$dir/tree/" "$dir/tree2/"
[ -z "$(rsync -aicn "$dir/tree/" "$dir/tree2/")" ]
note "$(find "$dir/tree" | wc -l) entries"
