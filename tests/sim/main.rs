//! The simulation: metad's own nodes, stores and protocol under a simulated network, disk and clock, each run decided by its seed.
//!
//! Why not turmoil: there the hosts' tasks, clocks and sockets are simulated, but not what a disk keeps; our nodes are put together without
//! sockets (`Dial::carrier`), so all that is left of it is one paused runtime for each machine, stepped in turn, which is what
//! `machine` does, with clocks that can go wrong and a process that can be stopped. It costs no HTTP/2 for each message either,
//! and is quick: a short run takes about a third of a second of a processor, unoptimised.

mod batch;
mod carry;
mod checks;
mod client;
mod disk;
mod faults;
mod machine;
mod members;
mod net;
mod operator;
mod oracle;
mod os;
mod planted;
mod promises;
mod tally;
mod trace;
mod world;

use batch::{Settings, run_apart};
use planted::Planted;
use tally::Tally;
use world::{LONG_EVERY, Plan};

#[test]
fn the_same_seed_gives_the_same_run() {
    let happened = Tally::default();
    // Which seeds come to what changes with the code.
    let has_all = |tally: &Tally| tally.of(tally::FED) > 0 && tally.of(tally::ADDED) > 0;
    for seed in (11..100).take_while(|seed| *seed <= LONG_EVERY || !has_all(&happened)) {
        let plan = Plan { seed, planted: Planted::Nothing };
        let (first, second) = (run_apart(&plan), run_apart(&plan));
        happened.add(&first.tally);
        assert!(first.trace.len() > 500, "seed {seed}: {:?}", first.wrong);
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let lines = |trace: &[String]| trace[at.saturating_sub(3)..trace.len().min(at + 2)].join("\n");
            panic!("seed {seed}, line {at}:\n{}\n--\n{}", lines(&first.trace), lines(&second.trace));
        }
        assert_eq!((first.trace.len(), first.wrong), (second.trace.len(), second.wrong));
    }
    assert!(has_all(&happened), "{:?}", happened.lines());
}

/// The rarest is caught once in a hundred seeds or so; which ones catch it changes with the code.
const PLANTED_SEEDS_MAX: u64 = 1_000;

/// Runs seeds with a bug planted until one is caught, and says by which.
fn caught(planted: Planted, words: &[&str]) {
    for seed in 1..=PLANTED_SEEDS_MAX {
        let outcome = run_apart(&Plan { seed, planted });
        if let Some(line) = outcome.wrong.iter().find(|line| words.iter().any(|word| line.contains(word))) {
            println!("{planted:?}: caught by seed {seed}: {line}");
            return;
        }
        // It may show in other ways, too; they do not count here.
        outcome.wrong.iter().for_each(|line| println!("{planted:?}, seed {seed}: {line}"));
    }
    panic!("{planted:?} was not caught by {PLANTED_SEEDS_MAX} seeds");
}

#[test]
fn a_disk_that_lies_about_its_flushes_is_caught() {
    caught(Planted::LyingFsync, &["durability", "the raft log", "knows nothing"]);
}

#[test]
fn votes_that_are_given_to_everybody_are_caught() {
    caught(Planted::ForgottenVotes, &["election safety", "durability"]);
}

#[test]
fn reads_that_ask_nobody_who_leads_are_caught() {
    caught(Planted::StaleReads, &["had been seen"]);
}

#[test]
fn a_repetition_that_is_taken_for_something_new_is_caught() {
    caught(Planted::NoDedup, &["took effect 2 times"]);
}

#[test]
fn what_a_killed_process_wrote_and_nobody_synced_is_caught() {
    caught(Planted::UnsyncedStart, &["durability", "the raft log"]);
}

#[test]
fn a_checkpoint_without_the_answers_of_sessions_is_caught() {
    caught(Planted::ForgottenAnswers, &["another state", "took effect 2 times"]);
}

#[test]
fn a_node_that_goes_on_after_it_has_lost_its_disk_is_caught() {
    caught(Planted::ForgottenDisk, &["durability", "safety", "completeness"]);
}

/// Seeds that failed once; tests/BUGS.md says what they found. 8: a torn log that was taken for a damaged one. 163: what a checkpoint made
/// obsolete was taken for committed. 670: a voter that did not know yet that it had been let in.
const FAILED_ONCE: [u64; 3] = [8, 163, 670];

#[test]
fn seeds_that_failed_once_pass() {
    for seed in FAILED_ONCE {
        let outcome = run_apart(&Plan { seed, planted: Planted::Nothing });
        assert!(outcome.wrong.is_empty(), "seed {seed}: {:?}", outcome.wrong);
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    batch::run_many(&Settings::from_environment());
}
