//! Readdir: a listing in pieces, by cookie, with no state on the server; stable under concurrent change. Called by fuse/adapter.

use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::vfs::dir_stream::{DirItem, DirStream, OFFSET_DOT, OFFSET_DOTDOT};
use crate::vfs::{Caller, DirHandle, Fh, Vfs, attr_of};
use bytes::Bytes;
use holdfast_proto::pb::{self, DirEntry, FileKind};

/// Size of a page asked of the server, bytes: the kernel takes it in many bites.
const PAGE_BYTES: u32 = 128 << 10;
/// The same with attributes, which must not wait here for the next bite: about what the kernel takes at once.
const PAGE_BYTES_WITH_ATTRS: u32 = 16 << 10;

impl<M: MetaApi> Vfs<M> {
    /// Gives entries from `offset` on to `fill` until it says that its buffer is full (and has not taken the last one), or the
    /// page ends. No call of `fill` means the end of the directory.
    ///
    /// # Errors
    /// EBADF; ENOENT for a directory that was removed.
    pub async fn readdir(
        &self,
        caller: Caller,
        fh: Fh,
        offset: u64,
        fill: &mut (dyn FnMut(&DirItem) -> bool + Send),
    ) -> Result<(), ClientError> {
        let dir = self.handles.dir(fh)?;
        let mut stream = dir.stream.lock().await;
        let mut fresh = false;
        let mut parent = None;
        // Offset 0 is an open or a rewinddir: what was fetched before does not count.
        if offset < OFFSET_DOTDOT || !stream.stands_at(offset) {
            parent = self.fetch(&caller, &dir, &mut stream, offset).await?;
            fresh = true;
        }
        if let Some(parent) = parent
            && !fill_dots(dir.ino, parent, offset, fill)
        {
            return Ok(());
        }
        while let Some(mut item) = stream.peek() {
            if self.prepare_attr(&caller, &mut item, fresh).await? && fill(&item) {
                break;
            }
            stream.advance();
        }
        if self.config.kernel_caches {
            stream.drop_rest();
        }
        Ok(())
    }

    /// Fetches the page after `offset`; at the start of a listing also the inode of "..".
    async fn fetch(
        &self,
        caller: &Caller,
        dir: &DirHandle,
        stream: &mut DirStream,
        offset: u64,
    ) -> Result<Option<u64>, ClientError> {
        let after = DirStream::cookie_before(offset);
        if offset >= OFFSET_DOTDOT {
            let (entries, end) = self.page(caller, dir.ino, after).await?;
            stream.refill(offset, entries, end);
            return Ok(None);
        }
        let creds = own_creds();
        let getattr = async { attr_of(self.meta.query(&creds, pb::GetattrQuery { ino: dir.ino }).await?.reply) };
        let ((entries, end), attr) = futures::try_join!(self.page(caller, dir.ino, after), getattr)?;
        stream.refill(OFFSET_DOTDOT, entries, end);
        let mut shown = attr;
        self.atimes.show(&mut shown);
        self.note_read(&shown);
        Ok(Some(if dir.ino == self.config.root { dir.ino } else { attr.parent }))
    }

    async fn page(&self, caller: &Caller, ino: u64, after: u64) -> Result<(Vec<DirEntry>, bool), ClientError> {
        let with_attrs = self.config.kernel_caches;
        let bytes_max = if with_attrs { PAGE_BYTES_WITH_ATTRS } else { PAGE_BYTES };
        let ask = pb::ReaddirQuery { ino, after, bytes_max, with_attrs };
        let reply = self.meta.query(&caller.creds(), ask).await?.reply;
        if reply.entries.is_empty() && !reply.end {
            return Err(ClientError::Protocol("a page of a directory is empty and not the last".into()));
        }
        Ok((reply.entries, reply.end))
    }

    /// Attributes that have just arrived count local writes; those that waited here are asked for again. False: gone meanwhile.
    async fn prepare_attr(&self, caller: &Caller, item: &mut DirItem, fresh: bool) -> Result<bool, ClientError> {
        let Some(attr) = item.attr.take() else { return Ok(true) };
        let settled =
            if fresh { self.settle_attr(caller, attr).await } else { self.fresh_attr(caller, attr.ino).await };
        match settled {
            Ok(attr) => item.attr = Some(attr),
            Err(ClientError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

/// "." and "..", as far as they come after `offset`; false when the buffer is full.
fn fill_dots(ino: u64, parent: u64, offset: u64, fill: &mut (dyn FnMut(&DirItem) -> bool + Send)) -> bool {
    let dot = |name: &'static [u8], ino, next| DirItem {
        name: Bytes::from_static(name),
        ino,
        kind: FileKind::Directory,
        attr: None,
        next,
    };
    if offset < OFFSET_DOT && fill(&dot(b".", ino, OFFSET_DOT)) {
        return false;
    }
    !fill(&dot(b"..", parent, OFFSET_DOTDOT))
}
