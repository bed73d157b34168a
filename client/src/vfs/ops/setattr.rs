//! Setattr: chmod, chown, truncate, utimensat. Called by fuse/adapter. Who may do what is the server's rule (and the kernel's, by
//! default_permissions), also that a write by another than the owner may clear the set-ID bits; order against local writes is ours.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs, attr_of};
use holdfast_proto::limits::FILE_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};

/// What to change; None leaves it.
#[derive(Clone, Debug, Default)]
pub struct SetattrRequest {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<pb::SetTime>,
    pub mtime: Option<pb::SetTime>,
    /// ftruncate(2): the handle is open for writing, so the mode is not asked again.
    pub by_handle: bool,
    /// A write by somebody without CAP_FSETID: what it takes away goes at once.
    pub kill_priv: bool,
}

impl SetattrRequest {
    fn into_op(self, ino: u64) -> pb::SetattrOp {
        let SetattrRequest { mode, uid, gid, size, atime, mtime, by_handle, kill_priv } = self;
        let mode = mode.map(|mode| mode & 0o7777);
        pb::SetattrOp { ino, mode, uid, gid, size, atime, mtime, by_handle, kill_priv }
    }
}

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EPERM, EACCES, EROFS, EFBIG, ENOSPC, EINVAL; EIO where data written before could not be made durable.
    pub async fn setattr(&self, caller: Caller, ino: u64, set: SetattrRequest) -> Result<pb::Attr, ClientError> {
        self.writable()?;
        if set.size.is_some_and(|size| size > FILE_BYTES_MAX) {
            return Err(FsErrno::FBig.into());
        }
        // Earlier writes come first: a commit that arrived after a truncation would bring back what was cut off, and one that
        // arrived after utimensat would overwrite the times that were asked for.
        // Likewise set-ID bits, which a write takes away.
        let resizes = set.size.is_some();
        let sets_id = set.mode.is_some_and(|mode| mode & (libc::S_ISUID | libc::S_ISGID) != 0);
        if resizes || sets_id || set.atime.is_some() || set.mtime.is_some() {
            self.data.flush_ino(ino).await?;
        }
        if set.atime.is_some() {
            self.atimes.forget(ino);
        }
        let answer = self.meta.mutate(&caller.creds_with_groups(), set.into_op(ino)).await?;
        let mut attr = attr_of(answer.reply)?;
        if resizes {
            self.handles.committed(ino, attr.data_version);
        }
        self.data.observe(&attr);
        self.saw(&attr);
        self.atimes.show(&mut attr);
        self.open_cache.forget(ino);
        self.count_local_writes(&mut attr);
        Ok(attr)
    }
}
