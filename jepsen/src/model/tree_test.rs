//! Tests of the tree model: what may follow what, and what may not.

use super::*;
use crate::history::build::Build;
use serde_json::{Value, json};

/// Runs calls one after another; the number of those that were possible.
fn possible(calls: &[(&str, Value, Value)]) -> usize {
    let mut build = Build::default();
    for (f, input, output) in calls {
        build.run(1, f, input.clone(), output.clone());
    }
    let operations = build.history().operations().expect("well-formed");
    let mut state = Tree.init();
    for (count, operation) in operations.iter().enumerate() {
        let call = Tree.call(operation).expect("reads");
        match Tree.step(&state, &call) {
            Some(next) => state = next,
            None => return count,
        }
    }
    calls.len()
}

fn path(path: &str) -> Value {
    json!({"path": path})
}

fn to(path: &str, to: &str) -> Value {
    json!({"path": path, "to": to})
}

fn no(errno: &str) -> Value {
    json!({"errno": errno})
}

/// `calls` are possible, and the last is not where it ends as in `instead`.
fn only_so(calls: &[(&str, Value, Value)], instead: Value) {
    assert_eq!(possible(calls), calls.len(), "{calls:?}");
    let mut other = calls.to_vec();
    if let Some(last) = other.last_mut() {
        last.2 = instead;
    }
    assert_eq!(possible(&other), calls.len() - 1, "{other:?}");
}

#[test]
fn names_are_made_and_taken_away_once() {
    let made = ("create", path("a"), json!({}));
    only_so(&[made.clone(), ("create", path("a"), no("EEXIST"))], json!({}));
    only_so(&[made.clone(), ("unlink", path("a"), json!({})), ("unlink", path("a"), no("ENOENT"))], json!({}));
    only_so(&[made.clone(), ("mkdir", path("a/b"), no("ENOTDIR"))], json!({}));
    only_so(&[("mkdir", path("a/b"), no("ENOENT"))], json!({}));
    only_so(&[made.clone(), ("rmdir", path("a"), no("ENOTDIR"))], json!({}));
    only_so(&[made, ("has", path("a"), json!({"has": true}))], json!({"has": false}));
}

#[test]
fn a_removed_directory_that_is_known_by_its_number_is_empty() {
    let gone = [("mkdir", path("d"), json!({"ino": 7})), ("rmdir", path("d"), json!({}))];
    let listed = |names: Value| {
        let mut calls = gone.to_vec();
        calls.push(("readdir", json!({"at": 7, "path": ""}), json!({"names": names})));
        possible(&calls)
    };
    assert_eq!((listed(json!([])), listed(json!(["x"]))), (3, 2));
}

#[test]
fn directories_hold_what_is_in_them() {
    let base = [("mkdir", path("d"), json!({})), ("create", path("d/f"), json!({}))];
    let then = |f, input, output| [&base[..], &[(f, input, output)]].concat();
    only_so(&then("rmdir", path("d"), no("ENOTEMPTY")), json!({}));
    only_so(&then("unlink", path("d"), no("EISDIR")), json!({}));
    only_so(&then("rename", to("d", "d/x"), no("EINVAL")), json!({}));
    only_so(&then("rename", to("d/f", "d"), no("ENOTEMPTY")), json!({}));
    only_so(&then("link", to("d", "e"), no("EPERM")), json!({}));
    only_so(&then("stat", path("d"), json!({"nlink": 2, "kind": "dir"})), json!({"nlink": 3}));
    only_so(&then("readdir", path("d"), json!({"names": ["f"]})), json!({"names": []}));
}

#[test]
fn a_rename_keeps_the_inode_and_a_new_one_has_a_new_number() {
    let base = [("create", path("a"), json!({"ino": 7})), ("rename", to("a", "b"), json!({}))];
    let then = |more: &[(&'static str, Value, Value)]| [&base[..], more].concat();
    only_so(&then(&[("stat", path("b"), json!({"ino": 7}))]), json!({"ino": 8}));
    only_so(&then(&[("create", path("a"), json!({"ino": 8}))]), json!({"ino": 7}));
    only_so(&then(&[("unlink", path("b"), json!({})), ("create", path("a"), json!({"ino": 8}))]), json!({"ino": 7}));
    only_so(&then(&[("unlink", path("b"), json!({"ino": 7}))]), json!({"ino": 8}));
    only_so(&then(&[("stat", path("a"), no("ENOENT"))]), json!({"ino": 7}));
}

#[test]
fn links_share_an_inode_and_count() {
    let base = [("create", path("a"), json!({"ino": 7})), ("link", to("a", "b"), json!({"ino": 7, "nlink": 2}))];
    let then = |more: &[(&'static str, Value, Value)]| [&base[..], more].concat();
    only_so(&then(&[("stat", path("b"), json!({"ino": 7, "nlink": 2}))]), json!({"nlink": 1}));
    only_so(&then(&[("unlink", path("a"), json!({})), ("stat", path("b"), json!({"nlink": 1}))]), json!({"nlink": 2}));
    // Two names of one inode: rename does nothing.
    let renamed = ("rename", to("a", "b"), json!({}));
    only_so(&then(&[renamed, ("stat", path("a"), json!({"ino": 7}))]), no("ENOENT"));
}

#[test]
fn an_exchange_needs_both_and_swaps_them() {
    let base = [("create", path("a"), json!({"ino": 7})), ("mkdir", path("d"), json!({"ino": 8}))];
    let then = |more: &[(&'static str, Value, Value)]| [&base[..], more].concat();
    only_so(&then(&[("exchange", to("a", "x"), no("ENOENT"))]), json!({}));
    let swapped = ("exchange", to("a", "d"), json!({}));
    only_so(&then(&[swapped.clone(), ("stat", path("a"), json!({"ino": 8, "kind": "dir"}))]), json!({"ino": 7}));
    only_so(&then(&[swapped, ("create", path("d/x"), no("ENOTDIR"))]), json!({}));
    only_so(&then(&[("rename", to("a", "d"), no("EISDIR"))]), json!({}));
    only_so(&then(&[("rename", json!({"path": "a", "to": "d", "noreplace": true}), no("EEXIST"))]), json!({}));
}

#[test]
fn a_directory_known_by_its_number_follows_it() {
    let base = [("mkdir", path("d"), json!({"ino": 8})), ("rename", to("d", "e"), json!({}))];
    let then = |more: &[(&'static str, Value, Value)]| [&base[..], more].concat();
    let inside = json!({"at": 8, "path": "f"});
    let created = ("create", inside.clone(), json!({"ino": 9}));
    only_so(&then(&[created, ("stat", path("e/f"), json!({"ino": 9}))]), no("ENOENT"));
    only_so(&then(&[("rmdir", path("e"), json!({})), ("create", inside, no("ENOENT"))]), json!({}));
}

#[test]
fn a_mode_is_what_was_set_last() {
    let base = ("create", json!({"path": "a", "mode": 0o600}), json!({}));
    let changed = ("chmod", json!({"path": "a", "mode": 0o640}), json!({}));
    only_so(&[base.clone(), ("stat", path("a"), json!({"mode": 0o600}))], json!({"mode": 0o640}));
    only_so(&[base, changed, ("stat", path("a"), json!({"mode": 0o640}))], json!({"mode": 0o600}));
}

#[test]
fn an_order_that_leads_to_the_same_tree_leads_to_the_same_state() {
    let mut build = Build::default();
    build.run(1, "create", path("a"), json!({}));
    build.run(1, "create", path("b"), json!({}));
    let operations = build.history().operations().expect("well-formed");
    let calls: Vec<_> = operations.iter().map(|operation| Tree.call(operation).expect("reads")).collect();
    let after = |order: [usize; 2]| {
        order.iter().try_fold(Tree.init(), |state, &at| Tree.step(&state, &calls[at])).expect("possible")
    };
    assert_eq!(after([0, 1]), after([1, 0]));
    assert_eq!(after([0, 1]).describe(), "a b");
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let mut build = Build::default();
    for (f, input, output) in [
        ("fly", path("a"), json!({})),
        ("create", json!({}), json!({})),
        ("create", path(""), json!({})),
        ("chmod", path("a"), json!({})),
        ("stat", path("a"), json!({"kind": "door"})),
        ("stat", path("a"), json!({"ino": -1})),
    ] {
        build.run(1, f, input, output);
    }
    let operations = build.history().operations().expect("well-formed");
    assert!(operations.iter().all(|operation| Tree.call(operation).is_err()));
}
