//! A history as JSON lines: one event a line, the run's meta data as `{"meta": {...}}` in the first. Called by `History::parse` and by
//! whoever writes one down.

use super::{Damaged, Event, History, from_map, to_map};
use serde_json::{Map, Value};

/// The first line.
pub fn write_meta(meta: &Map<String, Value>) -> String {
    Value::from_iter([("meta", Value::from(meta.clone()))]).to_string()
}

/// One event as one line, without its end.
pub fn write_event(event: &Event) -> String {
    Value::from_iter(to_map(event)).to_string()
}

pub fn write(history: &History) -> String {
    let lines = std::iter::once(write_meta(&history.meta)).chain(history.events.iter().map(write_event));
    lines.map(|line| line + "\n").collect()
}

/// # Errors
/// The first line that is no event.
pub fn read(text: &str) -> Result<History, Damaged> {
    let mut history = History::default();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let damaged = |what: String| Damaged::new(at + 1, what);
        let value: Value = serde_json::from_str(line).map_err(|error| damaged(error.to_string()))?;
        let Value::Object(mut map) = value else { return Err(damaged("not an object".into())) };
        match map.remove("meta") {
            Some(Value::Object(meta)) if history.events.is_empty() => history.meta = meta,
            Some(_) => return Err(damaged("meta is not an object before all events".into())),
            None => history.events.push(from_map(map, history.events.len() as u64).map_err(damaged)?),
        }
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::sample;

    #[test]
    fn what_was_written_is_read() {
        let history = sample();
        assert_eq!(read(&write(&history)), Ok(history));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let good = write(&sample());
        let line = |text: &str| read(text).map_err(|damaged| damaged.line);
        assert_eq!(line(&format!("{good}{{\"index\": 1")), Err(good.lines().count() + 1));
        assert_eq!(line("\n[1]\n"), Err(2));
        assert_eq!(line("{\"time\": 1, \"process\": 1, \"type\": \"ok\"}"), Err(1));
        assert_eq!(line("{\"time\": -1, \"process\": 1, \"type\": \"ok\", \"f\": \"x\"}"), Err(1));
        assert_eq!(line("{\"time\": 1, \"process\": \"me\", \"type\": \"ok\", \"f\": \"x\"}"), Err(1));
        assert_eq!(line("{\"time\": 1, \"process\": 1, \"type\": \"done\", \"f\": \"x\"}"), Err(1));
        assert_eq!(line("{\"meta\": 1}"), Err(1));
    }
}
