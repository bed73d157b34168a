//! Set lock: flock(2), F_SETLK, F_SETLKW: one commit where nobody is in the way; else EAGAIN, or a wait in the state machine's queue until
//! the server says that it is over. Called by fuse/adapter.
//!
//! Locks carry data, as on NFS: what was written is committed before a lock is given up, and who gets one sees what others have
//! committed, also by descriptors that stay open.

use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::vfs::interrupt::interrupted;
use crate::vfs::locks::{Dropping, LockKind, Took, WaitState, Waiting};
use crate::vfs::pushes::LastByte;
use crate::vfs::{Caller, Fh, FileHandle, Vfs};
use holdfast_proto::limits::{LOCK_LAST_BYTE, LOCK_OWNERS_MAX};
use holdfast_proto::{FsErrno, pb};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::oneshot;

/// A wait asks so often by itself whether it goes on: what it was told may have been lost, with a connection or a leader.
const ASK_INTERVAL: Duration = Duration::from_secs(5);
/// Between two tries to give up what nobody answered about.
const DROP_PAUSE: Duration = Duration::from_secs(1);

/// What is to be locked or unlocked, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct LockRequest {
    pub fh: Fh,
    /// The kernel's number of the process or open file description.
    pub owner: u64,
    pub kind: LockKind,
    pub mode: pb::LockMode,
    pub first: u64,
    pub last: u64,
    /// Process, as opposed to the thread that waits.
    pub pid: u32,
}

impl LockRequest {
    fn range(&self) -> pb::LockRange {
        pb::LockRange { first: self.first, last: self.last }
    }

    fn is_whole(&self) -> bool {
        self.kind == LockKind::Flock || (self.first == 0 && self.last == LOCK_LAST_BYTE)
    }

    fn op(&self, ino: u64) -> pb::SetLockOp {
        let kind = match self.kind {
            LockKind::Flock => pb::LockKind::Flock,
            LockKind::Range => pb::LockKind::Range,
        };
        pb::SetLockOp {
            ino,
            owner: self.owner,
            kind: kind.into(),
            mode: self.mode.into(),
            range: Some(self.range()),
            pid: self.pid,
            ..pb::SetLockOp::default()
        }
    }
}

/// How one attempt ended.
enum Attempt {
    Granted(Option<pb::Attr>),
    /// Another holds it, and the caller does not wait.
    Held,
}

impl<M: MetaApi> Vfs<M> {
    /// `waits`: until it is granted, or the caller has a signal.
    ///
    /// # Errors
    /// EAGAIN, EDEADLK, ENOLCK, EINTR; EIO: the session was lost meanwhile, or nobody answers.
    pub async fn set_lock(&self, caller: Caller, request: LockRequest, waits: bool) -> Result<(), ClientError> {
        let handle = self.handles.file(request.fh)?;
        if request.mode == pb::LockMode::Unlock {
            return self.unlock(&handle, &request).await;
        }
        let LockRequest { fh, owner, kind, .. } = request;
        self.locks.begin(handle.ino, owner, kind, fh);
        let session = self.meta.session();
        let taken = self.take_lock(caller, &handle, &request, waits).await;
        let took = match &taken {
            Ok(Attempt::Granted(_)) => Took::Yes,
            Ok(Attempt::Held) | Err(ClientError::Refused(_)) => Took::No,
            Err(_) => Took::Perhaps,
        };
        self.locks.end(handle.ino, owner, kind, fh, took);
        match taken? {
            Attempt::Granted(attr) => self.locked(caller, &handle, session, attr).await,
            Attempt::Held => Err(FsErrno::Again.into()),
        }
    }

    async fn unlock(&self, handle: &FileHandle, request: &LockRequest) -> Result<(), ClientError> {
        let LockRequest { owner, kind, .. } = *request;
        if request.is_whole() || handle.check_locks(self.meta.session()).is_err() {
            handle.lock_session.store(0, Ordering::Relaxed);
        }
        let Some(newest) = self.locks.may_hold(handle.ino, owner, kind) else { return Ok(()) };
        let saved = match handle.writable {
            true => self.flush_handle(handle).await,
            // Written by another descriptor of the same file.
            false => self.data.flush_ino(handle.ino).await,
        };
        for wait in self.locks.abandoned(handle.ino, owner) {
            self.meta.mutate(&own_creds(), pb::CancelLockOp { ino: handle.ino, wait }).await?;
            self.locks.cancelled(handle.ino, owner, wait);
        }
        self.meta.mutate(&own_creds(), request.op(handle.ino)).await?;
        if request.is_whole() {
            self.locks.unlocked(handle.ino, owner, kind, newest);
        }
        saved
    }

    async fn take_lock(
        &self,
        caller: Caller,
        handle: &FileHandle,
        request: &LockRequest,
        waits: bool,
    ) -> Result<Attempt, ClientError> {
        let mut op = request.op(handle.ino);
        loop {
            let drops = self.locks.settled(handle.ino).await;
            let attempt = match waits {
                true => self.wait_for_lock(caller, &op).await,
                false => self.try_lock(op).await,
            };
            match attempt {
                // A close on this mount has overtaken it: what it gave up is free by now.
                Ok(Attempt::Held) if self.locks.dropped_since(handle.ino, drops) => {}
                Err(ClientError::Refused(FsErrno::Deadlk)) if !op.no_deadlock && caller.locks_by_description() => {
                    op.no_deadlock = true;
                }
                ended => return ended,
            }
        }
    }

    async fn try_lock(&self, op: pb::SetLockOp) -> Result<Attempt, ClientError> {
        match self.meta.mutate(&own_creds(), op).await {
            Ok(answer) if answer.reply.granted => Ok(Attempt::Granted(answer.reply.attr)),
            Ok(_) | Err(ClientError::Refused(FsErrno::Again)) => Ok(Attempt::Held),
            Err(error) => Err(error),
        }
    }

    async fn wait_for_lock(&self, caller: Caller, op: &pb::SetLockOp) -> Result<Attempt, ClientError> {
        let mut waiting = self.locks.wait();
        let op = pb::SetLockOp { wait: waiting.number, ..*op };
        let ended = self.queue_for_lock(caller, op, &mut waiting).await;
        if matches!(&ended, Err(error) if !matches!(error, ClientError::Refused(_) | ClientError::SessionLost)) {
            self.locks.abandon(op.ino, op.owner, waiting.number);
        }
        ended
    }

    async fn queue_for_lock(
        &self,
        caller: Caller,
        op: pb::SetLockOp,
        waiting: &mut Waiting<'_>,
    ) -> Result<Attempt, ClientError> {
        let (session, ino) = (self.meta.session(), op.ino);
        let reply = self.meta.mutate(&own_creds(), op).await?.reply;
        if reply.granted {
            return Ok(Attempt::Granted(reply.attr));
        }
        let mut interrupted = std::pin::pin!(interrupted(caller.pid));
        loop {
            let state = *waiting.state.borrow_and_update();
            match state {
                WaitState::Granted => return Ok(Attempt::Granted(None)),
                WaitState::Lost => return Err(ClientError::SessionLost),
                WaitState::Waits => {}
                WaitState::Unsure(_) => {
                    if !self.is_waiting(session, ino, waiting.number).await? {
                        return Ok(Attempt::Granted(None));
                    }
                }
            }
            tokio::select! {
                // Fails only where the sender is gone, and that is ours.
                _ = waiting.state.changed() => {}
                () = &mut interrupted => return self.cancel_wait(ino, waiting.number).await,
                () = tokio::time::sleep(ASK_INTERVAL) => {
                    if !self.is_waiting(session, ino, waiting.number).await? {
                        return Ok(Attempt::Granted(None));
                    }
                }
            }
        }
    }

    async fn is_waiting(&self, session: u64, ino: u64, wait: u64) -> Result<bool, ClientError> {
        match self.meta.query(&own_creds(), pb::LockWaitQuery { session, ino, wait }).await {
            Ok(answer) => Ok(answer.reply.waiting),
            Err(ClientError::Refused(FsErrno::Stale)) => Err(ClientError::SessionLost),
            // No leader for so long: the wait may well go on, and a signal still ends it.
            Err(ClientError::Unavailable(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A grant that was faster stays: the caller has its lock, and the signal waits for the end of the call.
    async fn cancel_wait(&self, ino: u64, wait: u64) -> Result<Attempt, ClientError> {
        match self.meta.mutate(&own_creds(), pb::CancelLockOp { ino, wait }).await?.reply.cancelled {
            true => Err(FsErrno::Intr.into()),
            false => Ok(Attempt::Granted(None)),
        }
    }

    /// The caller has its lock, and is to see what others have committed before.
    async fn locked(
        &self,
        caller: Caller,
        handle: &FileHandle,
        session: u64,
        attr: Option<pb::Attr>,
    ) -> Result<(), ClientError> {
        handle.lock_session.store(session, Ordering::Relaxed);
        let seen = match attr {
            Some(attr) => self.settle_attr(&caller, attr).await,
            None => self.fresh_attr(&caller, handle.ino).await,
        };
        let attr = match seen {
            Ok(attr) => attr,
            // It is locked; reads will ask again.
            Err(error) => {
                tracing::warn!(ino = handle.ino, %error, "look at a file that was just locked");
                return Ok(());
            }
        };
        let Some(kernel) = self.kernel() else { return Ok(()) };
        let drop_pages = !self.handles.is_version(handle.ino, attr.data_version);
        // Pages of this version may go with a size that is older: an open drops them, and leaves the size as its lookup found it.
        let last = self.last_byte(handle, attr.size).await;
        if drop_pages || last.is_some() {
            let (done, refreshed) = oneshot::channel();
            kernel.refresh(handle.ino, drop_pages, last, done);
            // Nobody answers at unmount.
            let _ = refreshed.await;
        }
        if drop_pages {
            self.handles.note_version(handle.ino, attr.data_version);
        }
        Ok(())
    }

    /// For O_APPEND the kernel must know the end of the file before it writes. (Elsewhere it asks for itself.)
    async fn last_byte(&self, handle: &FileHandle, size: u64) -> Option<LastByte> {
        let offset = size.checked_sub(1).filter(|_| handle.appends)?;
        match self.data.read(&handle.file, offset, 1).await {
            Ok(pieces) => pieces.concat().first().map(|byte| LastByte { offset, byte: *byte }),
            Err(error) => {
                tracing::warn!(ino = handle.ino, %error, "look at the end of a file that was just locked");
                None
            }
        }
    }

    /// Gives up what a close says is over. Where nobody answers for so long that the close is not to wait, it goes on beside.
    pub(crate) async fn drop_locks(&self, dropping: Dropping) {
        let asked = drop_once(&*self.meta, &dropping).await;
        if let Err(error @ ClientError::Unavailable(_)) = &asked {
            tracing::warn!(ino = dropping.ino, %error, "locks of a closed file could not be given up yet");
            tokio::spawn(drop_later(self.meta.clone(), dropping));
        } else if let Err(error) = asked {
            tracing::warn!(ino = dropping.ino, %error, "locks of a closed file could not be given up; they end with the session");
        }
    }
}

/// Their waits first: what is granted meanwhile is held, and goes with what is held.
async fn drop_once<M: MetaApi>(meta: &M, dropping: &Dropping) -> Result<(), ClientError> {
    let ino = dropping.ino;
    for wait in &dropping.waits {
        meta.mutate(&own_creds(), pb::CancelLockOp { ino, wait: *wait }).await?;
    }
    for owners in dropping.owners.chunks(LOCK_OWNERS_MAX) {
        meta.mutate(&own_creds(), pb::DropLocksOp { ino, owners: owners.to_vec() }).await?;
    }
    Ok(())
}

/// Until somebody answers: what is not given up is nobody's, for as long as the session lasts.
async fn drop_later<M: MetaApi>(meta: Arc<M>, dropping: Dropping) {
    loop {
        tokio::time::sleep(DROP_PAUSE).await;
        match drop_once(&*meta, &dropping).await {
            Err(ClientError::Unavailable(_)) => {}
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(ino = dropping.ino, %error, "locks of a closed file end with the session");
                return;
            }
        }
    }
}
