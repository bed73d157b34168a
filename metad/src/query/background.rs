//! What the leader's background work asks of the state before it proposes or pushes: who is there, which orphans a session has
//! not answered for, what can be reclaimed. Called by metad's background tasks, and by the queries volume and list_volumes.

use crate::apply::orphan;
use crate::store::codec::Record;
use crate::store::records::{Session, VolumeRef};
use crate::store::{KvRead, StoreError, keys, read};
use holdfast_proto::{limits, pb};
use std::ops::ControlFlow;

/// A live session, as the reaper and `status` see it.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionState {
    /// Its id and volume are in here too.
    pub info: pb::SessionInfo,
    /// Log index of the entry that opened it.
    pub opened_index: u64,
    /// Up to which log index it has said which orphans it holds.
    pub watermark: u64,
}

/// One question for one session: push OrphanQuestion{through_index, inos} to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrphanAsk {
    pub session: u64,
    pub through_index: u64,
    pub inos: Vec<u64>,
}

/// All live sessions of the cluster, by id.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn sessions(view: &dyn KvRead) -> Result<Vec<SessionState>, StoreError> {
    with_info(view, read::sessions(view)?)
}

/// The live sessions of one volume, by id.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn sessions_of(view: &dyn KvRead, volume: u32) -> Result<Vec<SessionState>, StoreError> {
    let mut found = read::sessions(view)?;
    found.retain(|(_, session)| session.volume == volume);
    with_info(view, found)
}

fn with_info(view: &dyn KvRead, found: Vec<(u64, Session)>) -> Result<Vec<SessionState>, StoreError> {
    let state = |(id, session): (u64, Session)| {
        // Damage that fsck repairs, and no reason to stop.
        let unknown = || pb::SessionInfo { session: id, volume: session.volume, ..Default::default() };
        let info = read::session_details(view, id)?.map_or_else(unknown, |details| details.info);
        Ok(SessionState { info, opened_index: session.opened_index, watermark: session.watermark })
    };
    found.into_iter().map(state).collect()
}

/// All volumes, by name, without credentials.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn volumes(view: &dyn KvRead) -> Result<Vec<pb::VolumeSettings>, StoreError> {
    let prefix = keys::volume_names();
    let mut ids = Vec::new();
    read::scan(view, &prefix, &prefix.end(), |_, value| {
        ids.push(VolumeRef::decode(value)?.0);
        Ok(ControlFlow::Continue(()))
    })?;
    let settings = |id| {
        let mut settings = read::settings(view, id)?;
        if let Some(storage) = &mut settings.storage {
            storage.secrets.clear();
        }
        Ok(settings)
    };
    ids.into_iter().map(settings).collect()
}

/// What to ask each session of a volume: the oldest orphans it has not answered for, at most BACKGROUND_BATCH_MAX or all of one
/// log index. Sessions with nothing to answer are not in it. Asking again is harmless: an answer only moves the watermark on.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn orphans_to_ask(view: &dyn KvRead, volume: u32) -> Result<Vec<OrphanAsk>, StoreError> {
    let mut asks = Vec::new();
    for (session, record) in read::sessions(view)? {
        if record.volume != volume {
            continue;
        }
        let mut ask = OrphanAsk { session, through_index: 0, inos: Vec::new() };
        let start = keys::orphans_from(volume, record.watermark.saturating_add(1));
        orphans_in(view, volume, &start, |orphaned_at, ino| {
            if ask.inos.len() >= limits::BACKGROUND_BATCH_MAX && orphaned_at != ask.through_index {
                return Ok(ControlFlow::Break(()));
            }
            ask.through_index = orphaned_at;
            ask.inos.push(ino);
            Ok(ControlFlow::Continue(()))
        })?;
        if !ask.inos.is_empty() {
            asks.push(ask);
        }
    }
    Ok(asks)
}

/// Orphans that nobody can have open any more, oldest first, at most `max`: for ReclaimOp.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn reclaimable(view: &dyn KvRead, volume: u32, max: usize) -> Result<Vec<u64>, StoreError> {
    let watermark = orphan::watermark(view, volume)?;
    let mut found = Vec::new();
    if max == 0 {
        return Ok(found);
    }
    orphans_in(view, volume, &keys::orphans(volume), |orphaned_at, ino| {
        if orphaned_at > watermark {
            return Ok(ControlFlow::Break(()));
        }
        // What is listed and is no orphan is damage: it is left to fsck, and not proposed again and again.
        let is_orphan = read::inode(view, volume, ino)?.is_some_and(|inode| inode.is_orphan());
        if is_orphan && orphan::is_reclaimable(view, volume, orphaned_at, ino, watermark)? {
            found.push(ino);
        }
        Ok(if found.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(found)
}

/// Whether objects wait to be deleted: push ReclaimWork to some client of the volume.
///
/// # Errors
/// Storage or stored data is damaged: the node must stop.
pub fn pending_deleted(view: &dyn KvRead, volume: u32) -> Result<bool, StoreError> {
    Ok(read::usage(view, volume)?.deleted_slices > 0)
}

fn orphans_in(
    view: &dyn KvRead,
    volume: u32,
    start: &keys::Key,
    mut visit: impl FnMut(u64, u64) -> Result<ControlFlow<()>, StoreError>,
) -> Result<(), StoreError> {
    read::scan(view, start, &keys::orphans(volume).end(), |key, _| {
        visit(keys::tail_u64(key, keys::HEAD_BYTES)?, keys::tail_u64(key, keys::HEAD_BYTES + 8)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::test_fs::{TestFs, VOLUME};
    use crate::store::KvCommit;

    #[test]
    fn a_session_is_asked_until_it_answers() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.unlink("f").expect("removes");
        let ask = OrphanAsk { session: fs.session(), through_index: fs.log_index(), inos: vec![ino] };
        let asks = |fs: &TestFs| fs.store().view(|view| orphans_to_ask(view, VOLUME)).expect("reads");
        let free = |fs: &TestFs| fs.store().view(|view| reclaimable(view, VOLUME, 9)).expect("reads");
        assert_eq!((asks(&fs), free(&fs)), (vec![ask.clone()], vec![]));
        fs.hold(ask.through_index, &[ino]);
        assert_eq!((asks(&fs), free(&fs)), (vec![], vec![]));
        fs.release(&[ino]);
        assert_eq!(free(&fs), [ino]);
        fs.reclaim(&[ino]);
        assert_eq!(free(&fs), Vec::<u64>::new());
    }

    fn damage(fs: &TestFs, key: &keys::Key, value: Option<bytes::Bytes>) {
        let batch = crate::store::Batch([(key.to_bytes(), value)].into());
        fs.store().commit(fs.log_index(), batch).expect("commits");
    }

    #[test]
    fn damage_is_left_to_fsck_and_stops_nobody() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        damage(&fs, &keys::orphan(VOLUME, 1, ino), Some(crate::store::records::marker()));
        damage(&fs, &keys::session_info(fs.session()), None);
        fs.store().view(|view| {
            assert_eq!(reclaimable(view, VOLUME, 9).expect("reads"), Vec::<u64>::new());
            let all = sessions_of(view, VOLUME).expect("reads");
            assert_eq!(
                all.iter().map(|s| (s.info.session, s.info.volume)).collect::<Vec<_>>(),
                [(fs.session(), VOLUME)]
            );
        });
    }

    #[test]
    fn sessions_and_volumes_are_listed() {
        let mut fs = TestFs::new();
        fs.open_session();
        fs.store().view(|view| {
            let all = sessions(view).expect("reads");
            assert_eq!(all.iter().map(|s| (s.info.session, s.opened_index)).collect::<Vec<_>>(), [(1, 2), (2, 3)]);
            assert_eq!(sessions_of(view, VOLUME).expect("reads"), all);
            assert_eq!(sessions_of(view, 2).expect("reads"), []);
            assert_eq!(volumes(view).expect("reads").iter().map(|v| v.id).collect::<Vec<_>>(), [VOLUME]);
            assert!(!pending_deleted(view, VOLUME).expect("reads"));
        });
    }
}
