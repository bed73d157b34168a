//! Random logs for core_model.rs: mutations that mostly mean something, since they name inodes and sessions that replies gave.

use bytes::Bytes;
use holdfast_proto::pb::{self, mutation::Op};
use holdfast_proto::{Op as _, ROOT_INO, TRASH_INO, limits};
use metad::apply::{Outcome, Verdict};
use prost::Message;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;

const SLOTS: usize = 3;
/// Where the trash keeps what these logs remove: their clock stays in one hour.
pub const FIRST_HOUR_INO: u64 = TRASH_INO + 1;
const NAMES: [&str; 7] = ["a", "b", "c", "d", "e", "f", "a-much-longer-name.txt"];

pub struct Generator {
    rng: StdRng,
    /// Next seq of each slot of each session.
    sessions: BTreeMap<u64, [u64; SLOTS]>,
    dirs: Vec<u64>,
    inos: Vec<u64>,
    next_slice: u64,
    sent: Vec<pb::Mutation>,
    log_index: u64,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator {
            rng: StdRng::seed_from_u64(seed),
            sessions: BTreeMap::new(),
            // The trash and its first hour are there once it is switched on.
            dirs: vec![ROOT_INO, TRASH_INO, FIRST_HOUR_INO],
            inos: vec![ROOT_INO, TRASH_INO],
            next_slice: 0,
            sent: Vec::new(),
            log_index: 0,
        }
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.random_range(0..from.len())]
    }
    fn dir(&mut self) -> u64 {
        self.dirs[self.rng.random_range(0..self.dirs.len())]
    }
    fn ino(&mut self) -> u64 {
        self.inos[self.rng.random_range(0..self.inos.len())]
    }
    fn name(&mut self) -> Bytes {
        Bytes::from(self.one_of(&NAMES))
    }
    fn mode(&mut self) -> u32 {
        self.one_of(&[0o644, 0o755, 0o1777, 0o2775, 0o6755, 0o600])
    }
    /// A user or group, or a coin of four sides.
    fn id(&mut self) -> u32 {
        self.rng.random_range(0..4)
    }
    fn some<T>(&mut self, value: T) -> Option<T> {
        self.rng.random_bool(0.3).then_some(value)
    }

    /// The next log entry. The first two format the volume and open a session.
    pub fn entry(&mut self, log_index: u64) -> pb::LogEntry {
        self.log_index = log_index;
        let mutations = match log_index {
            1 => vec![sessionless(format_volume().into_wire())],
            2 => vec![sessionless(open_session(0).into_wire())],
            _ => (0..self.rng.random_range(1..5)).map(|_| self.mutation()).collect(),
        };
        let sec = 1_000 + log_index as i64 - self.rng.random_range(0..3);
        pb::LogEntry { time: Some(pb::TimeSpec { sec, nsec: 5 }), mutations, tight: false }
    }

    fn mutation(&mut self) -> pb::Mutation {
        if self.rng.random_bool(0.1) && !self.sent.is_empty() {
            return self.sent[self.rng.random_range(0..self.sent.len())].clone();
        }
        if self.rng.random_bool(0.08) || self.sessions.is_empty() {
            return sessionless(self.op_without_session());
        }
        let ids: Vec<u64> = self.sessions.keys().copied().collect();
        let (session, slot) = (self.one_of(&ids), self.rng.random_range(0..SLOTS));
        let creds = Some(pb::Creds { uid: self.id(), gid: self.id(), groups: vec![self.id()] });
        let op = Some(self.op(session));
        let skipped = u64::from(self.rng.random_bool(0.02));
        let next = &mut self.sessions.get_mut(&session).expect("listed")[slot];
        let seq = *next + skipped;
        *next += 1 - skipped;
        let mutation = pb::Mutation { session, slot: slot as u32, seq, creds, op };
        // One that is too early is refused now, and would later be taken for another.
        if skipped == 0 {
            self.sent.push(mutation.clone());
        }
        mutation
    }

    fn op_without_session(&mut self) -> Op {
        match self.rng.random_range(0..9) {
            8 => pb::EmptyTrashOp { volume: 1 }.into_wire(),
            0 => format_volume().into_wire(),
            1 => {
                let capacity_bytes = Some(self.one_of(&[0, 300_000, 500_000_000]));
                let inodes_max = Some(self.one_of(&[0, 20, 60]));
                let trash_days = self.one_of(&[None, Some(0), Some(1), Some(1)]);
                pb::ConfigVolumeOp { name: "vol".into(), capacity_bytes, inodes_max, trash_days, storage: None }
                    .into_wire()
            }
            2 => pb::ExpireSessionsOp { sessions: vec![self.rng.random_range(1..12)] }.into_wire(),
            3..6 => open_session(self.rng.random_range(0..5)).into_wire(),
            _ => pb::ReclaimOp { volume: 1, inos: (0..8).map(|_| self.ino()).collect() }.into_wire(),
        }
    }

    fn xattr_name(&mut self) -> Bytes {
        let names = ["user.a", "user.b", "trusted.a", "security.a", "security.capability", "odd", ""];
        let acls = ["system.posix_acl_access", "system.posix_acl_default"];
        Bytes::from_static(if self.id() == 0 { self.one_of(&names) } else { self.one_of(&acls) }.as_bytes())
    }

    /// An ACL, mostly a valid one: owner, [user], owning group, [mask], other.
    fn acl(&mut self) -> Bytes {
        let entry = |tag: u16, perm: u32, id: u32| -> Vec<u8> {
            [&tag.to_le_bytes()[..], &(perm as u16).to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let perm = |model: &mut Self| model.rng.random_range(0..8);
        let mut acl = 2u32.to_le_bytes().to_vec();
        let (names_user, has_mask) = self.one_of(&[(true, true), (false, true), (false, false), (true, false)]);
        acl.extend(entry(0x01, perm(self), u32::MAX));
        if names_user {
            acl.extend(entry(0x02, perm(self), self.id()));
        }
        acl.extend(entry(0x04, perm(self), u32::MAX));
        if has_mask {
            acl.extend(entry(0x10, perm(self), u32::MAX));
        }
        acl.extend(entry(0x20, perm(self), u32::MAX));
        acl.into()
    }

    fn op(&mut self, session: u64) -> Op {
        let (parent, name, mode) = (self.dir(), self.name(), self.mode());
        match self.rng.random_range(0..148) {
            0..20 => pb::CreateOp { parent, name, mode, exclusive: self.id() == 0, umask: self.id() }.into_wire(),
            20..30 => pb::MkdirOp { parent, name, mode, umask: self.id() }.into_wire(),
            30..33 => {
                pb::MknodOp { parent, name, mode, kind: self.rng.random_range(0..9), rdev: 7, umask: 0 }.into_wire()
            }
            33..36 => pb::SymlinkOp { parent, name, target: self.name() }.into_wire(),
            36..42 => pb::LinkOp { ino: self.ino(), new_parent: parent, new_name: name }.into_wire(),
            42..50 => pb::UnlinkOp { parent, name }.into_wire(),
            50..54 => pb::RmdirOp { parent, name }.into_wire(),
            54..68 => {
                let flags = self.one_of(&[0, 0, 0, 1, 2, 3, 4, 5]);
                pb::RenameOp { parent, name, new_parent: self.dir(), new_name: self.name(), flags }.into_wire()
            }
            68..80 => self.setattr().into_wire(),
            80..92 => self.commit_write(session).into_wire(),
            92..95 => {
                let through_index = self.rng.random_range(0..=self.log_index);
                pb::HoldOp { through_index, inos: vec![self.ino(), self.ino()] }.into_wire()
            }
            95..97 => pb::ReleaseOp { inos: (0..5).map(|_| self.ino()).collect() }.into_wire(),
            97 => pb::PurgeSlicesOp { slice_ids: (0..20).map(|n| session << 32 | n).collect() }.into_wire(),
            98 => {
                let reads = (0..3).map(|_| pb::AtimeRead { ino: self.ino(), age_ms: self.id().into() }).collect();
                pb::TouchAtimesOp { reads }.into_wire()
            }
            99 => pb::CloseSessionOp {}.into_wire(),
            100..106 => {
                let (name, flags) = (self.xattr_name(), self.one_of(&[0, 0, 0, 1, 2, 3]));
                let value = if name.starts_with(b"system") { self.acl() } else { self.name() };
                pb::SetXattrOp { ino: self.ino(), name, value, flags }.into_wire()
            }
            108..114 => self.fallocate().into_wire(),
            114..124 => self.copy_file_range().into_wire(),
            124..144 => self.set_lock().into_wire(),
            144..146 => pb::CancelLockOp { ino: self.ino(), wait: self.rng.random_range(1..6) }.into_wire(),
            146..148 => pb::DropLocksOp { ino: self.ino(), owners: vec![self.rng.random_range(0..3)] }.into_wire(),
            _ => pb::RemoveXattrOp { ino: self.ino(), name: self.xattr_name() }.into_wire(),
        }
    }

    fn setattr(&mut self) -> pb::SetattrOp {
        let (mode, uid, gid) = (self.mode(), self.id(), self.id());
        let size = self.one_of(&[0, 1, 5_000, 70_000_000, 200_000_000, u64::MAX]);
        let time = pb::TimeSpec { sec: -5, nsec: self.id() * 500_000_000 };
        let time = pb::SetTime { now: self.id() == 0, time: Some(time) };
        pb::SetattrOp {
            ino: self.ino(),
            mode: self.some(mode),
            uid: self.some(uid),
            gid: self.some(gid),
            size: self.some(size),
            atime: self.some(time),
            mtime: self.some(time),
            by_handle: self.id() == 0,
            kill_priv: self.id() == 0,
        }
    }

    /// Near where slices are, and at times at the borders of chunks.
    fn offset(&mut self) -> u64 {
        let chunk = u64::from(limits::CHUNK_BYTES);
        let border = self.one_of(&[0, 0, chunk, 2 * chunk, chunk - 3_000]);
        border + self.rng.random_range(0..16_000)
    }

    fn fallocate(&mut self) -> pb::FallocateOp {
        let len = self.one_of(&[0, 1, 3_000, 20_000, 100_000_000, u64::MAX]);
        let mode = self.one_of(&[0, 1, 3, 3, 3, 16, 17, 2, 8, 99]);
        pb::FallocateOp { ino: self.ino(), offset: self.offset(), len, mode }
    }

    fn copy_file_range(&mut self) -> pb::CopyFileRangeOp {
        let len = self.one_of(&[0, 1, 3_000, 20_000, 100_000_000, u64::MAX]);
        let (offset_in, offset_out) = (self.offset(), self.offset());
        pb::CopyFileRangeOp { ino_in: self.ino(), offset_in, ino_out: self.ino(), offset_out, len }
    }

    fn set_lock(&mut self) -> pb::SetLockOp {
        // Few files and bytes, so that locks meet; now and then a range or a kind that there is not.
        let known = self.inos.len().min(3);
        let (first, last) = (self.rng.random_range(0..8), self.rng.random_range(0..10));
        pb::SetLockOp {
            ino: if known > 0 { self.inos[self.rng.random_range(0..known)] } else { self.ino() },
            owner: self.rng.random_range(0..3),
            kind: self.one_of(&[1, 1, 2, 2, 2, 2, 0]),
            mode: self.rng.random_range(0..4),
            range: Some(pb::LockRange { first, last }),
            pid: 1,
            wait: self.one_of(&[0, 0, 1, 2, 3, 4, 5]),
            no_deadlock: self.rng.random_bool(0.2),
        }
    }

    fn commit_write(&mut self, session: u64) -> pb::CommitWriteOp {
        let count = self.rng.random_range(0..4);
        let slices = (0..count).map(|_| self.slice(session)).collect();
        pb::CommitWriteOp { ino: self.ino(), slices, kill_priv: self.id() == 0 }
    }

    fn slice(&mut self, session: u64) -> pb::Slice {
        self.next_slice += 1;
        // Now and then an empty one, which is refused.
        let len = if self.rng.random_bool(0.02) { 0 } else { self.rng.random_range(1..10_000) };
        pb::Slice {
            chunk: self.rng.random_range(0..3),
            chunk_offset: self.id() * 4_000,
            len,
            slice_id: session << 32 | self.next_slice,
            slice_offset: 0,
            slice_len: len + self.id(),
            block_crc32c: vec![self.id()],
        }
    }

    /// Learns from an answer, as a client would.
    pub fn learn(&mut self, mutation: &pb::Mutation, outcome: &Outcome) {
        for ended in &outcome.effects.ended {
            self.sessions.remove(ended);
        }
        let (Some(op), Verdict::Reply(reply)) = (&mutation.op, &outcome.verdict) else { return };
        match op {
            Op::OpenSession(_) => {
                let session = pb::OpenSessionReply::decode(reply.clone()).expect("decodes").session;
                self.sessions.entry(session).or_insert([1; SLOTS]);
            }
            Op::Create(_) | Op::Mkdir(_) | Op::Mknod(_) | Op::Symlink(_) => {
                let attr = pb::EntryReply::decode(reply.clone()).expect("decodes").attr.expect("attr");
                self.inos.push(attr.ino);
                if attr.kind() == pb::FileKind::Directory {
                    self.dirs.push(attr.ino);
                }
            }
            _ => {}
        }
    }
}

fn sessionless(op: Op) -> pb::Mutation {
    pb::Mutation { creds: Some(pb::Creds::default()), op: Some(op), ..Default::default() }
}

fn format_volume() -> pb::FormatVolumeOp {
    let options = [("region".into(), "x".into())].into();
    let settings = pb::VolumeSettings {
        name: "vol".into(),
        uuid: Bytes::from_static(&[1; 16]),
        storage: Some(pb::Storage { kind: "file".into(), options, ..Default::default() }),
        block_size: limits::BLOCK_BYTES_MIN,
        ..Default::default()
    };
    pb::FormatVolumeOp { settings: Some(settings) }
}

fn open_session(n: u8) -> pb::OpenSessionOp {
    let uuid = Bytes::copy_from_slice(&[n; 16]);
    pb::OpenSessionOp { uuid, volume: "vol".into(), host: "h".into(), ..Default::default() }
}
