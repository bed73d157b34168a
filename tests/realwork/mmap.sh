#!/usr/bin/env bash
# Real work: four processes write one file through shared mappings, each its own bytes between those of the others, while a fifth
# extends it and reads with pread(2); at the end every byte is there, by pread, by mmap, and by a fresh open without the kernel's pages.
# Usage: mmap.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need cc build-essential
cc -O1 -Wall -o "$tmp/writers" "$(dirname "${BASH_SOURCE[0]}")/mmap.c"
"$tmp/writers" "$dir/file"
sync "$dir/file"
echo 1 >/proc/sys/vm/drop_caches || true
"$tmp/writers" --verify "$dir/file"
note "$(stat -c %s "$dir/file") bytes"
