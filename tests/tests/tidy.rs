//! Tidy: the shape that layout.md and style.md ask for, held by an ordinary test. Reads the sources as text; runs nothing.

use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// (crate's source folder, module, modules it may not name): layout.md's arrows, which may not be reversed.
const ARROWS: &[(&str, &str, &[&str])] = &[
    ("client/src", "fuse", &["data", "cache", "object", "cli"]),
    ("client/src", "vfs", &["fuse", "cache", "object", "cli"]),
    ("client/src", "meta", &["fuse", "vfs", "data", "cache", "object", "cli"]),
    ("client/src", "data", &["fuse", "vfs", "cli"]),
    ("client/src", "cache", &["fuse", "vfs", "meta", "data", "object", "cli"]),
    ("client/src", "object", &["fuse", "vfs", "meta", "data", "cache", "cli"]),
    ("metad/src", "store", &["apply", "query", "raft", "rpc", "background", "server", "config", "clock"]),
    ("metad/src", "apply", &["query", "raft", "rpc", "background", "server", "config", "clock", "metrics"]),
    ("metad/src", "query", &["raft", "rpc", "background", "server", "config", "clock", "metrics"]),
    ("metad/src", "raft", &["rpc", "background", "server"]),
    ("metad/src", "rpc", &["background", "server"]),
    ("jepsen/src", "history", JEPSEN_RUNS),
    ("jepsen/src", "model", JEPSEN_RUNS),
    ("jepsen/src", "checker", JEPSEN_RUNS),
    ("jepsen/src", "report", JEPSEN_RUNS),
];

/// What runs a test; whoever judges it knows the history alone.
const JEPSEN_RUNS: &[&str] = &["cluster", "world", "run", "nemesis", "workload", "cli"];

/// (name of a crate, the only place that may name it, by path prefix).
const ONLY_IN: &[(&str, &str)] = &[
    ("sled", "metad/src/store/sled_image.rs"),
    ("openraft", "metad/src/raft"),
    ("raft_log", "metad/src/raft"),
    ("fuser", "client/src/fuse"),
    ("object_store", "client/src/object"),
    ("metad", "tests"),
    ("holdfast", "tests"),
];

/// What a pure file may not contain.
const IMPURE: &[&str] = &[
    ".await",
    "async fn",
    "tokio::spawn",
    "tokio::time",
    "std::fs",
    "std::net",
    "std::thread",
    "SystemTime",
    "Instant::now",
    "rand::",
    "tonic::",
    "sled::",
];

/// What the state machine and its queries may not contain either: an order that differs from node to node.
const UNORDERED: &[&str] = &["HashMap", "HashSet", "tokio"];

struct Source {
    /// Relative to the repository.
    path: String,
    text: String,
}

impl Source {
    /// Lines that are neither comments nor after the beginning of the file's own tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        let before_tests = lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
        before_tests.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Compiled for tests only: a `_test.rs`, a helper whose name begins with `test_`, or a folder of tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.ends_with("_test.rs") || name.starts_with("test_") || self.path.contains("/tests/")
    }

    /// The `//!` block at the top.
    fn header(&self) -> String {
        self.text.lines().take_while(|line| line.starts_with("//!")).collect::<Vec<_>>().join("\n")
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_path_buf()
}

fn sources() -> Vec<Source> {
    let root = repository();
    let mut found = Vec::new();
    for folder in ["proto", "metad", "client", "tests", "jepsen"] {
        gather(&root, &root.join(folder), &mut found);
    }
    assert!(found.len() > 40, "the sources were not found");
    found
}

fn gather(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for path in entries.filter_map(|entry| entry.ok().map(|entry| entry.path())) {
        if path.is_dir() && !path.ends_with("target") {
            gather(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source file");
            let path = path.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
}

fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
}

/// Whether `word` stands in `line` as a path's first segment (`word::`), or as what `use` names.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + word.len()..];
        let is_whole =
            before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':' && c != '.' && c != '"' && c != '/');
        is_whole && (after.starts_with("::") || (line.trim_start().starts_with("use ") && after.starts_with(';')))
    })
}

/// The first segments that a line names below `crate::`, also in `crate::{a, b::c}` on one line.
fn crate_modules(line: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut modules = Vec::new();
    for (at, found) in line.match_indices("crate::") {
        let rest = &line[at + found.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            modules.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = true;
        for (index, c) in group.char_indices() {
            if depth == 0 && start && c.is_alphabetic() {
                modules.push(word(&group[index..]));
                start = false;
            }
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                _ => {}
            }
        }
    }
    modules
}

#[test]
fn every_file_says_what_lives_in_it() {
    let silent =
        |source: &Source| (!source.text.starts_with("//!")).then(|| format!("{} does not start with //!", source.path));
    report(&sources().iter().filter_map(silent).collect::<Vec<_>>());
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long = |source: &Source| {
        let count = source.text.lines().count();
        (count > FILE_LINES_MAX).then(|| format!("{}: {count} lines", source.path))
    };
    report(&sources().iter().filter_map(long).collect::<Vec<_>>());
}

#[test]
fn no_function_is_longer_than_70_lines() {
    let mut complaints = Vec::new();
    for source in sources() {
        let mut open: Option<(usize, usize, String)> = None;
        for (index, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let text = line.trim_start();
            // rustfmt puts the closing brace under the `fn`, which is all the parsing this needs.
            match &open {
                None if starts_function(text) && !text.ends_with('}') && !text.ends_with(';') => {
                    open = Some((index, indent, text.to_string()));
                }
                Some((start, depth, name))
                    if indent == *depth && (text == "}" || text.ends_with(");") || text == ";") =>
                {
                    if index - start + 1 > FUNCTION_LINES_MAX {
                        complaints.push(format!("{}:{}: {} lines: {name}", source.path, start + 1, index - start + 1));
                    }
                    open = None;
                }
                _ => {}
            }
        }
    }
    report(&complaints);
}

fn starts_function(text: &str) -> bool {
    let mut words = text.split([' ', '(']);
    let is_qualifier =
        |word: &&str| matches!(*word, "pub" | "crate)" | "super)" | "async" | "unsafe" | "const" | "extern" | "\"C\"");
    words.find(|word| !is_qualifier(word)) == Some("fn")
}

#[test]
fn calls_go_forward_only() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let Some((_, _, forbidden)) = ARROWS.iter().find(|(root, module, _)| {
            source.path.starts_with(&format!("{root}/{module}/")) || source.path == format!("{root}/{module}.rs")
        }) else {
            continue;
        };
        for (number, line) in source.code() {
            for module in crate_modules(line).iter().filter(|module| forbidden.contains(&module.as_str())) {
                complaints.push(format!("{}:{number}: names crate::{module}", source.path));
            }
        }
    }
    report(&complaints);
}

#[test]
fn each_foreign_crate_is_named_in_one_place() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tests/tidy.rs") {
        for (name, place) in ONLY_IN.iter().filter(|(_, place)| !source.path.starts_with(place)) {
            // A crate's own binary, tests and examples name its library.
            let own = if *name == "holdfast" { "client" } else { "metad" };
            let is_own = ["src/main.rs", "tests/", "examples/"];
            // The fault injection drives both, like the tests.
            if matches!(*name, "metad" | "holdfast") && source.path.starts_with("jepsen/") {
                continue;
            }
            if matches!(*name, "metad" | "holdfast")
                && is_own.iter().any(|part| source.path.starts_with(&format!("{own}/{part}")))
            {
                continue;
            }
            // openraft's own storage suite runs on our stores.
            if source.path == "metad/tests/openraft_suite.rs" && *name == "openraft" {
                continue;
            }
            // A disk that tears is a filesystem of the harness's own.
            if source.path == "tests/src/torn_disk.rs" && *name == "fuser" {
                continue;
            }
            for (number, line) in source.code().filter(|(_, line)| names(line, name)) {
                complaints.push(format!("{}:{number}: {name} belongs to {place}: {}", source.path, line.trim()));
            }
        }
    }
    report(&complaints);
}

#[test]
fn pure_files_know_no_clock_no_files_and_no_hash_order() {
    let mut complaints = Vec::new();
    let mut count = 0;
    for source in sources().iter().filter(|source| !source.is_test()) {
        let is_in = |places: &[&str]| places.iter().any(|place| source.path.starts_with(place));
        let by_place = is_in(&["metad/src/apply/", "metad/src/query/"]);
        let judges = is_in(&["jepsen/src/history/", "jepsen/src/model/", "jepsen/src/checker/", "jepsen/src/report/"]);
        let header = source.header();
        if !by_place && !judges && !header.contains("Pure:") && !header.contains("(P)") {
            continue;
        }
        count += 1;
        for (number, line) in source.code() {
            let replicated = UNORDERED.iter().filter(|_| by_place);
            for token in IMPURE.iter().chain(replicated).filter(|token| line.contains(**token)) {
                complaints.push(format!("{}:{number}: {token} in a pure file", source.path));
            }
        }
    }
    report(&complaints);
    assert!(count >= 3, "pure files were found");
}

/// `posix/x` and `cluster/x` are files, `module::name` is a test function (or the beginning of several, with a star).
fn is_test_name(name: &str, sources: &[Source]) -> bool {
    let file = |name: &str| sources.iter().any(|source| source.path == format!("tests/{name}.rs"));
    match name.rsplit_once("::") {
        Some((_, function)) => {
            let head = format!("fn {}", function.trim_end_matches('*'));
            sources.iter().any(|source| source.text.contains(&head))
        }
        None => file(name),
    }
}

#[test]
fn the_tests_that_semantics_md_names_exist() {
    let page = std::fs::read_to_string(repository().join("client/docs/semantics.md")).expect("semantics.md");
    let sources = sources();
    let is_name = |word: &&str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_/:*".contains(c);
        let named = ["posix/", "cluster/", "stores/"].iter().any(|folder| word.starts_with(folder));
        word.chars().all(plain) && (word.contains("::") || named)
    };
    // What is between backticks is every second piece.
    let names: Vec<_> = page.split('`').skip(1).step_by(2).filter(is_name).collect();
    let missing: Vec<_> = names.iter().filter(|name| !is_test_name(name, &sources)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    assert!(names.len() > 30, "names were found");
}

#[test]
fn no_test_is_switched_off() {
    let mut complaints = Vec::new();
    for source in sources().iter().filter(|source| source.path != "tests/tests/tidy.rs") {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            if ["#[ignore", "#[should_panic"].iter().any(|attribute| line.starts_with(attribute)) {
                complaints.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    report(&complaints);
}

#[test]
fn the_scanners_see_what_they_look_for() {
    assert!(names("use sled;", "sled") && names("let x = sled::open();", "sled"));
    assert!(!names("let sled_image = 1;", "sled") && !names("mod::sled::x", "sled") && !names("\"sled::x\"", "sled"));
    assert_eq!(crate_modules("use crate::{vfs::Vfs, meta::{A, B}, data};"), ["vfs", "meta", "data"]);
    assert_eq!(crate_modules("let x = crate::fuse::y(crate::cli::z);"), ["fuse", "cli"]);
    assert!(starts_function("pub(crate) async fn x() {") && !starts_function("let f = fn_pointer;"));
}
