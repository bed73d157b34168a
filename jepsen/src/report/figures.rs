//! Figures: what checkers measured, as tables. Called by the report.

use super::html::{escaped, row};
use crate::checker::Verdict;
use crate::history::label;
use serde_json::{Map, Value};

pub fn tables(verdicts: &[Verdict]) -> String {
    let measured = verdicts.iter().filter_map(|verdict| Some((verdict, verdict.figures.as_object()?)));
    let tables = measured.filter(|(_, figures)| !figures.is_empty());
    let text: String = tables
        .map(|(verdict, figures)| {
            format!("<h3>{}</h3><div class=\"wide\">{}</div>", escaped(&verdict.checker), table(figures))
        })
        .collect();
    if text.is_empty() { "<p>None.</p>".into() } else { text }
}

/// A row a key, a column for each number below it.
fn table(figures: &Map<String, Value>) -> String {
    let rows: Vec<(&String, Vec<(String, String)>)> = figures
        .iter()
        .map(|(key, value)| {
            let mut cells = Vec::new();
            flatten("", value, &mut cells);
            (key, cells)
        })
        .collect();
    let mut columns: Vec<&String> = Vec::new();
    for (column, _) in rows.iter().flat_map(|(_, cells)| cells) {
        if !columns.contains(&column) {
            columns.push(column);
        }
    }
    let head: String = columns.iter().map(|column| format!("<th>{}</th>", escaped(column))).collect();
    let body = rows.iter().map(|(key, cells)| {
        let cell = |column: &&String| cells.iter().find(|(name, _)| name == *column).map_or("", |(_, value)| value);
        let cells = columns.iter().map(|column| escaped(cell(column)));
        row(&std::iter::once(escaped(key)).chain(cells).collect::<Vec<_>>())
    });
    format!("<table><tr><th></th>{head}</tr>{}</table>", body.collect::<String>())
}

fn flatten(name: &str, value: &Value, cells: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                flatten(format!("{name} {key}").trim(), value, cells);
            }
        }
        Value::Null => cells.push((name.into(), String::new())),
        plain => cells.push((name.into(), label(plain))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nested_figures_are_columns() {
        let figures = json!({"kill": {"count": 2, "pause_ms": {"max": 7}}, "loss": {"count": 1}});
        let table = table(figures.as_object().expect("a map"));
        assert!(table.contains("<th>count</th><th>pause_ms max</th>"), "{table}");
        assert!(
            table.contains("<td>kill</td><td>2</td><td>7</td>") && table.contains("<td>loss</td><td>1</td><td></td>")
        );
    }
}
