//! Get lock: F_GETLK: the first of the locks that would keep this one from being taken. Called by query::answer.

use super::View;
use crate::apply::context::Ruling;
use crate::apply::lock;
use crate::store::read;
use holdfast_proto::range_lock::{Held, Mode, Owner};
use holdfast_proto::{FsErrno, pb};

pub fn answer(view: &View<'_>, session: u64, query: &pb::GetLockQuery) -> Ruling<pb::GetLockReply> {
    let inode = view.inode(query.ino)?;
    let mode = lock::mode(query.mode())?.ok_or(FsErrno::Inval)?;
    let owner = Owner { session, number: query.owner };
    let wanted = Held { range: lock::range(query.range.as_ref())?, owner, mode, pid: 0 };
    let locks = read::locks(view.kv, view.volume, inode.ino)?;
    Ok(pb::GetLockReply { held: locks.ranges.in_the_way(&wanted).next().map(shown) })
}

fn shown(held: &Held) -> pb::LockHeld {
    let mode = match held.mode {
        Mode::Shared => pb::LockMode::Shared,
        Mode::Exclusive => pb::LockMode::Exclusive,
    };
    let range = pb::LockRange { first: held.range.first, last: held.range.last };
    pb::LockHeld { session: held.owner.session, mode: mode.into(), range: Some(range), pid: held.pid }
}
