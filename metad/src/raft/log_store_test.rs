//! Tests of raft/log_store that openraft's suite does not make: what survives a reopen, and the order of callbacks.

use super::*;
use crate::raft::log_flush::FlushEnd;
use crate::raft::types::{Command, LeaderId, Payload};
use openraft::storage::RaftLogStorageExt;
use openraft::type_config::TypeConfigExt;

fn entry(term: u64, index: u64, body: &'static [u8]) -> Entry {
    let log_id = LogId { leader_id: LeaderId { term, node_id: 1 }, index };
    Entry { log_id, payload: Payload::Normal(Command(body.into())) }
}

fn open(dir: &Path) -> LogStore {
    LogStore::open(dir, LogStoreOptions::default(), Fatal::default()).expect("a fresh or intact WAL opens")
}

/// The WAL is locked until the last flush's callback has been dropped, on the WAL's own thread.
fn reopen(dir: &Path) -> LogStore {
    let attempt = || LogStore::open(dir, LogStoreOptions::default(), Fatal::default());
    for _ in 0..2_000 {
        if let Ok(store) = attempt() {
            return store;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    attempt().expect("an intact WAL opens again")
}

#[tokio::test]
async fn vote_and_entries_survive_a_reopen() {
    let dir = tempfile::tempdir().expect("temp dir");
    let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: false };
    {
        let mut store = open(&dir.path().join("wal"));
        assert!(!store.has_vote());
        store.save_vote(&vote).await.expect("save vote");
        store.blocking_append([entry(1, 0, b"a"), entry(1, 1, b"b"), entry(2, 2, b"c")]).await.expect("append");
        store.save_committed(Some(entry(1, 1, b"").log_id)).await.expect("committed");
        store.flush().await.expect("flush");
    }
    let mut store = reopen(&dir.path().join("wal"));
    assert!(store.has_vote());
    assert_eq!(store.read_vote().await.expect("vote"), Some(vote));
    assert_eq!(store.read_committed().await.expect("committed"), Some(entry(1, 1, b"").log_id));
    let entries = store.try_get_log_entries(0..10).await.expect("entries");
    assert_eq!(entries, vec![entry(1, 0, b"a"), entry(1, 1, b"b"), entry(2, 2, b"c")]);
}

#[tokio::test]
async fn a_damaged_log_is_refused_with_what_to_do() {
    // Wherever the damage is: in a record's type, its length, its body or its checksum.
    for at in [0, 2, 5, 40, 64, 90, 91, 92, 93, 120] {
        let dir = tempfile::tempdir().expect("temp dir");
        {
            let mut store = open(&dir.path().join("wal"));
            store.blocking_append((0..50).map(|index| entry(1, index, b"body"))).await.expect("append");
            // What is damaged must have been synced before this one: else it could be what a power loss has left.
            store.blocking_append([entry(1, 50, b"body")]).await.expect("append");
        }
        drop(reopen(&dir.path().join("wal")));
        let wal = wal_file(&dir.path().join("wal"));
        let mut bytes = std::fs::read(&wal).expect("reads");
        assert!(bytes.len() > 400, "{}", bytes.len());
        bytes[200 + at] ^= 0x40;
        std::fs::write(&wal, &bytes).expect("writes");
        let refused = LogStore::open(&dir.path().join("wal"), LogStoreOptions::default(), Fatal::default());
        match refused {
            Err(error @ LogStoreError::Damaged { .. }) => assert!(error.to_string().contains("is damaged"), "{error}"),
            Err(other) => panic!("byte {at}: {other:?}"),
            Ok(_) => panic!("byte {at}: a damaged log was taken"),
        }
    }
}

/// The WAL's only file.
fn wal_file(dir: &Path) -> PathBuf {
    let files = std::fs::read_dir(dir).expect("lists").flatten().map(|entry| entry.path());
    files.max_by_key(|path| path.metadata().map_or(0, |meta| meta.len())).expect("a WAL file")
}

#[tokio::test]
async fn sectors_missing_from_the_last_flush_cost_only_that_flush() {
    let dir = tempfile::tempdir().expect("temp dir");
    let synced = {
        let mut store = open(dir.path());
        store.blocking_append((0..20).map(|index| entry(1, index, b"synced"))).await.expect("append");
        let synced = wal_file(dir.path()).metadata().expect("there").len() as usize;
        store.blocking_append((20..90).map(|index| entry(1, index, b"in flight"))).await.expect("append");
        synced
    };
    drop(reopen(dir.path()));
    let whole = std::fs::read(wal_file(dir.path())).expect("reads");
    for lost in (synced.next_multiple_of(512)..whole.len() - 512).step_by(512) {
        let mut torn = whole.clone();
        torn[lost..lost + 512].fill(0);
        std::fs::write(wal_file(dir.path()), &torn).expect("writes");
        let mut store = reopen(dir.path());
        let kept = store.try_get_log_entries(0..90).await.expect("entries");
        assert!((20..90).contains(&kept.len()), "without the sector at {lost}: {}", kept.len());
        // It goes on from there, and what it syncs now is whole.
        let next = kept.len() as u64;
        store.blocking_append([entry(2, next, b"after")]).await.expect("append");
        drop(store);
        let mut store = reopen(dir.path());
        assert_eq!(store.try_get_log_entries(0..200).await.expect("entries").len() as u64, next + 1);
    }
}

#[tokio::test]
async fn entries_that_left_the_ring_are_read_from_disk() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut store = open(&dir.path().join("wal"));
    store.blocking_append((0..100).map(|index| entry(1, index, b"body"))).await.expect("append");
    store.state().ring.clear();
    let entries = store.try_get_log_entries(40..42).await.expect("entries");
    assert_eq!(entries, vec![entry(1, 40, b"body"), entry(1, 41, b"body")]);
}

#[tokio::test]
async fn appends_that_meet_a_flush_in_flight_complete_in_order() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut store = open(&dir.path().join("wal"));
    let mut receivers = Vec::new();
    for index in 0..50 {
        let (sender, receiver) = TypeConfig::oneshot();
        store.append([entry(1, index, b"x")], IOFlushed::signal(sender)).await.expect("append");
        receivers.push(receiver);
    }
    // Each was readable when append returned, and each is told of its own flush.
    assert_eq!(store.try_get_log_entries(0..50).await.expect("entries").len(), 50);
    for receiver in receivers {
        receiver.await.expect("callback").expect("flushed");
    }
}

#[tokio::test]
async fn a_poisoned_log_refuses_every_change() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut store = open(&dir.path().join("wal"));
    store.state().poison("test", &io::Error::other("disk gone"));
    let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: false };
    assert!(store.save_vote(&vote).await.is_err());
    assert!(store.append([entry(1, 0, b"a")], IOFlushed::noop()).await.is_err());
    assert!(store.flush().await.is_err());
    assert!(store.purge(entry(1, 0, b"").log_id).await.is_err());
}

/// A log of entries 0 to 59, marked at 49, of whose file `cut` bytes were left beyond the mark (below 0: before it).
async fn cut_log(cut: i64) -> (tempfile::TempDir, Result<LogStore, LogStoreError>) {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut store = open(&dir.path().join("wal"));
    store.blocking_append((0..50).map(|index| entry(1, index, b"body"))).await.expect("append");
    store.write_mark().expect("marks");
    let path = wal_file(&dir.path().join("wal"));
    let marked = path.metadata().expect("is there").len();
    store.blocking_append((50..60).map(|index| entry(1, index, b"body"))).await.expect("append");
    drop(store);
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    file.set_len(marked.saturating_add_signed(cut)).expect("cuts");
    loop {
        match LogStore::open(&dir.path().join("wal"), LogStoreOptions::default(), Fatal::default()) {
            // The WAL is locked until the last flush's callback has been dropped.
            Err(LogStoreError::Open { .. }) => std::thread::sleep(Duration::from_millis(1)),
            opened => break (dir, opened),
        }
    }
}

#[tokio::test]
async fn a_log_whose_durable_end_was_cut_off_is_a_loss_and_a_torn_end_is_not() {
    for cut in [0, 1, 7] {
        let (_dir, opened) = cut_log(cut).await;
        let last = opened.expect("nobody was promised more").last_log_id();
        assert_eq!(last.map(|id| id.index), Some(49), "{cut} bytes beyond");
    }
    for cut in [-500, -1000, -2000] {
        let (_dir, opened) = cut_log(cut).await;
        let error = opened.err().expect("its end is missing");
        assert!(error.is_loss() && matches!(error, LogStoreError::CutOff { .. }), "{cut} bytes: {error}");
    }
}

#[tokio::test]
async fn entries_that_a_leader_replaced_are_not_missed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut store = open(&dir.path().join("wal"));
    store.blocking_append((0..50).map(|index| entry(1, index, b"body"))).await.expect("append");
    store.write_mark().expect("marks");
    store.truncate_after(Some(entry(1, 9, b"").log_id)).await.expect("truncates");
    store.flush().await.expect("flush");
    drop(store);
    let store = reopen(&dir.path().join("wal"));
    assert_eq!(store.last_log_id().map(|id| id.index), Some(9));
    store.write_mark().expect("marks");
}

/// Counts the flushes that begin.
#[derive(Default)]
struct Flushes(std::sync::atomic::AtomicUsize);

impl FlushWatch for Flushes {
    fn synced(&self) {}

    fn started(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, end: FlushEnd) {
        end.complete();
    }
}

/// A checkpoint may be installed right after a cut, and openraft does not start a node whose log contradicts its state.
#[tokio::test]
async fn a_cut_is_durable_before_anything_else_happens() {
    let dir = tempfile::tempdir().expect("temp dir");
    let flushes = Arc::new(Flushes::default());
    let options = LogStoreOptions { watch: Some(flushes.clone()), ..LogStoreOptions::default() };
    let mut store = LogStore::open(&dir.path().join("wal"), options, Fatal::default()).expect("opens");
    store.blocking_append((0..50).map(|index| entry(1, index, b"body"))).await.expect("append");
    let before = flushes.0.load(Ordering::Relaxed);
    store.truncate_after(Some(entry(1, 9, b"").log_id)).await.expect("cuts");
    assert_eq!(flushes.0.load(Ordering::Relaxed), before + 1, "a flush follows the cut");
    assert_eq!(store.0.state.lock().durable.last.map(|id| id.index), Some(9), "and has succeeded");
    store.truncate_after(Some(entry(1, 9, b"").log_id)).await.expect("has nothing to cut");
    assert_eq!(flushes.0.load(Ordering::Relaxed), before + 1);
}
