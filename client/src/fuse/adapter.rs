//! Adapter: what every FUSE callback goes through: run the work where it belongs, reply with its value or its errno. The callbacks
//! themselves are in callbacks.rs.

use crate::error::ClientError;
use crate::fuse::drive::{Needs, Runtimes};
use crate::fuse::reply;
use crate::fuse::view::View;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Vfs};
use bytes::Bytes;
use fuser::{Errno, INodeNo, Request};
use fuser::{
    ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
};
use fuser::{ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr};
use std::ffi::OsStr;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The filesystem as fuser sees it.
pub struct Adapter<M: MetaApi> {
    pub(super) vfs: Arc<Vfs<M>>,
    pub(super) runtimes: Runtimes,
    pub(super) view: View,
    /// Told when the kernel has let go of the mount.
    pub(super) ended: Option<oneshot::Sender<()>>,
}

/// Replies that can say no.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}
macro_rules! refuse {
    ($($reply:ty),*) => { $(impl Refuse for $reply { fn refuse(self, errno: Errno) { self.error(errno) } })* };
}
refuse!(ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl);
refuse!(ReplyLock, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr);

impl<M: MetaApi> Adapter<M> {
    pub fn new(vfs: Arc<Vfs<M>>, runtimes: Runtimes, view: View, ended: oneshot::Sender<()>) -> Self {
        Adapter { vfs, runtimes, view, ended: Some(ended) }
    }

    /// Runs `work` and replies: with `done` if it went well, else with the error's number.
    pub(super) fn run<T, R, F>(
        &self,
        needs: Needs,
        op: &'static str,
        reply: R,
        work: impl FnOnce(Arc<Vfs<M>>) -> F,
        done: impl FnOnce(View, R, T) + Send + 'static,
    ) where
        T: Send,
        R: Refuse,
        F: Future<Output = Result<T, ClientError>> + Send + 'static,
    {
        let (work, view) = (work(self.vfs.clone()), self.view);
        self.runtimes.drive(needs, async move {
            match work.await {
                Ok(value) => done(view, reply, value),
                Err(error) => reply.refuse(reply::errno(op, &error)),
            }
        });
    }

    /// The same for listings, whose work fills the reply itself.
    pub(super) fn run_listing<R, F>(
        &self,
        op: &'static str,
        work: impl FnOnce(Arc<Vfs<M>>) -> F,
        done: impl FnOnce(R) + Send + 'static,
    ) where
        R: Refuse,
        F: Future<Output = (Result<(), ClientError>, R)> + Send + 'static,
    {
        let work = work(self.vfs.clone());
        self.runtimes.drive(Needs::Names, async move {
            match work.await {
                (Ok(()), reply) => done(reply),
                (Err(error), reply) => reply.refuse(reply::errno(op, &error)),
            }
        });
    }

    pub(super) fn caller(&self, req: &Request) -> Caller {
        Caller::local(req.uid(), req.gid(), req.pid(), self.view.ids)
    }

    pub(super) fn ino(&self, ino: INodeNo) -> u64 {
        self.view.map.to_volume(ino)
    }
}

pub(super) fn bytes(name: &OsStr) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}
