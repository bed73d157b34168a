//! Scatter: how long each client waited for an answer, on a logarithmic axis. Called by the report.

use super::chart::{Frame, LEFT, WIDTH, colour, legend, plain, sample};
use crate::history::Operation;

const HEIGHT: f64 = 260.0;
/// From 100 microseconds to 100 seconds.
const DECADES: std::ops::RangeInclusive<i32> = -1..=5;

pub fn draw(frame: &Frame, operations: &[Operation]) -> String {
    let (drawn, told) = sample(operations);
    let points = drawn.into_iter().filter(|op| op.left_ns != u64::MAX).map(|operation| {
        let x = frame.x(operation.start_ns);
        let y = y((operation.left_ns - operation.start_ns) as f64 / 1e6);
        format!("<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\"/>", colour(operation))
    });
    let lines = DECADES.map(|decade| {
        let ms = 10f64.powi(decade);
        let (y, x) = (y(ms), LEFT - 8.0);
        let name = if ms < 1_000.0 { format!("{} ms", plain(ms)) } else { format!("{} s", ms / 1_000.0) };
        format!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text class=\"end\" x=\"{x:.0}\" y=\"{:.1}\">{name}</text>",
            y + 4.0
        )
    });
    let inside = lines.chain(points).collect::<String>();
    format!("{}{told}{}", legend(), frame.chart(HEIGHT, "latency", &inside))
}

fn y(ms: f64) -> f64 {
    let (low, high) = (f64::from(*DECADES.start()), f64::from(*DECADES.end()));
    let at = (ms.max(1e-9).log10().clamp(low, high) - low) / (high - low);
    8.0 + (HEIGHT - 16.0) * (1.0 - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_took_longer_is_higher_and_nothing_leaves_the_chart() {
        let ys = [0.0, 0.1, 1.0, 1e5, 1e9].map(y);
        assert!(ys.windows(2).all(|pair| pair[0] >= pair[1]));
        assert_eq!((ys[0], ys[4]), (HEIGHT - 8.0, 8.0));
    }
}
