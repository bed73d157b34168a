//! apply: the pure state machine. One log entry in, new values and replies out. No clock, no randomness, no IO but `KvRead`.
//! Called by raft/state_machine and by tests.

use crate::store::{Batch, KvRead, StoreError, read, txn::Txn};
use bytes::Bytes;
use context::{Context, Ruling, SliceOrders, Stop};
use dedup::Seen;
use holdfast_proto::pb::mutation::Op;
use holdfast_proto::{FsErrno, limits, pb};

mod acl;
pub mod context;
mod dedup;
mod dir;
mod inode;
pub mod invariants;
pub(crate) mod lock;
mod lock_invariants;
mod ops;
pub(crate) mod orphan;
pub mod problem;
mod quota;
pub mod repair;
mod session;
pub(crate) mod slices;
#[cfg(test)]
pub(crate) mod test_fs;
pub mod trash;
mod truncate;
mod volume;
pub(crate) mod xattr;

/// How one mutation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; the encoded reply message.
    Reply(Bytes),
    /// Refused; nothing was written.
    Refused(FsErrno),
    /// Breaks the protocol (unknown session, sequence out of order, malformed); nothing was written.
    Failed(pb::FailureCode),
}

/// What others must be told about one mutation. Lost on a crash without harm: clients ask again on a new stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub volume: u32,
    /// Inodes whose attributes changed.
    pub inos: Vec<u64>,
    /// Names that changed.
    pub dentries: Vec<pb::DentryRef>,
    /// Inodes that lost their last name.
    pub orphaned: Vec<u64>,
    /// Sessions that ended.
    pub ended: Vec<u64>,
    /// Waits for locks that are over: session, and its number of the wait.
    pub granted: Vec<(u64, u64)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub verdict: Verdict,
    pub effects: Effects,
}

/// Result of one log entry: write `batch` as one step, answer `outcomes` in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub batch: Batch,
    pub outcomes: Vec<Outcome>,
}

/// Applies all mutations of an entry in order; a later one sees what an earlier one did.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn apply_entry(view: &dyn KvRead, log_index: u64, entry: &pb::LogEntry) -> Result<Applied, StoreError> {
    let mut txn = Txn::new(view);
    let now = context::advance_clock(&mut txn, entry.time)?;
    let mut orders = SliceOrders::new(log_index);
    let mut outcomes = Vec::with_capacity(entry.mutations.len());
    let nobody = pb::Creds::default();
    for mutation in &entry.mutations {
        let creds = mutation.creds.as_ref().unwrap_or(&nobody);
        let effects = Effects::default();
        let (session, tight, orders) = (mutation.session, entry.tight, &mut orders);
        let mut cx = Context { log_index, now, tight, volume: 0, session, creds, orders, effects };
        let verdict = apply_mutation(&mut txn, &mut cx, mutation)?;
        let effects = match verdict {
            Verdict::Reply(_) => Effects { volume: cx.volume, ..cx.effects },
            _ => Effects::default(),
        };
        outcomes.push(Outcome { verdict, effects });
    }
    Ok(Applied { batch: txn.into_batch(), outcomes })
}

/// Who may send an operation, and what it needs with it.
enum Sender {
    /// A session, in the name of a user: credentials must be there.
    User,
    /// A session, for itself.
    Session,
    /// Idempotent by itself: without a session.
    Anyone,
}

fn sender(op: &Op) -> Sender {
    match op {
        Op::Create(_) | Op::Mkdir(_) | Op::Mknod(_) | Op::Symlink(_) | Op::Link(_) | Op::Unlink(_) | Op::Rmdir(_) => {
            Sender::User
        }
        Op::Rename(_) | Op::Setattr(_) | Op::CommitWrite(_) | Op::SetXattr(_) | Op::RemoveXattr(_) => Sender::User,
        Op::Fallocate(_) | Op::CopyFileRange(_) => Sender::User,
        Op::Hold(_) | Op::Release(_) | Op::PurgeSlices(_) | Op::TouchAtimes(_) | Op::CloseSession(_) => Sender::Session,
        Op::SetLock(_) | Op::CancelLock(_) | Op::DropLocks(_) => Sender::Session,
        Op::OpenSession(_) | Op::FormatVolume(_) | Op::ConfigVolume(_) | Op::ExpireSessions(_) | Op::Reclaim(_) => {
            Sender::Anyone
        }
        Op::Repair(_) | Op::EmptyTrash(_) => Sender::Anyone,
        Op::Found(_) | Op::AddNode(_) | Op::RemoveNode(_) | Op::JoinNode(_) | Op::AdmitNode(_) => Sender::Anyone,
    }
}

/// Whether an operation makes the state larger, which nobody has to be able to do while the disk is nearly full.
fn grows(op: &Op) -> bool {
    match op {
        Op::Create(_) | Op::Mkdir(_) | Op::Mknod(_) | Op::Symlink(_) | Op::Link(_) | Op::SetXattr(_) => true,
        Op::CommitWrite(_) | Op::CopyFileRange(_) | Op::FormatVolume(_) => true,
        // Punching holes frees.
        Op::Fallocate(op) => op.mode & ops::fallocate::PUNCH_HOLE == 0,
        _ => false,
    }
}

fn apply_mutation(txn: &mut Txn<'_>, cx: &mut Context<'_>, mutation: &pb::Mutation) -> Result<Verdict, StoreError> {
    let malformed = Ok(Verdict::Failed(pb::FailureCode::Malformed));
    let Some(op) = &mutation.op else { return malformed };
    match sender(op) {
        Sender::Anyone if mutation.session == 0 => return run(txn, cx, op),
        Sender::Anyone => return malformed,
        Sender::User if mutation.creds.is_none() => return malformed,
        Sender::User | Sender::Session => {}
    }
    let Some(session) = read::session(txn, mutation.session)? else {
        return Ok(Verdict::Failed(pb::FailureCode::SessionLost));
    };
    if mutation.slot >= limits::SESSION_SLOTS_MAX || mutation.seq == 0 {
        return malformed;
    }
    match dedup::look(txn, mutation)? {
        Seen::Again(verdict) => return Ok(verdict),
        Seen::OutOfOrder => return Ok(Verdict::Failed(pb::FailureCode::Sequence)),
        Seen::New => {}
    }
    cx.volume = session.volume;
    let verdict = run(txn, cx, op)?;
    // The end of the session took its slots with it.
    if !cx.effects.ended.contains(&mutation.session) {
        dedup::remember(txn, mutation, &verdict);
    }
    Ok(verdict)
}

fn run(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &Op) -> Result<Verdict, StoreError> {
    if cx.tight && grows(op) {
        return Ok(Verdict::Refused(FsErrno::NoSpc));
    }
    let before = txn.writes_count();
    let verdict = match dispatch(txn, cx, op) {
        Ok(reply) => return Ok(Verdict::Reply(reply)),
        Err(Stop::Refused(errno)) => Verdict::Refused(errno),
        Err(Stop::Failed(code)) => Verdict::Failed(code),
        Err(Stop::Store(error)) => return Err(error),
    };
    debug_assert_eq!(before, txn.writes_count(), "{op:?} wrote before it refused");
    Ok(verdict)
}

fn dispatch(txn: &mut Txn<'_>, cx: &mut Context<'_>, op: &Op) -> Ruling<Bytes> {
    match op {
        Op::Create(op) => reply(ops::create::apply(txn, cx, op)),
        Op::Mkdir(op) => reply(ops::mkdir::apply(txn, cx, op)),
        Op::Mknod(op) => reply(ops::mknod::apply(txn, cx, op)),
        Op::Symlink(op) => reply(ops::symlink::apply(txn, cx, op)),
        Op::Link(op) => reply(ops::link::apply(txn, cx, op)),
        Op::Unlink(op) => reply(ops::unlink::apply(txn, cx, op)),
        Op::Rmdir(op) => reply(ops::rmdir::apply(txn, cx, op)),
        Op::Rename(op) => reply(ops::rename::apply(txn, cx, op)),
        Op::Setattr(op) => reply(ops::setattr::apply(txn, cx, op)),
        Op::CommitWrite(op) => reply(ops::commit_write::apply(txn, cx, op)),
        Op::Fallocate(op) => reply(ops::fallocate::apply(txn, cx, op)),
        Op::CopyFileRange(op) => reply(ops::copy_file_range::apply(txn, cx, op)),
        Op::SetXattr(op) => reply(ops::set_xattr::apply(txn, cx, op)),
        Op::RemoveXattr(op) => reply(ops::remove_xattr::apply(txn, cx, op)),
        Op::TouchAtimes(op) => reply(ops::touch_atimes::apply(txn, cx, op)),
        Op::SetLock(op) => reply(ops::set_lock::apply(txn, cx, op)),
        Op::CancelLock(op) => reply(ops::cancel_lock::apply(txn, cx, op)),
        Op::DropLocks(op) => reply(ops::drop_locks::apply(txn, cx, op)),
        Op::Hold(op) => reply(ops::hold::apply(txn, cx, op)),
        Op::Release(op) => reply(ops::release::apply(txn, cx, op)),
        Op::Reclaim(op) => reply(ops::reclaim::apply(txn, cx, op)),
        Op::PurgeSlices(op) => reply(ops::purge_slices::apply(txn, cx, op)),
        Op::OpenSession(op) => reply(ops::open_session::apply(txn, cx, op)),
        Op::CloseSession(op) => reply(ops::close_session::apply(txn, cx, op)),
        Op::ExpireSessions(op) => reply(ops::expire_sessions::apply(txn, cx, op)),
        Op::FormatVolume(op) => reply(ops::format_volume::apply(txn, cx, op)),
        Op::Repair(op) => reply(ops::repair::apply(txn, cx, op)),
        Op::EmptyTrash(op) => reply(ops::empty_trash::apply(txn, cx, op)),
        Op::ConfigVolume(op) => reply(ops::config_volume::apply(txn, cx, op)),
        Op::Found(op) => reply(ops::found::apply(txn, op)),
        Op::AddNode(op) => reply(ops::add_node::apply(txn, op)),
        Op::RemoveNode(op) => reply(ops::remove_node::apply(txn, op)),
        Op::JoinNode(op) => reply(ops::join_node::apply(txn, op)),
        Op::AdmitNode(op) => reply(ops::admit_node::apply(txn, op)),
    }
}

fn reply(message: Ruling<impl prost::Message>) -> Ruling<Bytes> {
    message.map(|message| message.encode_to_vec().into())
}

#[cfg(test)]
#[path = "apply_test.rs"]
mod tests;
