//! A history as Jepsen's EDN: one map a line, so that Knossos and Elle read it. The run's meta data is a comment before them.
//! Called by `History::parse` and by whoever writes one down.

use super::edn_syntax::{Reader, separated, write_keyword, write_value};
use super::{Damaged, Event, History, from_map, to_map};
use serde_json::{Map, Value};

const META: &str = "; meta ";
/// Micro-operations `[:append k v]` and `[:r k v]`, whose names Elle wants as keywords.
pub const TXN: &str = "txn";

/// The first line.
pub fn write_meta(meta: &Map<String, Value>) -> String {
    let mut line = META.to_string();
    write_value(&Value::from(meta.clone()), &mut line);
    line
}

/// One event as one line, without its end.
pub fn write_event(event: &Event) -> String {
    let mut line = "{".to_string();
    separated(to_map(event), &mut line, |(key, value), line| {
        write_keyword(&key.replace('_', "-"), line);
        line.push(' ');
        match (key, &value) {
            ("type" | "f" | "process", Value::String(word)) => write_keyword(word, line),
            ("value", Value::Array(micro)) if event.f == TXN => write_txn(micro, line),
            _ => write_value(&value, line),
        }
    });
    line + "}"
}

fn write_txn(micro: &[Value], line: &mut String) {
    line.push('[');
    separated(micro, line, |micro, line| match micro.as_array().map(Vec::as_slice) {
        Some([Value::String(name), rest @ ..]) => {
            line.push('[');
            write_keyword(name, line);
            line.push(' ');
            separated(rest, line, write_value);
            line.push(']');
        }
        _ => write_value(micro, line),
    });
    line.push(']');
}

pub fn write(history: &History) -> String {
    let lines = std::iter::once(write_meta(&history.meta)).chain(history.events.iter().map(write_event));
    lines.map(|line| line + "\n").collect()
}

/// # Errors
/// The first line that is no event.
pub fn read(text: &str) -> Result<History, Damaged> {
    let mut history = History { meta: read_meta(text)?, ..History::default() };
    let mut reader = Reader::new(text);
    while let Some(form) = reader.form()? {
        // Jepsen also writes all of it as one vector.
        let forms = if let Value::Array(forms) = form { forms } else { vec![form] };
        for form in forms {
            let Value::Object(map) = form else { return Err(Damaged::new(reader.line(), "not a map")) };
            let map = map.into_iter().map(|(key, value)| (key.replace('-', "_"), value)).collect();
            let event = from_map(map, history.events.len() as u64);
            history.events.push(event.map_err(|what| Damaged::new(reader.line(), what))?);
        }
    }
    Ok(history)
}

fn read_meta(text: &str) -> Result<Map<String, Value>, Damaged> {
    let Some(meta) = text.lines().next().and_then(|line| line.strip_prefix(META)) else { return Ok(Map::new()) };
    match Reader::new(meta).form()? {
        Some(Value::Object(meta)) => Ok(meta),
        _ => Err(Damaged::new(1, "meta is not a map")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::build::{Build, sample};
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use serde_json::json;

    #[test]
    fn what_was_written_is_read() {
        let history = sample();
        assert_eq!(read(&write(&history)), Ok(history));
    }

    #[test]
    fn a_line_is_as_jepsen_writes_it() {
        let mut build = Build::default();
        build.invoke(3, TXN, json!([["append", 1, 2], ["r", 1, null]]));
        build.fault("kill", 1, true);
        let lines: Vec<_> = build.events.iter().map(write_event).collect();
        assert_eq!(lines[0], "{:index 0 :time 0 :process 3 :type :invoke :f :txn :value [[:append 1 2] [:r 1 nil]]}");
        assert_eq!(lines[1], "{:index 1 :time 1000000 :process :nemesis :type :invoke :f :kill :value {:id 1}}");
    }

    #[test]
    fn jepsens_own_histories_are_read() {
        let text = "[{:process 0, :type :invoke, :f :write, :value 1, :time 5}\n{:process 0, :type :ok, :f :write, :value 1, :time 9, :error [:a \"b\"]}]";
        let history = read(text).expect("reads");
        assert_eq!(history.events.len(), 2);
        assert_eq!((history.events[1].index, history.events[1].time), (1, 9));
        assert_eq!(history.events[1].error.as_deref(), Some("[\"a\",\"b\"]"));
    }

    #[test]
    fn a_damaged_line_is_named() {
        let good = write(&sample());
        let line = |text: &str| read(text).map_err(|damaged| damaged.line);
        let count = good.lines().count();
        assert_eq!(line(&format!("{good}{{:index 1")), Err(count + 1));
        assert_eq!(line("; meta 7\n"), Err(1));
        assert_eq!(line("\n\n:word"), Err(3));
        assert_eq!(line("{:process :me :time 1 :type :ok :f :x}"), Err(1));
    }

    #[test]
    fn what_is_struck_out_is_no_deeper_than_anything_else() {
        for text in ["#_", "[#_", "#_[", "#a "] {
            assert!(read(&text.repeat(100_000)).is_err(), "{text}");
        }
        assert_eq!(read("#_ #_ 1 {:a 2} ; nothing is left\n").map(|history| history.events.len()), Ok(0));
    }

    fn anything(random: &mut StdRng, depth: u32) -> Value {
        let word = |random: &mut StdRng| -> String {
            let letters: Vec<char> = "ab:/\"\\\n \t\u{0}é-_1N;#,".chars().collect();
            (0..random.random_range(0..6)).map(|_| letters[random.random_range(0..letters.len())]).collect()
        };
        match random.random_range(0..if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => Value::Bool(random.random()),
            2 => json!(random.random::<i64>()),
            3 => json!(random.random::<u64>()),
            4 => json!(f64::from(random.random::<i32>()) / 8.0),
            5 => Value::from(word(random)),
            6 => (0..random.random_range(0..4)).map(|_| anything(random, depth - 1)).collect(),
            _ => (0..random.random_range(0..4)).map(|_| (word(random), anything(random, depth - 1))).collect(),
        }
    }

    #[test]
    fn any_value_survives_both_forms() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..2_000 {
            let mut build = Build::default();
            build.invoke(1, "x", anything(&mut random, 3));
            let history = build.history();
            assert_eq!(read(&write(&history)), Ok(history.clone()));
            assert_eq!(crate::history::jsonl::read(&crate::history::jsonl::write(&history)), Ok(history));
        }
    }

    #[test]
    fn no_damage_makes_a_reader_panic() {
        let mut random = StdRng::seed_from_u64(2);
        let (good, as_json) = (write(&sample()), crate::history::jsonl::write(&sample()));
        let mut refused = 0;
        for _ in 0..3_000 {
            let mut bytes = if random.random() { good.clone() } else { as_json.clone() }.into_bytes();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = b"\"{}[]():;#\\ \n0a"[random.random_range(0..15)];
            }
            bytes.truncate(random.random_range(bytes.len() / 2..=bytes.len()));
            refused += usize::from(History::parse(&String::from_utf8_lossy(&bytes)).is_err());
        }
        assert!(refused > 1_000, "{refused}");
    }
}
