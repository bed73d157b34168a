//! Frame: what all charts of a report share: the axis of time, the faults behind it, colours by result, the sample that is drawn.
//! Called by the charts.

use super::html::escaped;
use crate::checker::occurrence::Occurrence;
use crate::history::{Ending, Operation};

/// Drawn at most; more makes a page that no browser likes.
const DRAWN_MAX: usize = 20_000;
pub const WIDTH: f64 = 1_000.0;
pub const LEFT: f64 = 70.0;
const PLOT: f64 = WIDTH - LEFT - 10.0;

pub struct Frame {
    pub end_ns: u64,
    pub faults: Vec<Occurrence>,
}

impl Frame {
    pub fn new(end_ns: u64, faults: Vec<Occurrence>) -> Frame {
        Frame { end_ns: end_ns.max(1), faults }
    }

    pub fn x(&self, ns: u64) -> f64 {
        LEFT + PLOT * ns.min(self.end_ns) as f64 / self.end_ns as f64
    }

    /// A chart with the faults behind, and seconds below.
    pub fn chart(&self, height: f64, name: &str, inside: &str) -> String {
        let full = height + 24.0;
        let bands: String = self.faults.iter().map(|one| self.band(one, height)).collect();
        format!(
            "<div class=\"wide\"><svg viewBox=\"0 0 {WIDTH} {full}\" role=\"img\" aria-label=\"{name}\">\
             {bands}{}{inside}</svg></div>",
            self.seconds(height)
        )
    }

    fn band(&self, one: &Occurrence, height: f64) -> String {
        let (from, to) = (self.x(one.start_ns), self.x(one.end_ns.unwrap_or(self.end_ns)));
        let width = (to - from).max(1.0);
        format!(
            "<rect class=\"fault\" x=\"{from:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{height:.0}\">\
             <title>{}</title></rect>",
            escaped(&one.fault)
        )
    }

    fn seconds(&self, height: f64) -> String {
        let total = self.end_ns as f64 / 1e9;
        let step = nice_step(total / 10.0);
        let below = height + 16.0;
        let mark = |count: usize| {
            let second = count as f64 * step;
            let x = self.x((second * 1e9) as u64);
            format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"0\" y2=\"{height:.0}\"/>\
                 <text class=\"middle\" x=\"{x:.1}\" y=\"{below:.0}\">{} s</text>",
                plain(second)
            )
        };
        (0..=(total / step) as usize).map(mark).collect()
    }
}

/// Without the digits that floating point adds.
pub fn plain(value: f64) -> String {
    let digits = format!("{value:.4}");
    digits.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// 1, 2 or 5 times a power of ten, at least `least`.
pub fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-3).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= least * 0.999);
    step.unwrap_or(10.0 * power)
}

/// Its class in the style sheet.
pub fn colour(operation: &Operation) -> &'static str {
    match &operation.ending {
        Ending::Ok(_) if operation.errno().is_some() => "refused",
        Ending::Ok(_) => "ok",
        Ending::Fail => "fail",
        Ending::Info => "info",
    }
}

/// Those that are drawn, and the sentence that says so. What did not end well is drawn first: there is less of it.
pub fn sample(operations: &[Operation]) -> (Vec<&Operation>, String) {
    let (rare, common): (Vec<_>, Vec<_>) = operations.iter().partition(|op| matches!(colour(op), "info" | "fail"));
    let rare_step = rare.len().div_ceil(DRAWN_MAX / 2).max(1);
    let common_step = common.len().div_ceil(DRAWN_MAX / 2).max(1);
    if operations.len() <= DRAWN_MAX {
        return (operations.iter().collect(), String::new());
    }
    let mut drawn: Vec<_> =
        rare.into_iter().step_by(rare_step).chain(common.into_iter().step_by(common_step)).collect();
    drawn.sort_by_key(|op| op.start);
    let told = format!("<p class=\"note\">{} of {} operations are drawn.</p>", drawn.len(), operations.len());
    (drawn, told)
}

pub fn legend() -> String {
    let names = [
        ("ok", "done"),
        ("refused", "refused"),
        ("fail", "did not happen"),
        ("info", "nobody knows"),
        ("fault", "fault"),
    ];
    let items = names.map(|(class, name)| format!("<span><i class=\"{class}\"></i>{name}</span>"));
    format!("<p class=\"legend\">{}</p>", items.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!([0.006000000000000001, 0.0, 100.0, 2.5].map(plain), ["0.006", "0", "100", "2.5"]);
        assert_eq!([0.11, 1.0, 1.1, 3.0, 6.0, 70.0].map(nice_step), [0.2, 1.0, 2.0, 5.0, 10.0, 100.0]);
    }
}
