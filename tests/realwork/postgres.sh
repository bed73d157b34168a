#!/usr/bin/env bash
# Real work: PostgreSQL with data checksums. pgbench runs for a minute in three rounds, which end with kill -9 of a backend, of the
# postmaster alone, and of every process at once; after each recovery every acknowledged transaction is there, the
# balances agree, and at the end amcheck and pg_checksums find nothing. PG_SECONDS is the length of a round (default 20). Needs root, to
# become the user postgres. Usage: postgres.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need setpriv util-linux
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
[ -n "$programs" ] || { echo "PostgreSQL is missing: apt-get install postgresql" >&2; exit 2; }
round_s=${PG_SECONDS:-20}
clients=4
data=$dir/data
chmod 755 "$dir"
chown postgres "$tmp"
install -d -o postgres -m 700 "$data"

become_postgres() { cd /tmp && exec setpriv --reuid=postgres --regid=postgres --init-groups env PATH="$programs:$PATH" PGHOST="$tmp" PGDATABASE=postgres "$@"; }
as_postgres() { (become_postgres "$@"); }
query() { as_postgres psql -XAtqc "$1"; }
processes() { echo "$postmaster"; pgrep -P "$postmaster"; }
# A child of ours, so that it is gone when we say so, whoever is the first process of this machine.
start() {
  become_postgres postgres -D "$data" -c listen_addresses= -c unix_socket_directories="$tmp" >>"$tmp/server.log" 2>&1 &
  postmaster=$!
  wait_until query 'SELECT 1'
}
postmaster=
at_exit() { [ -z "$postmaster" ] || kill -9 $(processes) 2>/dev/null || true; }

kill_backend() { kill -9 "$(query "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' LIMIT 1")"; }
kill_postmaster() { kill -9 "$postmaster"; }
kill_all() { kill -9 $(processes); }
# Processes of a postmaster that was killed end by themselves, soon. Those of other servers of this machine are not ours.
is_gone() { ! kill -0 $children; }
wait_until() {
  local i
  for i in $(seq 300); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.2; done
  tail -n 20 "$tmp/server.log"
  fail "waited a minute in vain for: $*"
}

# pgbench counts what was acknowledged to it, also when its connections break; each transaction leaves one row in pgbench_history.
round() {
  local how=$1 acked rows sums bench
  before=$(query 'SELECT count(*) FROM pgbench_history')
  as_postgres pgbench -n -c "$clients" -j 2 -T $((round_s + 600)) >"$tmp/bench" 2>"$tmp/bench-errors" &
  bench=$!
  sleep "$round_s"
  children=$(pgrep -P "$postmaster" | xargs)
  "$how"
  wait "$bench" || true
  acked=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$tmp/bench")
  [ "$acked" -gt 0 ] || { tail -n 5 "$tmp/bench" "$tmp/bench-errors"; fail "pgbench did nothing"; }
  if [ "$how" != kill_backend ]; then
    wait "$postmaster" || true
    wait_until is_gone
    start
  fi
  wait_until query 'SELECT 1'
  rows=$(($(query 'SELECT count(*) FROM pgbench_history') - before))
  # Those on their way may have been committed too.
  [ "$rows" -ge "$acked" ] && [ "$rows" -le $((acked + clients)) ] || fail "$how: $acked acknowledged, $rows found"
  sums=$(query 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
    AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(delta) FROM pgbench_history)
    AND (SELECT sum(tbalance) FROM pgbench_tellers) = (SELECT sum(delta) FROM pgbench_history)')
  [ "$sums" = t ] || fail "$how: the balances do not agree"
  total=$((${total:-0} + acked))
  echo "$how: $acked acknowledged, $rows found"
}

as_postgres initdb -D "$data" --data-checksums --auth=trust --no-locale -E UTF8 >"$tmp/initdb.log" || { tail -n 20 "$tmp/initdb.log"; fail "initdb"; }
[ "$(as_postgres pg_controldata -D "$data" | sed -n 's/^Data page checksum version: *//p')" = 1 ]
start
as_postgres pgbench -i -q -s 2 >"$tmp/bench-init" 2>&1 || { cat "$tmp/bench-init"; fail "pgbench -i"; }
prepared_s=$SECONDS
for how in kill_backend kill_postmaster kill_all; do round "$how"; done
ran_s=$SECONDS
query 'CREATE EXTENSION amcheck'
as_postgres pg_amcheck --heapallindexed --rootdescend postgres
kill -INT "$postmaster"
wait "$postmaster"
postmaster=
as_postgres pg_checksums -D "$data" --check >"$tmp/checksums" || { cat "$tmp/checksums"; fail "pg_checksums"; }
grep -q '^Bad checksums: *0$' "$tmp/checksums"
note "$total transactions acknowledged in $((3 * round_s)) s, all there (initdb and load $prepared_s s, rounds and recovery $((ran_s - prepared_s)) s, checks $((SECONDS - ran_s)) s)"
