//! Notify: invalidations on their way into the kernel, from a thread of their own: the kernel takes a directory's lock for them,
//! which a caller of ours may hold while it waits for our reply. Called by vfs::pushes through KernelCache.

use crate::fuse::reply::InoMap;
use crate::vfs::pushes::{KernelCache, LastByte};
use fuser::Notifier;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::mpsc;
use tokio::sync::oneshot;

enum Stale {
    Inode(u64),
    Name(u64, OsString),
    /// Told when it is done.
    Refresh(u64, bool, Option<LastByte>, oneshot::Sender<()>),
}

/// The sending end; the thread ends with it.
pub struct KernelNotifier {
    map: InoMap,
    queue: mpsc::Sender<Stale>,
}

impl KernelNotifier {
    /// # Errors
    /// When no thread can be started.
    pub fn start(notifier: Notifier, map: InoMap) -> std::io::Result<KernelNotifier> {
        let (queue, stale) = mpsc::channel();
        std::thread::Builder::new().name("notify".into()).spawn(move || serve(&notifier, map, &stale))?;
        Ok(KernelNotifier { map, queue })
    }
}

impl KernelCache for KernelNotifier {
    fn drop_inode(&self, ino: u64) {
        // Fails only if the thread is gone, and it goes only after us.
        let _ = self.queue.send(Stale::Inode(ino));
    }

    fn refresh(&self, ino: u64, drop_pages: bool, last: Option<LastByte>, done: oneshot::Sender<()>) {
        let _ = self.queue.send(Stale::Refresh(ino, drop_pages, last, done));
    }

    fn drop_name(&self, parent: u64, name: &[u8]) {
        let _ = self.queue.send(Stale::Name(self.map.to_kernel(parent).0, OsString::from_vec(name.to_vec())));
    }
}

fn serve(notifier: &Notifier, map: InoMap, stale: &mpsc::Receiver<Stale>) {
    while let Ok(stale) = stale.recv() {
        let mut waiting = None;
        let told = match stale {
            // Offset and length 0: the whole file.
            Stale::Inode(ino) => notifier.inval_inode(map.to_kernel(ino), 0, 0),
            Stale::Refresh(ino, drop_pages, last, done) => {
                waiting = Some(done);
                let ino = map.to_kernel(ino);
                let dropped = if drop_pages { notifier.inval_inode(ino, 0, 0) } else { Ok(()) };
                // The only message by which the kernel learns of a larger size, and it takes a byte at least.
                last.map_or(dropped, |last| notifier.store(ino, last.offset, &[last.byte]))
            }
            Stale::Name(parent, name) => notifier.inval_entry(fuser::INodeNo(parent), &name),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "the kernel did not take an invalidation");
        }
        // Whoever asked may have stopped waiting.
        let _ = waiting.map(|done| done.send(()));
    }
}
