//! Linearizable: each partition (a tree, a key) must have an order in which a model does its operations one by one, each between its
//! invocation and its completion. Those whose ending nobody knows may take effect at any time later, or never. Called by `suite`.

use super::search::{Found, Interval, Stuck, search};
use super::{Checker, Findings, Verdict, judge};
use crate::history::{Ending, History, Operation};
use crate::model::Model;
use std::collections::BTreeMap;

/// A partition that takes more is given up as unknown.
pub const STEPS_MAX: u64 = 20_000_000;

pub struct Linearizable<M> {
    pub name: &'static str,
    pub model: M,
    /// The field that says which partition an operation belongs to; those without it are none of this checker's.
    pub partition: &'static str,
    /// For each partition.
    pub steps_max: u64,
}

impl<M: Model + Send + Sync> Checker for Linearizable<M> {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&self, history: &History) -> Verdict {
        judge(self.name, history, |operations, findings| {
            let partitions = partitions(operations, self.partition);
            let mut steps_most = 0;
            for (partition, operations) in &partitions {
                operations.iter().for_each(|operation| findings.look_at(operation));
                let mut steps_left = self.steps_max;
                self.check_one(&format!("{} {partition}", self.partition), operations, &mut steps_left, findings);
                steps_most = steps_most.max(self.steps_max - steps_left);
            }
            findings.note(format!("{} partitions; {steps_most} steps at most for one", partitions.len()));
        })
    }
}

impl<M: Model> Linearizable<M> {
    fn check_one(&self, partition: &str, operations: &[&Operation], steps_left: &mut u64, findings: &mut Findings) {
        let Some((operations, calls)) = calls(&self.model, operations, findings) else { return };
        let interval = |op: &&Operation| {
            let (start, end) = (op.start, op.end);
            Interval { start, end, began: start, over: end, optional: op.ending == Ending::Info }
        };
        let intervals: Vec<_> = operations.iter().map(interval).collect();
        match search(&self.model, &calls, &intervals, steps_left) {
            Found::Possible => {}
            Found::OutOfSteps => findings.unknown(format!("{partition}: no answer within {} steps", self.steps_max)),
            Found::Stuck(stuck) => explain(&self.model, partition, &operations, &stuck, findings),
        }
    }
}

/// Operations by a field's value.
pub(super) fn partitions<'a>(operations: &'a [Operation], field: &str) -> BTreeMap<String, Vec<&'a Operation>> {
    let mut partitions: BTreeMap<String, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        if let Some(key) = operation.key(field) {
            partitions.entry(key).or_default().push(operation);
        }
    }
    partitions
}

/// What may have taken effect, as the model reads it. None where the model cannot read it, which is an anomaly.
pub(super) fn calls<'a, M: Model>(
    model: &M,
    operations: &[&'a Operation],
    findings: &mut Findings,
) -> Option<(Vec<&'a Operation>, Vec<M::Call>)> {
    let operations: Vec<_> = operations.iter().copied().filter(|op| op.ending != Ending::Fail).collect();
    let mut calls = Vec::with_capacity(operations.len());
    for operation in &operations {
        match model.call(operation) {
            Ok(call) => calls.push(call),
            Err(what) => findings.anomaly("unreadable", format!("{operation}: {what}"), [operation.start]),
        }
    }
    (calls.len() == operations.len()).then_some((operations, calls))
}

/// The operation at which no order went on, what came before it, and what the state can have been.
pub(super) fn explain<M: Model>(
    model: &M,
    partition: &str,
    operations: &[&Operation],
    stuck: &Stuck<M::State>,
    findings: &mut Findings,
) {
    let told = |ops: &[usize]| ops.iter().map(|&op| operations[op].to_string()).collect::<Vec<_>>().join("; ");
    let states: Vec<_> = stuck.states.iter().map(|state| model.describe(state)).collect();
    let text = format!(
        "{partition}: nothing explains {}. Before it came {}. The state was then {}.",
        operations[stuck.at],
        if stuck.before.is_empty() { "nothing".into() } else { told(&stuck.before) },
        states.join(", or ")
    );
    let mut events: Vec<_> = stuck.before.iter().map(|&op| operations[op].start).collect();
    events.push(operations[stuck.at].start);
    findings.anomaly("not-linearizable", text, events);
}

#[cfg(test)]
#[path = "linearizable_test.rs"]
mod tests;
