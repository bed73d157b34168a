//! A filesystem for the tests beside the rules: one volume and one session on a MemStore, an operation a log entry.

use super::{Effects, Verdict, apply_entry, invariants};
use crate::query;
use crate::store::mem_store::MemStore;
use crate::store::records::{Stamp, Usage};
use crate::store::{KvCommit, inode_record::Inode, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::pb::{self, FileKind, mutation::Op};
use holdfast_proto::{Ask, FsErrno, Op as OpMessage, ROOT_INO};
use prost::Message;

pub const VOLUME: u32 = 1;

pub struct TestFs {
    store: MemStore,
    log_index: u64,
    session: u64,
    seq: u64,
    creds: pb::Creds,
    effects: Effects,
    next_slice: u64,
    later_sec: i64,
    tight: bool,
}

type Answer<T> = Result<T, FsErrno>;

impl TestFs {
    pub fn new() -> TestFs {
        let mut fs = TestFs {
            store: MemStore::default(),
            log_index: 0,
            session: 0,
            seq: 0,
            creds: pb::Creds::default(),
            effects: Effects::default(),
            next_slice: 0,
            later_sec: 0,
            tight: false,
        };
        let settings = pb::VolumeSettings {
            name: "vol".into(),
            uuid: Bytes::from_static(&[7; 16]),
            storage: Some(pb::Storage::default()),
            block_size: 4 << 20,
            ..Default::default()
        };
        let op = pb::FormatVolumeOp { settings: Some(settings) };
        fs.send(0, 0, op.into_wire());
        fs.open_session();
        fs
    }

    pub fn open_session(&mut self) {
        let uuid = Bytes::copy_from_slice(&u128::from(self.log_index).to_be_bytes());
        let op = pb::OpenSessionOp { uuid, volume: "vol".into(), ..Default::default() };
        let Verdict::Reply(reply) = self.send(0, 0, op.into_wire()) else { panic!("no session") };
        self.session = pb::OpenSessionReply::decode(reply).expect("decodes").session;
        self.seq = 0;
    }

    /// One mutation as one log entry, exactly as given.
    pub fn send(&mut self, session: u64, seq: u64, op: Op) -> Verdict {
        self.log_index += 1;
        let mutation = pb::Mutation { session, slot: 0, seq, creds: Some(self.creds.clone()), op: Some(op) };
        let time = Some(pb::TimeSpec { sec: 1_000 + self.later_sec + self.log_index as i64, nsec: 0 });
        let entry = pb::LogEntry { time, mutations: vec![mutation], tight: self.tight };
        let mut applied = self.store.view(|view| apply_entry(view, self.log_index, &entry)).expect("applies");
        self.store.commit(self.log_index, applied.batch).expect("commits");
        let outcome = applied.outcomes.pop().expect("one outcome");
        self.effects = outcome.effects;
        outcome.verdict
    }

    pub fn mutate<O: OpMessage>(&mut self, op: O) -> Answer<O::Reply> {
        self.seq += 1;
        match self.send(self.session, self.seq, op.into_wire()) {
            Verdict::Reply(reply) => Ok(O::Reply::decode(reply).expect("decodes")),
            Verdict::Refused(errno) => Err(errno),
            Verdict::Failed(code) => panic!("{} failed: {code:?}", O::NAME),
        }
    }

    pub fn ask<Q: Ask>(&self, ask: Q) -> Answer<Q::Reply> {
        let query = pb::Query { session: self.session, creds: Some(self.creds.clone()), ask: Some(ask.into_wire()) };
        match self.store.view(|view| query::answer(view, &query)).expect("answers") {
            Verdict::Reply(reply) => Ok(Q::Reply::decode(reply).expect("decodes")),
            Verdict::Refused(errno) => Err(errno),
            Verdict::Failed(code) => panic!("{} failed: {code:?}", Q::NAME),
        }
    }

    /// Unlinks with a seq of the caller's choice.
    pub fn unlink_unsequenced(&mut self, name: &str, seq: u64) {
        let op = pb::UnlinkOp { parent: ROOT_INO, name: Bytes::copy_from_slice(name.as_bytes()) };
        assert!(matches!(self.send(self.session, seq, op.into_wire()), Verdict::Reply(_)));
    }

    /// Changes an inode's record behind the rules' back, to a state that takes too long to reach by operations.
    pub fn edit_inode(&mut self, ino: u64, edit: impl FnOnce(&mut Inode)) {
        let batch = self.store.view(|view| {
            let mut inode = read::inode(view, VOLUME, ino).expect("reads").expect("is there");
            edit(&mut inode);
            let mut txn = Txn::new(view);
            txn.put(&keys::inode(VOLUME, ino), &inode);
            txn.into_batch()
        });
        self.store.commit(self.log_index, batch).expect("commits");
    }

    pub fn store(&self) -> &MemStore {
        &self.store
    }
    pub fn session(&self) -> u64 {
        self.session
    }
    pub fn log_index(&self) -> u64 {
        self.log_index
    }
    pub fn last_effects(&self) -> &Effects {
        &self.effects
    }
    pub fn become_user(&mut self, uid: u32, gid: u32) {
        self.creds = pb::Creds { uid, gid, groups: vec![] };
    }
    pub fn join_group(&mut self, gid: u32) {
        self.creds.groups.push(gid);
    }

    pub fn check(&self) {
        let problems = self.store.view(|view| invariants::check(view)).expect("reads");
        assert!(problems.is_empty(), "{problems:#?}");
    }
    pub fn usage(&self) -> Usage {
        self.store.view(|view| read::usage(view, VOLUME)).expect("reads")
    }

    pub fn getattr(&self, ino: u64) -> Answer<pb::Attr> {
        self.ask(pb::GetattrQuery { ino }).map(|reply| reply.attr.expect("attr"))
    }
    pub fn attr(&self, ino: u64) -> Stat {
        Stat::of(self.getattr(ino).expect("is there"))
    }
    pub fn open(&self, ino: u64) -> Answer<pb::Attr> {
        self.ask(pb::OpenQuery { ino }).map(|reply| reply.attr.expect("attr"))
    }
    pub fn lookup(&self, parent: u64, name: &str) -> Answer<Stat> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        entry(self.ask(pb::LookupQuery { parent, name }))
    }
    pub fn readlink(&self, ino: u64) -> Answer<Bytes> {
        self.ask(pb::ReadlinkQuery { ino }).map(|reply| reply.target)
    }
    pub fn slices(&self, ino: u64) -> Vec<pb::Slice> {
        self.ask(pb::ReadSlicesQuery { ino, first_chunk: 0, chunk_count: 64 }).expect("reads").slices
    }
    pub fn deleted_slices(&self) -> Vec<u64> {
        let reply = self.ask(pb::DeletedSlicesQuery { count_max: 500, after: 0 }).expect("reads");
        reply.slices.iter().map(|slice| slice.slice_id).collect()
    }

    pub fn create_at(&mut self, parent: u64, name: &str, mode: u32, exclusive: bool) -> Answer<pb::EntryReply> {
        self.mutate(pb::CreateOp { parent, name: Bytes::copy_from_slice(name.as_bytes()), mode, exclusive, umask: 0 })
    }
    pub fn create(&mut self, name: &str, mode: u32) -> Answer<Stat> {
        entry(self.create_at(ROOT_INO, name, mode, true))
    }
    pub fn mkdir_at(&mut self, parent: u64, name: &str, mode: u32) -> Answer<Stat> {
        entry(self.mutate(pb::MkdirOp { parent, name: Bytes::copy_from_slice(name.as_bytes()), mode, umask: 0 }))
    }
    pub fn mkdir(&mut self, name: &str, mode: u32) -> Answer<Stat> {
        self.mkdir_at(ROOT_INO, name, mode)
    }
    pub fn mknod(&mut self, name: &str, kind: FileKind, rdev: u32) -> Answer<Stat> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        entry(self.mutate(pb::MknodOp { parent: ROOT_INO, name, mode: 0o600, kind: kind.into(), rdev, umask: 0 }))
    }
    pub fn symlink(&mut self, name: &str, target: &str) -> Answer<Stat> {
        let (name, target) = (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(target.as_bytes()));
        entry(self.mutate(pb::SymlinkOp { parent: ROOT_INO, name, target }))
    }
    pub fn link(&mut self, ino: u64, new_parent: u64, new_name: &str) -> Answer<Stat> {
        entry(self.mutate(pb::LinkOp { ino, new_parent, new_name: Bytes::copy_from_slice(new_name.as_bytes()) }))
    }
    pub fn unlink_at(&mut self, parent: u64, name: &str) -> Answer<pb::RemovedReply> {
        self.mutate(pb::UnlinkOp { parent, name: Bytes::copy_from_slice(name.as_bytes()) })
    }
    pub fn unlink(&mut self, name: &str) -> Answer<pb::RemovedReply> {
        self.unlink_at(ROOT_INO, name)
    }
    pub fn rmdir(&mut self, name: &str) -> Answer<pb::RemovedReply> {
        self.mutate(pb::RmdirOp { parent: ROOT_INO, name: Bytes::copy_from_slice(name.as_bytes()) })
    }
    pub fn rename(
        &mut self,
        parent: u64,
        name: &str,
        new_parent: u64,
        new_name: &str,
        flags: u32,
    ) -> Answer<pb::RemovedReply> {
        let (name, new_name) = (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(new_name.as_bytes()));
        self.mutate(pb::RenameOp { parent, name, new_parent, new_name, flags })
    }
    pub fn setattr(&mut self, op: pb::SetattrOp) -> Answer<Stat> {
        entry(self.mutate(op))
    }
    pub fn chmod(&mut self, ino: u64, mode: u32) -> Answer<Stat> {
        self.setattr(pb::SetattrOp { ino, mode: Some(mode), ..Default::default() })
    }
    pub fn chown(&mut self, ino: u64, uid: u32, gid: u32) -> Answer<Stat> {
        self.setattr(pb::SetattrOp { ino, uid: Some(uid), gid: Some(gid), ..Default::default() })
    }
    pub fn truncate(&mut self, ino: u64, size: u64) -> Answer<Stat> {
        self.setattr(pb::SetattrOp { ino, size: Some(size), ..Default::default() })
    }

    pub fn set_xattr(&mut self, ino: u64, name: &str, value: &[u8], flags: u32) -> Answer<Stat> {
        let (name, value) = (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value));
        entry(self.mutate(pb::SetXattrOp { ino, name, value, flags }))
    }
    pub fn remove_xattr(&mut self, ino: u64, name: &str) -> Answer<Stat> {
        entry(self.mutate(pb::RemoveXattrOp { ino, name: Bytes::copy_from_slice(name.as_bytes()) }))
    }
    pub fn get_xattr(&self, ino: u64, name: &str) -> Answer<Bytes> {
        let name = Bytes::copy_from_slice(name.as_bytes());
        self.ask(pb::GetXattrQuery { ino, name }).map(|reply| reply.value)
    }
    pub fn list_xattr(&self, ino: u64) -> Answer<Vec<Bytes>> {
        self.ask(pb::ListXattrQuery { ino }).map(|reply| reply.names)
    }

    /// A fresh slice of one block for this range of a file.
    pub fn slice(&mut self, offset: u64, len: u32) -> pb::Slice {
        self.next_slice += 1;
        let chunk_bytes = u64::from(holdfast_proto::limits::CHUNK_BYTES);
        pb::Slice {
            chunk: (offset / chunk_bytes) as u32,
            chunk_offset: (offset % chunk_bytes) as u32,
            len,
            slice_id: self.session << 32 | self.next_slice,
            slice_offset: 0,
            slice_len: len,
            block_crc32c: vec![1; len.div_ceil(4 << 20) as usize],
        }
    }
    pub fn commit(&mut self, ino: u64, slices: Vec<pb::Slice>) -> Answer<Stat> {
        entry(self.mutate(pb::CommitWriteOp { ino, slices, kill_priv: self.creds.uid != 0 }))
    }
    pub fn write(&mut self, ino: u64, offset: u64, len: u32) -> Answer<Stat> {
        let slice = self.slice(offset, len);
        self.commit(ino, vec![slice])
    }

    pub fn fallocate(&mut self, ino: u64, offset: u64, len: u64, mode: u32) -> Answer<pb::RangeReply> {
        self.mutate(pb::FallocateOp { ino, offset, len, mode })
    }
    /// From (inode, offset) to (inode, offset).
    pub fn copy(&mut self, from: (u64, u64), to: (u64, u64), len: u64) -> Answer<pb::RangeReply> {
        let ((ino_in, offset_in), (ino_out, offset_out)) = (from, to);
        self.mutate(pb::CopyFileRangeOp { ino_in, offset_in, ino_out, offset_out, len })
    }

    pub fn hold(&mut self, through_index: u64, inos: &[u64]) {
        self.mutate(pb::HoldOp { through_index, inos: inos.to_vec() }).expect("holds");
    }
    pub fn release(&mut self, inos: &[u64]) {
        self.mutate(pb::ReleaseOp { inos: inos.to_vec() }).expect("releases");
    }
    pub fn purge(&mut self, slice_ids: &[u64]) {
        self.mutate(pb::PurgeSlicesOp { slice_ids: slice_ids.to_vec() }).expect("purges");
    }
    pub fn reclaim(&mut self, inos: &[u64]) {
        let op = pb::ReclaimOp { volume: VOLUME, inos: inos.to_vec() };
        assert!(matches!(self.send(0, 0, op.into_wire()), Verdict::Reply(_)));
    }
    pub fn expire_session(&mut self) {
        let op = pb::ExpireSessionsOp { sessions: vec![self.session] };
        assert!(matches!(self.send(0, 0, op.into_wire()), Verdict::Reply(_)));
        assert_eq!(self.effects.ended, [self.session]);
    }
    pub fn keep_removed(&mut self, days: u32) {
        let op = pb::ConfigVolumeOp { name: "vol".into(), trash_days: Some(days), ..Default::default() };
        assert!(matches!(self.send(0, 0, op.into_wire()), Verdict::Reply(_)));
    }
    pub fn empty_trash(&mut self) {
        let op = pb::EmptyTrashOp { volume: VOLUME };
        assert!(matches!(self.send(0, 0, op.into_wire()), Verdict::Reply(_)));
    }
    /// From now on entries are stamped so much later.
    pub fn pass_hours(&mut self, hours: i64) {
        self.later_sec += hours * 3600;
    }
    /// From now on the leader's disk is nearly full, or not.
    pub fn be_tight(&mut self, tight: bool) {
        self.tight = tight;
    }
    pub fn config(&mut self, capacity_bytes: Option<u64>, inodes_max: Option<u64>) {
        let op = pb::ConfigVolumeOp { name: "vol".into(), capacity_bytes, inodes_max, trash_days: None, storage: None };
        assert!(matches!(self.send(0, 0, op.into_wire()), Verdict::Reply(_)));
    }
}

fn entry(reply: Answer<pb::EntryReply>) -> Answer<Stat> {
    reply.map(|reply| Stat::of(reply.attr.expect("attr")))
}

/// An Attr whose times can be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Stat {
    attr: pb::Attr,
    pub atime: Stamp,
    pub mtime: Stamp,
    pub ctime: Stamp,
}

impl Stat {
    fn of(attr: pb::Attr) -> Stat {
        let stamp = |time: Option<pb::TimeSpec>| Stamp::from(time.expect("time"));
        Stat { atime: stamp(attr.atime), mtime: stamp(attr.mtime), ctime: stamp(attr.ctime), attr }
    }
}

impl std::ops::Deref for Stat {
    type Target = pb::Attr;
    fn deref(&self) -> &pb::Attr {
        &self.attr
    }
}
