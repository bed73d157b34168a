//! Rate: how many operations were answered a second, and of how many nobody knows. Called by the report.

use super::chart::{Frame, LEFT, WIDTH, legend, nice_step, plain};
use crate::history::{Ending, Operation};

const HEIGHT: f64 = 180.0;
const BUCKETS: usize = 240;

pub fn draw(frame: &Frame, operations: &[Operation]) -> String {
    let mut counts = [[0u32; BUCKETS]; 2];
    for operation in operations {
        let is_unknown = operation.ending == Ending::Info;
        let bucket =
            (u128::from(operation.left_ns.min(frame.end_ns)) * BUCKETS as u128 / u128::from(frame.end_ns)) as usize;
        counts[usize::from(is_unknown)][bucket.min(BUCKETS - 1)] += 1;
    }
    let bucket_s = frame.end_ns as f64 / 1e9 / BUCKETS as f64;
    let most = f64::from(counts.iter().flatten().copied().max().unwrap_or(0).max(1)) / bucket_s;
    let y = |rate: f64| 8.0 + (HEIGHT - 16.0) * (1.0 - rate / most);
    let step = nice_step(most / 4.0);
    let lines = (0..=(most / step) as usize).map(|count| {
        let rate = count as f64 * step;
        let (y, x) = (y(rate), LEFT - 8.0);
        format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"end\" x=\"{x:.0}\" y=\"{:.1}\">{}/s</text>",
            y + 4.0,
            plain(rate)
        )
    });
    let curves = [("ok", &counts[0]), ("info", &counts[1])].map(|(class, counts)| {
        let point = |(bucket, count): (usize, &u32)| {
            let ns = (bucket as f64 + 0.5) * bucket_s * 1e9;
            format!("{:.1},{:.1}", frame.x(ns as u64), y(f64::from(*count) / bucket_s))
        };
        let points: Vec<_> = counts.iter().enumerate().map(point).collect();
        format!("<polyline class=\"curve {class}\" points=\"{}\"/>", points.join(" "))
    });
    let inside = lines.chain(curves).collect::<String>();
    format!("{}{}", legend(), frame.chart(HEIGHT, "rate", &inside))
}
