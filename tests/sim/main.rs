//! The simulation: metad's own nodes, stores and protocol under a simulated network, disk and clock, each run decided by its seed.
//!
//! Why not turmoil: there the hosts' tasks, clocks and sockets are simulated, but not what a disk keeps; our nodes are put together without
//! sockets (`Dial::carrier`), so all that is left of it is one paused runtime for each machine, stepped in turn, which is what
//! `machine` does, with clocks that can go wrong and a process that can be stopped. It costs no HTTP/2 for each message either,
//! so that thousands of seeds fit into two minutes.

mod batch;
mod checks;
mod client;
mod disk;
mod faults;
mod machine;
mod net;
mod oracle;
mod os;
mod planted;
mod promises;
mod trace;
mod world;

use batch::{Settings, run_apart};
use planted::Planted;
use world::Plan;

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 1..=3 {
        let plan = Plan { seed, planted: Planted::Nothing };
        let (first, second) = (run_apart(&plan), run_apart(&plan));
        assert!(first.trace.len() > 1_000, "seed {seed}: {:?}", first.wrong);
        let differs = first.trace.iter().zip(&second.trace).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let lines = |trace: &[String]| trace[at.saturating_sub(3)..trace.len().min(at + 2)].join("\n");
            panic!("seed {seed}, line {at}:\n{}\n--\n{}", lines(&first.trace), lines(&second.trace));
        }
        assert_eq!(first.trace.len(), second.trace.len());
    }
}

#[test]
fn no_seed_breaks_a_promise() {
    batch::run_many(&Settings::from_environment());
}
