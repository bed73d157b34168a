//! Timeline: one lane a client, one bar an operation. Called by the report.

use super::chart::{Frame, LEFT, colour, legend, sample};
use super::html::escaped;
use crate::history::Operation;
use std::collections::BTreeMap;

const LANE: f64 = 14.0;
/// Told in full where one points at it.
const TEXT_MAX: usize = 200;

pub fn draw(frame: &Frame, operations: &[Operation]) -> String {
    let (drawn, told) = sample(operations);
    let lanes = lanes(&drawn);
    let count = lanes.values().max().map_or(1, |lane| lane + 1);
    let height = count as f64 * LANE;
    let names = (0..count).map(|lane| {
        let y = lane as f64 * LANE + 10.0;
        format!("<text class=\"end\" x=\"{:.0}\" y=\"{y:.0}\">{lane}</text>", LEFT - 8.0)
    });
    let bars = drawn.iter().map(|op| bar(frame, op, lanes[&op.process]));
    let inside = names.chain(bars).collect::<String>();
    format!("{}{told}{}", legend(), frame.chart(height, "operations by client", &inside))
}

/// A client that got no answer goes on under a new number: it takes the lane of one that has ended.
fn lanes(operations: &[&Operation]) -> BTreeMap<u32, usize> {
    let mut spans: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for operation in operations {
        let span = spans.entry(operation.process).or_insert((operation.start, operation.left));
        span.1 = span.1.max(operation.left);
    }
    let mut by_start: Vec<_> = spans.into_iter().collect();
    by_start.sort_by_key(|(_, (start, _))| *start);
    let mut lanes = BTreeMap::new();
    let mut free_from: Vec<u64> = Vec::new();
    for (process, (start, end)) in by_start {
        let lane = free_from.iter().position(|free| *free < start).unwrap_or(free_from.len());
        if lane == free_from.len() {
            free_from.push(end);
        }
        free_from[lane] = end;
        lanes.insert(process, lane);
    }
    lanes
}

fn bar(frame: &Frame, operation: &Operation, lane: usize) -> String {
    let (from, to) = (frame.x(operation.start_ns), frame.x(operation.left_ns));
    let width = (to - from).max(0.8);
    let y = lane as f64 * LANE + 2.0;
    let text: String = operation.to_string().chars().take(TEXT_MAX).collect();
    format!(
        "<rect class=\"{}\" x=\"{from:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{:.0}\"><title>{}</title></rect>",
        colour(operation),
        LANE - 4.0,
        escaped(&text)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::Build;
    use serde_json::json;

    #[test]
    fn whoever_comes_after_an_unknown_ending_takes_its_lane() {
        let mut build = Build::default();
        build.invoke(1, "stat", json!({}));
        build.invoke(2, "stat", json!({}));
        build.info(1, "no reply");
        build.invoke(3, "stat", json!({}));
        build.ok(2, json!({}));
        build.ok(3, json!({}));
        let operations = build.history().operations().expect("well-formed");
        let lanes = lanes(&operations.iter().collect::<Vec<_>>());
        assert_eq!([lanes[&1], lanes[&2], lanes[&3]], [0, 1, 0]);
    }
}
