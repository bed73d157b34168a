#!/usr/bin/env bash
# Real work on a directory: anyone can run it on a mount, and on any other filesystem to compare.
#
#   tests/realwork/run.sh DIR [NAME...]      names: build git sqlite bigfile rsync (default: all)
#
# BIG_FILE_MIB sizes the big file (default 5120). Makes DIR/realwork-PID and removes it. Each item prints one line
# "realwork: NAME ok|FAILED"; the last line is "N passed, N failed".
# No pipefail: `big_bytes | head` ends its first part by SIGPIPE, as it should.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo=$(cd "$here/../.." && pwd)
[ $# -ge 1 ] && [ -d "$1" ] || { echo "usage: $0 DIR [build|git|sqlite|bigfile|rsync]..." >&2; exit 2; }
base=$(cd "$1" && pwd)
shift
items=("$@")
[ ${#items[@]} != 0 ] || items=(build git sqlite bigfile rsync)
for tool in cc make tar git sqlite3 rsync sha256sum; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install build-essential git sqlite3 rsync" >&2; exit 2; }
done

dir=$base/realwork-$$
tmp=$(mktemp -d)
mkdir "$dir" || exit 1
trap 'rm -rf "$dir" "$tmp"' EXIT
passed=0
failed=0

item() {
  local name=$1 start=$SECONDS
  if ("item_$name") >"$tmp/$name.log" 2>&1; then
    passed=$((passed + 1))
    printf 'realwork: %s ok (%d s) %s\n' "$name" $((SECONDS - start)) "$(grep '^note:' "$tmp/$name.log" | tail -n 1)"
  else
    failed=$((failed + 1))
    tail -n 15 "$tmp/$name.log"
    printf 'realwork: %s FAILED (%d s)\n' "$name" $((SECONDS - start))
  fi
}

# A C project with a configure script and a few hundred files, which everybody has who built this repository. The functions run
# in a subshell with errexit of their own, since `if` switches it off.
source_tree() { ls -d "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/tikv-jemalloc-sys-*/ 2>/dev/null | tail -n 1; }

item_build() {
  local from
  from=$(source_tree)
  [ -n "$from" ] || { echo "no source tree: run cargo fetch first"; return 1; }
  tar -C "$from" -czf "$tmp/source.tar.gz" jemalloc configure || return 1
  mkdir "$dir/build" && tar -C "$dir/build" -xzf "$tmp/source.tar.gz" || return 1
  tar -C "$dir/build" -dzf "$tmp/source.tar.gz" || return 1
  cp "$dir/build/configure/configure" "$dir/build/jemalloc/configure" && cd "$dir/build/jemalloc" || return 1
  # Release tarballs carry the version; a checkout would ask git.
  # Without optimisation: it is the files that are tested, not the compiler.
  CFLAGS=-O0 ./configure --disable-cxx --disable-doc --with-version=5.3.1-0-g0 && make -j2 build_lib_static || return 1
  printf '#include <stdio.h>\n#include <jemalloc/jemalloc.h>\nint main(void){void *p=malloc(100);free(p);const char *v;size_t n=sizeof v;mallctl("version",&v,&n,0,0);puts(v);return !p;}\n' >use.c
  cc -Iinclude use.c lib/libjemalloc.a -lpthread -ldl -lm -o use && ./use | grep -q '^5.3.1' || return 1
  echo "note: $(find . -type f | wc -l) files"
}

item_git() {
  git -c safe.directory='*' clone --no-local --quiet "$repo" "$dir/clone" || return 1
  cd "$dir/clone" || return 1
  git fsck --full --strict && [ -z "$(git status --porcelain)" ] || return 1
  git -c user.name=t -c user.email=t@example.invalid commit --quiet --allow-empty -m on-the-mount || return 1
  git checkout --quiet -b other && echo change >>Cargo.toml && git stash --quiet && git stash pop --quiet || return 1
  git gc --quiet --aggressive --prune=now && git fsck --full --strict || return 1
  echo "note: $(git count-objects -v | awk '/in-pack/ {print $2}') objects"
}

item_sqlite() {
  local db=$dir/rollback.db i total
  sqlite3 "$db" 'PRAGMA journal_mode=DELETE; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB, n INTEGER); CREATE INDEX by_n ON t(n);' || return 1
  for i in $(seq 20); do
    sqlite3 "$db" 'PRAGMA synchronous=FULL; BEGIN; WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<500)
      INSERT INTO t(v,n) SELECT randomblob(300), abs(random())%1000 FROM c; UPDATE t SET v=randomblob(200) WHERE n%7=1; DELETE FROM t WHERE n=3; COMMIT;' || return 1
    # A transaction that is rolled back must leave no trace.
    sqlite3 "$db" 'BEGIN; DELETE FROM t; ROLLBACK;' || return 1
  done
  [ "$(sqlite3 "$db" 'PRAGMA integrity_check;')" = ok ] || return 1
  total=$(sqlite3 "$db" 'SELECT count(*) FROM t;')
  sqlite3 "$db" 'VACUUM;' && [ "$(sqlite3 "$db" 'PRAGMA integrity_check;')" = ok ] || return 1
  [ "$total" = "$(sqlite3 "$db" 'SELECT count(*) FROM t;')" ] && [ "$total" -gt 9000 ] && [ ! -e "$db-journal" ] || return 1
  echo "note: $total rows"
}

# The same pseudo-random bytes every time, from the AES counter of openssl; no second copy on disk is needed to compare.
big_bytes() {
  openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv 00000000000000000000000000000000 </dev/zero 2>/dev/null |
    head -c "$1"
}

item_bigfile() {
  local bytes=$((${BIG_FILE_MIB:-5120} * 1048576)) file=$dir/big wrote start=$SECONDS
  big_bytes "$bytes" | dd of="$file" bs=1M iflag=fullblock conv=fsync status=none || return 1
  wrote=$((SECONDS - start))
  [ "$(stat -c %s "$file")" = "$bytes" ] || return 1
  # What the kernel still holds would prove nothing about the store.
  sync "$file"; echo 1 >/proc/sys/vm/drop_caches 2>/dev/null
  start=$SECONDS
  big_bytes "$bytes" | cmp - "$file" || return 1
  echo "note: $((bytes / 1048576)) MiB written in $wrote s, read and compared in $((SECONDS - start)) s"
  rm "$file"
}

item_rsync() {
  local from=$repo
  rsync -a --exclude target --exclude .git "$from/" "$dir/tree/" || return 1
  diff -r --no-dereference --exclude target --exclude .git "$from" "$dir/tree" || return 1
  # Nothing is left to do: times, modes and sizes arrived too.
  [ -z "$(rsync -ain --exclude target --exclude .git "$from/" "$dir/tree/")" ] || return 1
  rsync -a "$dir/tree/" "$dir/tree2/" && [ -z "$(rsync -aicn "$dir/tree/" "$dir/tree2/")" ] || return 1
  echo "note: $(find "$dir/tree" | wc -l) entries"
}

for name in "${items[@]}"; do
  case $name in
    build | git | sqlite | bigfile | rsync) item "$name" ;;
    *) echo "no item $name" >&2; exit 2 ;;
  esac
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
