//! The `jepsen` command as a sceptic runs it: histories on disk in, verdicts and an exit code out.

use holdfast_jepsen::history::build::Build;
use holdfast_jepsen::history::{History, edn, jsonl};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("jepsen-check-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        Folder(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn jepsen(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_jepsen")).args(args).output().expect("runs")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn registers(read: Value) -> History {
    let mut build = Build::default();
    build.run(1, "write", json!({"key": "k", "value": 1}), json!({}));
    build.fault("kill-leader", 1, true);
    build.heal(1);
    build.run(2, "read", json!({"key": "k"}), read);
    let mut history = build.history();
    history.meta.insert("workload".into(), json!("register"));
    history
}

#[test]
fn each_form_of_a_history_has_its_verdict_as_exit_code() {
    let folder = Folder::new("forms");
    for (read, code) in [(json!({"value": 1}), 0), (json!({"value": 2}), 1)] {
        let history = registers(read);
        for (name, text) in [("h.jsonl", jsonl::write(&history)), ("h.edn", edn::write(&history))] {
            let path = folder.write(name, &text);
            let output = jepsen(&["check", self::text(&path)]);
            assert_eq!(output.status.code(), Some(code), "{name}: {output:?}");
        }
    }
    let path = folder.write("empty.edn", "");
    assert_eq!(jepsen(&["check", text(&path), "--workload", "set"]).status.code(), Some(1), "nothing was served");
    let unread = Build { events: registers(Value::Null).events[..2].to_vec(), now_ns: 0 };
    let path = folder.write("unread.jsonl", &jsonl::write(&unread.history()));
    assert_eq!(jepsen(&["check", text(&path), "--workload", "lock"]).status.code(), Some(2), "no lock in it");
}

#[test]
fn verdicts_are_told_as_json_and_as_a_page() {
    let folder = Folder::new("json");
    let path = folder.write("h.jsonl", &jsonl::write(&registers(json!({"value": 2}))));
    let page = folder.0.join("report.html");
    let output = jepsen(&["check", text(&path), "--json", "--html", text(&page)]);
    let verdicts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(verdicts[0]["checker"], "linearizable-register");
    assert_eq!(verdicts[0]["outcome"], "invalid");
    assert_eq!(verdicts[0]["because"][0]["kind"], "not-linearizable");
    assert_eq!(verdicts[1]["outcome"], "valid", "{verdicts}");
    assert!(std::fs::read_to_string(page).expect("a page").contains("not-linearizable"));
}

#[test]
fn what_is_no_history_is_refused_with_its_line() {
    let folder = Folder::new("bad");
    let path = folder.write("h.jsonl", &(jsonl::write(&registers(json!({}))) + "{\"index\": 99"));
    let output = jepsen(&["check", text(&path)]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("h.jsonl: line 10:"), "{output:?}");
    let none = folder.write("none.jsonl", "");
    for args in
        [&["check", text(&none)][..], &["check", "/nowhere"], &["check", text(&none), "--workload", "x"], &["x"]]
    {
        assert_eq!(jepsen(args).status.code(), Some(64), "{args:?}");
    }
    assert_eq!(jepsen(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_history_is_written_for_other_checkers() {
    let folder = Folder::new("convert");
    let path = folder.write("h.jsonl", &jsonl::write(&registers(json!({"value": 1}))));
    let to = folder.0.join("k.edn");
    assert_eq!(jepsen(&["convert", text(&path), text(&to), "--key", "k"]).status.code(), Some(0));
    let edn = std::fs::read_to_string(&to).expect("written");
    let last = edn.lines().last().unwrap_or_default();
    assert!(last.contains(":type :ok :f :read :value 1"), "{edn}");
    assert_eq!(jepsen(&["convert", text(&path), "h.txt"]).status.code(), Some(64));
}
