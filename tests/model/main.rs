//! The model test: random operations on a reference filesystem and on the real thing, compared after each step. Many seeds on
//! the state machine with the client's data path, some through a mount, some on two mounts in turn. HOLDFAST_SEED=N runs one seed alone.

use holdfast_tests::fs::mount_fs::MountFs;
use holdfast_tests::fs::{Fs, local};
use holdfast_tests::gen_ops::{self, Step, Steps};
use holdfast_tests::model::Model;
use holdfast_tests::mount::Mount;
use holdfast_tests::{process, shared};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

const STATE_MACHINE_SEEDS: u64 = 150;
const STATE_MACHINE_STEPS: usize = 120;
const MOUNT_SEEDS: u64 = 4;
const TWO_MOUNTS_SEEDS: u64 = 4;
const MOUNT_STEPS: usize = 150;

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("HOLDFAST_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => vec![seed],
        // Each run tries other ones: the base is printed, and each seed is named where it fails.
        None => {
            let base = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() * 1000;
            (base..base + count).collect()
        }
    }
}

/// Runs `step_count` steps of `seed` on a model and on `reals`, which show one tree: each step is done by one of them, and what came of it
/// must be seen by another (each step opens and closes, so close-to-open promises that of data, too). Panics with everything
/// needed to repeat it.
fn hold_against_model(seed: u64, step_count: usize, bytes_max: u64, reals: &[&dyn Fs]) {
    let model = Model::default();
    let mut done: Vec<(usize, Step)> = Vec::new();
    let mut turns = StdRng::seed_from_u64(seed);
    for step in Steps::new(seed, bytes_max).filter(|step| !is_outside(&model, step)).take(step_count) {
        let (actor, observer) = (turns.random_range(0..reals.len()), turns.random_range(0..reals.len()));
        let step = step.by_actor(actor as u64);
        let expected = gen_ops::run(&model, &step);
        let found = gen_ops::run(reals[actor], &step);
        done.push((actor, step));
        let compared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            assert_eq!(found, expected, "answers differ (left: real, right: model)");
            gen_ops::compare(&model, reals[observer]);
        }));
        if compared.is_err() {
            let last: Vec<_> = done.iter().rev().take(12).rev().map(|step| format!("{step:?}")).collect();
            panic!("HOLDFAST_SEED={seed}, step {}; the last steps:\n{}", done.len(), last.join("\n"));
        }
    }
}

fn is_outside(model: &Model, step: &Step) -> bool {
    gen_ops::leaves_the_filesystem(model, step)
}

/// A new directory as two mounts show it. Without access times: each comparison reads, which the model does not know of.
fn fresh_fs() -> [MountFs; 2] {
    static MOUNTS: OnceLock<[Mount; 2]> = OnceLock::new();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let start = || Mount::start_with(&shared::meta(), &["-o", "noatime"]);
    let mounts = MOUNTS.get_or_init(|| [start(), start()]);
    let name = format!("model-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    std::fs::create_dir(mounts[0].path(&name)).unwrap();
    let both = [0, 1].map(|at: usize| MountFs::new(&mounts[at].path(&name)));
    both[0].chmod("", 0o755).unwrap();
    both
}

#[test]
fn the_state_machine_does_what_the_model_does() {
    let seeds = seeds(STATE_MACHINE_SEEDS);
    process::report(&format!("model: seeds {} to {} on the state machine", seeds[0], seeds[seeds.len() - 1]));
    for seed in seeds {
        hold_against_model(seed, STATE_MACHINE_STEPS, 300_000, &[&local::fresh_fs()]);
    }
}

#[test]
fn a_mount_does_what_the_model_does() {
    let seeds = seeds(MOUNT_SEEDS);
    process::report(&format!("model: seeds {} to {} on a mount", seeds[0], seeds[seeds.len() - 1]));
    for seed in seeds {
        let [fs, _] = fresh_fs();
        hold_against_model(seed, MOUNT_STEPS, 500_000, &[&fs]);
    }
}

#[test]
fn two_mounts_do_together_what_the_model_does() {
    let seeds = seeds(TWO_MOUNTS_SEEDS);
    process::report(&format!("model: seeds {} to {} on two mounts", seeds[0], seeds[seeds.len() - 1]));
    for seed in seeds {
        let [one, two] = fresh_fs();
        hold_against_model(seed, MOUNT_STEPS, 500_000, &[&one, &two]);
    }
}

#[test]
fn a_mount_with_large_files_does_what_the_model_does() {
    let [fs, _] = fresh_fs();
    // Over several chunks; the comparison reads whole files, so only a few steps.
    hold_against_model(seeds(1)[0], 40, 200 << 20, &[&fs]);
}
