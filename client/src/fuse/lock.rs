//! Lock: what the kernel says of a lock, as vfs wants it, and back. Called by the callbacks.

use crate::fuse::adapter::Adapter;
use crate::fuse::drive::Needs;
use crate::fuse::view::View;
use crate::meta::MetaApi;
use crate::vfs::locks::LockKind;
use crate::vfs::ops::set_lock::LockRequest;
use crate::vfs::{Caller, Fh, Vfs};
use fuser::{Errno, FileHandle, LockOwner, ReplyEmpty, ReplyLock, Request};
use holdfast_proto::pb;
use std::sync::Arc;

/// The kernel's messages for locks, linux/fuse.h: FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW.
const OPCODES: std::ops::RangeInclusive<u32> = 31..=33;
/// struct fuse_in_header.
const HEADER_BYTES: usize = 40;
/// struct fuse_lk_in: fh, owner, start, end (u64), type, pid, lk_flags, padding (u32).
const LOCK_BYTES: usize = 48;
/// Of lk_flags: it is flock(2).
const FUSE_LK_FLOCK: u32 = 1;

/// A lock as it comes from fuser.
#[derive(Clone, Copy, Debug)]
pub struct RawLock {
    pub fh: FileHandle,
    pub owner: LockOwner,
    pub start: u64,
    pub end: u64,
    pub typ: i32,
    pub pid: u32,
}

impl RawLock {
    /// # Errors
    /// EINVAL: neither F_RDLCK nor F_WRLCK nor F_UNLCK.
    pub fn request(self, req: &Request) -> Result<LockRequest, Errno> {
        let mode = match self.typ {
            libc::F_RDLCK => pb::LockMode::Shared,
            libc::F_WRLCK => pb::LockMode::Exclusive,
            libc::F_UNLCK => pb::LockMode::Unlock,
            _ => return Err(Errno::EINVAL),
        };
        let kind = if self.is_flock(req) { LockKind::Flock } else { LockKind::Range };
        let (fh, owner) = (Fh(self.fh.0), self.owner.0);
        Ok(LockRequest { fh, owner, kind, mode, first: self.start, last: self.end, pid: self.pid })
    }

    /// fuser 0.18 gives all fields of the kernel's message but lk_flags, the one that tells flock(2) from fcntl(2). Its Request is a
    /// view of the header at the front of that message, so the rest stands behind it.
    fn is_flock(&self, req: &Request) -> bool {
        let message = std::ptr::from_ref(req).cast::<u8>();
        const { assert!(size_of::<Request>() == HEADER_BYTES) };
        // SAFETY: the first HEADER_BYTES are the referenced Request itself.
        let header = unsafe { std::slice::from_raw_parts(message, HEADER_BYTES) };
        let (len, opcode) = (u32_at(header, 0), u32_at(header, 4));
        if len as usize != HEADER_BYTES + LOCK_BYTES || !OPCODES.contains(&opcode) || u32_at(header, 24) != req.uid() {
            return false;
        }
        // SAFETY: fuser =0.18.0 casts the header in place (request_param.rs, ll/request.rs) from a buffer that holds the whole
        // message, whose length the header says and fuser has checked; nothing writes to it while the callback runs.
        let body = unsafe { std::slice::from_raw_parts(message.add(HEADER_BYTES), LOCK_BYTES) };
        self.flags_in(body).is_some_and(|flags| flags & FUSE_LK_FLOCK != 0)
    }

    /// None where the bytes are not those that fuser has decoded.
    fn flags_in(&self, body: &[u8]) -> Option<u32> {
        let same = u64_at(body, 0) == self.fh.0
            && u64_at(body, 8) == self.owner.0
            && u64_at(body, 16) == self.start
            && u64_at(body, 24) == self.end
            && u32_at(body, 32) == self.typ as u32
            && u32_at(body, 36) == self.pid;
        same.then(|| u32_at(body, 40))
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

impl<M: MetaApi> Adapter<M> {
    /// Where data may have to be saved first, and where waits are looked after: on the runtime for data.
    pub(super) fn set_lock(&self, caller: Caller, lock: LockRequest, waits: bool, reply: ReplyEmpty) {
        let work = move |vfs: Arc<Vfs<M>>| async move { vfs.set_lock(caller, lock, waits).await };
        self.run(Needs::Data, "set_lock", reply, work, View::empty);
    }
}

impl View {
    /// F_UNLCK stands for "nothing is in the way".
    pub fn lock(self, reply: ReplyLock, held: Option<pb::LockHeld>) {
        let Some(held) = held else { return reply.locked(0, 0, libc::F_UNLCK, 0) };
        let range = held.range.unwrap_or_default();
        let typ = if held.mode() == pb::LockMode::Exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
        reply.locked(range.first, range.last, typ, held.pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_taken_only_from_the_message_that_was_decoded() {
        let lock = RawLock { fh: FileHandle(1), owner: LockOwner(2), start: 3, end: 4, typ: 5, pid: 6 };
        let mut body = Vec::new();
        [1_u64, 2, 3, 4].iter().for_each(|field| body.extend(field.to_ne_bytes()));
        [5_u32, 6, 1, 0].iter().for_each(|field| body.extend(field.to_ne_bytes()));
        assert_eq!(lock.flags_in(&body), Some(1));
        for at in [0, 8, 16, 24, 32, 36] {
            let mut other = body.clone();
            other[at] ^= 0x80;
            assert_eq!(lock.flags_in(&other), None, "byte {at}");
        }
    }
}
