#!/usr/bin/env bash
# fsx on a mount of a three-node cluster: 100 000 operations with each of four seeds, side by side; and with the leader killed every
# 5 seconds. (Two mounts taking turns at one file: tests/cluster/turns.rs, since fsx begins by making its file empty.)
#
#   tests/suites/fsx.sh [seeds|killed]...      default: both. FSX_OPS sets the operations of a seed.
#
# Called by tests/run-all.sh; ends with "N passed, N failed". What failed leaves its log and the content that should have been there
# under target/suites/fsx.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
runs=("$@")
[ ${#runs[@]} != 0 ] || runs=(seeds killed)
ops=${FSX_OPS:-100000}

# Weights of what is done to the file.
weights() {
  cat <<END
[weights]
read = 10
mapread = 10
write = 10
mapwrite = $1
truncate = $2
close_open = 0.5
invalidate = 1
sendfile = 1
posix_fadvise = 1
fsync = 0.1
fdatasync = 0.1
posix_fallocate = 0.2
punch_hole = 0.3
copy_file_range = 0.3
END
}

# The four files: a small one where every step asks for the size and each mapped write is msynced; 1 MiB with the most truncations;
# one over three blocks of 4 MiB; and one over two chunks of 64 MiB, which an operation crosses about every thousand steps.
shape() {
  case $1 in
    1) printf 'flen = 262144\n[opsize]\nmax = 65536\n' && weights 1 0.5 ;;
    2) printf 'flen = 1048576\nnosizechecks = true\nnomsyncafterwrite = true\n[opsize]\nmax = 65536\n' && weights 10 1 ;;
    3) printf 'flen = 9437184\nnosizechecks = true\nnomsyncafterwrite = true\n[opsize]\nmax = 131072\n' && weights 10 0.2 ;;
    4) printf 'flen = 71303168\nnosizechecks = true\nnomsyncafterwrite = true\n[opsize]\nmax = 65536\n' && weights 10 0.1 ;;
  esac
}

# run_fsx NAME SHAPE SEED OPERATIONS
run_fsx() {
  local start=$SECONDS status=0
  shape "$2" >"$work/$1.toml"
  "$tools/bin/fsx" -f "$work/$1.toml" -P "$work" -S "$3" -N "$4" "$mnt/$1" >"$work/$1.log" 2>&1 || status=$?
  printf 'fsx %s: %s operations, seed %s: exit %s after %s s\n' "$1" "$4" "$3" "$status" $((SECONDS - start)) >>"$work/$1.log"
  return $status
}

result() {
  tail -n 1 "$work/$1.log"
  grep -qF 'All operations completed A-OK!' "$work/$1.log" || { grep -v ' A-OK' "$work/$1.log" | tail -n 30; false; }
}

run_seeds() {
  local i pids=()
  for i in 1 2 3 4; do run_fsx "seed$i" "$i" "$i" "$ops" & pids+=($!); done
  wait "${pids[@]}"
  for i in 1 2 3 4; do check "seed $i, $ops operations" result "seed$i"; done
}

# Pairs of short runs, each with seeds of its own, until three leaders died under them.
run_killed() {
  local seed=10 pids
  killer_start
  while [ "$(leaders_killed)" -lt 3 ] && [ "$seed" -lt 90 ]; do
    seed=$((seed + 2))
    pids=()
    run_fsx "killed$seed" 1 "$seed" 2500 & pids+=($!)
    run_fsx "killed$((seed + 1))" 3 $((seed + 1)) 5000 & pids+=($!)
    wait "${pids[@]}"
    check "leader killed, small file, seed $seed" result "killed$seed"
    check "leader killed, several blocks, seed $((seed + 1))" result "killed$((seed + 1))"
  done
  killer_stop
  check "leaders died" leaders_died 3
}

tool fsx 0.3.2
cluster_start
for run in "${runs[@]}"; do
  case $run in
    seeds | killed) "run_$run" ;;
    *) die "no run $run" ;;
  esac
done
finish
