//! What fsck and gc ask of one whole state: what is wrong with it and what to do, which slices are garbage, what inodes are called. Called
//! by rpc/upkeep.

use crate::apply::invariants;
use crate::apply::problem::Problem;
use crate::apply::repair::{self, Plan};
use crate::apply::trash;
use crate::store::codec::Record;
use crate::store::inode_record::SlicePiece;
use crate::store::records::Dentry;
use crate::store::{KvRead, StoreError, keys, read};
use bytes::Bytes;
use holdfast_proto::{ROOT_INO, TRASH_INO, pb, pb::FileKind};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// Names told of one inode.
const PATHS_MAX: usize = 16;
/// Longest way up: damage may make directories their own ancestors.
const DEPTH_MAX: usize = 4096;

/// Everything that is wrong with one volume and the cluster, how many that is, and the plan for the first ones.
///
/// # Errors
/// Storage failed, or a record does not decode.
pub fn check(view: &dyn KvRead, volume: u32, index: u64) -> Result<(usize, Plan), StoreError> {
    let mut problems = invariants::check(view)?;
    problems.retain(|problem: &Problem| problem.volume == 0 || problem.volume == volume);
    Ok((problems.len(), repair::plan(view, volume, index, problems)?))
}

/// Of these slices those that nothing names, that are not listed as deleted and whose sessions have ended. A slice gets its first name from
/// its own session and others from those it has: what is garbage in any state, be it an old one, is garbage for ever.
///
/// # Errors
/// Storage failed, or a record does not decode.
pub fn garbage(view: &dyn KvRead, volume: u32, slice_ids: &[u64]) -> Result<Vec<u64>, StoreError> {
    let next_session = read::counters(view)?.next_session;
    let live: BTreeSet<u64> = read::sessions(view)?.into_iter().map(|(id, _)| id).collect();
    let has_ended = |session: u64| session != 0 && session < next_session && !live.contains(&session);
    let mut garbage: BTreeSet<u64> = slice_ids.iter().copied().filter(|id| has_ended(id >> 32)).collect();
    let prefix = keys::all_slices(volume);
    read::scan(view, &prefix, &prefix.end(), |_, value| {
        garbage.remove(&SlicePiece::decode(value)?.slice_id);
        Ok(ControlFlow::Continue(()))
    })?;
    for id in read::last_numbers(view, &keys::all_deleted(volume))? {
        garbage.remove(&id);
    }
    Ok(garbage.into_iter().collect())
}

/// Paths of inodes, from the root of the volume; those of one that has none are missing.
///
/// # Errors
/// Storage failed, or a record does not decode.
pub fn paths(view: &dyn KvRead, volume: u32, inos: &[u64]) -> Result<Vec<pb::InoPath>, StoreError> {
    let wanted: BTreeSet<u64> = inos.iter().copied().collect();
    let mut dirs: BTreeMap<u64, (u64, Bytes)> = BTreeMap::new();
    let mut names: BTreeMap<u64, Vec<(u64, Bytes)>> = BTreeMap::new();
    let prefix = keys::all_dentries(volume);
    read::scan(view, &prefix, &prefix.end(), |key, value| {
        let (parent, dentry) = (keys::tail_u64(key, keys::HEAD_BYTES)?, Dentry::decode(value)?);
        let name = || Bytes::copy_from_slice(key.get(keys::HEAD_BYTES + 16..).unwrap_or_default());
        if dentry.kind == FileKind::Directory {
            dirs.insert(dentry.ino, (parent, name()));
        }
        if wanted.contains(&dentry.ino) {
            let names = names.entry(dentry.ino).or_default();
            if names.len() < PATHS_MAX {
                names.push((parent, name()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let told = names.into_iter().flat_map(|(ino, names)| names.into_iter().map(move |name| (ino, name)));
    Ok(told.map(|(ino, (parent, name))| pb::InoPath { ino, path: path(&dirs, parent, name) }).collect())
}

fn path(dirs: &BTreeMap<u64, (u64, Bytes)>, parent: u64, name: Bytes) -> Bytes {
    let (mut at, mut parts) = (parent, vec![name]);
    while at != ROOT_INO && parts.len() < DEPTH_MAX {
        if at == TRASH_INO {
            parts.push(Bytes::from_static(trash::NAME));
            break;
        }
        let Some((above, name)) = dirs.get(&at) else {
            parts.push(format!("(directory {at})").into());
            break;
        };
        parts.push(name.clone());
        at = *above;
    }
    let mut path = Vec::new();
    for part in parts.iter().rev() {
        path.push(b'/');
        path.extend_from_slice(part);
    }
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::test_fs::{TestFs, VOLUME};
    use crate::store::KvCommit;

    fn garbage_of(fs: &TestFs, ids: &[u64]) -> Vec<u64> {
        fs.store().view(|view| garbage(view, VOLUME, ids)).expect("reads")
    }

    #[test]
    fn garbage_is_what_an_ended_session_left_and_nothing_names_or_lists() {
        let mut fs = TestFs::new();
        let ino = fs.create("f", 0o600).expect("creates").ino;
        fs.write(ino, 0, 10).expect("writes");
        let named = fs.slices(ino)[0].slice_id;
        fs.write(ino, 20, 10).expect("writes");
        let deleted = fs.slices(ino)[1].slice_id;
        fs.truncate(ino, 10).expect("truncates");
        assert_eq!(fs.deleted_slices(), [deleted]);
        let leaked = fs.slice(0, 10).slice_id;
        let unknown = 77 << 32 | 5;
        let all = [named, deleted, leaked, unknown, 5];
        // It may still be committed.
        assert!(garbage_of(&fs, &all).is_empty());
        fs.expire_session();
        fs.open_session();
        let next = fs.slice(0, 10).slice_id;
        assert_eq!(garbage_of(&fs, &all), [leaked]);
        assert!(garbage_of(&fs, &[next]).is_empty());
        // A copy names it as well.
        let other = fs.create("copy", 0o600).expect("creates").ino;
        fs.copy((ino, 0), (other, 0), 10).expect("copies");
        fs.truncate(ino, 0).expect("truncates");
        assert_eq!(garbage_of(&fs, &all), [leaked]);
    }

    #[test]
    fn an_inode_has_the_path_of_each_of_its_names() {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        let sub = fs.mkdir_at(dir, "s", 0o700).expect("makes").ino;
        let file = fs.create_at(sub, "f", 0o600, true).expect("creates").attr.expect("attr").ino;
        fs.link(file, ROOT_INO, "other").expect("links");
        let paths = fs.store().view(|view| paths(view, VOLUME, &[file, sub, 99])).expect("reads");
        let mut told: Vec<_> = paths.iter().map(|path| (path.ino, &path.path[..])).collect();
        told.sort();
        assert_eq!(told, [(sub, &b"/d/s"[..]), (file, b"/d/s/f"), (file, b"/other")]);
    }

    #[test]
    fn what_is_in_the_trash_is_told_of_by_its_path_there() {
        let mut fs = TestFs::new();
        fs.keep_removed(1);
        let file = fs.create("f", 0o600).expect("creates").ino;
        fs.unlink("f").expect("removes");
        let paths = fs.store().view(|view| paths(view, VOLUME, &[file])).expect("reads");
        let told: Vec<_> = paths.iter().map(|path| &path.path[..]).collect();
        assert_eq!(told, [&b"/.trash/1970-01-01-00/1-2-f"[..]]);
    }
}
