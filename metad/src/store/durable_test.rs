//! Tests of durable.rs and what is below it: drains, kills at every step of one, damage.

use super::*;
use crate::store::checkpoint::{self, Head};
use std::fs;
use std::ops::ControlFlow;

pub(super) fn options(stop_after: Option<usize>) -> DurableOptions {
    DurableOptions { cache_bytes: 1 << 20, stop_after, ..DurableOptions::default() }
}

pub(super) fn key(n: u32) -> Bytes {
    Bytes::from(format!("\0\0\0\x01{n:08}"))
}

/// Batch `index` sets some keys to its index and deletes others.
pub(super) fn commit(store: &DurableStore, index: u64, keys: std::ops::Range<u32>) -> Result<(), StoreError> {
    let value = |n: u32| (n % 7 != index as u32 % 7).then(|| Bytes::from(index.to_string()));
    store.commit(index, Batch(keys.map(|n| (key(n), value(n))).collect()))
}

pub(super) type Pairs = Vec<(Bytes, Bytes)>;

pub(super) fn dump(store: &DurableStore) -> Pairs {
    let mut pairs = Vec::new();
    store.view(|view| view.scan(&[], &[0xff], &mut collect(&mut pairs))).expect("scans");
    for (key, value) in &pairs {
        assert_eq!(store.view(|view| view.get(key)).expect("gets").as_ref(), Some(value));
    }
    pairs
}

pub(super) fn collect(into: &mut Pairs) -> impl FnMut(&[u8], &[u8]) -> ControlFlow<()> + '_ {
    |key, value| {
        into.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    }
}

/// What a kill leaves: sled writes on when it is dropped, so the files are copied before.
pub(super) fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("makes");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("lists");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn a_drained_state_is_there_after_reopening_and_the_rest_is_not() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = temp.path().join("image");
    let store = DurableStore::open(&dir, options(None)).expect("opens");
    assert_eq!(store.image_index(), 0);
    commit(&store, 5, 0..3000).expect("commits");
    store.drain_now().expect("drains");
    let drained = dump(&store);
    commit(&store, 6, 0..10).expect("commits");
    assert_ne!(dump(&store), drained);
    assert_eq!(store.image_index(), 5);
    drop(store);
    let store = DurableStore::open(&dir, options(None)).expect("opens");
    assert_eq!((store.image_index(), dump(&store)), (5, drained));
}

#[test]
fn what_is_born_and_dies_in_memory_leaves_nothing_to_walk_over() {
    let temp = tempfile::tempdir().expect("makes");
    let store = DurableStore::open(&temp.path().join("image"), options(None)).expect("opens");
    let active_len = |store: &DurableStore| store.shared.layers.read().active.changes().len();
    let set = |index, n, value: Option<&'static str>| {
        store.commit(index, Batch([(key(n), value.map(Bytes::from))].into())).expect("commits");
    };
    set(1, 1, Some("short-lived"));
    set(2, 1, None);
    set(3, 2, None);
    assert_eq!((active_len(&store), dump(&store)), (0, vec![]));

    set(4, 3, Some("drained"));
    store.drain_now().expect("drains");
    set(5, 3, Some("changed"));
    set(6, 3, None);
    assert_eq!((active_len(&store), dump(&store)), (1, vec![]), "what is in the image must be hidden");
    set(7, 3, Some("again"));
    set(8, 3, None);
    assert_eq!(dump(&store), vec![]);
    store.drain_now().expect("drains");
    assert_eq!(dump(&store), vec![]);
    set(9, 3, Some("new"));
    set(10, 3, None);
    assert_eq!((active_len(&store), dump(&store)), (0, vec![]));
}

#[test]
fn a_kill_at_any_step_of_a_drain_leaves_the_first_or_the_last_index() {
    let mut outcomes = Vec::new();
    for stop_after in 0.. {
        let temp = tempfile::tempdir().expect("makes");
        let (dir, crashed) = (temp.path().join("image"), temp.path().join("crashed"));
        let store = DurableStore::open(&dir, options(None)).expect("opens");
        commit(&store, 3, 0..5000).expect("commits");
        store.drain_now().expect("drains");
        let at_3 = dump(&store);
        drop(store);

        let store = DurableStore::open(&dir, options(Some(stop_after))).expect("opens");
        commit(&store, 4, 2000..7000).expect("commits");
        let at_4 = dump(&store);
        let stopped = store.drain_now();
        if stopped.is_err() {
            assert!(matches!(commit(&store, 5, 0..1), Err(StoreError::Poisoned(_))));
            assert!(matches!(store.view(|view| view.get(b"x")), Err(StoreError::Poisoned(_))));
        }
        copy_dir(&dir, &crashed);
        drop(store);

        for dir in [&crashed, &dir] {
            let store = DurableStore::open(dir, options(None)).expect("opens");
            let index = store.image_index();
            assert_eq!(
                dump(&store),
                if index == 3 { at_3.clone() } else { at_4.clone() },
                "stopped after {stop_after}"
            );
            assert!(!dir.join("1/journal").exists());
            outcomes.push(index);
        }
        assert!(!temp.path().join("crashed.damaged-1").exists());
        if stopped.is_ok() {
            break;
        }
    }
    // Before the journal is written: the old state. From then on: the new one.
    assert_eq!(&outcomes[..2], [3, 3]);
    assert!(outcomes.len() > 10 && outcomes[2..].iter().all(|&index| index == 4), "{outcomes:?}");
}

#[test]
fn drains_go_on_in_the_background_and_reads_see_all_layers() {
    let temp = tempfile::tempdir().expect("makes");
    let small = DurableOptions { drain_writes: 500, stall_factor: 1, ..options(None) };
    let store = DurableStore::open(&temp.path().join("image"), small).expect("opens");
    let reference = crate::store::mem_store::MemStore::default();
    for index in 1..=60_u64 {
        let from = (index as u32 * 37) % 1000;
        commit(&store, index, from..from + 200).expect("commits");
        let value = |n: u32| (n % 7 != index as u32 % 7).then(|| Bytes::from(index.to_string()));
        reference.commit(index, Batch((from..from + 200).map(|n| (key(n), value(n))).collect())).expect("commits");
        let mut expected = Vec::new();
        reference.view(|view| view.scan(&[], &[0xff], &mut collect(&mut expected))).expect("scans");
        assert_eq!(dump(&store), expected, "at {index}");
    }
    store.drain_now().expect("drains");
    assert_eq!(store.image_index(), 60);
}

#[test]
fn one_key_that_is_written_for_ever_is_drained_so_that_a_restart_need_not_apply_all_of_it_again() {
    let temp = tempfile::tempdir().expect("makes");
    let small = DurableOptions { drain_writes: 500, ..options(None) };
    let store = DurableStore::open(&temp.path().join("image"), small).expect("opens");
    let mut index = 0;
    while store.image_index() == 0 {
        index += 1;
        commit(&store, index, 7..8).expect("commits");
        assert!(index < 1_000_000, "never drained");
    }
    assert!(index >= 500, "{index}");
}

/// What `still` shows, at the index the image is at meanwhile.
fn still(store: &DurableStore, at: u64, wait: Duration, mut during: impl FnMut(usize)) -> (u64, Pairs) {
    let read = |view: &dyn KvRead| {
        let mut pairs = Vec::new();
        view.scan(&[], &[0xff; 8], &mut |key, value| {
            during(pairs.len());
            collect(&mut pairs)(key, value)
        })
        .expect("scans");
        (store.image_index(), pairs)
    };
    store.still(at, wait, read).expect("holds still")
}

#[test]
fn a_still_state_is_of_one_index_while_commits_go_on() {
    let temp = tempfile::tempdir().expect("makes");
    let store = DurableStore::open(&temp.path().join("image"), options(None)).expect("opens");
    commit(&store, 1, 0..3000).expect("commits");
    let expected = dump(&store);
    let shown = still(&store, 0, Duration::ZERO, |count| {
        if count % 1000 == 0 {
            commit(&store, 2 + count as u64, 0..50).expect("commits");
        }
    });
    assert_eq!(shown, (1, expected));
    assert_ne!(dump(&store).len(), 0);
}

#[test]
fn a_state_is_held_still_at_the_index_asked_for_while_commits_run_past_it() {
    let temp = tempfile::tempdir().expect("makes");
    let small = DurableOptions { drain_writes: 500, ..options(None) };
    let store = DurableStore::open(&temp.path().join("image"), small).expect("opens");
    let reference = DurableStore::open(&temp.path().join("reference"), options(None)).expect("opens");
    (1..=40).for_each(|index| commit(&reference, index, 0..index as u32 * 50).expect("commits"));
    let expected = dump(&reference);
    commit(&store, 1, 0..50).expect("commits");
    let shown = std::thread::scope(|scope| {
        let asked = scope.spawn(|| still(&store, 40, Duration::from_secs(60), |_| ()));
        while store.shared.layers.read().freeze_at.is_none() {
            std::thread::yield_now();
        }
        (2..=80).for_each(|index| commit(&store, index, 0..index as u32 * 50).expect("commits"));
        asked.join().expect("shows")
    });
    assert_eq!(shown, (40, expected));
    (41..=80).for_each(|index| commit(&reference, index, 0..index as u32 * 50).expect("commits"));
    assert_eq!(dump(&store), dump(&reference));
    store.drain_now().expect("drains");
    assert_eq!((store.image_index(), dump(&store)), (80, dump(&reference)));
}

#[test]
fn an_index_that_is_past_or_does_not_come_gives_the_newest_state() {
    let temp = tempfile::tempdir().expect("makes");
    let store = DurableStore::open(&temp.path().join("image"), options(None)).expect("opens");
    commit(&store, 5, 0..100).expect("commits");
    let newest = dump(&store);
    assert_eq!(still(&store, 3, Duration::from_secs(60), |_| ()), (5, newest.clone()));
    assert_eq!(still(&store, 6, Duration::from_millis(1), |_| ()), (5, newest));
    // Nothing of that wait is left: later commits stay in one generation.
    commit(&store, 6, 0..10).expect("commits");
    assert!(store.shared.layers.read().frozen.is_none());
}

#[test]
fn a_replacement_takes_the_place_of_everything_and_stays() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = temp.path().join("image");
    let store = DurableStore::open(&dir, options(None)).expect("opens");
    commit(&store, 1, 0..100).expect("commits");
    store.drain_now().expect("drains");
    commit(&store, 2, 50..200).expect("commits");
    let new: Pairs = (0..3000).map(|n| (key(n * 2), Bytes::from_static(b"new"))).collect();
    let file = temp.path().join("a.part");
    let head = Head { index: 90, meta: Bytes::new() };
    checkpoint::write(&file, &head, new.clone().into_iter().map(Ok), |_| {}).expect("writes");
    store.load(&fs::File::open(&file).expect("opens")).expect("loads");
    assert_eq!((dump(&store), store.image_index()), (new.clone(), 90));
    commit(&store, 91, 0..10).expect("commits");
    store.drain_now().expect("drains");
    let newest = dump(&store);
    drop(store);
    let store = DurableStore::open(&dir, options(None)).expect("opens");
    assert_eq!((dump(&store), store.image_index()), (newest, 91));
    assert!(!dir.join("1").exists());
}

fn store_with_image(temp: &Path) -> PathBuf {
    let dir = temp.join("image");
    let store = DurableStore::open(&dir, options(None)).expect("opens");
    commit(&store, 7, 0..5000).expect("commits");
    store.drain_now().expect("drains");
    dir
}

fn assert_set_aside(temp: &Path, dir: &Path) {
    let store = DurableStore::open(dir, options(None)).expect("opens");
    assert_eq!((store.image_index(), dump(&store).len()), (0, 0));
    assert!(temp.join("image.damaged-1").is_dir());
    commit(&store, 1, 0..10).expect("works again");
    store.drain_now().expect("drains");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("lists").map(|entry| entry.expect("lists").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_damaged_image_is_set_aside_and_the_store_starts_empty() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    for file in files_below(&dir.join("1/sled")) {
        let mut bytes = fs::read(&file).expect("reads");
        bytes.iter_mut().for_each(|byte| *byte ^= 0xa5);
        fs::write(&file, bytes).expect("writes");
    }
    assert_set_aside(temp.path(), &dir);
}

#[test]
fn an_emptied_image_is_set_aside() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    fs::remove_dir_all(dir.join("1/sled")).expect("removes");
    fs::create_dir(dir.join("1/sled")).expect("makes");
    assert_set_aside(temp.path(), &dir);
}

#[test]
fn a_damaged_journal_is_set_aside_with_its_image() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    fs::write(dir.join("1/journal"), b"HFREDO\0\x01 and then nothing").expect("writes");
    assert_set_aside(temp.path(), &dir);
}

#[test]
fn an_image_whose_opening_never_ends_is_set_aside() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    fs::write(dir.join("OPENING"), "1").expect("writes");
    assert_eq!(DurableStore::open(&dir, options(None)).expect("opens").image_index(), 7);
    assert!(!dir.join("OPENING").exists());
    fs::write(dir.join("OPENING"), "2").expect("writes");
    assert_set_aside(temp.path(), &dir);
}

#[test]
fn an_image_that_failed_in_use_is_set_aside_at_the_next_start() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    mark_suspect(&dir, &StoreError::Damaged { what: "image", detail: "as found in use".into() });
    assert_set_aside(temp.path(), &dir);
}

#[test]
fn a_directory_in_use_is_refused_and_left_alone() {
    let temp = tempfile::tempdir().expect("makes");
    let dir = store_with_image(temp.path());
    let first = DurableStore::open(&dir, options(None)).expect("opens");
    for _ in 0..3 {
        assert!(matches!(DurableStore::open(&dir, options(None)), Err(StoreError::Io { .. })));
    }
    assert_eq!(dump(&first).len(), 4285);
    drop(first);
    assert_eq!(DurableStore::open(&dir, options(None)).expect("opens").image_index(), 7);
    assert!(!temp.path().join("image.damaged-1").exists());
}
