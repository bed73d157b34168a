//! Size guard: attributes that leave this mount count what was written here and not yet committed, and never go back behind a
//! commit of our own that overtook them on their way. The kernel takes the size it is told for the end of file, also for
//! O_APPEND, so a stale one would not just look wrong. Called by every operation that returns attributes.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs, attr_of};
use holdfast_proto::pb::{self, FileKind};

impl<M: MetaApi> Vfs<M> {
    /// Attributes of `ino`, fresh, with local writes counted.
    pub(crate) async fn fresh_attr(&self, caller: &Caller, ino: u64) -> Result<pb::Attr, ClientError> {
        loop {
            let dirty_before = self.data.dirty_size(ino).is_some();
            let answer = self.meta.query(&caller.creds(), pb::GetattrQuery { ino }).await?;
            let mut attr = attr_of(answer.reply)?;
            // A commit between the server's answer and now took the dirty data away, and the answer may not count it yet.
            if dirty_before && self.data.dirty_size(ino).is_none() {
                continue;
            }
            if self.handles.overtaken(ino, attr.data_version) {
                self.handles.committed(ino, Some(attr.data_version));
            }
            self.data.observe(&attr);
            self.count_local_writes(&mut attr);
            return Ok(attr);
        }
    }

    /// The same for attributes that came with a name: asks again only where they may have been overtaken.
    pub(crate) async fn settle_attr(&self, caller: &Caller, mut attr: pb::Attr) -> Result<pb::Attr, ClientError> {
        if attr.kind() != FileKind::Regular || self.count_local_writes(&mut attr) {
            return Ok(attr);
        }
        if self.handles.has_writers(attr.ino) || self.handles.overtaken(attr.ino, attr.data_version) {
            return self.fresh_attr(caller, attr.ino).await;
        }
        Ok(attr)
    }

    /// Puts size and times of uncommitted writes in; false if there are none.
    pub(crate) fn count_local_writes(&self, attr: &mut pb::Attr) -> bool {
        let Some(size) = self.data.dirty_size(attr.ino) else { return false };
        attr.size = size;
        if let Some(written) = self.handles.written(attr.ino) {
            attr.mtime = later(attr.mtime, written);
            attr.ctime = later(attr.ctime, written);
        }
        true
    }
}

fn later(server: Option<pb::TimeSpec>, local: pb::TimeSpec) -> Option<pb::TimeSpec> {
    let server = server.unwrap_or_default();
    Some(if (local.sec, local.nsec) > (server.sec, server.nsec) { local } else { server })
}
