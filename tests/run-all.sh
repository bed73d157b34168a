#!/usr/bin/env bash
# Everything that must hold, in order; ends with the line "N passed, N failed". Called by `make test`, and so by .ci/run.
# One profile (dev) is built, once. BIG_FILE_MIB sizes the big file of the real work (default 5120).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export CARGO_INCREMENTAL=0 PROFILE=debug
threads=${TEST_THREADS:-2}
passed=0
failed=0
failures=()
took=()
log=target/test-log
mkdir -p "$log"

# Seeds of the simulation, in what the other steps leave of the processors: how fast a run goes makes no difference to it.
sim_seeds=2000
sim=
start_sim() {
  rm -f "$log/sim-status"
  (
    status=0
    HOLDFAST_SIM_SEEDS=$sim_seeds nice -n 19 cargo test --workspace --test sim no_seed_breaks_a_promise -- --nocapture || status=$?
    echo "$status" >"$log/sim-status"
  ) >"$log/sim-said" 2>&1 </dev/null &
  sim=$!
}
end_sim() {
  tail --pid="$sim" -f /dev/null
  cat "$log/sim-said"
  return "$(cat "$log/sim-status")"
}

cleanup() {
  # By its name: cargo has started it.
  [ -z "$sim" ] || pkill -f 'deps/sim-.*no_seed_breaks_a_promise' || true
  for demo in "$PWD"/target/suites/*/demo; do
    [ ! -d "$demo" ] || DEMO_DIR=$demo deploy/demo.sh stop >/dev/null 2>&1 || true
  done
  deploy/demo.sh stop >/dev/null 2>&1 || true
  tests/clean.sh || true
}
trap cleanup EXIT

# Adds the counts of a runner's output: cargo's "test result:" lines, else its last line.
count() {
  local lines good bad
  lines=$(grep -E '^test result:' "$1" || tail -n 1 "$1")
  good=$(grep -oE '[0-9]+ passed' <<<"$lines" | awk '{sum += $1} END {print sum + 0}')
  bad=$(grep -oE '[0-9]+ failed' <<<"$lines" | awk '{sum += $1} END {print sum + 0}')
  passed=$((passed + good))
  failed=$((failed + bad))
  counted=$((good + bad))
}

# one NAME COMMAND...: a step that passes or fails as a whole.
one() {
  local name=$1 start=$SECONDS
  shift
  printf '\n=== %s\n' "$name"
  if "$@"; then
    passed=$((passed + 1))
    printf 'step %s ... ok (%d s)\n' "$name" $((SECONDS - start))
  else
    failed=$((failed + 1))
    failures+=("$name")
    printf 'step %s ... FAILED (%d s)\n' "$name" $((SECONDS - start))
  fi
  took+=("$name $((SECONDS - start))")
}

# many NAME COMMAND...: a runner that counts by itself. Failing without a count is one failure.
many() {
  local name=$1 start=$SECONDS status=0 before=$failed
  shift
  printf '\n=== %s\n' "$name"
  "$@" 2>&1 | tee "$log/$name" || status=$?
  count "$log/$name"
  mapfile -t -O "${#failures[@]}" failures < <(grep -E '^(test|demo:|realwork:|suites:) .* FAILED( \(|$)' "$log/$name" | sed "s/^/$name: /")
  if [ "$status" != 0 ] && [ "$failed" = "$before" ]; then
    failed=$((failed + 1))
    failures+=("$name: ended with exit code $status: $(tail -n 1 "$log/$name")")
  fi
  if [ "$counted" = 0 ] && [ "$status" = 0 ]; then
    failed=$((failed + 1))
    failures+=("$name: ran no test")
  fi
  printf 'step %s: %d s\n' "$name" $((SECONDS - start))
  took+=("$name $((SECONDS - start))")
}

one fmt cargo fmt --all --check
one build cargo build --workspace --bins
one build-faulty cargo build --workspace --features faults --bin metad-faulty --bin holdfast-faulty
one stores-servers tests/stores/install.sh
one build-tests cargo test --workspace --lib --bins --tests --no-run
one start-sim start_sim
many cargo-test cargo test --workspace --lib --bins --tests --no-fail-fast -- --test-threads="$threads" --skip no_seed_breaks_a_promise
many demo tests/demo-test.sh
many pjdfstest tests/suites/pjdfstest.sh
many fsx tests/suites/fsx.sh
many jepsen target/debug/jepsen matrix --short
many planted target/debug/jepsen plant
many sim end_sim
one clippy cargo clippy --workspace --all-targets -- -D warnings

printf '\nseconds:'
printf ' %s,' "${took[@]}"
# Last, so that the end of a long log says what is wrong.
if [ ${#failures[@]} != 0 ]; then printf '\nFAILED: %s' "${failures[@]}"; fi
printf '\n\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
