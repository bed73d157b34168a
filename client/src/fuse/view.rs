//! View: how values of vfs become replies: numbers as the kernel knows them, time-outs, flags of an open. Called by the adapter.

use crate::fuse::reply::{self, InoMap};
use crate::vfs::ids::IdMap;
use crate::vfs::{DirItem, Opened};
use bytes::Bytes;
use fuser::{Errno, FileAttr, FileHandle, FopenFlags, Generation, INodeNo};
use fuser::{ReplyAttr, ReplyCreate, ReplyData, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry};
use holdfast_proto::pb;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

/// How long the kernel may believe what it was told. Zero keeps metadata linearizable.
#[derive(Clone, Copy, Debug, Default)]
pub struct CacheTtl {
    pub attr: Duration,
    pub entry: Duration,
}

impl CacheTtl {
    pub fn any(&self) -> bool {
        !self.attr.is_zero() || !self.entry.is_zero()
    }
}

/// Attributes that came with a name serve the system call that looked the name up; without this the kernel asks for them again at once,
/// and each component of a path costs two round trips. Every later call by name looks it up anew. Likewise a directory's, which a
/// call relative to it needs for each of its permission checks: to search it, and then to write to it.
const SAME_CALL: Duration = Duration::from_millis(1);

/// What a reply needs beside the value.
#[derive(Clone, Copy)]
pub struct View {
    pub map: InoMap,
    pub ttl: CacheTtl,
    pub ids: &'static IdMap,
}

impl View {
    fn shown(self, attr: &pb::Attr) -> FileAttr {
        let mut shown = reply::file_attr(self.map, attr);
        shown.uid = self.ids.uid_to_local(attr.uid);
        shown.gid = self.ids.gid_to_local(attr.gid);
        shown
    }

    /// Of chown(2).
    pub fn owner_to_volume(self, uid: Option<u32>, gid: Option<u32>) -> (Option<u32>, Option<u32>) {
        (uid.map(|uid| self.ids.uid_to_volume(uid)), gid.map(|gid| self.ids.gid_to_volume(gid)))
    }

    pub fn entry(self, reply: ReplyEntry, attr: pb::Attr) {
        let shown = self.shown(&attr);
        let attr_ttl = self.ttl.attr.max(SAME_CALL);
        reply.entry_with_ttls(&attr_ttl, &self.ttl.entry, &shown, Generation(attr.generation));
    }

    /// A name that is not there may be remembered like one that is: as an entry without an inode.
    pub fn entry_or_none(self, reply: ReplyEntry, attr: Option<pb::Attr>) {
        match attr {
            Some(attr) => self.entry(reply, attr),
            None if self.ttl.entry.is_zero() => reply.error(Errno::ENOENT),
            None => {
                let mut nothing = reply::file_attr(self.map, &pb::Attr::default());
                nothing.ino = INodeNo(0);
                reply.entry_with_ttls(&self.ttl.attr, &self.ttl.entry, &nothing, Generation(0));
            }
        }
    }

    pub fn attr(self, reply: ReplyAttr, attr: pb::Attr) {
        let grace = if attr.kind() == pb::FileKind::Directory { SAME_CALL } else { Duration::ZERO };
        reply.attr(&self.ttl.attr.max(grace), &self.shown(&attr));
    }

    pub fn empty(self, reply: ReplyEmpty, (): ()) {
        reply.ok();
    }

    pub fn created(self, reply: ReplyCreate, (attr, opened): (pb::Attr, Opened)) {
        let shown = self.shown(&attr);
        let (generation, fh) = (Generation(attr.generation), FileHandle(opened.fh.0));
        reply.created(&self.ttl.entry.min(self.ttl.attr), &shown, generation, fh, open_flags(opened));
    }

    /// True when the buffer is full. Without attributes the kernel gets a kind and no time to believe the rest.
    pub fn add_plus(self, reply: &mut ReplyDirectoryPlus, item: &DirItem) -> bool {
        let (attr, ttl) = match &item.attr {
            Some(attr) => (*attr, self.ttl.entry.min(self.ttl.attr)),
            None => (pb::Attr { ino: item.ino, kind: item.kind as i32, ..pb::Attr::default() }, Duration::ZERO),
        };
        let shown = self.shown(&attr);
        let (ino, generation) = (self.map.to_kernel(item.ino), Generation(attr.generation));
        reply.add(ino, item.next, OsStr::from_bytes(&item.name), &ttl, &shown, generation)
    }

    pub fn data(self, reply: ReplyData, pieces: Vec<Bytes>) {
        match &pieces[..] {
            [one] => reply.data(one),
            many => reply.data(&many.concat()),
        }
    }
}

/// Pages stay if they are still right. Every close is told to us (no FOPEN_NOFLUSH): it may end locks.
pub fn open_flags(opened: Opened) -> FopenFlags {
    let mut shown = FopenFlags::empty();
    shown.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    shown
}
