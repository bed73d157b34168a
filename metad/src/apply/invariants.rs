//! Invariants: what holds of every whole state, checked from scratch. For query/verify, repair and tests; reads everything, and holds the
//! inodes and directories' names of one volume in memory. A damaged state gives problems or an error, never a panic.

use super::lock_invariants;
use super::problem::{Problem, SliceAt, What};
use super::trash;
use crate::store::codec::Record;
use crate::store::inode_record::{Inode, SlicePiece};
use crate::store::records::{Dentry, SliceRefs, Usage, VolumeRef, Xattr};
use crate::store::{KvRead, StoreError, keys, read};
use bytes::Bytes;
use holdfast_proto::acl::Acl;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::{ROOT_INO, TRASH_INO, pb::FileKind, xattr};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What is wrong with the state; nothing for a sound one.
///
/// # Errors
/// Storage failed, or a record does not decode.
pub fn check(view: &dyn KvRead) -> Result<Vec<Problem>, StoreError> {
    let mut found = Vec::new();
    let sessions: BTreeSet<u64> = read::sessions(view)?.into_iter().map(|(id, _)| id).collect();
    check_sessions(view, &sessions, &mut found)?;
    let mut last_session = sessions.last().copied().unwrap_or(0);
    let mut volumes = Vec::new();
    each(view, &keys::volume_names(), |_, value| {
        volumes.push(VolumeRef::decode(value)?.0);
        Ok(())
    })?;
    for volume in volumes {
        let mut state = VolumeState::load(view, volume)?;
        state.check_names(view)?;
        state.check_inodes();
        check_slices(view, &mut state)?;
        check_orphans(view, &mut state, &sessions)?;
        let regular = |ino| state.is_kind(ino, FileKind::Regular);
        let locks = lock_invariants::check(view, volume, &sessions, regular)?;
        state.problems.extend(locks);
        // Last: a repair of anything else changes it.
        state.check_usage();
        last_session = last_session.max(state.last_slice_id >> 32);
        found.extend(state.problems.into_iter().map(|what| Problem { volume, what }));
    }
    let next = read::counters(view)?.next_session;
    if last_session >= next {
        found.push(Problem { volume: 0, what: What::SessionCounter { next, seen: last_session } });
    }
    Ok(found)
}

fn each(
    view: &dyn KvRead,
    prefix: &keys::Key,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    read::scan(view, prefix, &prefix.end(), |key, value| visit(key, value).map(ControlFlow::Continue))
}

fn check_sessions(view: &dyn KvRead, live: &BTreeSet<u64>, problems: &mut Vec<Problem>) -> Result<(), StoreError> {
    let mut wrong = |what| problems.push(Problem { volume: 0, what });
    for &session in live {
        match read::session_details(view, session)? {
            None => wrong(What::SessionDetails { session }),
            Some(details) if read::session_of_uuid(view, &details.uuid)? != Some(session) => {
                wrong(What::SessionUuid { session });
            }
            Some(_) => {}
        }
    }
    each(view, &keys::all_slots(), |key, _| {
        let session = keys::tail_u64(key, keys::HEAD_BYTES)?;
        if !live.contains(&session) {
            wrong(What::Slot { session, slot: keys::tail_u32(key, keys::HEAD_BYTES + 8)? });
        }
        Ok(())
    })
}

struct VolumeState {
    volume: u32,
    usage: Usage,
    inodes: BTreeMap<u64, Inode>,
    deleted: BTreeSet<u64>,
    /// The newest slice that is named or deleted.
    last_slice_id: u64,
    problems: Vec<What>,
}

impl VolumeState {
    fn load(view: &dyn KvRead, volume: u32) -> Result<VolumeState, StoreError> {
        let mut state = VolumeState {
            volume,
            usage: read::usage(view, volume)?,
            inodes: BTreeMap::new(),
            deleted: BTreeSet::new(),
            last_slice_id: 0,
            problems: Vec::new(),
        };
        each(view, &keys::inodes(volume), |key, value| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            state.inodes.insert(ino, Inode::from_stored(ino, value)?);
            Ok(())
        })?;
        each(view, &keys::all_deleted(volume), |key, _| {
            state.deleted.insert(keys::tail_u64(key, keys::HEAD_BYTES)?);
            Ok(())
        })?;
        state.last_slice_id = state.deleted.last().copied().unwrap_or(0);
        state.check_symlinks(view)?;
        state.check_xattrs(view)?;
        Ok(state)
    }

    fn check_symlinks(&mut self, view: &dyn KvRead) -> Result<(), StoreError> {
        let mut links: BTreeSet<u64> =
            self.inodes.values().filter(|inode| inode.kind == FileKind::Symlink).map(|inode| inode.ino).collect();
        each(view, &keys::symlinks(self.volume), |key, _| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            self.expect(links.remove(&ino), || What::Target { ino });
            Ok(())
        })?;
        self.problems.extend(links.into_iter().map(|ino| What::NoTarget { ino }));
        Ok(())
    }

    /// Every attribute has its inode, whose marks say which there are; an ACL says what the mode says.
    fn check_xattrs(&mut self, view: &dyn KvRead) -> Result<(), StoreError> {
        let mut marks: BTreeMap<u64, u32> = BTreeMap::new();
        each(view, &keys::all_xattrs(self.volume), |key, value| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            let name = key.get(keys::HEAD_BYTES + 8..).unwrap_or_default();
            *marks.entry(ino).or_default() |= xattr::marks_of(name);
            let Some(mode) = self.inodes.get(&ino).map(|inode| inode.mode) else {
                self.problems.push(What::XattrInode { ino });
                return Ok(());
            };
            if name == xattr::ACL_ACCESS {
                let acl = Acl::parse(&Xattr::decode(value)?.0).ok().flatten();
                let agrees = acl.is_some_and(|acl| acl.mode_bits() == mode & 0o777 && !acl.is_mode());
                self.expect(agrees, || What::Acl { ino, mode });
            }
            Ok(())
        })?;
        for inode in self.inodes.values() {
            let (ino, found, wanted) = (inode.ino, inode.xattrs, marks.get(&inode.ino).copied().unwrap_or(0));
            if found != wanted {
                self.problems.push(What::Marks { ino, found, wanted });
            }
        }
        Ok(())
    }

    fn is_kind(&self, ino: u64, kind: FileKind) -> bool {
        self.inodes.get(&ino).is_some_and(|inode| inode.kind == kind)
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> What) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// No entry dangles; link counts, entry counts and ".." follow from the entries.
    fn check_names(&mut self, view: &dyn KvRead) -> Result<(), StoreError> {
        let mut names: BTreeMap<u64, u32> = BTreeMap::new();
        let mut dir_names: BTreeMap<u64, Vec<(u64, Bytes)>> = BTreeMap::new();
        let mut subdirs: BTreeMap<u64, u32> = BTreeMap::new();
        let mut entries: BTreeMap<u64, u64> = BTreeMap::new();
        each(view, &keys::all_dentries(self.volume), |key, value| {
            let (parent, Dentry { ino, kind }) = (keys::tail_u64(key, keys::HEAD_BYTES)?, Dentry::decode(value)?);
            let name = key.get(keys::HEAD_BYTES + 16..).unwrap_or_default();
            let own = || Bytes::copy_from_slice(name);
            let is_hashed = *keys::dentry(self.volume, parent, name) == *key;
            self.expect(is_hashed, || What::EntryHash { parent, key: Bytes::copy_from_slice(key) });
            self.expect(self.is_kind(parent, FileKind::Directory), || What::EntryParent { parent, name: own() });
            self.expect(self.is_kind(ino, kind), || What::EntryNames { parent, name: own(), ino });
            *names.entry(ino).or_default() += 1;
            *entries.entry(parent).or_default() += 1;
            if kind == FileKind::Directory {
                *subdirs.entry(parent).or_default() += 1;
            }
            if self.is_kind(ino, FileKind::Directory) {
                dir_names.entry(ino).or_default().push((parent, own()));
            }
            Ok(())
        })?;
        for (ino, names) in dir_names {
            let dot_dot = self.inodes.get(&ino).map(|inode| inode.parent);
            match &names[..] {
                [(parent, _)] => self.expect(dot_dot == Some(*parent), || What::DotDot { ino, parent: *parent }),
                _ => self.problems.push(What::ManyNames { ino, names }),
            }
        }
        self.check_counts(&names, &subdirs, &entries);
        Ok(())
    }

    fn check_counts(&mut self, names: &BTreeMap<u64, u32>, subdirs: &BTreeMap<u64, u32>, entries: &BTreeMap<u64, u64>) {
        for inode in self.inodes.values() {
            let ino = inode.ino;
            let named = names.get(&ino).copied().unwrap_or(0) + u32::from(ino == ROOT_INO || ino == TRASH_INO);
            let nlink = match inode.is_dir() {
                true if named == 0 => 0,
                true => 2 + subdirs.get(&ino).copied().unwrap_or(0),
                false => named,
            };
            let count = entries.get(&ino).copied().unwrap_or(0);
            if inode.nlink != nlink {
                self.problems.push(What::Nlink { ino, found: inode.nlink, wanted: nlink });
            }
            if inode.entries != count {
                self.problems.push(What::Entries { ino, found: inode.entries, wanted: count });
            }
            // What is open and has no name takes no names.
            let has_gone = inode.is_orphan() && count == 0;
            if inode.is_orphan() != (inode.orphaned_at != 0) || inode.is_orphan() != has_gone {
                self.problems.push(What::OrphanOrNot { ino, names: named });
            }
        }
    }

    fn check_inodes(&mut self) {
        for inode in self.inodes.values() {
            let (ino, mode) = (inode.ino, inode.mode);
            if ino >= self.usage.next_ino && !(trash::is_own(ino) && inode.is_dir()) {
                self.problems.push(What::InodeCounter { ino });
            }
            if mode > 0o7777 {
                self.problems.push(What::Mode { ino, mode });
            }
        }
        let root = self.inodes.get(&ROOT_INO).is_some_and(|root| root.is_dir() && root.parent == ROOT_INO);
        self.expect(root, || What::Root);
        // It has no entry that says where it is.
        let trash_is_below_root = self.inodes.get(&TRASH_INO).is_none_or(|trash| trash.parent == ROOT_INO);
        self.expect(trash_is_below_root, || What::DotDot { ino: TRASH_INO, parent: ROOT_INO });
        self.check_no_loops();
    }

    /// With every ".." right, a directory that does not lead to the root is on a loop.
    fn check_no_loops(&mut self) {
        let mut below_root = BTreeSet::from([ROOT_INO]);
        let dirs: Vec<u64> =
            self.inodes.values().filter(|inode| inode.is_dir() && !inode.is_orphan()).map(|inode| inode.ino).collect();
        for dir in dirs {
            let (mut at, mut path) = (dir, Vec::new());
            while !below_root.contains(&at) && path.len() <= self.inodes.len() {
                path.push(at);
                at = self.inodes.get(&at).map_or(0, |inode| inode.parent);
            }
            if below_root.contains(&at) {
                below_root.extend(path);
            } else {
                self.problems.push(What::NotBelowRoot { dir });
            }
        }
    }

    fn check_slice(&mut self, at: SliceAt, piece: &SlicePiece) {
        let (ino, id) = (at.ino, piece.slice_id);
        let size = self.inodes.get(&ino).filter(|inode| inode.is_regular()).map(|inode| inode.size);
        let end = u64::from(at.chunk) * u64::from(CHUNK_BYTES) + piece.chunk_end();
        let blocks_count = piece.slice_len.div_ceil(self.usage.block_bytes.max(1)) as usize;
        let within = piece.len > 0
            && piece.chunk_end() <= u64::from(CHUNK_BYTES)
            && (id == 0 || u64::from(piece.slice_offset) + u64::from(piece.len) <= u64::from(piece.slice_len))
            && piece.block_crc32c.len() == blocks_count;
        self.expect(within, || What::SliceBounds { at, piece: piece.clone() });
        self.expect(size.is_some_and(|size| end <= size), || What::SliceFile { at, end, size });
        self.expect(!self.deleted.contains(&id), || What::SliceDeleted { ino, slice_id: id });
    }

    fn check_usage(&mut self) {
        let named = || self.inodes.values().filter(|inode| !inode.is_orphan());
        let bytes: u64 = named().map(Inode::charge_bytes).fold(0, u64::saturating_add);
        // Without the root and the trash's own directories.
        let count = named().filter(|inode| inode.ino != ROOT_INO && !trash::is_own(inode.ino)).count() as u64;
        let orphans = self.inodes.values().filter(|inode| inode.is_orphan()).count() as u64;
        let deleted = self.deleted.len() as u64;
        let usage = self.usage;
        let found = (usage.used_bytes, usage.used_inodes, usage.orphans, usage.deleted_slices);
        let wanted = (bytes, count, orphans, deleted);
        self.expect(found == wanted, || What::Usage { found, wanted });
    }
}

/// Slices belong to files, lie within their chunk and the file's size; an id that several pieces name is counted right, and none is
/// deleted while it is named.
fn check_slices(view: &dyn KvRead, state: &mut VolumeState) -> Result<(), StoreError> {
    let prefix = keys::all_slices(state.volume);
    let mut inos = Vec::new();
    each(view, &prefix, |key, _| {
        inos.push(keys::tail_u64(key, keys::HEAD_BYTES)?);
        Ok(())
    })?;
    let mut inos = inos.into_iter();
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    read::slices(view, &prefix, &prefix.end(), |slice| {
        let at = SliceAt { ino: inos.next().unwrap_or(0), chunk: slice.chunk, order: slice.order };
        state.check_slice(at, &slice.piece);
        *names.entry(slice.piece.slice_id).or_default() += 1;
        ControlFlow::Continue(())
    })?;
    state.last_slice_id = state.last_slice_id.max(names.keys().next_back().copied().unwrap_or(0));
    names.retain(|&id, count| id != 0 && *count > 1);
    each(view, &keys::all_slice_refs(state.volume), |key, value| {
        let (slice_id, found) = (keys::tail_u64(key, keys::HEAD_BYTES)?, SliceRefs::decode(value)?.0);
        let wanted = names.remove(&slice_id).unwrap_or(1);
        state.expect(found == wanted && found > 1, || What::SliceRefs { slice_id, found, wanted });
        Ok(())
    })?;
    let uncounted = names.into_iter().map(|(slice_id, wanted)| What::SliceRefs { slice_id, found: 1, wanted });
    state.problems.extend(uncounted);
    Ok(())
}

/// Orphan keys are the inodes without a name; holds are of orphans, by live sessions, and found from both sides.
fn check_orphans(view: &dyn KvRead, state: &mut VolumeState, live: &BTreeSet<u64>) -> Result<(), StoreError> {
    let volume = state.volume;
    let mut listed = BTreeSet::new();
    each(view, &keys::orphans(volume), |key, _| {
        listed.insert((keys::tail_u64(key, keys::HEAD_BYTES + 8)?, keys::tail_u64(key, keys::HEAD_BYTES)?));
        Ok(())
    })?;
    let orphans: BTreeSet<_> =
        state.inodes.values().filter(|inode| inode.is_orphan()).map(|inode| (inode.ino, inode.orphaned_at)).collect();
    for &(ino, orphaned_at) in listed.difference(&orphans) {
        state.problems.push(What::OrphanListed { ino, orphaned_at });
    }
    for &(ino, orphaned_at) in orphans.difference(&listed).filter(|(_, orphaned_at)| *orphaned_at != 0) {
        state.problems.push(What::OrphanUnlisted { ino, orphaned_at });
    }
    let mut holds = BTreeSet::new();
    each(view, &keys::all_holds(volume), |key, _| {
        holds.insert((keys::tail_u64(key, keys::HEAD_BYTES)?, keys::tail_u64(key, keys::HEAD_BYTES + 8)?));
        Ok(())
    })?;
    let mut by_session = BTreeSet::new();
    each(view, &keys::all_session_holds(volume), |key, _| {
        by_session.insert((keys::tail_u64(key, keys::HEAD_BYTES + 8)?, keys::tail_u64(key, keys::HEAD_BYTES)?));
        Ok(())
    })?;
    for &(ino, session) in holds.symmetric_difference(&by_session) {
        state.problems.push(What::HoldSides { ino, session });
    }
    for (ino, session) in holds {
        let is_orphan = state.inodes.get(&ino).is_some_and(Inode::is_orphan);
        state.expect(is_orphan && live.contains(&session), || What::Hold { ino, session });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::test_fs::{TestFs, VOLUME};
    use crate::store::txn::Txn;
    use crate::store::{KvCommit, records};

    /// What the check says of a small sound state after `damage`.
    fn problems_after(damage: impl FnOnce(&mut Txn<'_>, &TestFs)) -> String {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        let file = fs.create_at(dir, "f", 0o600, true).expect("creates").attr.expect("attr").ino;
        fs.write(file, 0, 100).expect("writes");
        fs.create("gone", 0o600).expect("creates");
        fs.unlink("gone").expect("removes");
        fs.check();
        fs.store().view(|view| {
            let mut txn = Txn::new(view);
            damage(&mut txn, &fs);
            check(&txn).expect("reads").iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        })
    }

    const DIR: u64 = 2;
    const FILE: u64 = 3;
    const GONE: u64 = 4;

    fn edit(txn: &mut Txn<'_>, ino: u64, change: impl FnOnce(&mut Inode)) {
        let mut inode = read::named_inode(txn, VOLUME, ino).expect("reads");
        change(&mut inode);
        txn.put(&keys::inode(VOLUME, ino), &inode);
    }

    #[test]
    fn each_kind_of_damage_is_named() {
        let expect = |part: &str, problems: String| assert!(problems.contains(part), "{part:?} in {problems:?}");
        expect("nlink 9", problems_after(|txn, _| edit(txn, FILE, |inode| inode.nlink = 9)));
        expect("wrong ..", problems_after(|txn, _| edit(txn, DIR, |inode| inode.parent = DIR)));
        expect("not below the root", problems_after(|txn, _| edit(txn, DIR, |inode| inode.parent = DIR)));
        expect("5 entries and not 1", problems_after(|txn, _| edit(txn, DIR, |inode| inode.entries = 5)));
        expect("names 3, not such a thing", problems_after(|txn, _| txn.delete(&keys::inode(VOLUME, FILE))));
        expect("usage", problems_after(|txn, _| edit(txn, FILE, |inode| inode.size += 1)));
        expect("ends at 100", problems_after(|txn, _| edit(txn, FILE, |inode| inode.size = 5)));
        expect(
            "is deleted",
            problems_after(|txn, fs| {
                let id = fs.slices(FILE)[0].slice_id;
                txn.put(&keys::deleted(VOLUME, id), &records::Deleted { slice_len: 1 });
            }),
        );
        expect(
            "shared by pieces",
            problems_after(|txn, fs| {
                let id = fs.slices(FILE)[0].slice_id;
                txn.put(&keys::slice_refs(VOLUME, id), &records::SliceRefs(2));
            }),
        );
        expect("orphan or not", problems_after(|txn, _| edit(txn, GONE, |inode| inode.orphaned_at = 0)));
        expect(
            "holds 3",
            problems_after(|txn, fs| txn.put_bytes(&keys::hold(VOLUME, FILE, fs.session()), records::marker())),
        );
        expect(
            "slot 1 of session 99, which has ended",
            problems_after(|txn, _| txn.put_bytes(&keys::slot(99, 1), records::marker())),
        );
        assert_eq!(problems_after(|_, _| ()), "");
    }
}
