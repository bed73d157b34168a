//! DiskRoom: whether this node's disk has room for the state to grow. Below the reserve the leader stamps its log entries `tight`, and
//! what grows is refused with ENOSPC, so that files can still be removed. Looked at by rpc/propose; started by server.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(500);

pub struct DiskRoom {
    dir: PathBuf,
    reserve_bytes: u64,
    free_bytes: AtomicU64,
    tight: AtomicBool,
}

/// Bytes that this process may still write below `dir`.
fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(dir).map_err(io::Error::from)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}

/// With less than the reserve it is tight, and stays so until there is a quarter more: no flapping at the edge.
fn is_tight(was: bool, free: u64, reserve: u64) -> bool {
    free < if was { reserve.saturating_add(reserve / 4) } else { reserve }
}

impl DiskRoom {
    /// # Errors
    /// The directory's filesystem cannot be asked.
    pub fn new(dir: &Path, reserve_bytes: u64) -> io::Result<Arc<DiskRoom>> {
        let room = DiskRoom { dir: dir.to_owned(), reserve_bytes, free_bytes: 0.into(), tight: false.into() };
        room.look()?;
        Ok(Arc::new(room))
    }

    pub fn is_tight(&self) -> bool {
        self.tight.load(Ordering::Relaxed)
    }

    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    fn look(&self) -> io::Result<()> {
        let free = free_bytes(&self.dir)?;
        let (was, reserve) = (self.is_tight(), self.reserve_bytes);
        let tight = is_tight(was, free, reserve);
        self.free_bytes.store(free, Ordering::Relaxed);
        self.tight.store(tight, Ordering::Relaxed);
        match (was, tight) {
            (false, true) => tracing::error!(free, reserve, "the disk is nearly full: files can only be removed now"),
            (true, false) => tracing::info!(free, reserve, "the disk has room again"),
            _ => {}
        }
        Ok(())
    }

    /// Runs until the process ends.
    pub async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            ticks.tick().await;
            if let Err(error) = self.look() {
                tracing::warn!(%error, "ask for the disk's free space");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tight_below_the_reserve_and_until_there_is_a_quarter_more() {
        let steps = [(false, 100, false), (false, 99, true), (true, 100, true), (true, 124, true), (true, 125, false)];
        for (was, free, expected) in steps {
            assert_eq!(is_tight(was, free, 100), expected, "{free} free, tight before: {was}");
        }
        assert!(!is_tight(false, 0, 0));
    }

    #[test]
    fn the_disk_is_asked() {
        let dir = tempfile::tempdir().expect("temp dir");
        assert!(DiskRoom::new(dir.path(), u64::MAX).expect("asks").is_tight());
        let room = DiskRoom::new(dir.path(), 0).expect("asks");
        assert!(!room.is_tight() && room.free_bytes() > 0);
    }
}
