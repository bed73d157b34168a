//! plant: runs of the binaries with a bug in them (`holdfast_proto::faults`), each under the workload and the faults that are to bring it to
//! light. A harness that lets one pass is too weak. Called by `cli`.
//!
//! What counts is that the checker named here says what it is to say: a run that fails for another reason has caught nothing.

use super::check::load;
use crate::checker::suite::judge;
use crate::checker::{Anomaly, Verdict};
use crate::history::{History, Kind, Process};
use clap::Args;
use holdfast_proto::faults::Bug;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

#[derive(Debug, Args)]
#[command(
    after_help = "Needs the binaries of `cargo build --workspace --features faults --bin metad-faulty --bin holdfast-faulty`. \
                  Prints a table, and `N passed, N failed` at the end."
)]
pub struct Plant {
    /// Only this bug
    #[arg(long)]
    pub only: Option<String>,
    /// The same runs without any bug: no checker may say anything
    #[arg(long)]
    pub sound: bool,
    /// Of the first try of each; the next ones count on from it
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Runs of a bug until it is given up
    #[arg(long, default_value_t = 3)]
    pub tries: u64,
    /// Where histories, reports and the table go
    #[arg(long, default_value = "target/jepsen-planted")]
    pub out: PathBuf,
}

/// A bug, and how it is caught.
pub struct Trap {
    pub bug: Bug,
    pub what: &'static str,
    workload: &'static str,
    nemesis: &'static str,
    time_s: u64,
    checker: &'static str,
    /// Anomalies of these kinds are its doing.
    kinds: &'static [&'static str],
}

pub const TRAPS: &[Trap] = &[
    Trap {
        bug: Bug::NoFsync,
        what: "the log is not synced before it is acknowledged",
        workload: "set",
        nemesis: "power-all",
        time_s: 10,
        checker: "set-full",
        kinds: &["lost"],
    },
    Trap {
        bug: Bug::StaleReads,
        what: "queries are answered without asking whether this node leads",
        workload: "register",
        nemesis: "partition-leader",
        time_s: 10,
        checker: "linearizable-register",
        kinds: &["not-linearizable"],
    },
    Trap {
        bug: Bug::NoDedup,
        what: "what is sent again is done again",
        workload: "once",
        nemesis: "kill-leader,pause-leader,partition-client",
        time_s: 20,
        checker: "exactly-once",
        kinds: &["done-twice"],
    },
    Trap {
        bug: Bug::NoFencing,
        what: "what a session asks for is done although its locks were given to others",
        workload: "lock",
        nemesis: "client-pause",
        time_s: 20,
        checker: "lock",
        kinds: &["not-fenced", "two-holders"],
    },
    Trap {
        bug: Bug::EarlyAck,
        what: "changes are acknowledged before they are committed",
        workload: "register",
        nemesis: "partition-leader",
        time_s: 10,
        checker: "linearizable-register",
        kinds: &["not-linearizable"],
    },
    Trap {
        bug: Bug::TwoStepRename,
        what: "a rename on a mount is a link and an unlink",
        workload: "token",
        nemesis: "none",
        time_s: 10,
        checker: "conservation",
        kinds: &["unbalanced", "doubled", "lost"],
    },
    Trap {
        bug: Bug::OrphanFreed,
        what: "the data of an unlinked file is freed although somebody has it open",
        workload: "unlinked",
        nemesis: "none",
        time_s: 10,
        checker: "unlinked",
        kinds: &["freed"],
    },
    Trap {
        bug: Bug::LateUpload,
        what: "a mount commits data before it is uploaded",
        workload: "manifest",
        nemesis: "client-kill",
        time_s: 10,
        checker: "manifest",
        kinds: &["unreadable"],
    },
];

/// How much it took.
struct Caught {
    operations: usize,
    seconds: f64,
    anomaly: Anomaly,
}

impl Plant {
    /// # Errors
    /// A name that nobody knows, or a run that cannot be started.
    pub fn run(&self) -> Result<u8, String> {
        let wanted = |trap: &&Trap| self.only.as_ref().is_none_or(|only| trap.bug.name() == only);
        let traps: Vec<_> = TRAPS.iter().filter(wanted).collect();
        if traps.is_empty() {
            return Err("there is no such bug to plant: see `jepsen list`".to_owned());
        }
        let mut failed = 0;
        let mut table = format!("{TABLE_HEAD}\n");
        println!("{TABLE_HEAD}");
        for trap in &traps {
            let row = if self.sound { self.stays_silent(trap) } else { self.is_caught(trap) };
            match row {
                Ok(row) => {
                    println!("{row}");
                    table += &format!("{row}\n");
                }
                Err(why) => {
                    failed += 1;
                    println!("test planted {} ... FAILED ({why})", trap.bug.name());
                }
            }
        }
        let path = self.out.join("table.md");
        std::fs::write(&path, table).map_err(|error| format!("write {}: {error}", path.display()))?;
        println!("{} passed, {failed} failed", traps.len() - failed);
        Ok(u8::from(failed > 0))
    }

    /// A row of the table, or why it was not caught.
    fn is_caught(&self, trap: &Trap) -> Result<String, String> {
        let mut whys = Vec::new();
        for seed in self.seed..self.seed + self.tries {
            match self.one(trap, Some(trap.bug), seed).and_then(|(_, history)| caught(trap, &history)) {
                Ok(caught) => return Ok(row(trap, seed, &caught)),
                Err(why) => whys.push(format!("seed {seed}: {why}")),
            }
        }
        Err(whys.join("; "))
    }

    fn stays_silent(&self, trap: &Trap) -> Result<String, String> {
        let (code, _) = self.one(trap, None, self.seed)?;
        let (name, seed) = (trap.bug.name(), self.seed);
        match code {
            Some(0) => {
                Ok(format!("| none, as for {name} | {} | {} | silent, seed {seed} | | |", trap.workload, trap.nemesis))
            }
            code => Err(format!("a run without the bug ended with {code:?}, seed {seed}")),
        }
    }

    /// A run in a process of its own, with or without the bug: its exit code, and what it wrote down.
    fn one(&self, trap: &Trap, bug: Option<Bug>, seed: u64) -> Result<(Option<i32>, History), String> {
        let name = bug.map_or_else(|| format!("sound-{}", trap.bug.name()), |bug| bug.name().to_owned());
        let dir = self.out.join(format!("{name}-{seed}"));
        // Of an earlier run.
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).map_err(|error| format!("make {}: {error}", dir.display()))?;
        let ended = self.start(trap, bug, seed, &dir).map_err(|error| format!("start a run: {error}"))?;
        let history = dir.join(format!("{}-{seed}.jsonl", trap.workload));
        match history.exists() {
            true => Ok((ended, load(&history)?)),
            false => Err(format!("the run broke off, see {}", dir.join("log").display())),
        }
    }

    fn start(&self, trap: &Trap, bug: Option<Bug>, seed: u64, dir: &Path) -> std::io::Result<Option<i32>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["run", "--workload", trap.workload, "--nemesis", trap.nemesis]);
        command.args(["--time", &trap.time_s.to_string(), "--seed", &seed.to_string()]).arg("--out").arg(dir);
        if let Some(bug) = bug {
            command.args(["--planted", bug.name()]);
        }
        let log = File::create(dir.join("log"))?;
        // Not killed with this one: it hears Ctrl-C, too, and has to clean up.
        Ok(command.stdout(log.try_clone()?).stderr(log).status()?.code())
    }
}

const TABLE_HEAD: &str = "| bug | workload | fault | said by | operations | seconds |\n|---|---|---|---|---|---|";

fn row(trap: &Trap, seed: u64, Caught { operations, seconds, anomaly }: &Caught) -> String {
    let Trap { workload, nemesis, checker, .. } = trap;
    let (name, kind) = (trap.bug.name(), &anomaly.kind);
    format!("| {name} | {workload} | {nemesis} | {checker}: {kind}, seed {seed} | {operations} | {seconds:.1} |")
}

/// The first that the expected checker has to say about it.
fn caught(trap: &Trap, history: &History) -> Result<Caught, String> {
    let verdicts = judge(trap.workload, history)?;
    let expected = verdicts.iter().find(|verdict| verdict.checker == trap.checker);
    let anomalies = expected.map(Verdict::anomalies).unwrap_or_default();
    let of_it = anomalies.iter().filter(|anomaly| trap.kinds.contains(&anomaly.kind.as_str()));
    let last_event = |anomaly: &&Anomaly| anomaly.events.iter().copied().max().unwrap_or(u64::MAX);
    let Some(anomaly) = of_it.min_by_key(last_event) else {
        let others: Vec<_> = verdicts.iter().filter(|v| !v.is_valid()).map(|v| v.checker.as_str()).collect();
        return Err(match others.is_empty() {
            true => "nobody said anything".to_owned(),
            false => format!("{} said nothing of the kind; not content: {}", trap.checker, others.join(", ")),
        });
    };
    let before = history.events.iter().take_while(|event| event.index <= last_event(&anomaly));
    let seconds = before.clone().last().map_or(0.0, |event| event.time as f64 / 1e9);
    let operations = before.filter(|event| event.kind == Kind::Invoke && event.process != Process::Nemesis).count();
    Ok(Caught { operations, seconds, anomaly: anomaly.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;
    use crate::nemesis;
    use crate::workload;
    use serde_json::json;

    #[test]
    fn every_bug_has_its_trap() {
        for (name, bug) in Bug::ALL {
            let trap = TRAPS.iter().find(|trap| trap.bug == bug).unwrap_or_else(|| panic!("no trap for {name}"));
            assert!(workload::by_name(trap.workload).is_ok(), "{name}");
            assert!(
                trap.nemesis == "none" || trap.nemesis.split(',').all(|one| nemesis::by_name(one).is_ok()),
                "{name}"
            );
            let checkers = crate::checker::suite::checkers(trap.workload, &History::default()).expect("known");
            assert!(checkers.iter().any(|checker| checker.name() == trap.checker), "{name}");
        }
    }

    #[test]
    fn only_the_expected_words_of_the_expected_checker_count() {
        let trap = TRAPS.iter().find(|trap| trap.bug == Bug::LateUpload).expect("a trap");
        let mut build = Build::default();
        build.run(1, "fsync", json!({"file": "f", "checksum": "a"}), json!({}));
        let mut lost = build.clone();
        lost.run(2, "read-back", json!({"file": "f"}), json!({"errno": "ENOENT"}));
        assert!(caught(trap, &lost.history()).is_err_and(|why| why.contains("manifest said nothing of the kind")));
        build.run(2, "read-back", json!({"file": "f"}), json!({"errno": "EIO"}));
        let caught = caught(trap, &build.history()).expect("caught");
        assert_eq!((caught.operations, caught.anomaly.kind.as_str()), (2, "unreadable"));
    }
}
