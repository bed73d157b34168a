//! query: pure questions on one state. The caller (rpc/read_gate) has made sure that the state is new enough.

use crate::apply::Verdict;
use crate::apply::context::{Ruling, Stop};
use crate::store::inode_record::Inode;
use crate::store::{KvRead, StoreError, read};
use holdfast_proto::pb::query::Ask;
use holdfast_proto::{FsErrno, pb};
use prost::Message;

pub mod background;
mod deleted_slices;
mod get_lock;
mod get_xattr;
mod getattr;
mod list_volumes;
mod list_xattr;
mod lock_wait;
mod lookup;
mod lseek;
mod open;
mod read_slices;
mod readdir;
mod readlink;
mod scan_slices;
mod statfs;
pub mod upkeep;
pub mod verify;
mod volume;

pub use background::{
    OrphanAsk, SessionState, orphans_to_ask, pending_deleted, reclaimable, sessions, sessions_of, volumes,
};

/// One state, seen from one volume.
pub(crate) struct View<'a> {
    kv: &'a dyn KvRead,
    volume: u32,
}

impl View<'_> {
    /// ESTALE where there is no such inode.
    fn inode(&self, ino: u64) -> Ruling<Inode> {
        Ok(read::inode(self.kv, self.volume, ino)?.ok_or(FsErrno::Stale)?)
    }

    /// ESTALE where there is no such inode, ENOTDIR where it is no directory.
    fn directory(&self, ino: u64) -> Ruling<Inode> {
        let inode = self.inode(ino)?;
        if inode.is_dir() { Ok(inode) } else { Err(FsErrno::NotDir.into()) }
    }
}

fn entry_reply(inode: &Inode) -> pb::EntryReply {
    pb::EntryReply { attr: Some(inode.to_attr()), created: false }
}

/// Answers one query.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn answer(view: &dyn KvRead, query: &pb::Query) -> Result<Verdict, StoreError> {
    match ask(view, query) {
        Ok(reply) => Ok(Verdict::Reply(reply.into())),
        Err(Stop::Refused(errno)) => Ok(Verdict::Refused(errno)),
        Err(Stop::Failed(code)) => Ok(Verdict::Failed(code)),
        Err(Stop::Store(error)) => Err(error),
    }
}

fn ask(kv: &dyn KvRead, query: &pb::Query) -> Ruling<Vec<u8>> {
    let ask = query.ask.as_ref().ok_or(Stop::Failed(pb::FailureCode::Malformed))?;
    let volume = match ask {
        Ask::Volume(_) | Ask::ListVolumes(_) => 0,
        _ => read::session(kv, query.session)?.ok_or(Stop::Failed(pb::FailureCode::SessionLost))?.volume,
    };
    let view = View { kv, volume };
    let nobody = pb::Creds { uid: u32::MAX, gid: u32::MAX, groups: Vec::new() };
    let creds = query.creds.as_ref().unwrap_or(&nobody);
    Ok(match ask {
        Ask::Lookup(query) => lookup::answer(&view, query)?.encode_to_vec(),
        Ask::Getattr(query) => getattr::answer(&view, query)?.encode_to_vec(),
        Ask::Open(query) => open::answer(&view, query)?.encode_to_vec(),
        Ask::Readlink(query) => readlink::answer(&view, query)?.encode_to_vec(),
        Ask::Readdir(query) => readdir::answer(&view, query)?.encode_to_vec(),
        Ask::GetXattr(query) => get_xattr::answer(&view, creds, query)?.encode_to_vec(),
        Ask::ListXattr(query) => list_xattr::answer(&view, creds, query)?.encode_to_vec(),
        Ask::GetLock(lock) => get_lock::answer(&view, query.session, lock)?.encode_to_vec(),
        Ask::LockWait(wait) => lock_wait::answer(&view, query.session, wait)?.encode_to_vec(),
        Ask::Statfs(query) => statfs::answer(&view, query)?.encode_to_vec(),
        Ask::ReadSlices(query) => read_slices::answer(&view, query)?.encode_to_vec(),
        Ask::Lseek(query) => lseek::answer(&view, query)?.encode_to_vec(),
        Ask::DeletedSlices(query) => deleted_slices::answer(&view, query)?.encode_to_vec(),
        Ask::ScanSlices(query) => scan_slices::answer(&view, query)?.encode_to_vec(),
        Ask::Volume(query) => volume::answer(&view, query)?.encode_to_vec(),
        Ask::ListVolumes(query) => list_volumes::answer(&view, query)?.encode_to_vec(),
    })
}
