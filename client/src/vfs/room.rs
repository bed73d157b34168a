//! Room: how far files may grow before the volume is full, so that write(2) says ENOSPC before it takes what would not fit. The server
//! decides at the commit, exactly; here its last word is remembered for a while, with all that has been taken since. Called by ops/write.

use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::vfs::{FileHandle, Vfs};
use holdfast_proto::{FsErrno, pb};
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// The server's word counts for so long.
const FRESH: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub struct Room(Mutex<Option<Word>>);

/// What the server said, and what was taken on it.
#[derive(Clone, Copy, Debug)]
struct Word {
    at: Instant,
    /// None: no limit.
    free_bytes: Option<u64>,
}

impl Room {
    /// Takes `wanted` bytes of what is known to be free. None: ask first.
    fn take(&self, wanted: u64, now: Instant) -> Option<()> {
        let mut word = self.0.lock();
        let known = word.as_mut().filter(|word| now.saturating_duration_since(word.at) < FRESH)?;
        match &mut known.free_bytes {
            Some(free) if *free < wanted => None,
            Some(free) => {
                *free -= wanted;
                Some(())
            }
            None => Some(()),
        }
    }

    /// The server has spoken; `uncommitted` is what was taken here and it does not know of.
    fn renew(&self, said: &pb::StatfsReply, uncommitted: u64, now: Instant) {
        let used = said.used_bytes.saturating_add(uncommitted);
        let free_bytes = (said.capacity_bytes != 0).then(|| said.capacity_bytes.saturating_sub(used));
        *self.0.lock() = Some(Word { at: now, free_bytes });
    }

    /// Takes as much of `wanted` as is free.
    fn take_some(&self, wanted: u64) -> u64 {
        let mut word = self.0.lock();
        match word.as_mut().and_then(|word| word.free_bytes.as_mut()) {
            Some(free) => {
                let taken = wanted.min(*free);
                *free -= taken;
                taken
            }
            None => wanted,
        }
    }
}

impl<M: MetaApi> Vfs<M> {
    /// How many of `len` bytes at `offset` there is room for: as on a local filesystem, a write fills the volume up to its last byte.
    ///
    /// # Errors
    /// ENOSPC: none.
    pub(crate) async fn room_for(&self, handle: &FileHandle, offset: u64, len: u64) -> Result<u64, ClientError> {
        let size = self.data.size(&handle.file);
        let wanted = offset.saturating_add(len).saturating_sub(size);
        if wanted == 0 || self.room.take(wanted, Instant::now()).is_some() {
            return Ok(len);
        }
        let said = match self.meta.query(&own_creds(), pb::StatfsQuery {}).await {
            Ok(answer) => answer.reply,
            // Nobody to ask: the data waits here, and its commit will be asked.
            Err(error) => {
                tracing::debug!(%error, "how much room there is could not be asked");
                return Ok(len);
            }
        };
        self.room.renew(&said, self.data.uncommitted_growth(), Instant::now());
        let missing = wanted - self.room.take_some(wanted);
        match len.checked_sub(missing) {
            Some(fits) if fits > 0 => Ok(fits),
            _ => Err(FsErrno::NoSpc.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(capacity_bytes: u64, used_bytes: u64) -> pb::StatfsReply {
        pb::StatfsReply { capacity_bytes, used_bytes, ..pb::StatfsReply::default() }
    }

    #[test]
    fn what_is_free_is_taken_once() {
        let (room, now) = (Room::default(), Instant::now());
        assert_eq!(room.take(1, now), None, "nothing is known");
        room.renew(&said(100, 60), 10, now);
        assert_eq!(room.take(20, now), Some(()));
        assert_eq!(room.take(11, now), None);
        assert_eq!(room.take_some(11), 10);
        assert_eq!(room.take_some(1), 0);
        room.renew(&said(100, 60), 10, now);
        assert_eq!(room.take(1, now + FRESH), None, "an old word does not count");
    }

    #[test]
    fn a_volume_without_a_limit_takes_all_and_one_over_its_limit_nothing() {
        let (room, now) = (Room::default(), Instant::now());
        room.renew(&said(0, 60), 10, now);
        assert_eq!((room.take(u64::MAX, now), room.take_some(7)), (Some(()), 7));
        room.renew(&said(50, 60), 0, now);
        assert_eq!((room.take(1, now), room.take_some(1)), (None, 0));
    }
}
