//! Open: one linearizable read, no commit; then the handle. What was committed before on any client is what this handle reads
//! (close-to-open). opendir is here, too. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Fh, Vfs, attr_of};
use holdfast_proto::pb;
use std::sync::atomic::Ordering;

/// An open file, as the kernel is to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub fh: Fh,
    /// Pages the kernel has of the file are still right.
    pub keep_cache: bool,
}

impl<M: MetaApi> Vfs<M> {
    /// O_TRUNC is not here: the kernel sends it as a setattr of size 0 after the open. Permissions were checked by the kernel.
    ///
    /// # Errors
    /// ENOENT, ESTALE (its last name is gone), EROFS.
    pub async fn open(&self, caller: Caller, ino: u64, writable: bool) -> Result<Opened, ClientError> {
        if writable {
            self.writable()?;
        }
        let opening = self.opening(ino);
        let answer = self.meta.query(&caller.creds(), pb::OpenQuery { ino }).await?;
        let attr = attr_of(answer.reply)?;
        let opened = self.opened(&attr, writable);
        opening.keep();
        Ok(opened)
    }

    /// The same, as open(2)'s flags say.
    ///
    /// # Errors
    /// As `open`.
    pub async fn open_with(&self, caller: Caller, ino: u64, flags: i32) -> Result<Opened, ClientError> {
        let opened = self.open(caller, ino, flags & libc::O_ACCMODE != libc::O_RDONLY).await?;
        self.note_flags(opened, flags);
        Ok(opened)
    }

    pub(crate) fn note_flags(&self, opened: Opened, flags: i32) {
        if flags & libc::O_APPEND != 0
            && let Ok(handle) = self.handles.file(opened.fh)
        {
            handle.appends.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the handle of an open that is already counted.
    pub(crate) fn opened(&self, attr: &pb::Attr, writable: bool) -> Opened {
        let file = self.data.open(attr);
        let keep_cache = self.handles.same_version(attr.ino, attr.data_version);
        Opened { fh: self.handles.insert_file(attr.ino, file, writable), keep_cache }
    }

    /// Asks nobody: the kernel has just looked the directory up, and each page of a listing is read from the server.
    pub fn opendir(&self, ino: u64) -> Fh {
        self.handles.insert_dir(ino)
    }

    pub fn releasedir(&self, fh: Fh) {
        self.handles.remove_dir(fh);
    }
}
