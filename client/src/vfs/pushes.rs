//! Pushes: what the server says unasked, and what goes back for it. One task a mount, so that holds and releases of one inode go
//! out in order. Called by cli/mount (spawned beside the mount) and by tests.

use crate::meta::{MetaApi, own_creds};
use crate::vfs::Vfs;
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb::{self, push::Event};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// The kernel's caches of a mount. Calls must not wait for the filesystem itself.
pub trait KernelCache: Send + Sync + 'static {
    /// Attributes and pages of an inode are out of date.
    fn drop_inode(&self, ino: u64);
    /// The same, if `drop_pages`; and the file ends behind `last`, at least. `done` is told once the kernel knows.
    fn refresh(&self, ino: u64, drop_pages: bool, last: Option<LastByte>, done: oneshot::Sender<()>);
    /// What a name points at is out of date.
    fn drop_name(&self, parent: u64, name: &[u8]);
}

/// The last byte of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastByte {
    pub offset: u64,
    pub byte: u8,
}

/// Serves the pushes of the session until the client is closed. Does nothing if they are served already.
pub async fn run<M: MetaApi>(vfs: Arc<Vfs<M>>) {
    let (Some(mut pushes), Some(mut released)) = (vfs.meta.take_pushes(), vfs.released_rx.lock().take()) else {
        return;
    };
    loop {
        tokio::select! {
            biased;
            push = pushes.recv() => match push {
                Some(push) => handle_with_waiting(&vfs, push, &mut pushes).await,
                None => return,
            },
            Some(ino) = released.recv() => release(&vfs, ino, &mut released).await,
        }
    }
}

/// Takes with a push those that already wait behind it: many orphan questions become one answer, one log entry.
async fn handle_with_waiting<M: MetaApi>(
    vfs: &Arc<Vfs<M>>,
    first: pb::Push,
    pushes: &mut mpsc::UnboundedReceiver<pb::Push>,
) {
    let mut question = pb::OrphanQuestion::default();
    let mut next = Some(first);
    while let Some(push) = next {
        match push.event {
            Some(Event::Orphaned(asked)) => {
                question.through_index = question.through_index.max(asked.through_index);
                question.inos.extend(asked.inos);
            }
            Some(other) => {
                answer(vfs, std::mem::take(&mut question)).await;
                handle(vfs, other);
            }
            None => tracing::debug!("a push of a kind that this version does not know"),
        }
        next = if question.inos.len() < BACKGROUND_BATCH_MAX { pushes.try_recv().ok() } else { None };
    }
    answer(vfs, question).await;
}

/// Tells the server which of the orphans are open here, and that there are no others.
async fn answer<M: MetaApi>(vfs: &Arc<Vfs<M>>, question: pb::OrphanQuestion) {
    if question.through_index == 0 {
        return;
    }
    question.inos.iter().for_each(|ino| vfs.open_cache.forget(*ino));
    // A file may have been made here, and unlinked by another client, while the reply with its number is still on its way.
    vfs.creates.settled().await;
    let mut inos = vfs.handles.hold(&question.inos);
    loop {
        // Only the last part says "and no others".
        let rest = inos.split_off(inos.len().min(BACKGROUND_BATCH_MAX));
        let through_index = if rest.is_empty() { question.through_index } else { 0 };
        if let Err(error) = vfs.meta.mutate(&own_creds(), pb::HoldOp { through_index, inos }).await {
            // The leader asks again; until then the orphans stay, which is the safe side.
            tracing::warn!(%error, "could not answer which removed files are open here");
            return;
        }
        if rest.is_empty() {
            return;
        }
        inos = rest;
    }
}

async fn release<M: MetaApi>(vfs: &Arc<Vfs<M>>, first: u64, released: &mut mpsc::UnboundedReceiver<u64>) {
    let mut inos = vec![first];
    while inos.len() < BACKGROUND_BATCH_MAX
        && let Ok(ino) = released.try_recv()
    {
        inos.push(ino);
    }
    if let Err(error) = vfs.meta.mutate(&own_creds(), pb::ReleaseOp { inos }).await {
        tracing::warn!(%error, "could not release removed files; their space returns when this mount ends");
    }
}

fn handle<M: MetaApi>(vfs: &Arc<Vfs<M>>, event: Event) {
    match event {
        Event::Orphaned(_) => {} // gathered by the caller
        Event::Invalidate(stale) => invalidate(vfs, &stale),
        Event::Reclaim(_) => reclaim(vfs),
        Event::LockGranted(over) => vfs.locks.granted(&over.waits),
        Event::SessionLost(lost) => session_lost(vfs, lost.session),
    }
}

fn invalidate<M: MetaApi>(vfs: &Arc<Vfs<M>>, stale: &pb::Invalidate) {
    stale.inos.iter().for_each(|ino| vfs.open_cache.forget(*ino));
    let Some(kernel) = vfs.kernel() else { return };
    stale.inos.iter().for_each(|ino| kernel.drop_inode(*ino));
    stale.dentries.iter().for_each(|dentry| kernel.drop_name(dentry.parent, &dentry.name));
}

/// Deleting objects takes long: beside, so that an orphan question does not wait for it. A read-only mount may have credentials
/// that cannot delete; somebody else will be asked.
fn reclaim<M: MetaApi>(vfs: &Arc<Vfs<M>>) {
    if vfs.config.read_only {
        return;
    }
    let data = vfs.data.clone();
    tokio::spawn(async move {
        match data.reclaim().await {
            Ok(count) => tracing::debug!(count, "deleted the objects of removed data"),
            Err(error) => {
                tracing::warn!(%error, "objects of removed data could not be deleted; they will be tried again")
            }
        }
    });
}

/// Everything uncommitted is lost and will say so (EIO). The kernel's pages may hold it, too: out with them, or a reader here would
/// see what nobody else ever will.
fn session_lost<M: MetaApi>(vfs: &Arc<Vfs<M>>, session: u64) {
    tracing::error!(session, "the session was lost: writes that were not committed fail with EIO");
    vfs.data.fence();
    vfs.open_cache.clear();
    let unlocked = vfs.locks.forget_session();
    if !unlocked.is_empty() {
        tracing::error!(
            session,
            count = unlocked.len(),
            "locks were lost with the session: writes by the descriptors that held them fail with EIO"
        );
    }
    let open = vfs.handles.forget_session();
    if let Some(kernel) = vfs.kernel() {
        open.into_iter().for_each(|ino| kernel.drop_inode(ino));
    }
}
