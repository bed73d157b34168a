# What a contributor types. Nothing here needs more than Rust, a C compiler and fuse3; the demo installs or names what is missing.

# Which build the demo and the benchmarks use: release or debug.
PROFILE ?= release
# Where `make bench` runs; a mounted directory.
BENCH_DIR ?= target/demo/mnt
# How long `make jepsen` lets faults loose.
HOURS ?= 2
# Which runs of the simulation `make sim` makes.
SEEDS ?= 1000
FROM ?= 1

.PHONY: help demo demo-stop jepsen test verify fix bench bench-peers sim clean-test

help:
	@echo 'make demo        three nodes, a volume and a mount under target/demo, and a short tour'
	@echo 'make demo-stop   leaves nothing of it behind'
	@echo 'make test        everything that .ci/run runs'
	@echo 'make verify      formatting, clippy, tidy; writes nothing'
	@echo 'make fix         formats, and applies what clippy can fix by itself'
	@echo 'make bench       benchmarks of the demo'"'"'s mount and cluster'
	@echo 'make bench-peers the same beside JuiceFS on one Redis (root; installs redis-server)'
	@echo 'make sim SEEDS=N  N runs of the simulation, from seed FROM on'
	@echo 'make jepsen HOURS=2  all workloads under all faults (root)'
	@echo 'make clean-test  what killed tests left behind'

demo:
	@PROFILE=$(PROFILE) deploy/demo.sh start

demo-stop:
	@deploy/demo.sh stop

test:
	@tests/run-all.sh

verify:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test -p holdfast-tests --test tidy

fix:
	cargo fmt --all
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged

bench: demo
	. target/demo/env && holdfast bench-meta && holdfast bench $(BENCH_DIR)

bench-peers: demo
	tests/bench/peers.sh

# Needs root. Hours of faults; histories and reports in target/jepsen.
jepsen:
	cargo build --workspace --bins
	target/debug/jepsen matrix --hours $(HOURS)

# Somewhat optimised: a run is half as long, and a build of its own.
sim:
	HOLDFAST_SIM_SEEDS=$(SEEDS) HOLDFAST_SIM_FROM=$(FROM) CARGO_PROFILE_DEV_OPT_LEVEL=1 \
		cargo test --workspace --test sim no_seed_breaks_a_promise -- --nocapture

clean-test:
	@tests/clean.sh
