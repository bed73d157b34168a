//! Invariants: what holds of every whole state, checked from scratch. For tests and query/verify; reads everything, and holds the
//! inodes and entries of one volume in memory. A damaged state gives problems or an error, never a panic.

use super::lock_invariants;
use crate::store::codec::Record;
use crate::store::inode_record::Inode;
use crate::store::records::{Dentry, SliceRefs, Usage, VolumeRef, Xattr};
use crate::store::{KvRead, StoreError, keys, read};
use holdfast_proto::acl::Acl;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::{ROOT_INO, pb::FileKind, xattr};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// What is wrong with the state, in words; empty for a sound one.
///
/// # Errors
/// Storage failed, or a record does not decode.
pub fn check(view: &dyn KvRead) -> Result<Vec<String>, StoreError> {
    let mut problems = Vec::new();
    let sessions: BTreeSet<u64> = read::sessions(view)?.into_iter().map(|(id, _)| id).collect();
    check_sessions(view, &sessions, &mut problems)?;
    let mut volumes = Vec::new();
    each(view, &keys::volume_names(), |_, value| {
        volumes.push(VolumeRef::decode(value)?.0);
        Ok(())
    })?;
    for volume in volumes {
        let mut state = VolumeState::load(view, volume)?;
        state.check_names();
        state.check_inodes();
        state.check_usage();
        check_slices(view, &mut state)?;
        check_orphans(view, &mut state, &sessions)?;
        let regular = |ino| state.is_kind(ino, FileKind::Regular);
        let locks = lock_invariants::check(view, volume, &sessions, regular)?;
        state.problems.extend(locks);
        problems.extend(state.problems.iter().map(|problem| format!("volume {volume}: {problem}")));
    }
    Ok(problems)
}

fn each(
    view: &dyn KvRead,
    prefix: &keys::Key,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    read::scan(view, prefix, &prefix.end(), |key, value| visit(key, value).map(ControlFlow::Continue))
}

fn check_sessions(view: &dyn KvRead, live: &BTreeSet<u64>, problems: &mut Vec<String>) -> Result<(), StoreError> {
    let next = read::counters(view)?.next_session;
    for &id in live {
        let Some(details) = read::session_details(view, id)? else {
            problems.push(format!("session {id} has no details"));
            continue;
        };
        if read::session_of_uuid(view, &details.uuid)? != Some(id) || id >= next {
            problems.push(format!("session {id} is not found by its uuid, or beyond the counter {next}"));
        }
    }
    each(view, &keys::all_slots(), |key, _| {
        let id = keys::tail_u64(key, keys::HEAD_BYTES)?;
        if !live.contains(&id) {
            problems.push(format!("a slot of session {id}, which has ended"));
        }
        Ok(())
    })
}

struct VolumeState {
    volume: u32,
    usage: Usage,
    inodes: BTreeMap<u64, Inode>,
    /// parent, what it names.
    dentries: Vec<(u64, Dentry)>,
    deleted: BTreeSet<u64>,
    problems: Vec<String>,
}

impl VolumeState {
    fn load(view: &dyn KvRead, volume: u32) -> Result<VolumeState, StoreError> {
        let mut state = VolumeState {
            volume,
            usage: read::usage(view, volume)?,
            inodes: BTreeMap::new(),
            dentries: Vec::new(),
            deleted: BTreeSet::new(),
            problems: Vec::new(),
        };
        each(view, &keys::inodes(volume), |key, value| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            state.inodes.insert(ino, Inode::from_stored(ino, value)?);
            Ok(())
        })?;
        each(view, &keys::all_dentries(volume), |key, value| {
            let parent = keys::tail_u64(key, keys::HEAD_BYTES)?;
            let name = key.get(keys::HEAD_BYTES + 16..).unwrap_or_default();
            if *keys::dentry(volume, parent, name) != *key {
                state.problems.push(format!("an entry of directory {parent} is under a wrong hash"));
            }
            state.dentries.push((parent, Dentry::decode(value)?));
            Ok(())
        })?;
        each(view, &keys::all_deleted(volume), |key, _| {
            state.deleted.insert(keys::tail_u64(key, keys::HEAD_BYTES)?);
            Ok(())
        })?;
        each(view, &keys::symlinks(volume), |key, _| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            state.expect(state.is_kind(ino, FileKind::Symlink), || format!("a target without its symlink {ino}"));
            Ok(())
        })?;
        state.check_xattrs(view)?;
        Ok(state)
    }

    /// Every attribute has its inode, whose marks say which there are; an ACL says what the mode says.
    fn check_xattrs(&mut self, view: &dyn KvRead) -> Result<(), StoreError> {
        let mut marks: BTreeMap<u64, u32> = BTreeMap::new();
        each(view, &keys::all_xattrs(self.volume), |key, value| {
            let ino = keys::tail_u64(key, keys::HEAD_BYTES)?;
            let name = key.get(keys::HEAD_BYTES + 8..).unwrap_or_default();
            *marks.entry(ino).or_default() |= xattr::marks_of(name);
            let Some(mode) = self.inodes.get(&ino).map(|inode| inode.mode) else {
                self.problems.push(format!("an extended attribute without its inode {ino}"));
                return Ok(());
            };
            if name == xattr::ACL_ACCESS {
                let acl = Acl::parse(&Xattr::decode(value)?.0).ok().flatten();
                let agrees = acl.is_some_and(|acl| acl.mode_bits() == mode & 0o777 && !acl.is_mode());
                self.expect(agrees, || format!("the ACL of inode {ino} does not agree with its mode {mode:o}"));
            }
            Ok(())
        })?;
        let said: BTreeMap<u64, u32> =
            self.inodes.values().filter(|inode| inode.xattrs != 0).map(|inode| (inode.ino, inode.xattrs)).collect();
        self.expect(said == marks, || format!("inodes are marked {said:?}, their attributes are {marks:?}"));
        Ok(())
    }

    fn is_kind(&self, ino: u64, kind: FileKind) -> bool {
        self.inodes.get(&ino).is_some_and(|inode| inode.kind == kind)
    }

    fn expect(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }

    /// No entry dangles; link counts, entry counts and ".." follow from the entries.
    fn check_names(&mut self) {
        let mut names: BTreeMap<u64, u32> = BTreeMap::new();
        let mut subdirs: BTreeMap<u64, u32> = BTreeMap::new();
        let mut entries: BTreeMap<u64, u64> = BTreeMap::new();
        for (parent, dentry) in std::mem::take(&mut self.dentries) {
            let ino = dentry.ino;
            *names.entry(ino).or_default() += 1;
            *entries.entry(parent).or_default() += 1;
            *subdirs.entry(parent).or_default() += u32::from(dentry.kind == FileKind::Directory);
            self.expect(self.is_kind(parent, FileKind::Directory), || format!("an entry in {parent}, no directory"));
            self.expect(self.is_kind(ino, dentry.kind), || {
                format!("an entry in {parent} names {ino}, not such a thing")
            });
            let dot_dot = self.inodes.get(&ino).filter(|inode| inode.is_dir()).map(|inode| inode.parent);
            self.expect(dot_dot.is_none_or(|dot_dot| dot_dot == parent), || format!("directory {ino}: wrong .."));
        }
        for inode in self.inodes.values().copied().collect::<Vec<_>>() {
            let ino = inode.ino;
            let named = names.get(&ino).copied().unwrap_or(0) + u32::from(ino == ROOT_INO);
            let nlink = match inode.is_dir() {
                true if named == 0 => 0,
                true => 2 + subdirs.get(&ino).copied().unwrap_or(0),
                false => named,
            };
            self.expect(inode.nlink == nlink, || format!("inode {ino}: nlink {} and not {nlink}", inode.nlink));
            let count = entries.get(&ino).copied().unwrap_or(0);
            self.expect(inode.entries == count, || format!("inode {ino}: {} entries and not {count}", inode.entries));
            self.expect(!inode.is_dir() || named <= 1, || format!("directory {ino} has {named} names"));
        }
    }

    fn check_inodes(&mut self) {
        for inode in self.inodes.values().copied().collect::<Vec<_>>() {
            let ino = inode.ino;
            self.expect(ino < self.usage.next_ino, || format!("inode {ino} is beyond the counter"));
            self.expect(inode.is_orphan() == (inode.orphaned_at != 0), || format!("inode {ino}: orphan or not?"));
            self.expect(inode.mode <= 0o7777, || format!("inode {ino}: mode {:o}", inode.mode));
        }
        let root = self.inodes.get(&ROOT_INO).is_some_and(|root| root.is_dir() && root.parent == ROOT_INO);
        self.expect(root, || "no root".to_string());
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
                self.problems.push(format!("directory {dir} is not below the root"));
            }
        }
    }

    fn check_usage(&mut self) {
        let named = || self.inodes.values().filter(|inode| !inode.is_orphan());
        let bytes: u64 = named().map(Inode::charge_bytes).fold(0, u64::saturating_add);
        // Without the root.
        let count = (named().count() as u64).saturating_sub(1);
        let orphans = (self.inodes.len() as u64).saturating_sub(1 + count);
        let deleted = self.deleted.len() as u64;
        let usage = self.usage;
        let counted = (usage.used_bytes, usage.used_inodes, usage.orphans, usage.deleted_slices);
        let real = (bytes, count, orphans, deleted);
        self.expect(counted == real, || {
            format!("usage (bytes, inodes, orphans, deleted) {counted:?} and not {real:?}")
        });
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
    let mut at = inos.into_iter();
    let mut names: BTreeMap<u64, u64> = BTreeMap::new();
    read::slices(view, &prefix, &prefix.end(), |slice| {
        let ino = at.next().unwrap_or(0);
        let size = state.inodes.get(&ino).filter(|inode| inode.is_regular()).map(|inode| inode.size);
        let end = u64::from(slice.chunk) * u64::from(CHUNK_BYTES) + slice.piece.chunk_end();
        state.expect(size.is_some_and(|size| end <= size), || format!("a slice of {ino} ends at {end}, size {size:?}"));
        let piece = &slice.piece;
        let id = piece.slice_id;
        let within = piece.len > 0
            && piece.chunk_end() <= u64::from(CHUNK_BYTES)
            && (id == 0 || u64::from(piece.slice_offset) + u64::from(piece.len) <= u64::from(piece.slice_len));
        state.expect(within, || format!("a slice of {ino} is out of bounds: {piece:?}"));
        *names.entry(id).or_default() += 1;
        state.expect(!state.deleted.contains(&id), || format!("slice {id} of {ino} is deleted"));
        ControlFlow::Continue(())
    })?;
    names.retain(|&id, count| id != 0 && *count > 1);
    let mut counted = BTreeMap::new();
    each(view, &keys::all_slice_refs(state.volume), |key, value| {
        counted.insert(keys::tail_u64(key, keys::HEAD_BYTES)?, SliceRefs::decode(value)?.0);
        Ok(())
    })?;
    state.expect(counted == names, || format!("slices shared by pieces: counted {counted:?} and not {names:?}"));
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
    state.expect(listed == orphans, || format!("orphans listed {listed:?} and not {orphans:?}"));
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
    state.expect(holds == by_session, || format!("holds {holds:?}, but by session {by_session:?}"));
    for (ino, session) in holds {
        let is_orphan = state.inodes.get(&ino).is_some_and(Inode::is_orphan);
        state.expect(is_orphan && live.contains(&session), || format!("session {session} holds {ino}"));
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
            check(&txn).expect("reads").join("; ")
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
            "session 99, which has ended",
            problems_after(|txn, _| txn.put_bytes(&keys::slot(99, 1), records::marker())),
        );
        assert_eq!(problems_after(|_, _| ()), "");
    }
}
