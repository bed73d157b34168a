//! Lock: fencing. A lease alone excludes nobody, since its holder may sleep through its end; so each acquisition gives a higher token, and a
//! write of an older holder is refused once a newer one holds the lock. `acquire` {"lock"} to {"token"}, `write` {"lock", "token"},
//! `release` {"lock", "token"}. Called by `suite`.

use super::linearizable::partitions;
use super::{Checker, Findings, Verdict, judge};
use crate::history::{History, Operation};
use serde_json::Value;
use std::collections::BTreeMap;

pub struct Lock;

impl Checker for Lock {
    fn name(&self) -> &str {
        "lock"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            for (lock, operations) in partitions(operations, "lock") {
                operations.iter().for_each(|operation| findings.look_at(operation));
                let acquired: Vec<_> = of(&operations, "acquire");
                if acquired.is_empty() {
                    findings.unknown(format!("lock {lock} was never acquired"));
                }
                check_tokens(&lock, &acquired, findings);
                check_holders(&lock, &acquired, &of(&operations, "release"), findings);
                let writes = of(&operations, "write");
                if writes.is_empty() {
                    findings.unknown(format!("lock {lock}: nothing was written under it"));
                }
                check_writes(&lock, &acquired, &writes, findings);
            }
        })
    }
}

type Tokened<'a> = (u64, &'a Operation);

/// Acknowledged ones, with their tokens, by invocation.
fn of<'a>(operations: &[&'a Operation], f: &str) -> Vec<Tokened<'a>> {
    let acknowledged = operations.iter().filter(|op| op.f == f && op.is_acknowledged());
    acknowledged.filter_map(|op| Some((op.field("token").and_then(Value::as_u64)?, *op))).collect()
}

/// A token is given once, and a later acquisition has a higher one.
fn check_tokens(lock: &str, acquired: &[Tokened<'_>], findings: &mut Findings) {
    let mut given: BTreeMap<u64, &Operation> = BTreeMap::new();
    for (token, acquire) in acquired {
        if let Some(first) = given.insert(*token, acquire) {
            let text = format!("lock {lock}: token {token} was given to {first} and to {acquire}");
            findings.anomaly("token-twice", text, [first.start, acquire.start]);
        }
    }
    after_higher(acquired, acquired, |(then, earlier), (now, acquire)| {
        let text = format!("lock {lock}: {acquire} got token {now} after {earlier} had got {then}");
        findings.anomaly("token-went-back", text, [earlier.start, acquire.start]);
    });
}

/// Calls `found` for each of `late` that began after one of `early` with a higher token was over.
fn after_higher<'a>(early: &[Tokened<'a>], late: &[Tokened<'a>], mut found: impl FnMut(Tokened<'a>, Tokened<'a>)) {
    let mut by_end = early.to_vec();
    by_end.sort_by_key(|(_, op)| op.end);
    let mut over = by_end.into_iter().peekable();
    let mut highest: Option<Tokened<'a>> = None;
    for &(token, op) in late {
        while let Some(ended) = over.next_if(|(_, ended)| ended.is_before(op)) {
            highest = highest.filter(|(highest, _)| *highest >= ended.0).or(Some(ended));
        }
        if let Some(highest) = highest.filter(|(highest, _)| *highest > token) {
            found(highest, (token, op));
        }
    }
}

/// One that gave its lock back in order held it until then: nobody else got it meanwhile.
fn check_holders(lock: &str, acquired: &[Tokened<'_>], released: &[Tokened<'_>], findings: &mut Findings) {
    let held_until: BTreeMap<u64, &Operation> = released.iter().copied().collect();
    for (token, acquire) in acquired {
        let Some(release) = held_until.get(token) else { continue };
        let others = acquired.iter().filter(|(other, _)| other != token);
        // Its own interval is certain from the end of acquire to the beginning of release.
        for (_, other) in others.filter(|(_, other)| acquire.is_before(other) && other.end < release.start) {
            let text = format!("lock {lock}: {other} got it while {acquire} held it until {release}");
            findings.anomaly("two-holders", text, [acquire.start, other.start, release.start]);
        }
    }
}

/// A write is refused once a newer token was given, and all the more once a newer one has written.
fn check_writes(lock: &str, acquired: &[Tokened<'_>], writes: &[Tokened<'_>], findings: &mut Findings) {
    let given: BTreeMap<u64, &Operation> = acquired.iter().copied().collect();
    for (token, write) in writes.iter().filter(|(token, _)| !given.contains_key(token)) {
        findings.anomaly(
            "strange-token",
            format!("lock {lock}: {write} has token {token}, which nobody got"),
            [write.start],
        );
    }
    after_higher(acquired, writes, |(newer, acquire), (token, write)| {
        let text = format!("lock {lock}: {write} was taken with token {token} after {acquire} had got {newer}");
        findings.anomaly("not-fenced", text, [acquire.start, write.start]);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::Outcome;
    use crate::history::build::Build;
    use serde_json::json;

    fn acquire(build: &mut Build, client: u32, token: u64) {
        build.run(client, "acquire", json!({"lock": "l"}), json!({"token": token}));
    }

    fn with(build: &mut Build, client: u32, f: &str, token: u64, output: Value) {
        build.run(client, f, json!({"lock": "l", "token": token}), output);
    }

    fn kinds(build: &Build) -> Vec<String> {
        Lock.check(&build.history()).anomalies().iter().map(|anomaly| anomaly.kind.clone()).collect()
    }

    #[test]
    fn an_older_holder_is_fenced_off() {
        let mut build = Build::default();
        acquire(&mut build, 1, 1);
        with(&mut build, 1, "write", 1, json!({}));
        // 1 sleeps through the end of its lease.
        acquire(&mut build, 2, 2);
        with(&mut build, 2, "write", 2, json!({}));
        with(&mut build, 1, "write", 1, json!({"errno": "EIO"}));
        with(&mut build, 2, "release", 2, json!({}));
        assert!(Lock.check(&build.history()).is_valid());
        with(&mut build, 1, "write", 1, json!({}));
        assert_eq!(kinds(&build), ["not-fenced"]);
    }

    #[test]
    fn a_write_under_way_while_another_acquires_is_no_violation() {
        let mut build = Build::default();
        acquire(&mut build, 1, 1);
        build.invoke(1, "write", json!({"lock": "l", "token": 1}));
        acquire(&mut build, 2, 2);
        build.ok(1, json!({}));
        assert!(Lock.check(&build.history()).is_valid());
    }

    #[test]
    fn tokens_rise_and_holders_exclude_each_other() {
        let mut build = Build::default();
        acquire(&mut build, 1, 2);
        acquire(&mut build, 2, 1);
        assert_eq!(kinds(&build), ["token-went-back"]);
        let mut twice = Build::default();
        acquire(&mut twice, 1, 1);
        acquire(&mut twice, 2, 1);
        assert_eq!(kinds(&twice), ["token-twice"]);
        let mut two = Build::default();
        acquire(&mut two, 1, 1);
        acquire(&mut two, 2, 2);
        with(&mut two, 1, "release", 1, json!({}));
        assert_eq!(kinds(&two), ["two-holders"]);
        let mut strange = Build::default();
        acquire(&mut strange, 1, 1);
        with(&mut strange, 2, "write", 7, json!({}));
        assert_eq!(kinds(&strange), ["strange-token"]);
    }

    #[test]
    fn a_lock_that_nobody_got_or_used_proves_nothing() {
        let mut build = Build::default();
        build.run(1, "acquire", json!({"lock": "l"}), json!({"errno": "EAGAIN"}));
        assert!(matches!(Lock.check(&build.history()).outcome, Outcome::Unknown(_)));
        acquire(&mut build, 1, 1);
        assert!(matches!(Lock.check(&build.history()).outcome, Outcome::Unknown(_)), "nothing was written");
    }
}
