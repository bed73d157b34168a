//! Size guard: attributes that leave this mount count what was written here and not yet committed, and never go back behind a
//! commit of our own that overtook them on their way. The kernel takes the size it is told for the end of file, also for
//! O_APPEND, so a stale one would not just look wrong. Called by every operation that returns attributes.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs, attr_of};
use holdfast_proto::pb::{self, FileKind};
use std::time::Instant;

impl<M: MetaApi> Vfs<M> {
    /// Attributes of `ino`, fresh, with local writes counted.
    pub(crate) async fn fresh_attr(&self, caller: &Caller, ino: u64) -> Result<pb::Attr, ClientError> {
        loop {
            let answer = self.meta.query(&caller.creds(), pb::GetattrQuery { ino }).await?;
            if let Some(attr) = self.admit_attr(attr_of(answer.reply)?) {
                return Ok(attr);
            }
        }
    }

    /// The same for attributes that came with a name: asks again only where they were overtaken.
    pub(crate) async fn settle_attr(&self, caller: &Caller, attr: pb::Attr) -> Result<pb::Attr, ClientError> {
        let ino = attr.ino;
        match self.admit_attr(attr) {
            Some(attr) => Ok(attr),
            None => self.fresh_attr(caller, ino).await,
        }
    }

    /// None for attributes that the server read before a commit which this mount knows of.
    fn admit_attr(&self, mut attr: pb::Attr) -> Option<pb::Attr> {
        self.saw(&attr);
        self.atimes.show(&mut attr);
        if attr.kind() != FileKind::Regular {
            return Some(attr);
        }
        self.data.observe(&attr);
        // In this order: a commit takes dirty data away and brings its version in one step, so that what is not dirty any more
        // shows in the version.
        if self.count_local_writes(&mut attr) {
            return Some(attr);
        }
        let known = self.data.version(attr.ino);
        let overtaken =
            known.is_some_and(|known| known > attr.data_version) || self.handles.overtaken(attr.ino, attr.data_version);
        (!overtaken).then_some(attr)
    }

    /// What attributes say beside what stat shows: attributes that are not there, and bits that a write takes away.
    pub(crate) fn saw(&self, attr: &pb::Attr) {
        self.recent.saw(attr, Instant::now());
        self.handles.note_set_id(attr);
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
