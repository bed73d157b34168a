//! Availability: how long nothing was acknowledged, as the application saw it, for each kind of fault; and how soon after it was healed the cluster
//! served again, which it must within a bound. Called by `suite`.

use super::occurrence::{Occurrence, occurrences};
use super::{Checker, Findings, Verdict, judge};
use crate::history::{History, Operation};
use serde_json::json;
use std::collections::BTreeMap;

pub struct Availability {
    pub recovery_ms_max: u64,
}

/// Of one kind of fault, one a fault.
#[derive(Debug, Default)]
pub struct Samples {
    pub pauses_ms: Vec<u64>,
    pub recoveries_ms: Vec<u64>,
}

impl Checker for Availability {
    fn name(&self) -> &str {
        "availability"
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name(), history, |operations, findings| {
            operations.iter().for_each(|operation| findings.look_at(operation));
            let served = served(operations);
            if served.is_empty() {
                findings.anomaly("never-served", "no operation was ever answered", []);
            }
            let by_fault = self.samples(history, &served, findings);
            let calm = longest_pause_ms(&served, 0, end_ns(history));
            let mut figures: BTreeMap<String, _> = by_fault
                .into_iter()
                .map(|(fault, Samples { pauses_ms, recoveries_ms })| {
                    let count = pauses_ms.len();
                    (
                        fault,
                        json!({"count": count, "pause_ms": spread(pauses_ms), "recovery_ms": spread(recoveries_ms)}),
                    )
                })
                .collect();
            figures.insert("the whole run".into(), json!({"count": 1, "pause_ms": spread(vec![calm])}));
            findings.figures = json!(figures);
        })
    }
}

/// Answered ones, by when. A refusal is an answer, too: whoever gives it serves.
fn served(operations: &[Operation]) -> Vec<&Operation> {
    let mut served: Vec<_> = operations.iter().filter(|op| op.output().is_some()).collect();
    served.sort_by_key(|op| op.end_ns);
    served
}

fn end_ns(history: &History) -> u64 {
    history.events.last().map_or(0, |event| event.time)
}

impl Availability {
    /// By kind of fault; nothing of a history that is none.
    pub fn measure(&self, history: &History) -> BTreeMap<String, Samples> {
        let Ok(operations) = history.operations() else { return BTreeMap::new() };
        self.samples(history, &served(&operations), &mut Findings::default())
    }

    fn samples(&self, history: &History, served: &[&Operation], findings: &mut Findings) -> BTreeMap<String, Samples> {
        let mut by_fault: BTreeMap<String, Samples> = BTreeMap::new();
        for one in occurrences(history) {
            let samples = by_fault.entry(one.fault.clone()).or_default();
            self.check_one(&one, served, end_ns(history), samples, findings);
        }
        by_fault
    }

    fn check_one(
        &self,
        one: &Occurrence,
        served: &[&Operation],
        end_ns: u64,
        samples: &mut Samples,
        findings: &mut Findings,
    ) {
        let Some(healed_ns) = one.end_ns else { return };
        // What was asked for before the healing may only now be answered: that is the end of the pause, not yet recovery.
        let fresh = served.iter().filter(|op| op.start_ns >= healed_ns).map(|op| op.end_ns).min();
        let until = fresh.unwrap_or(end_ns);
        samples.pauses_ms.push(longest_pause_ms(served, one.start_ns, until));
        let recovery_ms = until.saturating_sub(healed_ns) / 1_000_000;
        let name = format!("{} #{}", one.fault, one.event);
        match fresh {
            Some(_) if recovery_ms <= self.recovery_ms_max => samples.recoveries_ms.push(recovery_ms),
            Some(_) => {
                let text = format!("{recovery_ms} ms after {name} was healed, the first was answered");
                findings.anomaly("slow-recovery", text, [one.event]);
            }
            None => findings.anomaly("never-recovered", format!("nothing was answered after {name}"), [one.event]),
        }
    }
}

/// The longest time without an answer that overlaps with the given one. It may have begun before, and ends at `to` at the latest.
fn longest_pause_ms(served: &[&Operation], from: u64, to: u64) -> u64 {
    let first = served.partition_point(|op| op.end_ns <= from);
    let mut last = first.checked_sub(1).map_or(from, |at| served[at].end_ns);
    let mut longest = 0;
    for end in served[first..].iter().map(|op| op.end_ns).take_while(|end| *end <= to).chain([to]) {
        longest = longest.max(end.saturating_sub(last));
        last = end;
    }
    longest / 1_000_000
}

fn spread(samples: Vec<u64>) -> serde_json::Value {
    let [p50, p99, max] = ranks(samples);
    json!({"p50": p50, "p99": p99, "max": max})
}

/// p50, p99 and the longest, by nearest rank; None of no samples.
pub fn ranks(mut samples: Vec<u64>) -> [Option<u64>; 3] {
    samples.sort_unstable();
    let rank = |percent: usize| samples.get((samples.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    [50, 99, 100].map(rank)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;

    const BOUND: Availability = Availability { recovery_ms_max: 1_000 };

    fn serve(build: &mut Build) {
        build.run(1, "stat", json!({}), json!({}));
    }

    fn faulted(pause_ms: u64, recovery_ms: u64) -> Build {
        let mut build = Build::default();
        serve(&mut build);
        build.fault("kill", 1, true);
        build.pause_ms(pause_ms);
        build.heal(1);
        build.pause_ms(recovery_ms);
        serve(&mut build);
        build
    }

    #[test]
    fn pause_and_recovery_are_measured_for_each_fault() {
        let verdict = BOUND.check(&faulted(500, 100).history());
        assert!(verdict.is_valid(), "{verdict:?}");
        // Events are a millisecond apart.
        assert_eq!(verdict.figures["kill"]["pause_ms"]["max"], json!(606));
        assert_eq!(verdict.figures["kill"]["recovery_ms"]["p50"], json!(102));
        assert_eq!(verdict.figures["kill"]["count"], json!(1));
    }

    #[test]
    fn a_cluster_that_serves_no_more_or_late_is_found() {
        let late = BOUND.check(&faulted(10, 2_000).history());
        assert_eq!(late.anomalies()[0].kind, "slow-recovery");
        let mut never = faulted(10, 10);
        never.fault("partition", 2, true);
        never.heal(2);
        never.invoke(1, "stat", json!({}));
        assert_eq!(BOUND.check(&never.history()).anomalies()[0].kind, "never-recovered");
        let mut nothing = Build::default();
        nothing.invoke(1, "stat", json!({}));
        assert_eq!(BOUND.check(&nothing.history()).anomalies()[0].kind, "never-served");
    }

    #[test]
    fn an_answer_to_what_was_asked_during_the_fault_is_no_recovery() {
        let mut build = Build::default();
        build.fault("kill", 1, true);
        build.invoke(1, "stat", json!({}));
        build.heal(1);
        build.ok(1, json!({}));
        assert_eq!(BOUND.check(&build.history()).anomalies()[0].kind, "never-recovered");
    }

    #[test]
    fn percentiles_are_of_the_samples() {
        assert_eq!(spread((1..=100).rev().collect()), json!({"p50": 50, "p99": 99, "max": 100}));
        assert_eq!(spread(vec![]), json!({"p50": null, "p99": null, "max": null}));
    }
}
