//! Access: the class permission check of POSIX (owner, group, other), for what the kernel did not check itself. With
//! default_permissions the kernel answers access(2) alone; a mount without it, and create, ask here.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs};
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::acl::{self, Acl};
use holdfast_proto::pb::{self, FileKind};
use holdfast_proto::xattr::ACL_ACCESS;

pub const R_OK: u32 = 4;
pub const W_OK: u32 = 2;
pub const X_OK: u32 = 1;

impl<M: MetaApi> Vfs<M> {
    /// # Errors
    /// EACCES; EROFS for W_OK on a read-only mount.
    pub async fn access(&self, caller: Caller, ino: u64, wanted: u32) -> Result<(), ClientError> {
        let attr = self.fresh_attr(&caller, ino).await?;
        if wanted & W_OK != 0 {
            self.writable()?;
        }
        if self.allows(&caller, &attr, wanted).await? { Ok(()) } else { Err(FsErrno::Access.into()) }
    }

    /// What the kernel has checked for everybody but a squashed root: `wanted` of the inode.
    ///
    /// # Errors
    /// EACCES.
    pub(crate) async fn admit(&self, caller: &Caller, ino: u64, wanted: u32) -> Result<(), ClientError> {
        if !caller.squashed {
            return Ok(());
        }
        let attr = self.fresh_attr(caller, ino).await?;
        if self.allows(caller, &attr, wanted).await? { Ok(()) } else { Err(FsErrno::Access.into()) }
    }

    /// The check of access(2), ACL and all.
    pub(crate) async fn allows(&self, caller: &Caller, attr: &pb::Attr, wanted: u32) -> Result<bool, ClientError> {
        let creds = caller.creds_with_groups();
        if !acl::is_asked(caller.uid, attr.mode, attr.xattrs) {
            return Ok(may_access(attr, &creds, wanted));
        }
        let ask = pb::GetXattrQuery { ino: attr.ino, name: Bytes::from_static(ACL_ACCESS) };
        let acl = match self.meta.query(&creds, ask).await {
            Ok(answer) => Acl::parse(&answer.reply.value)?,
            Err(ClientError::Refused(FsErrno::NoData)) => None,
            Err(error) => return Err(error),
        };
        Ok(match acl {
            Some(acl) => acl.allows((attr.uid, attr.gid), &creds, wanted),
            None => may_access(attr, &creds, wanted),
        })
    }
}

/// Whether `creds` may do `wanted` (R_OK | W_OK | X_OK) with an inode. Root may all, but execute only what somebody may.
pub fn may_access(attr: &pb::Attr, creds: &pb::Creds, wanted: u32) -> bool {
    if creds.uid == 0 {
        return wanted & X_OK == 0 || attr.mode & 0o111 != 0 || attr.kind() == FileKind::Directory;
    }
    let granted = if creds.uid == attr.uid {
        attr.mode >> 6
    } else if creds.gid == attr.gid || creds.groups.contains(&attr.gid) {
        attr.mode >> 3
    } else {
        attr.mode
    };
    wanted & !granted & 0o7 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(mode: u32) -> pb::Attr {
        pb::Attr { mode, uid: 10, gid: 20, kind: FileKind::Regular as i32, ..pb::Attr::default() }
    }

    fn creds(uid: u32, gid: u32, groups: &[u32]) -> pb::Creds {
        pb::Creds { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn the_first_class_that_fits_decides_even_if_a_later_one_allows_more() {
        assert!(!may_access(&attr(0o077), &creds(10, 20, &[]), R_OK));
        assert!(!may_access(&attr(0o707), &creds(11, 20, &[]), R_OK));
        assert!(!may_access(&attr(0o707), &creds(11, 1, &[3, 20]), R_OK));
        assert!(may_access(&attr(0o707), &creds(11, 1, &[]), R_OK | W_OK | X_OK));
    }

    #[test]
    fn root_may_read_and_write_all_and_execute_what_anybody_may() {
        assert!(may_access(&attr(0), &creds(0, 0, &[]), R_OK | W_OK));
        assert!(!may_access(&attr(0o666), &creds(0, 0, &[]), X_OK));
        assert!(may_access(&attr(0o010), &creds(0, 0, &[]), X_OK));
    }
}
