//! Rules for names: entries, link counts, "..", the root, and inodes that nothing names. Called by repair/mod.rs.

use super::{GONE, NO_RULE, Remedy, Scope, lost_found};
use crate::apply::problem::What;
use crate::apply::{session, trash};
use crate::store::codec::Record;
use crate::store::inode_record::Inode;
use crate::store::records::{self, Dentry, Symlink};
use crate::store::{KvRead, StoreError, keys, read, txn::Txn};
use bytes::Bytes;
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::{ROOT_INO, TRASH_INO, pb::FileKind};
use std::collections::BTreeSet;
use std::ops::ControlFlow;

pub fn rule(txn: &mut Txn<'_>, scope: &Scope, what: &What) -> Result<Remedy, StoreError> {
    let volume = scope.volume;
    match what {
        What::EntryHash { parent, key } => {
            rehash(txn, scope, *parent, key)?;
            Ok(Remedy::Fix("is put under the right one"))
        }
        What::EntryParent { parent, name } => entry_parent(txn, scope, *parent, name),
        What::EntryNames { parent, name, .. } => entry_names(txn, scope, *parent, name),
        // The kind comes first.
        What::DotDot { ino, .. } | What::ManyNames { ino, .. }
            if !read::inode(txn, volume, *ino)?.is_some_and(|inode| inode.is_dir()) =>
        {
            Ok(Remedy::Later("is no directory"))
        }
        What::DotDot { ino, parent } => edit(txn, scope, *ino, |inode| inode.parent = *parent, ".. is set right"),
        What::ManyNames { ino, names } => {
            let dot_dot = read::named_inode(txn, volume, *ino)?.parent;
            let kept = names.iter().position(|(parent, _)| *parent == dot_dot).unwrap_or(0);
            for (_, (parent, name)) in names.iter().enumerate().filter(|(at, _)| *at != kept) {
                drop_entry(txn, scope, *parent, name)?;
            }
            Ok(Remedy::Fix("keeps the name that its .. is right for"))
        }
        What::Nlink { ino, wanted: 0, .. } | What::OrphanOrNot { ino, names: 0 } => unnamed(txn, scope, *ino),
        What::Nlink { ino, found, wanted } => {
            let moved = |nlink: u32| (i64::from(nlink) + i64::from(*wanted) - i64::from(*found)).max(1) as u32;
            if *found == 0 {
                be_named(txn, scope, *ino)?;
            }
            edit(txn, scope, *ino, |inode| inode.nlink = moved(inode.nlink), "nlink is set right")
        }
        What::OrphanOrNot { ino, .. } => {
            be_named(txn, scope, *ino)?;
            Ok(Remedy::Fix("has a name, and is no orphan"))
        }
        What::Entries { ino, found, wanted } => {
            let moved = |count: u64| count.wrapping_add(*wanted).wrapping_sub(*found);
            edit(txn, scope, *ino, |inode| inode.entries = moved(inode.entries), "the count is set right")
        }
        What::Root => {
            let root = match read::inode(txn, volume, ROOT_INO)?.filter(Inode::is_dir) {
                Some(root) => Inode { parent: ROOT_INO, ..root },
                None => fresh(txn, scope, ROOT_INO, FileKind::Directory)?,
            };
            txn.put(&keys::inode(volume, ROOT_INO), &root);
            Ok(Remedy::Fix("the root is made anew, and is root's"))
        }
        What::NotBelowRoot { dir } => cut_loop(txn, scope, *dir),
        _ => Ok(Remedy::Refused(NO_RULE)),
    }
}

/// Changes an inode that is there.
pub fn edit(
    txn: &mut Txn<'_>,
    scope: &Scope,
    ino: u64,
    change: impl FnOnce(&mut Inode),
    done: &'static str,
) -> Result<Remedy, StoreError> {
    if let Some(mut inode) = read::inode(txn, scope.volume, ino)? {
        change(&mut inode);
        txn.put(&keys::inode(scope.volume, ino), &inode);
    }
    Ok(Remedy::Fix(done))
}

fn rehash(txn: &mut Txn<'_>, scope: &Scope, parent: u64, key: &Bytes) -> Result<(), StoreError> {
    let Some(value) = txn.get(key)? else { return Ok(()) };
    let wrong = keys::Key::from_stored(key);
    let name = key.get(keys::HEAD_BYTES + 16..).unwrap_or_default();
    let right = keys::dentry(scope.volume, parent, name);
    let taken = txn.get(&right)?.is_some();
    if taken || name.is_empty() {
        return unname(txn, scope, parent, &wrong, Dentry::decode(&value)?);
    }
    txn.delete(&wrong);
    txn.put_bytes(&right, value);
    Ok(())
}

fn entry_parent(txn: &mut Txn<'_>, scope: &Scope, parent: u64, name: &Bytes) -> Result<Remedy, StoreError> {
    match read::inode(txn, scope.volume, parent)? {
        None => remake(txn, scope, parent, FileKind::Directory),
        Some(inode) if inode.is_dir() => Ok(Remedy::Fix("its directory is made anew")),
        Some(_) => {
            drop_entry(txn, scope, parent, name)?;
            Ok(Remedy::Fix("the entry is dropped"))
        }
    }
}

/// The inode knows its kind; but not against its entry and what it holds.
fn entry_names(txn: &mut Txn<'_>, scope: &Scope, parent: u64, name: &Bytes) -> Result<Remedy, StoreError> {
    let Some(dentry) = read::dentry(txn, scope.volume, parent, name)? else {
        return Ok(Remedy::Fix("the entry is dropped"));
    };
    let holds = remains(txn, scope, dentry.ino)?;
    match read::inode(txn, scope.volume, dentry.ino)? {
        None if holds == Some(dentry.kind) => {
            let done = remake(txn, scope, dentry.ino, dentry.kind)?;
            edit(txn, scope, dentry.ino, |inode| inode.parent = if inode.is_dir() { parent } else { 0 }, "")?;
            Ok(done)
        }
        None => {
            drop_entry(txn, scope, parent, name)?;
            Ok(Remedy::Fix("the entry is dropped: nothing is left of what it names"))
        }
        Some(inode) if inode.kind == dentry.kind => Ok(Remedy::Fix("what it names is made anew")),
        Some(_) if holds == Some(dentry.kind) => {
            edit(txn, scope, dentry.ino, |inode| inode.kind = dentry.kind, "the inode's kind is set right")
        }
        Some(inode) => {
            let right = Dentry { kind: inode.kind, ..dentry };
            txn.put(&keys::dentry(scope.volume, parent, name), &right);
            Ok(Remedy::Fix("the entry's kind is set right"))
        }
    }
}

/// Takes a name away, with what it does to the counts of both sides.
pub fn drop_entry(txn: &mut Txn<'_>, scope: &Scope, parent: u64, name: &[u8]) -> Result<(), StoreError> {
    let Some(dentry) = read::dentry(txn, scope.volume, parent, name)? else { return Ok(()) };
    unname(txn, scope, parent, &keys::dentry(scope.volume, parent, name), dentry)
}

fn unname(txn: &mut Txn<'_>, scope: &Scope, parent: u64, key: &keys::Key, gone: Dentry) -> Result<(), StoreError> {
    txn.delete(key);
    let lost_dir = u32::from(gone.kind == FileKind::Directory);
    let leave = |dir: &mut Inode| {
        dir.entries = dir.entries.saturating_sub(1);
        dir.nlink = dir.nlink.saturating_sub(lost_dir);
    };
    edit(txn, scope, parent, leave, "")?;
    let lose = |inode: &mut Inode| inode.nlink = inode.nlink.saturating_sub(u32::from(!inode.is_dir()));
    edit(txn, scope, gone.ino, lose, "")?;
    Ok(())
}

/// What is left of an inode beside itself says what it was.
pub fn remains(txn: &Txn<'_>, scope: &Scope, ino: u64) -> Result<Option<FileKind>, StoreError> {
    let volume = scope.volume;
    if read::any(txn, &keys::dentries(volume, ino))? {
        return Ok(Some(FileKind::Directory));
    }
    if read::any(txn, &keys::slices(volume, ino))? {
        return Ok(Some(FileKind::Regular));
    }
    Ok(read::symlink(txn, volume, ino)?.map(|_| FileKind::Symlink))
}

/// Makes a lost inode anew from what is left of it. Its names are counted in the next round.
pub fn remake(txn: &mut Txn<'_>, scope: &Scope, ino: u64, kind: FileKind) -> Result<Remedy, StoreError> {
    let inode = fresh(txn, scope, ino, kind)?;
    txn.put(&keys::inode(scope.volume, ino), &inode);
    Ok(Remedy::Fix("it is made anew from what is left of it, and is root's"))
}

fn fresh(txn: &Txn<'_>, scope: &Scope, ino: u64, kind: FileKind) -> Result<Inode, StoreError> {
    let volume = scope.volume;
    let (mut entries, mut subdirs, mut size) = (0, 0, 0);
    let prefix = keys::dentries(volume, ino);
    read::scan(txn, &prefix, &prefix.end(), |_, value| {
        entries += 1;
        subdirs += u32::from(Dentry::decode(value)?.kind == FileKind::Directory);
        Ok(ControlFlow::Continue(()))
    })?;
    let prefix = keys::slices(volume, ino);
    read::slices(txn, &prefix, &prefix.end(), |slice| {
        size = size.max(u64::from(slice.chunk) * u64::from(CHUNK_BYTES) + slice.piece.chunk_end());
        ControlFlow::Continue(())
    })?;
    let (mode, nlink) = match kind {
        FileKind::Directory if ino == ROOT_INO => (0o755, 2 + subdirs),
        FileKind::Directory => (0o700, 2 + subdirs),
        FileKind::Symlink => (0o777, 1),
        _ => (0o600, 1),
    };
    if let Some(Symlink(target)) = read::symlink(txn, volume, ino)? {
        size = target.len() as u64;
    }
    let marks = crate::apply::xattr::names(txn, volume, ino)?;
    Ok(Inode {
        ino,
        kind,
        mode,
        nlink,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: if kind == FileKind::Directory { 0 } else { size },
        atime: scope.now,
        mtime: scope.now,
        ctime: scope.now,
        btime: scope.now,
        generation: scope.index,
        data_version: scope.index,
        parent: if kind == FileKind::Directory { ROOT_INO } else { 0 },
        entries,
        orphaned_at: 0,
        xattrs: marks.iter().fold(0, |marks, name| marks | holdfast_proto::xattr::marks_of(name)),
    })
}

/// An inode that no entry names. Three places say whether it is an orphan (nlink, the index in it, the list); two of them are believed.
/// What is no orphan gets a name in /lost+found.
fn unnamed(txn: &mut Txn<'_>, scope: &Scope, ino: u64) -> Result<Remedy, StoreError> {
    let Some(mut inode) = read::inode(txn, scope.volume, ino)? else { return Ok(Remedy::Later(GONE)) };
    let listed = orphan_index(txn, scope, ino)?;
    let witnesses = [inode.is_orphan(), inode.orphaned_at != 0, listed.is_some()];
    let waits = matches!(inode.kind, FileKind::Regular | FileKind::Directory);
    let is_full = read::any(txn, &keys::dentries(scope.volume, ino))?;
    let waits = waits && !is_full && ino != ROOT_INO && !trash::is_own(ino);
    if witnesses.iter().filter(|says| **says).count() < 2 || !waits {
        return adopt(txn, scope, inode);
    }
    inode.orphaned_at = listed.unwrap_or(inode.orphaned_at);
    inode.nlink = 0;
    txn.put_bytes(&keys::orphan(scope.volume, inode.orphaned_at, ino), records::marker());
    txn.put(&keys::inode(scope.volume, ino), &inode);
    Ok(Remedy::Fix("is an orphan, and goes when nobody has it open"))
}

fn orphan_index(txn: &Txn<'_>, scope: &Scope, ino: u64) -> Result<Option<u64>, StoreError> {
    let (prefix, mut found) = (keys::orphans(scope.volume), None);
    read::scan(txn, &prefix, &prefix.end(), |key, _| {
        if keys::tail_u64(key, keys::HEAD_BYTES + 8)? == ino {
            found = Some(keys::tail_u64(key, keys::HEAD_BYTES)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(found)
}

/// Where an inode without a name goes: the hours of the trash back to it, whatever else to /lost+found, where it is called # and its number.
fn home_of(txn: &mut Txn<'_>, scope: &Scope, ino: u64) -> Result<Option<(u64, String)>, StoreError> {
    let Some(name) = trash::hour_name(ino) else {
        return Ok(lost_found(txn, scope)?.filter(|home| *home != ino).map(|home| (home, format!("#{ino}"))));
    };
    if !read::inode(txn, scope.volume, TRASH_INO)?.is_some_and(|trash| trash.is_dir()) {
        remake(txn, scope, TRASH_INO, FileKind::Directory)?;
    }
    Ok(Some((TRASH_INO, name)))
}

fn adopt(txn: &mut Txn<'_>, scope: &Scope, inode: Inode) -> Result<Remedy, StoreError> {
    let (volume, ino) = (scope.volume, inode.ino);
    let Some((home, name)) = home_of(txn, scope, ino)? else { return Ok(Remedy::NoLostFound) };
    if read::dentry(txn, volume, home, name.as_bytes())?.is_some() {
        return Ok(Remedy::Refused("its name in /lost+found is taken: rename what is there, and repair again"));
    }
    be_named(txn, scope, ino)?;
    let kind = inode.kind;
    let join = |inode: &mut Inode| match kind {
        FileKind::Directory => (inode.parent, inode.nlink) = (home, inode.nlink.max(2)),
        _ => inode.nlink = 1,
    };
    edit(txn, scope, ino, join, "")?;
    txn.put(&keys::dentry(volume, home, name.as_bytes()), &Dentry { ino, kind });
    let take_in = |dir: &mut Inode| {
        dir.entries += 1;
        dir.nlink += u32::from(kind == FileKind::Directory);
    };
    let done = if home == TRASH_INO { "is put back into the trash" } else { "is moved to /lost+found" };
    edit(txn, scope, home, take_in, done)
}

/// It is no orphan: nothing says so any more.
fn be_named(txn: &mut Txn<'_>, scope: &Scope, ino: u64) -> Result<(), StoreError> {
    let Some(orphaned_at) = orphan_index(txn, scope, ino)?.or(Some(0)) else { return Ok(()) };
    if orphaned_at != 0 {
        txn.delete(&keys::orphan(scope.volume, orphaned_at, ino));
    }
    for session in read::last_numbers(txn, &keys::holds(scope.volume, ino))? {
        session::drop_hold(txn, scope.volume, session, ino);
    }
    edit(txn, scope, ino, |inode| inode.orphaned_at = 0, "")?;
    Ok(())
}

/// Of directories that are each other's ancestors the one with the lowest number is taken out, with all that is below it.
fn cut_loop(txn: &mut Txn<'_>, scope: &Scope, dir: u64) -> Result<Remedy, StoreError> {
    let done = Remedy::Fix("goes to /lost+found, or with what is above it");
    let (mut at, mut passed) = (dir, Vec::new());
    while !passed.contains(&at) {
        passed.push(at);
        match read::inode(txn, scope.volume, at)? {
            Some(inode) if inode.is_dir() && at != ROOT_INO => at = inode.parent,
            _ => return Ok(done),
        }
    }
    let circle: BTreeSet<u64> = passed.into_iter().skip_while(|ino| *ino != at).collect();
    let Some(first) = circle.first().copied().filter(|first| *first == dir) else { return Ok(done) };
    let inode = read::named_inode(txn, scope.volume, first)?;
    let prefix = keys::dentries(scope.volume, inode.parent);
    let mut names = Vec::new();
    read::scan(txn, &prefix, &prefix.end(), |key, value| {
        if Dentry::decode(value)?.ino == first {
            names.push(Bytes::copy_from_slice(key.get(prefix.len() + 8..).unwrap_or_default()));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if names.is_empty() {
        // Its .. is wrong, which comes first.
        return Ok(done);
    }
    for name in names {
        drop_entry(txn, scope, inode.parent, &name)?;
    }
    let inode = read::named_inode(txn, scope.volume, first)?;
    adopt(txn, scope, inode)
}
