//! Open: one linearizable read, no commit; then the handle. What was committed before on any client is what this handle reads
//! (close-to-open). opendir is here, too. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::atimes::clock;
use crate::vfs::ops::access::{R_OK, W_OK};
use crate::vfs::{Access, Caller, Fh, Vfs, attr_of};
use holdfast_proto::pb;
use std::time::Instant;

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
    pub async fn open(&self, caller: Caller, ino: u64, access: Access) -> Result<Opened, ClientError> {
        if access.writes {
            self.writable()?;
        }
        if caller.squashed {
            let wanted = if access.reads { R_OK } else { 0 } | if access.writes { W_OK } else { 0 };
            self.admit(&caller, ino, wanted).await?;
        }
        let opening = self.opening(ino);
        let attr = match self.open_cache.get(ino, Instant::now()) {
            Some(attr) => attr,
            None => {
                let answer = self.meta.query(&caller.creds(), pb::OpenQuery { ino }).await?;
                let attr = attr_of(answer.reply)?;
                self.open_cache.put(&attr, Instant::now());
                attr
            }
        };
        let opened = self.opened(&attr, access);
        opening.keep();
        Ok(opened)
    }

    /// Makes the handle of an open that is already counted.
    pub(crate) fn opened(&self, attr: &pb::Attr, access: Access) -> Opened {
        let file = self.data.open(attr);
        self.saw(attr);
        let keep_cache = self.handles.is_version(attr.ino, attr.data_version);
        let mut shown = *attr;
        self.atimes.show(&mut shown);
        let due = access.reads && self.config.atime.is_due(&shown, clock().sec);
        if due && keep_cache {
            // The kernel will not ask for pages that it has: the open counts as the read.
            self.note_read(&shown);
        }
        let drops = (!keep_cache).then_some(attr.data_version);
        Opened { fh: self.handles.insert_file(attr.ino, file, access, due, drops), keep_cache }
    }

    /// Asks nobody: the kernel has just looked the directory up, and each page of a listing is read from the server.
    ///
    /// # Errors
    /// EACCES for a squashed root.
    pub async fn opendir(&self, caller: Caller, ino: u64) -> Result<Fh, ClientError> {
        self.admit(&caller, ino, R_OK).await?;
        Ok(self.handles.insert_dir(ino))
    }

    pub fn releasedir(&self, fh: Fh) {
        self.handles.remove_dir(fh);
    }
}
