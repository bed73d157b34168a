//! Create: open(2) with O_CREAT of a name that the kernel did not find: one commit makes the file and opens it. Called by
//! fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::ops::access::{R_OK, W_OK, X_OK};
use crate::vfs::ops::open::Opened;
use crate::vfs::{Access, AskedMode, Caller, SetattrRequest, Vfs, attr_of, wire_name};
use bytes::Bytes;
use holdfast_proto::FsErrno;
use holdfast_proto::pb::{self, FileKind};
use std::time::Instant;

impl<M: MetaApi> Vfs<M> {
    /// `flags` are those of open(2).
    ///
    /// # Errors
    /// EEXIST (O_EXCL), ENOENT, ENOTDIR, EACCES, ENOSPC, EROFS, ENAMETOOLONG.
    pub async fn create(
        &self,
        caller: Caller,
        parent: u64,
        name: Bytes,
        asked: AskedMode,
        flags: i32,
    ) -> Result<(pb::Attr, Opened), ClientError> {
        self.writable()?;
        self.admit(&caller, parent, W_OK | X_OK).await?;
        let AskedMode { mode, umask } = asked.clean();
        let exclusive = flags & libc::O_EXCL != 0;
        let op = pb::CreateOp { parent, name: wire_name(name)?, mode, exclusive, umask };
        let reply = self.create_counted(&caller, op).await?;
        let created = reply.created;
        let mut attr = attr_of(reply)?;
        let opening = self.counted_opening(attr.ino);
        if !created {
            attr = self.admit_existing(caller, attr, flags).await?;
        } else if !self.config.kernel_caches {
            self.just_created.remember(caller, attr, Instant::now());
        }
        let opened = self.opened(&attr, Access::of_flags(flags));
        opening.keep();
        Ok((attr, opened))
    }

    /// Sends the op, and counts the open before the ticket says that no create is under way any more.
    async fn create_counted(&self, caller: &Caller, op: pb::CreateOp) -> Result<pb::EntryReply, ClientError> {
        let ticket = self.creates.begin();
        let answer = self.meta.mutate(&caller.creds_for_mode(op.mode), op).await;
        if let Ok(answer) = &answer
            && let Some(attr) = &answer.reply.attr
        {
            self.handles.begin_open(attr.ino);
        }
        self.creates.end(ticket);
        Ok(answer?.reply)
    }

    /// Somebody else made the name between the kernel's lookup and our create: then this is an open, whose permissions the kernel
    /// has not checked, and whose O_TRUNC it will not send.
    async fn admit_existing(&self, caller: Caller, attr: pb::Attr, flags: i32) -> Result<pb::Attr, ClientError> {
        match attr.kind() {
            FileKind::Regular => {}
            FileKind::Directory => return Err(FsErrno::IsDir.into()),
            // The kernel walks the path again at ESTALE, and finds what is there now.
            _ => return Err(FsErrno::Stale.into()),
        }
        let wanted = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => R_OK,
            libc::O_WRONLY => W_OK,
            _ => R_OK | W_OK,
        };
        if !self.allows(&caller, &attr, wanted).await? {
            return Err(FsErrno::Access.into());
        }
        if flags & libc::O_TRUNC == 0 {
            return self.settle_attr(&caller, attr).await;
        }
        let truncate = SetattrRequest { size: Some(0), by_handle: true, ..SetattrRequest::default() };
        self.setattr(caller, attr.ino, truncate).await
    }
}
