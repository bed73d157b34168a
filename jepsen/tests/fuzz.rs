//! Histories as others may hand them to us: damaged ones are refused by the line, and what is read is written as it was read.

use holdfast_jepsen::history::build::Build;
use holdfast_jepsen::history::{History, edn, jsonl};
use holdfast_tests::fuzz::{Decoder, Law, Watching};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: Watching = Watching;

fn value(random: &mut StdRng) -> Value {
    match random.random_range(0..6) {
        0 => Value::Null,
        1 => json!(random.random::<i64>()),
        2 => json!({"path": "a/\"b\"\\\n", "n": [1, 2.5, true, {"x": []}]}),
        3 => json!([["append", 1, 2], ["r", "k", [1, 2]]]),
        4 => json!({"errno": "EEXIST"}),
        _ => json!("two words"),
    }
}

fn history(random: &mut StdRng) -> History {
    let mut build = Build::default();
    for client in 0..random.random_range(1..6) {
        build.invoke(client, ["create", "txn", "two words"][random.random_range(0..3)], value(random));
        match random.random_range(0..4) {
            0 => drop(build.ok(client, value(random)).log_index.replace(random.random())),
            1 => build.fail(client),
            2 => build.info(client, "no reply: \"reset\""),
            _ => build.fault("kill-leader", u64::from(client), random.random()),
        }
    }
    History { meta: [("seed".to_owned(), json!(42))].into_iter().collect(), ..build.history() }
}

fn check(name: &'static str, write: fn(&History) -> String, read: impl Fn(&str) -> Result<History, String>) {
    let valid = |random: &mut StdRng| write(&history(random)).into_bytes();
    let read = |bytes: &[u8]| {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        read(text).map(|history| write(&history).into_bytes())
    };
    Decoder { name, law: Law::Normal, cases: 2000, valid: &valid, read: &read }.run();
}

#[test]
fn histories_as_json_lines() {
    check("history-jsonl", jsonl::write, |text| jsonl::read(text).map_err(|damaged| damaged.to_string()));
}

#[test]
fn histories_as_edn() {
    check("history-edn", edn::write, |text| edn::read(text).map_err(|damaged| damaged.to_string()));
}
