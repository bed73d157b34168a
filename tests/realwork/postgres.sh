#!/usr/bin/env bash
# Real work: PostgreSQL with data checksums. pgbench runs for a minute in three rounds, which end with kill -9 of a backend, of the
# postmaster alone, and of every process at once; after each recovery every acknowledged transaction is there, the
# balances agree, and at the end amcheck and pg_checksums find nothing. PG_SECONDS is the length of a round (default 20). Needs root, to
# become the user postgres. Usage: postgres.sh DIR
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need runuser util-linux
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -n 1)
[ -n "$programs" ] || { echo "PostgreSQL is missing: apt-get install postgresql" >&2; exit 2; }
round_s=${PG_SECONDS:-20}
clients=4
data=$dir/data
chmod 755 "$dir"
chown postgres "$tmp"
install -d -o postgres -m 700 "$data"

as_postgres() { (cd /tmp && exec runuser -u postgres -- env PATH="$programs:$PATH" PGHOST="$tmp" PGDATABASE=postgres "$@"); }
query() { as_postgres psql -XAtqc "$1"; }
processes() { local pid; pid=$(head -n 1 "$data/postmaster.pid"); echo "$pid"; pgrep -P "$pid"; }
start() {
  # A postmaster that was killed leaves processes that end by themselves, soon.
  as_postgres pg_ctl -D "$data" -w -t 120 -l "$tmp/server.log" -o "-c listen_addresses='' -c unix_socket_directories='$tmp' -c restart_after_crash=on" start >/dev/null ||
    { tail -n 30 "$tmp/server.log"; fail "PostgreSQL does not start"; }
}
at_exit() {
  [ ! -s "$data/postmaster.pid" ] || as_postgres pg_ctl -D "$data" -m immediate stop >/dev/null 2>&1 || kill -9 $(processes) 2>/dev/null || true
}

kill_backend() { kill -9 "$(query "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgbench' LIMIT 1")"; }
kill_postmaster() { kill -9 "$(head -n 1 "$data/postmaster.pid")"; }
kill_all() { kill -9 $(processes); }
is_gone() { ! pgrep -f -- "postgres.*$data" >/dev/null && ! pgrep -u postgres -f '^postgres:' >/dev/null; }
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
  "$how"
  wait "$bench" || true
  acked=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' "$tmp/bench")
  [ "$acked" -gt 0 ] || { tail -n 5 "$tmp/bench" "$tmp/bench-errors"; fail "pgbench did nothing"; }
  if [ "$how" != kill_backend ]; then
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
for how in kill_backend kill_postmaster kill_all; do round "$how"; done
query 'CREATE EXTENSION amcheck'
as_postgres pg_amcheck --heapallindexed --rootdescend postgres
as_postgres pg_ctl -D "$data" -m fast -w -t 120 stop >/dev/null
as_postgres pg_checksums -D "$data" --check >"$tmp/checksums" || { cat "$tmp/checksums"; fail "pg_checksums"; }
grep -q '^Bad checksums: *0$' "$tmp/checksums"
note "$total transactions acknowledged in $((3 * round_s)) s, all there"
