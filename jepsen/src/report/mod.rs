//! Report: a run on one page that needs nothing else: verdicts, operations by client with the faults behind them, latency and rate over time,
//! anomalies in words. Pure: a history and its verdicts in, HTML out. Called by `cli` and at the end of a run.

use crate::checker::occurrence::occurrences;
use crate::checker::{Outcome, Verdict};
use crate::history::{History, label};
use chart::Frame;
use html::{escaped, row, section};

mod chart;
mod figures;
mod html;
mod rate;
mod scatter;
mod timeline;

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn html(history: &History, verdicts: &[Verdict]) -> String {
    let operations = history.operations().unwrap_or_default();
    let end_ns = history.events.last().map_or(0, |event| event.time);
    let frame = Frame::new(end_ns, occurrences(history));
    let title = format!("jepsen: {}", history.about("workload").unwrap_or("a run"));
    let body = [
        header(history, verdicts, &title),
        section("Verdicts", &verdict_table(verdicts)),
        section("Anomalies", &anomalies(verdicts)),
        section("Operations by client", &timeline::draw(&frame, &operations)),
        section("Latency", &scatter::draw(&frame, &operations)),
        section("Rate", &rate::draw(&frame, &operations)),
        section("Faults", &faults(&frame)),
        section("Figures", &figures::tables(verdicts)),
    ]
    .concat();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title>\n<style>\n{STYLE}</style></head>\n<body><main>\n{body}</main></body></html>\n",
        escaped(&title)
    )
}

fn worst(verdicts: &[Verdict]) -> &'static str {
    let has = |wanted: fn(&Outcome) -> bool| verdicts.iter().any(|verdict| wanted(&verdict.outcome));
    match () {
        () if has(|outcome| matches!(outcome, Outcome::Invalid(_))) => "invalid",
        () if verdicts.is_empty() || has(|outcome| matches!(outcome, Outcome::Unknown(_))) => "unknown",
        () => "valid",
    }
}

fn header(history: &History, verdicts: &[Verdict], title: &str) -> String {
    let worst = worst(verdicts);
    let about: String = history
        .meta
        .iter()
        .map(|(key, value)| format!("<dt>{}</dt><dd><code>{}</code></dd>", escaped(key), escaped(&label(value))))
        .collect();
    let title = escaped(title);
    format!("<header><h1>{title}</h1><p class=\"badge {worst}\">{worst}</p></header><dl class=\"about\">{about}</dl>\n")
}

fn verdict_table(verdicts: &[Verdict]) -> String {
    let rows: String = verdicts
        .iter()
        .map(|verdict| {
            let (outcome, because) = match &verdict.outcome {
                Outcome::Valid => ("valid", String::new()),
                Outcome::Invalid(_) => ("invalid", format!("{} anomalies. ", verdict.anomalies_count)),
                Outcome::Unknown(reason) => ("unknown", format!("{reason}. ")),
            };
            let counts: Vec<_> = verdict
                .counts
                .iter()
                .map(|(f, results)| {
                    let results: Vec<_> = results.iter().map(|(result, count)| format!("{count} {result}")).collect();
                    format!("{f}: {}", results.join(", "))
                })
                .collect();
            let badge = format!("<span class=\"badge {outcome}\">{outcome}</span>");
            let because = because + &verdict.notes.join(". ");
            let cells = [escaped(&verdict.checker), badge, escaped(&because), escaped(&counts.join("; "))];
            row(&cells)
        })
        .collect();
    let head = "<tr><th>Checker</th><th>Verdict</th><th>Because</th><th>Looked at</th></tr>";
    format!("<div class=\"wide\"><table>{head}{rows}</table></div>")
}

fn anomalies(verdicts: &[Verdict]) -> String {
    let mut text = String::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.anomalies_count > 0) {
        let told: String = verdict
            .anomalies()
            .iter()
            .map(|anomaly| format!("<li><b>{}</b> {}</li>", escaped(&anomaly.kind), escaped(&anomaly.text)))
            .collect();
        let left = verdict.anomalies_count - verdict.anomalies().len();
        let more = if left > 0 { format!("<p>And {left} more.</p>") } else { String::new() };
        text += &format!("<h3>{}</h3><ul class=\"anomalies\">{told}</ul>{more}", escaped(&verdict.checker));
    }
    if text.is_empty() { "<p>None.</p>".into() } else { text }
}

fn faults(frame: &Frame) -> String {
    let rows: String = frame
        .faults
        .iter()
        .map(|one| {
            let seconds = |ns: u64| format!("{:.1} s", ns as f64 / 1e9);
            let end = one.end_ns.map_or("never".into(), seconds);
            let bit = match one.bit {
                Some(true) => "yes",
                Some(false) => "no",
                None => "nobody said",
            };
            let evidence = one.error.clone().unwrap_or_else(|| one.evidence.join("; "));
            row(&[escaped(&one.fault), seconds(one.start_ns), end, bit.into(), escaped(&evidence)])
        })
        .collect();
    if rows.is_empty() {
        return "<p>There were none.</p>".into();
    }
    let head = "<tr><th>Fault</th><th>From</th><th>Healed</th><th>Bit</th><th>Evidence</th></tr>";
    format!("<div class=\"wide\"><table>{head}{rows}</table></div>")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::suite::checkers;
    use crate::history::build::Build;
    use serde_json::json;

    fn page(build: &Build) -> String {
        let mut history = build.history();
        history.meta.insert("workload".into(), json!("set"));
        history.meta.insert("command".into(), json!("jepsen run --seed 7 <&>"));
        let checkers = checkers("set", &history).expect("known");
        let verdicts: Vec<_> = checkers.iter().map(|checker| checker.check(&history)).collect();
        html(&history, &verdicts)
    }

    fn run() -> Build {
        let mut build = Build::default();
        build.run(1, "add", json!({"set": "d", "element": "<script>"}), json!({}));
        build.fault("kill-leader", 1, true);
        build.invoke(2, "read", json!({"set": "d"}));
        build.info(2, "no reply");
        build.heal(1);
        build.run(3, "read", json!({"set": "d"}), json!({"elements": []}));
        build
    }

    #[test]
    fn a_page_needs_nothing_else_and_says_what_was_found() {
        let page = page(&run());
        for part in ["badge invalid", "jepsen run --seed 7 &lt;&amp;&gt;", "kill-leader", "nor in a later one", "<svg"]
        {
            assert!(page.contains(part), "{part}");
        }
        for outside in ["http:", "https:", "<script", "src=", "@import", "NaN"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let count = |part: &str| page.matches(part).count();
        for tag in ["svg", "table", "section", "g", "ul", "dl", "title"] {
            assert_eq!(count(&format!("<{tag}>")) + count(&format!("<{tag} ")), count(&format!("</{tag}>")), "{tag}");
        }
    }

    #[test]
    fn an_empty_run_has_a_page_too() {
        let page = html(&History::default(), &[]);
        assert!(page.contains("badge unknown") && !page.contains("NaN"));
    }

    #[test]
    fn of_a_long_run_a_sample_is_drawn_and_that_is_said() {
        let mut build = run();
        for _ in 0..25_000 {
            build.run(4, "read", json!({"set": "d"}), json!({"elements": []}));
        }
        let page = page(&build);
        assert!(page.contains("of 25003 operations"), "it is said");
        assert!(page.len() < 6_000_000, "{}", page.len());
    }
}
