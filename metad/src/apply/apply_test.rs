//! Tests of mod.rs and dedup.rs: sessions, slots, and who may send what. Also of the operations on sessions and volumes.

use super::test_fs::TestFs;
use super::*;
use crate::store::KvCommit;
use crate::store::mem_store::MemStore;
use holdfast_proto::pb::FailureCode::{Malformed, Sequence, SessionLost};
use holdfast_proto::{Op as _, ROOT_INO};
use prost::Message;

fn create(name: &str) -> Op {
    let name = Bytes::copy_from_slice(name.as_bytes());
    pb::CreateOp { parent: ROOT_INO, name, mode: 0o600, exclusive: true, umask: 0 }.into_wire()
}

fn format(name: &str, uuid: u8) -> Op {
    let settings = pb::VolumeSettings {
        name: name.into(),
        uuid: Bytes::copy_from_slice(&[uuid; 16]),
        storage: Some(pb::Storage { kind: "file".into(), url: "/x".into(), ..Default::default() }),
        block_size: 1 << 20,
        ..Default::default()
    };
    pb::FormatVolumeOp { settings: Some(settings) }.into_wire()
}

fn open(uuid: u8, volume: &str) -> Op {
    let uuid = Bytes::copy_from_slice(&[uuid; 16]);
    pb::OpenSessionOp { uuid, volume: volume.into(), ..Default::default() }.into_wire()
}

#[test]
fn a_repetition_gets_the_first_reply_and_changes_nothing() {
    let mut fs = TestFs::new();
    let session = fs.session();
    let first = fs.send(session, 1, create("a"));
    assert!(matches!(first, Verdict::Reply(_)));
    assert_eq!(fs.send(session, 1, create("a")), first);
    assert_eq!(*fs.last_effects(), Effects::default());
    let refused = fs.send(session, 2, create("a"));
    assert_eq!(refused, Verdict::Refused(FsErrno::Exist));
    fs.unlink_unsequenced("a", 3);
    assert_eq!(fs.send(session, 2, create("a")), Verdict::Failed(Sequence));
    assert_eq!(fs.send(session, 5, create("b")), Verdict::Failed(Sequence));
    assert!(matches!(fs.send(session, 4, create("b")), Verdict::Reply(_)));
}

#[test]
fn a_refusal_is_remembered_even_when_it_would_no_longer_be_one() {
    let mut fs = TestFs::new();
    let session = fs.session();
    let missing = pb::UnlinkOp { parent: ROOT_INO, name: Bytes::from_static(b"x") };
    let refused = fs.send(session, 1, missing.clone().into_wire());
    assert_eq!(refused, Verdict::Refused(FsErrno::NoEnt));
    fs.config(None, Some(0));
    assert_eq!(fs.send(session, 1, missing.into_wire()), refused);
}

#[test]
fn unknown_and_ended_sessions_are_lost() {
    let mut fs = TestFs::new();
    let session = fs.session();
    assert_eq!(fs.send(99, 1, create("a")), Verdict::Failed(SessionLost));
    assert_eq!(fs.send(0, 1, create("a")), Verdict::Failed(SessionLost));
    assert!(matches!(fs.send(session, 1, pb::CloseSessionOp {}.into_wire()), Verdict::Reply(_)));
    assert_eq!(fs.last_effects().ended, [session]);
    assert_eq!(fs.send(session, 1, pb::CloseSessionOp {}.into_wire()), Verdict::Failed(SessionLost));
    assert_eq!(fs.send(session, 2, create("a")), Verdict::Failed(SessionLost));
    fs.check();
}

#[test]
fn what_breaks_the_protocol_is_malformed() {
    let mut fs = TestFs::new();
    let session = fs.session();
    assert_eq!(fs.send(session, 0, create("a")), Verdict::Failed(Malformed));
    assert_eq!(fs.send(session, 1, format("other", 1)), Verdict::Failed(Malformed));
    let early = pb::HoldOp { through_index: u64::MAX, inos: vec![] };
    assert_eq!(fs.send(session, 1, early.into_wire()), Verdict::Failed(Malformed));
    let mutation = |slot, op| pb::Mutation { session, slot, seq: 1, creds: None, op };
    let bad = vec![
        mutation(0, None),
        mutation(0, Some(create("a"))),
        mutation(1 << 20, Some(pb::CloseSessionOp {}.into_wire())),
    ];
    let entry = pb::LogEntry { time: None, mutations: bad, tight: false };
    let applied = fs.store().view(|view| apply_entry(view, 100, &entry)).expect("applies");
    assert!(applied.outcomes.iter().all(|outcome| outcome.verdict == Verdict::Failed(Malformed)));
    assert!(applied.batch.0.is_empty());
}

#[test]
fn mutations_of_one_entry_see_one_another() {
    let mut fs = TestFs::new();
    let session = fs.session();
    let creds = Some(pb::Creds::default());
    let mutation = |slot, op| pb::Mutation { session, slot, seq: 1, creds: creds.clone(), op: Some(op) };
    let mutations = vec![mutation(0, create("a")), mutation(1, create("a")), mutation(0, create("a"))];
    let entry = pb::LogEntry { time: None, mutations, tight: false };
    let applied = fs.store().view(|view| apply_entry(view, 100, &entry)).expect("applies");
    assert_eq!(applied.outcomes[1].verdict, Verdict::Refused(FsErrno::Exist));
    assert_eq!(applied.outcomes[2].verdict, applied.outcomes[0].verdict);
    assert_eq!(fs.create("a", 0o600).map(|attr| attr.nlink), Ok(1));
}

fn send(store: &MemStore, log_index: u64, op: Op) -> Verdict {
    let mutations = vec![pb::Mutation {
        creds: Some(pb::Creds { uid: 7, gid: 8, groups: vec![] }),
        op: Some(op),
        ..Default::default()
    }];
    let applied =
        store.view(|view| apply_entry(view, log_index, &pb::LogEntry { time: None, mutations, tight: false }));
    let mut applied = applied.expect("applies");
    store.commit(log_index, applied.batch).expect("commits");
    applied.outcomes.pop().expect("one").verdict
}

fn decode<R: Message + Default>(verdict: Verdict) -> R {
    let Verdict::Reply(reply) = verdict else { panic!("{verdict:?}") };
    R::decode(reply).expect("decodes")
}

#[test]
fn while_the_disk_is_nearly_full_files_can_be_removed_and_nothing_grows() {
    let mut fs = TestFs::new();
    let ino = fs.create("old", 0o644).expect("creates").ino;
    let creds = Some(pb::Creds::default());
    let of = |slot, seq, op| pb::Mutation { session: fs.session(), slot, seq, creds: creds.clone(), op: Some(op) };
    let named = |name: &'static str| pb::CreateOp { parent: ROOT_INO, name: name.into(), ..Default::default() };
    let slice = pb::Slice {
        len: 1,
        slice_id: fs.session() << 32 | 9,
        slice_len: 1,
        block_crc32c: vec![0],
        ..Default::default()
    };
    let refused = vec![
        of(11, 1, Op::Create(named("new"))),
        of(12, 1, Op::CommitWrite(pb::CommitWriteOp { ino, slices: vec![slice], kill_priv: false })),
        // The refusal is the answer to a repetition, too.
        of(11, 1, Op::Create(named("new"))),
    ];
    let unlink = pb::UnlinkOp { parent: ROOT_INO, name: "old".into() };
    let truncate = pb::SetattrOp { ino, size: Some(0), ..Default::default() };
    let done = vec![
        of(13, 1, Op::Setattr(truncate)),
        of(14, 1, Op::Unlink(unlink)),
        of(15, 1, Op::CloseSession(pb::CloseSessionOp {})),
    ];
    for (log_index, mutations, is_refused) in [(200, refused, true), (201, done, false)] {
        let entry = pb::LogEntry { time: None, mutations, tight: true };
        let applied = fs.store().view(|view| apply_entry(view, log_index, &entry)).expect("applies");
        for outcome in applied.outcomes {
            assert_eq!(outcome.verdict == Verdict::Refused(FsErrno::NoSpc), is_refused, "{outcome:?}");
            assert_eq!(matches!(outcome.verdict, Verdict::Reply(_)), !is_refused, "{outcome:?}");
        }
        fs.store().commit(log_index, applied.batch).expect("commits");
    }
}

#[test]
fn format_is_idempotent_by_uuid_and_never_replaces_a_volume() {
    let store = MemStore::default();
    let first: pb::VolumeReply = decode(send(&store, 1, format("vol", 1)));
    assert_eq!(first.settings.as_ref().map(|settings| settings.id), Some(1));
    assert_eq!(decode::<pb::VolumeReply>(send(&store, 2, format("vol", 1))), first);
    assert_eq!(send(&store, 3, format("vol", 2)), Verdict::Refused(FsErrno::Exist));
    let second: pb::VolumeReply = decode(send(&store, 4, format("other", 2)));
    assert_eq!(second.settings.map(|settings| settings.id), Some(2));
    assert_eq!(send(&store, 5, format("Bad name", 3)), Verdict::Refused(FsErrno::Inval));
    let root = store.view(|view| read::named_inode(view, 1, ROOT_INO)).expect("reads");
    assert_eq!((root.uid, root.gid, root.nlink, root.mode), (7, 8, 2, 0o755));
}

#[test]
fn config_replaces_credentials_and_options_but_not_where_the_data_is() {
    let store = MemStore::default();
    send(&store, 1, format("vol", 1));
    let storage = pb::Storage {
        kind: "s3".into(),
        url: "/y".into(),
        secrets: [("k".into(), "v".into())].into(),
        ..Default::default()
    };
    let op = pb::ConfigVolumeOp {
        name: "vol".into(),
        capacity_bytes: Some(5),
        inodes_max: None,
        storage: Some(storage),
        trash_days: None,
    };
    let settings = decode::<pb::VolumeReply>(send(&store, 2, op.into_wire())).settings.expect("settings");
    let storage = settings.storage.expect("storage");
    assert_eq!((storage.kind.as_str(), storage.url.as_str(), storage.secrets.len()), ("file", "/x", 1));
    assert_eq!(settings.capacity_bytes, 5);
    let unknown = pb::ConfigVolumeOp { name: "none".into(), ..Default::default() };
    assert_eq!(send(&store, 3, unknown.into_wire()), Verdict::Refused(FsErrno::NoEnt));
}

#[test]
fn opening_a_session_is_idempotent_while_it_lives() {
    let store = MemStore::default();
    send(&store, 1, format("vol", 1));
    send(&store, 2, format("other", 2));
    let session = |verdict| decode::<pb::OpenSessionReply>(verdict).session;
    assert_eq!(session(send(&store, 3, open(1, "vol"))), 1);
    assert_eq!(session(send(&store, 4, open(1, "vol"))), 1);
    assert_eq!(send(&store, 5, open(1, "other")), Verdict::Refused(FsErrno::Exist));
    assert_eq!(send(&store, 6, open(2, "none")), Verdict::Refused(FsErrno::NoEnt));
    assert_eq!(session(send(&store, 7, open(2, "other"))), 2);
    send(&store, 8, pb::ExpireSessionsOp { sessions: vec![1, 55] }.into_wire());
    assert_eq!(session(send(&store, 9, open(1, "vol"))), 3);
    let problems = store.view(|view| invariants::check(view)).expect("reads");
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn volumes_do_not_see_one_another() {
    let store = MemStore::default();
    send(&store, 1, format("vol", 1));
    send(&store, 2, format("other", 2));
    send(&store, 3, open(1, "vol"));
    send(&store, 4, open(2, "other"));
    let creds = Some(pb::Creds::default());
    for (log_index, session) in [(5, 1), (6, 2)] {
        let mutation = pb::Mutation { session, slot: 0, seq: 1, creds: creds.clone(), op: Some(create("same")) };
        let entry = pb::LogEntry { time: None, mutations: vec![mutation], tight: false };
        let applied = store.view(|view| apply_entry(view, log_index, &entry)).expect("applies");
        assert!(matches!(applied.outcomes[0].verdict, Verdict::Reply(_)));
        assert_eq!(u64::from(applied.outcomes[0].effects.volume), session);
        store.commit(log_index, applied.batch).expect("commits");
    }
}
