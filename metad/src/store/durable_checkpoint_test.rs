//! Tests of checkpoints: that they hold the state of their index whatever they were made of, and that a state comes back from them.

use super::tests::{Pairs, commit, copy_dir, dump, key, options};
use super::*;
use crate::store::checkpoint::{self, Head, Reader};
use std::fs::{self, File};
use std::sync::atomic::AtomicBool;

fn open(temp: &Path) -> DurableStore {
    DurableStore::open(&temp.join("image"), options(None)).expect("opens")
}

/// States of these tests know their index by a key.
fn head(view: &dyn KvRead) -> Result<Head, StoreError> {
    let index =
        view.get(&key(0))?.map_or(0, |value| std::str::from_utf8(&value).expect("text").parse().expect("number"));
    Ok(Head { index, meta: Bytes::from_static(b"meta") })
}

/// Changes many keys at `index`, and says so.
fn step(store: &DurableStore, index: u64) {
    let own = (index as u32 * 37) % 400;
    commit(store, index * 2 - 1, own + 1..own + 300).expect("commits");
    store.commit(index * 2, Batch([(key(0), Some(Bytes::from((index * 2).to_string())))].into())).expect("commits");
}

fn read(path: &Path) -> Pairs {
    let mut reader = Reader::open(&File::open(path).expect("opens")).expect("a checkpoint");
    std::iter::from_fn(|| reader.next_pair().expect("whole")).collect()
}

fn names(temp: &Path, suffix: &str) -> Vec<String> {
    let files = fs::read_dir(temp.join("checkpoint")).expect("lists");
    let mut names: Vec<String> = files.map(|f| f.expect("lists").file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(suffix));
    names.sort();
    names
}

/// Makes one; it must hold what the store does, and be made of journals, or of the image.
fn checkpoint(store: &DurableStore) -> Pairs {
    let index = store.checkpoint(head).expect("makes one");
    let stored = store.checkpoints().stored().expect("lists").pop().expect("is there");
    assert_eq!(stored.index, index);
    assert_eq!(checkpoint::verify(&File::open(&stored.path).expect("opens")).expect("whole").index, index);
    read(&stored.path)
}

#[test]
fn each_is_made_of_the_one_before_and_the_journals_since_and_two_are_kept() {
    let temp = tempfile::tempdir().expect("makes");
    let store = open(temp.path());
    for round in 0..4 {
        for index in round * 5 + 1..round * 5 + 6 {
            step(&store, index);
            if index % 2 == 0 {
                store.drain_now().expect("drains");
            }
        }
        // Whatever the image says: it is not asked.
        store
            .shared
            .gate
            .lock()
            .image
            .write_slice([(&key(9999)[..], Some(&b"of the image"[..]))].into_iter())
            .expect("writes");
        let mut expected = dump(&store);
        expected.retain(|(found, _)| *found != key(9999));
        assert_eq!(checkpoint(&store), expected, "round {round}");
        assert_eq!(names(temp.path(), ".redo"), Vec::<String>::new());
    }
    assert_eq!(names(temp.path(), ".ckpt"), [30, 40].map(|index| format!("{index:020}.ckpt")));
    assert_eq!(store.checkpoint(head).expect("there is nothing new"), 40);
}

#[test]
fn a_broken_chain_is_no_obstacle() {
    let temp = tempfile::tempdir().expect("makes");
    let store = open(temp.path());
    let drained = |index| {
        step(&store, index);
        store.drain_now().expect("drains");
    };
    let only = |suffix: &str| temp.path().join("checkpoint").join(names(temp.path(), suffix).pop().expect("is there"));
    // The first journal is gone.
    drained(1);
    fs::remove_file(only(".redo")).expect("removes");
    drained(2);
    assert_eq!(checkpoint(&store), dump(&store));
    // A journal is damaged.
    drained(3);
    let journal = only(".redo");
    let mut bytes = fs::read(&journal).expect("reads");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&journal, bytes).expect("writes");
    assert_eq!(checkpoint(&store), dump(&store));
    // The last checkpoint is damaged: it is set aside.
    drained(4);
    let last = only(".ckpt");
    fs::write(&last, b"nonsense").expect("writes");
    assert_eq!(checkpoint(&store), dump(&store));
    assert_eq!(names(temp.path(), ".damaged").len(), 1);
}

#[test]
fn a_lost_image_comes_back_from_the_newest_whole_checkpoint() {
    let temp = tempfile::tempdir().expect("makes");
    let mut states = Vec::new();
    {
        let store = open(temp.path());
        for index in 1..4 {
            step(&store, index);
            states.push(checkpoint(&store));
        }
        step(&store, 4);
        store.drain_now().expect("drains");
    }
    let checkpoints = names(temp.path(), ".ckpt").into_iter().map(|name| temp.path().join("checkpoint").join(name));
    let checkpoints: Vec<PathBuf> = checkpoints.collect();
    for damaged_count in 0..=2 {
        fs::remove_dir_all(temp.path().join("image")).expect("removes");
        for path in checkpoints.iter().rev().take(damaged_count) {
            fs::write(path, &fs::read(path).unwrap_or_default()[..50.min(fs::read(path).unwrap_or_default().len())])
                .expect("cuts");
        }
        let store = open(temp.path());
        let found = store.recover(1).expect("recovers");
        assert_eq!(found, damaged_count < 2);
        let expected = if damaged_count < 2 { states[2 - damaged_count].clone() } else { Pairs::new() };
        assert_eq!(dump(&store), expected, "{damaged_count} damaged");
        // From there it goes on, and the next checkpoint is right.
        let next = store.image_index() / 2 + 1;
        step(&store, next);
        let pairs = dump(&store);
        drop(store);
        let copy = tempfile::tempdir().expect("makes");
        copy_dir(temp.path(), copy.path());
        let store = open(copy.path());
        step(&store, next);
        assert_eq!(dump(&store), pairs);
        assert_eq!(checkpoint(&store), pairs);
    }
}

#[test]
fn an_image_that_is_new_enough_is_left_alone_and_one_that_is_not_is_told() {
    let temp = tempfile::tempdir().expect("makes");
    let store = open(temp.path());
    step(&store, 1);
    checkpoint(&store);
    step(&store, 2);
    store.drain_now().expect("drains");
    let before = dump(&store);
    assert!(store.recover(0).expect("looks") && store.recover(4).expect("looks"));
    assert_eq!(dump(&store), before);
    assert!(!store.recover(5).expect("looks"));
}

#[test]
fn whatever_the_moment_of_a_kill_the_chain_is_whole() {
    for stop_after in 0..8 {
        let temp = tempfile::tempdir().expect("makes");
        let store = DurableStore::open(&temp.path().join("image"), options(Some(stop_after))).expect("opens");
        (1..4).for_each(|index| step(&store, index));
        let stopped = store.drain_now().is_err();
        let copy = tempfile::tempdir().expect("makes");
        copy_dir(temp.path(), copy.path());
        let store = open(copy.path());
        let first = store.image_index() / 2 + 1;
        (first..6).for_each(|index| step(&store, index));
        store.drain_now().expect("drains");
        // It must not need the image.
        let expected = dump(&store);
        store.shared.gate.lock().image.write_slice([(&key(9999)[..], Some(&b"x"[..]))].into_iter()).expect("writes");
        assert_eq!(checkpoint(&store), expected, "stopped after {stop_after}: {stopped}");
    }
}

#[test]
fn commits_go_on_and_a_checkpoint_is_of_one_index_all_the_same() {
    let temp = tempfile::tempdir().expect("makes");
    let small = DurableOptions { drain_bytes: 1 << 14, ..options(None) };
    let store = Arc::new(DurableStore::open(&temp.path().join("image"), small).expect("opens"));
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (store, stop) = (store.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut index = 0;
            while !stop.load(Ordering::Relaxed) {
                index += 1;
                // Three keys that move together: a state between two indexes would show.
                let value = || Some(Bytes::from(index.to_string()));
                let batch = [(key(0), value()), (key(500_000), value()), (key(index as u32 % 1000 + 1), value())];
                store.commit(index, Batch(batch.into())).expect("commits");
            }
        })
    };
    while store.view(|view| view.get(&key(0))).expect("reads").is_none() {
        std::thread::yield_now();
    }
    let mut last = 0;
    for _ in 0..20 {
        let index = store.checkpoint(head).expect("makes one");
        let stored = store.checkpoints().stored().expect("lists").pop().expect("is there");
        let pairs = read(&stored.path);
        let text = index.to_string();
        let of = |wanted: Bytes| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| value.clone());
        assert_eq!(of(key(0)), Some(Bytes::from(text)));
        assert_eq!(of(key(500_000)), of(key(0)));
        assert!(pairs.iter().all(|(_, value)| std::str::from_utf8(value).unwrap().parse::<u64>().unwrap() <= index));
        assert!(index >= last);
        last = index;
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("writes on");
    assert!(last > 0);
}
