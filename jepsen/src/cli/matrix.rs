//! matrix: all workloads under all faults, in runs of a few faults each. Called by `cli`.

use crate::{nemesis, workload};
use clap::Args;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use std::path::PathBuf;
use std::process::Command;

#[derive(Debug, Args)]
#[command(after_help = "Prints `N passed, N failed` at the end, and of each failed run the command that repeats it.")]
pub struct Matrix {
    /// Each fault once with a fixed seed, and some again, several at once, with a random one
    #[arg(long)]
    pub short: bool,
    /// Hours of faults, without --short
    #[arg(long, default_value_t = 2.0)]
    pub hours: f64,
    /// Of the random runs
    #[arg(long)]
    pub seed: Option<u64>,
    /// Where histories and reports go
    #[arg(long, default_value = "target/jepsen")]
    pub out: PathBuf,
}

/// Faults in one run.
const FAULTS: usize = 7;
/// The same in hours of them: starting a cluster takes as long as two.
const FAULTS_LONG: usize = 16;
/// Seconds that one of them takes with the calm after it, about.
const FAULT_S: u64 = 6;
const FIXED_SEED: u64 = 1;
/// Faults that come together in random runs, in turn.
const AT_ONCE: [usize; 4] = [3, 1, 2, 1];

impl Matrix {
    /// # Errors
    /// A run cannot be started.
    pub fn run(&self) -> Result<u8, String> {
        let seed = self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let mut runs: Vec<_> = batches(FIXED_SEED, FAULTS).into_iter().map(|faults| (FIXED_SEED, faults, 1)).collect();
        let (count, again) = match self.short {
            true => (FAULTS, 1),
            false => (FAULTS_LONG, (self.hours * 3600.0 / (FAULTS_LONG as f64 * FAULT_S as f64)).ceil() as u64),
        };
        let together = |step: u64| AT_ONCE[step as usize % AT_ONCE.len()];
        runs.extend((0..again).map(|step| (seed + step, batches(seed + step, count).swap_remove(0), together(step))));
        let mut failed = 0;
        for (number, (seed, faults, at_once)) in runs.iter().enumerate() {
            if !self.one(number + 1, *seed, faults, *at_once)? {
                failed += 1;
                println!("test run {} ... FAILED", number + 1);
            }
        }
        println!("{} passed, {failed} failed", runs.len() - failed);
        Ok(u8::from(failed > 0))
    }

    /// A process of its own: a run that panics ends itself and what belongs to it, and nothing else.
    fn one(&self, number: usize, seed: u64, faults: &[String], at_once: usize) -> Result<bool, String> {
        let own = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
        let workloads: Vec<_> = workload::NAMES.iter().map(|(name, _)| *name).collect();
        let mut command = Command::new(own);
        command.args(["run", "--workload", &workloads.join(","), "--nemesis", &faults.join(",")]);
        command.args(["--time", &(faults.len() as u64 * FAULT_S).to_string(), "--seed", &seed.to_string()]);
        command.args(["--at-once", &at_once.to_string()]);
        command.arg("--out").arg(self.out.join(format!("run-{number}")));
        // Not killed with this one: it hears Ctrl-C, too, and has to clean up.
        let ended = command.status().map_err(|error| format!("start a run: {error}"))?;
        Ok(ended.success())
    }
}

/// All faults in the order of a seed, a few at a time.
fn batches(seed: u64, count: usize) -> Vec<Vec<String>> {
    let mut names: Vec<_> = nemesis::ALL.iter().map(|kind| kind.name.to_owned()).collect();
    names.shuffle(&mut StdRng::seed_from_u64(seed));
    names.chunks(count).map(<[String]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_in_one_run_of_a_seed() {
        let mut all: Vec<_> = batches(7, FAULTS).concat();
        all.sort();
        let mut known: Vec<_> = nemesis::ALL.iter().map(|kind| kind.name.to_owned()).collect();
        known.sort();
        assert_eq!(all, known);
        assert_eq!(batches(7, FAULTS), batches(7, FAULTS));
        assert_ne!(batches(7, FAULTS), batches(8, FAULTS));
    }
}
