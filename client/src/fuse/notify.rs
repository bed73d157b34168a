//! Notify: invalidations on their way into the kernel, from a thread of their own: the kernel takes a directory's lock for them,
//! which a caller of ours may hold while it waits for our reply. Called by vfs::pushes through KernelCache.

use crate::fuse::reply::InoMap;
use crate::vfs::pushes::KernelCache;
use fuser::Notifier;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::sync::mpsc;
use tokio::sync::oneshot;

enum Stale {
    Inode(u64),
    Name(u64, OsString),
    /// Inode and size: told when it is done.
    Size(u64, u64, oneshot::Sender<()>),
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

    fn refresh(&self, ino: u64, size: u64, done: oneshot::Sender<()>) {
        let _ = self.queue.send(Stale::Size(ino, size, done));
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
            // A store of no bytes moves the end of the file up to where it begins. (Down, the next stat or read moves it.)
            Stale::Size(ino, size, done) => {
                waiting = Some(done);
                let ino = map.to_kernel(ino);
                notifier.inval_inode(ino, 0, 0).and_then(|()| notifier.store(ino, size, &[]))
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
