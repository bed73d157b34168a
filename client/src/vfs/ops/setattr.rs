//! Setattr: chmod, chown, truncate, utimensat. Called by fuse/adapter. Who may do what is the server's rule (and the kernel's, by
//! default_permissions); order against local writes is ours.

use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::vfs::{Caller, Vfs, attr_of};
use holdfast_proto::limits::FILE_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};

const S_ISUID_ISGID: u32 = libc::S_ISUID | libc::S_ISGID;

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
}

impl SetattrRequest {
    fn into_op(self, ino: u64) -> pb::SetattrOp {
        let SetattrRequest { mode, uid, gid, size, atime, mtime, by_handle } = self;
        pb::SetattrOp { ino, mode: mode.map(|mode| mode & 0o7777), uid, gid, size, atime, mtime, by_handle }
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
        let resizes = set.size.is_some();
        if resizes || set.atime.is_some() || set.mtime.is_some() {
            self.data.flush_ino(ino).await?;
        }
        let creds = caller.creds_for_setattr(set.mode, set.gid);
        let answer = match self.meta.mutate(&creds, set.clone().into_op(ino)).await {
            Err(ClientError::Refused(FsErrno::Perm)) if set.mode.is_some() => self.clear_suid(&caller, ino, set).await?,
            other => other?,
        };
        let mut attr = attr_of(answer.reply)?;
        if resizes {
            self.handles.committed(ino, Some(attr.data_version));
        }
        self.data.observe(&attr);
        self.count_local_writes(&mut attr);
        Ok(attr)
    }

    /// A write or truncation by somebody who is not the owner clears the set-ID bits: the kernel asks for that with their uid, after
    /// its own check, and the server refuses a plain chmod by them. Done with the mount's credentials, if it clears those bits
    /// and does nothing else; a size that came along is changed as the caller.
    async fn clear_suid(
        &self,
        caller: &Caller,
        ino: u64,
        mut set: SetattrRequest,
    ) -> Result<crate::meta::Answer<pb::EntryReply>, ClientError> {
        let mode = set.mode.take().unwrap_or_default() & 0o7777;
        let old = attr_of(self.meta.query(&caller.creds(), pb::GetattrQuery { ino }).await?.reply)?.mode;
        if set.uid.is_some() || set.gid.is_some() || !clears_set_ids_only(old, mode) {
            return Err(FsErrno::Perm.into());
        }
        let clear = SetattrRequest { mode: Some(mode), ..SetattrRequest::default() };
        let cleared = self.meta.mutate(&own_creds(), clear.into_op(ino)).await?;
        if set.size.is_none() && set.atime.is_none() && set.mtime.is_none() {
            return Ok(cleared);
        }
        self.meta.mutate(&caller.creds(), set.into_op(ino)).await
    }
}

/// Also true where nothing changes: two writers may have found the bits set at the same time.
fn clears_set_ids_only(old: u32, new: u32) -> bool {
    new & !old == 0 && (old & !new) & !S_ISUID_ISGID == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clearing_set_id_bits_is_told_from_a_chmod() {
        assert!(clears_set_ids_only(0o6755, 0o0755));
        assert!(clears_set_ids_only(0o4755, 0o0755));
        assert!(clears_set_ids_only(0o0755, 0o0755));
        assert!(!clears_set_ids_only(0o4755, 0o0777));
        assert!(!clears_set_ids_only(0o4755, 0o0700));
        assert!(!clears_set_ids_only(0o0755, 0o4755));
    }
}
