#!/usr/bin/env bash
# Real work: SQLite in rollback and in WAL mode. First transactions, rollbacks and VACUUM by one process after the other; then two
# writers at once that are killed with -9, several times: every acknowledged transaction is there, and the database is whole.
# Usage: sqlite.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need sqlite3 sqlite3
kills=${SQLITE_KILLS:-4}
writers=()
at_exit() { [ ${#writers[@]} = 0 ] || kill -9 "${writers[@]}" 2>/dev/null || true; }

is_whole() { [ "$(sqlite3 "$1" 'PRAGMA integrity_check;')" = ok ]; }

transactions() {
  local db=$dir/one.db i total
  sqlite3 "$db" 'PRAGMA journal_mode=DELETE; CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB, n INTEGER); CREATE INDEX by_n ON t(n);'
  for i in $(seq 20); do
    sqlite3 "$db" 'PRAGMA synchronous=FULL; BEGIN; WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<500)
      INSERT INTO t(v,n) SELECT randomblob(300), abs(random())%1000 FROM c; UPDATE t SET v=randomblob(200) WHERE n%7=1; DELETE FROM t WHERE n=3; COMMIT;'
    # A transaction that is rolled back must leave no trace.
    sqlite3 "$db" 'BEGIN; DELETE FROM t; ROLLBACK;'
  done
  is_whole "$db"
  total=$(sqlite3 "$db" 'SELECT count(*) FROM t;')
  sqlite3 "$db" 'VACUUM;'
  is_whole "$db"
  [ "$total" = "$(sqlite3 "$db" 'SELECT count(*) FROM t;')" ]
  [ "$total" -gt 9000 ]
  [ ! -e "$db-journal" ]
  note "$total rows"
}

# script WHO FIRST: transactions of one row each from FIRST on; prints the number of each that was acknowledged. Every few it sleeps,
# or the first writer would never let the other one in.
script() {
  local i
  echo '.bail on'
  echo '.timeout 60000'
  echo 'PRAGMA synchronous=FULL;'
  for i in $(seq "$2" $(($2 + 2000))); do
    printf 'BEGIN IMMEDIATE; INSERT INTO t VALUES(%s,%s,randomblob(2000)); COMMIT;\n.print ack %s\n' "$1" "$i" "$i"
    [ $((i % 5)) != 0 ] || echo '.shell sleep 0.1'
  done
}
acked() { grep -oE '^ack [0-9]+' "$tmp/acks-$1" | tail -n 1 | cut -d' ' -f2; }

check_writer() {
  local db=$1 who=$2 ack rows
  ack=$(acked "$who")
  rows=$(sqlite3 "$db" "SELECT count(*) || ' ' || coalesce(min(n), 1) || ' ' || coalesce(max(n), 0) FROM t WHERE who=$who;")
  read -r count least most <<<"$rows"
  # Every number once and without a gap; all that was acknowledged, and at most one more, which was on its way.
  [ "$least" = 1 ] && [ "$count" = "$most" ] || fail "$db: writer $who has $count rows from $least to $most"
  [ "$most" = "$ack" ] || [ "$most" = $((ack + 1)) ] || fail "$db: writer $who has rows to $most, acknowledged to $ack"
}

killed_writers() {
  local mode=$1 db=$dir/$1.db first=(0 1 1) round who tick
  [ "$(sqlite3 "$db" "PRAGMA journal_mode=$mode; CREATE TABLE t(who, n, v BLOB, PRIMARY KEY(who, n));")" = "$mode" ]
  for round in $(seq "$kills"); do
    for who in 1 2; do
      script "$who" "${first[who]}" >"$tmp/script-$who"
      echo "ack $((first[who] - 1))" >"$tmp/acks-$who"
      stdbuf -oL sqlite3 "$db" <"$tmp/script-$who" >>"$tmp/acks-$who" 2>"$tmp/errors-$who" &
      writers[who - 1]=$!
    done
    # Killed while they write, on a slow machine too.
    for who in 1 2; do
      for tick in $(seq 600); do
        [ "$(acked "$who")" -lt $((first[who] + 4)) ] || break
        sleep 0.1
      done
    done
    sleep "0.$((RANDOM % 10))"
    for who in 1 2; do
      kill -9 "${writers[who - 1]}" || { cat "$tmp/errors-$who"; fail "writer $who ended before it was killed"; }
    done
    wait 2>/dev/null || true
    writers=()
    is_whole "$db"
    for who in 1 2; do
      check_writer "$db" "$who"
      first[who]=$(($(sqlite3 "$db" "SELECT coalesce(max(n), 0) FROM t WHERE who=$who;") + 1))
    done
  done
  [ $((first[1] + first[2])) -gt 20 ] || fail "almost nothing was written: ${first[*]}"
  note "$mode: $((first[1] - 1)) and $((first[2] - 1)) transactions over $kills kills"
}

transactions
killed_writers delete
killed_writers wal
