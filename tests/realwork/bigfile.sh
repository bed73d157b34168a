#!/usr/bin/env bash
# Real work: writes a big file, drops the kernel's pages, and reads it again. BIG_FILE_MIB is its size (default 5120).
# Usage: bigfile.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need openssl openssl
bytes=$((${BIG_FILE_MIB:-5120} * 1048576))
file=$dir/big

# The same pseudo-random bytes every time, from the AES counter of openssl; no second copy on disk is needed to compare. No pipefail:
# `big_bytes | head` ends its first part by SIGPIPE, as it should.
big_bytes() {
  openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv 00000000000000000000000000000000 </dev/zero 2>/dev/null |
    head -c "$bytes"
}

start=$SECONDS
big_bytes | dd of="$file" bs=1M iflag=fullblock conv=fsync status=none
wrote=$((SECONDS - start))
[ "$(stat -c %s "$file")" = "$bytes" ]
# What the kernel still holds would prove nothing about the store.
sync "$file"
echo 1 >/proc/sys/vm/drop_caches || true
start=$SECONDS
big_bytes | cmp - "$file"
note "$((bytes / 1048576)) MiB written in $wrote s, read and compared in $((SECONDS - start)) s"
