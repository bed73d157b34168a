//! Suite: which checkers judge which workload. Called by `cli` and at the end of a run.

use super::append::Append;
use super::availability::Availability;
use super::close_to_open::CloseToOpen;
use super::conservation::Conservation;
use super::exactly_once::ExactlyOnce;
use super::faults::Faults;
use super::linearizable::{Linearizable, STEPS_MAX};
use super::lock::Lock;
use super::looked::{self, Looked};
use super::manifest::Manifest;
use super::replay::Replay;
use super::set_full::SetFull;
use super::unlinked::Unlinked;
use super::{Checker, Verdict};
use crate::history::History;
use crate::model::register::Register;
use crate::model::tree::Tree;

/// After healing, the cluster serves within this.
pub const RECOVERY_MS_MAX: u64 = 60_000;

/// A workload and what it shows.
pub struct Promise {
    pub workload: &'static str,
    pub shows: &'static str,
    checkers: fn() -> Vec<Box<dyn Checker>>,
}

pub const PROMISES: &[Promise] = &[
    Promise { workload: "tree", shows: "metadata is linearizable", checkers: || vec![tree()] },
    Promise {
        workload: "log",
        shows: "metadata is linearizable, for hours of traffic",
        checkers: || {
            vec![Box::new(Replay {
                name: "replay",
                model: Tree,
                partition: "tree",
                reads: &["stat", "has", "readdir"],
                steps_max: STEPS_MAX,
            })]
        },
    },
    Promise { workload: "register", shows: "each key is linearizable", checkers: || vec![register()] },
    Promise { workload: "append", shows: "lists are strictly serializable", checkers: || vec![Box::new(Append)] },
    Promise { workload: "set", shows: "nothing acknowledged is lost", checkers: || vec![Box::new(SetFull)] },
    Promise { workload: "token", shows: "a rename is atomic", checkers: || vec![Box::new(Conservation)] },
    Promise { workload: "once", shows: "what is sent again is done once", checkers: || vec![Box::new(ExactlyOnce)] },
    Promise { workload: "lock", shows: "an old holder is fenced off", checkers: || vec![Box::new(Lock)] },
    Promise { workload: "close-to-open", shows: "open sees what was closed", checkers: || vec![Box::new(CloseToOpen)] },
    Promise { workload: "manifest", shows: "fsync survives", checkers: || vec![Box::new(Manifest)] },
    Promise { workload: "unlinked", shows: "what is open stays", checkers: || vec![Box::new(Unlinked)] },
];

fn tree() -> Box<dyn Checker> {
    Box::new(Linearizable { name: "linearizable-tree", model: Tree, partition: "tree", steps_max: STEPS_MAX })
}

fn register() -> Box<dyn Checker> {
    Box::new(Linearizable { name: "linearizable-register", model: Register, partition: "key", steps_max: STEPS_MAX })
}

/// What the checkers of `checkers` say of a history.
///
/// # Errors
/// A workload that nobody knows.
pub fn judge(workloads: &str, history: &History) -> Result<Vec<Verdict>, String> {
    Ok(checkers(workloads, history)?.iter().map(|checker| checker.check(history)).collect())
}

/// The checkers of a workload, or of several with commas between; and those that every run has.
///
/// # Errors
/// A workload that nobody knows.
pub fn checkers(workloads: &str, history: &History) -> Result<Vec<Box<dyn Checker>>, String> {
    let mut checkers = Vec::new();
    for workload in workloads.split(',') {
        let Some(promise) = PROMISES.iter().find(|promise| promise.workload == workload) else {
            let known: Vec<_> = PROMISES.iter().map(|promise| promise.workload).collect();
            return Err(format!("there is no workload {workload:?}; there are {}", known.join(", ")));
        };
        checkers.extend((promise.checkers)());
    }
    let is_ordered = history.about("nemesis").is_some_and(|nemesis| nemesis != "none");
    if is_ordered || history.nemesis().next().is_some() {
        checkers.push(Box::new(Faults));
    }
    for key in looked::ALL.into_iter().filter(|key| history.about(key).is_some()) {
        checkers.push(Box::new(Looked(key)));
    }
    checkers.push(Box::new(Availability { recovery_ms_max: RECOVERY_MS_MAX }));
    Ok(checkers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;

    #[test]
    fn each_workload_has_a_checker_and_nothing_passes_an_empty_history() {
        for promise in PROMISES {
            let checkers = checkers(promise.workload, &History::default()).expect("known");
            assert_eq!(checkers.len(), 2);
            assert!(checkers.iter().all(|checker| !checker.check(&History::default()).is_valid()));
        }
        assert!(checkers("tree,fly", &History::default()).is_err());
    }

    #[test]
    fn faults_are_judged_where_there_were_to_be_some() {
        let count = |history: &History| checkers("tree,set", history).expect("known").len();
        let mut history = History::default();
        history.meta.insert("nemesis".into(), "none".into());
        assert_eq!(count(&history), 3);
        history.meta.insert("nemesis".into(), "kill".into());
        assert_eq!(count(&history), 4);
        let mut build = Build::default();
        build.fault("kill", 1, true);
        assert_eq!(count(&build.history()), 4);
    }
}
