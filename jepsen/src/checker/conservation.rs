//! Conservation: what is only moved is neither lost nor doubled. `move` {"token", "from", "to"}; `snapshot` {} to {"tokens": {"t1": ["d1"]}}, a walk
//! over all directories, which counts for a token that nobody moved meanwhile; `balance` {"what"} to {"stated", "counted"}, two sums that
//! are one (nlink and names, quota and files). `create` {"token"} says which there are. Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub struct Conservation;

impl Checker for Conservation {
    fn name(&self) -> &str {
        "conservation"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            let named = |f: &str| operations.iter().filter(move |op| op.f == f).collect::<Vec<_>>();
            let (created, moves) = (named("create"), named("move"));
            let (snapshots, balances) = (named("snapshot"), named("balance"));
            for operation in [&created, &moves, &snapshots, &balances].into_iter().flatten() {
                findings.look_at(operation);
            }
            let tokens: BTreeSet<String> =
                created.iter().filter(|op| op.is_acknowledged()).filter_map(|op| op.key("token")).collect();
            let mut by_token = partitions(operations, "token");
            by_token.values_mut().for_each(|operations| operations.retain(|op| op.ending != Ending::Fail));
            let mut judged = BTreeSet::new();
            for snapshot in snapshots.into_iter().filter(|op| op.is_acknowledged()) {
                for (token, operations) in by_token.iter().filter(|(token, _)| tokens.contains(*token)) {
                    if check_token(snapshot, token, operations, findings) {
                        judged.insert(token);
                    }
                }
            }
            if tokens.is_empty() && balances.is_empty() {
                findings.unknown("there was no token and no sum");
            }
            if judged.len() < tokens.len() {
                let count = tokens.len() - judged.len();
                findings.unknown(format!("{count} tokens were in motion in every snapshot"));
            }
            let judged = judged.len() as u64;
            balances.into_iter().for_each(|balance| check_balance(balance, findings));
            findings.figures = json!({"tokens": tokens.len(), "judged": judged});
        })
    }
}

/// Whether `token` lay still during the snapshot; then it is in it once, and where the last move put it.
fn check_token(snapshot: &Operation, token: &str, operations: &[&Operation], findings: &mut Findings) -> bool {
    let named = |f: &'static str| operations.iter().copied().filter(move |op| op.f == f);
    let is_over = |op: &&Operation| op.is_before(snapshot);
    let moves: Vec<_> = named("move").filter(|op| !snapshot.is_before(op)).collect();
    if !named("create").all(|op| is_over(&op)) || !moves.iter().all(is_over) {
        return false;
    }
    let places = snapshot.output().and_then(|output| output.get("tokens")).and_then(|tokens| tokens.get(token));
    let places: Vec<_> = places.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    // The last move, if no other was under way with it.
    let done: Vec<_> = moves.iter().filter(|op| op.is_acknowledged()).collect();
    let last = done.iter().max_by_key(|op| op.start);
    let last = last.filter(|last| done.iter().all(|op| op.start == last.start || op.is_before(last)));
    let expected = last.and_then(|last| last.key("to"));
    match places[..] {
        [] => {
            let text = format!("{token} is in no directory in the snapshot #{}", snapshot.start);
            findings.anomaly("lost", text, [snapshot.start]);
        }
        [place] if expected.as_deref().is_some_and(|expected| expected != place) => {
            let moved = last.map_or(0, |last| last.start);
            let text = format!("{token} is in {place} in the snapshot #{}, after the move #{moved}", snapshot.start);
            findings.anomaly("misplaced", text, [moved, snapshot.start]);
        }
        [_] => {}
        _ => {
            let text = format!("{token} is in {} in the snapshot #{}", places.join(" and "), snapshot.start);
            findings.anomaly("doubled", text, [snapshot.start]);
        }
    }
    true
}

fn check_balance(balance: &Operation, findings: &mut Findings) {
    if balance.errno().is_some() {
        return findings.anomaly("unbalanced", format!("{balance}: what was counted is not there"), [balance.start]);
    }
    let Some(output) = balance.output().filter(|_| balance.is_acknowledged()) else { return };
    match (output.get("stated"), output.get("counted")) {
        (Some(stated), Some(counted)) if stated == counted => {}
        (Some(_), Some(_)) => findings.anomaly("unbalanced", format!("{balance}"), [balance.start]),
        _ => findings.anomaly("unreadable", format!("{balance}"), [balance.start]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;

    fn begun() -> Build {
        let mut build = Build::default();
        build.run(1, "create", json!({"token": "t"}), json!({}));
        build.run(1, "move", json!({"token": "t", "from": "d1", "to": "d2"}), json!({}));
        build
    }

    fn snapshot(build: &mut Build, places: &[&str]) {
        build.run(2, "snapshot", json!({}), json!({"tokens": {"t": places}}));
    }

    fn kinds(build: &Build) -> Vec<String> {
        Conservation.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn a_token_that_lies_still_is_there_once_and_where_it_was_put() {
        let mut good = begun();
        snapshot(&mut good, &["d2"]);
        assert!(Conservation.check(&good.history()).is_valid());
        for (places, kind) in [(&[][..], "lost"), (&["d1", "d2"], "doubled"), (&["d1"], "misplaced")] {
            let mut bad = begun();
            snapshot(&mut bad, places);
            assert_eq!(kinds(&bad), [kind]);
        }
    }

    #[test]
    fn a_token_in_motion_is_judged_later_or_not_at_all() {
        let mut build = begun();
        build.invoke(1, "move", json!({"token": "t", "from": "d2", "to": "d3"}));
        snapshot(&mut build, &[]);
        build.ok(1, json!({}));
        assert!(matches!(Conservation.check(&build.history()).outcome, Outcome::Unknown(_)));
        let nothing = Build { events: build.events[4..].to_vec(), now_ns: 0 };
        assert!(matches!(Conservation.check(&nothing.history()).outcome, Outcome::Unknown(_)));
        snapshot(&mut build, &["d3"]);
        assert!(Conservation.check(&build.history()).is_valid());
    }

    #[test]
    fn sums_agree() {
        let mut build = begun();
        snapshot(&mut build, &["d2"]);
        build.run(2, "balance", json!({"what": "nlink of f"}), json!({"stated": 3, "counted": 3}));
        assert!(Conservation.check(&build.history()).is_valid());
        build.run(2, "balance", json!({"what": "quota"}), json!({"stated": 3, "counted": 4}));
        assert_eq!(kinds(&build), ["unbalanced"]);
    }
}
