//! Readdir: the entries of a directory in the order of their cookies, from a cookie on. Called by query::answer.
//!
//! A cookie is the hash of the name, so an entry keeps its own for life and a listing needs no state here: whatever comes and
//! goes meanwhile, an entry that stays is listed exactly once. Entries of equal cookies are never divided between two replies.

use super::View;
use crate::apply::context::Ruling;
use crate::store::codec::Record;
use crate::store::records::Dentry;
use crate::store::{keys, read};
use bytes::Bytes;
use holdfast_proto::{limits, pb};
use std::ops::ControlFlow;

/// About what an entry takes in a reply beside its name, without and with attributes, bytes.
const ENTRY_BYTES: usize = 28;
const ATTR_BYTES: usize = 120;

pub fn answer(view: &View<'_>, query: &pb::ReaddirQuery) -> Ruling<pb::ReaddirReply> {
    let dir = view.directory(query.ino)?;
    let bytes_max = query.bytes_max.min(limits::READDIR_BYTES_MAX) as usize;
    let entry_bytes = if query.with_attrs { ENTRY_BYTES + ATTR_BYTES } else { ENTRY_BYTES };
    let mut reply = pb::ReaddirReply { entries: Vec::new(), end: true };
    let mut used_bytes = 0;
    let Some(from) = query.after.checked_add(1) else { return Ok(reply) };
    let start = keys::dentries_from(view.volume, dir.ino, from);
    read::scan(view.kv, &start, &keys::dentries(view.volume, dir.ino).end(), |key, value| {
        let cookie = keys::tail_u64(key, keys::HEAD_BYTES + 8)?;
        let name = key.get(keys::HEAD_BYTES + 16..).unwrap_or_default();
        used_bytes += entry_bytes + name.len();
        // The first one goes out whatever its size, or a listing would never end.
        if used_bytes > bytes_max && reply.entries.last().is_some_and(|last| last.cookie != cookie) {
            reply.end = false;
            return Ok(ControlFlow::Break(()));
        }
        let dentry = Dentry::decode(value)?;
        reply.entries.push(pb::DirEntry {
            name: Bytes::copy_from_slice(name),
            ino: dentry.ino,
            kind: dentry.kind.into(),
            cookie,
            attr: None,
        });
        Ok(ControlFlow::Continue(()))
    })?;
    if query.with_attrs {
        for entry in &mut reply.entries {
            entry.attr = Some(read::named_inode(view.kv, view.volume, entry.ino)?.to_attr());
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use crate::apply::test_fs::TestFs;
    use holdfast_proto::{FsErrno, ROOT_INO, pb};
    use std::collections::BTreeSet;

    fn list(fs: &TestFs, bytes_max: u32) -> (Vec<pb::DirEntry>, usize) {
        let (mut all, mut after, mut replies_count) = (Vec::new(), 0, 0);
        loop {
            let query = pb::ReaddirQuery { ino: ROOT_INO, after, bytes_max, with_attrs: true };
            let reply = fs.ask(query).expect("lists");
            replies_count += 1;
            after = reply.entries.last().map_or(after, |entry| entry.cookie);
            all.extend(reply.entries);
            if reply.end {
                return (all, replies_count);
            }
        }
    }

    #[test]
    fn every_entry_is_listed_once_whatever_the_size_of_replies() {
        let mut fs = TestFs::new();
        for n in 0..100 {
            fs.create(&format!("file{n}"), 0o600).expect("creates");
        }
        for bytes_max in [0, 1000, 1 << 20] {
            let (entries, replies_count) = list(&fs, bytes_max);
            let names: BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
            assert_eq!((entries.len(), names.len()), (100, 100));
            assert!(entries.windows(2).all(|pair| pair[0].cookie < pair[1].cookie));
            assert!(entries.iter().all(|entry| entry.attr.is_some_and(|attr| attr.ino == entry.ino)));
            assert_eq!(replies_count == 1, bytes_max == 1 << 20);
        }
    }

    #[test]
    fn an_entry_that_stays_is_listed_once_while_others_come_and_go() {
        let mut fs = TestFs::new();
        for n in 0..50 {
            fs.create(&format!("stay{n}"), 0o600).expect("creates");
        }
        let (mut after, mut seen) = (0, Vec::new());
        for round in 0.. {
            let reply =
                fs.ask(pb::ReaddirQuery { ino: ROOT_INO, after, bytes_max: 200, with_attrs: false }).expect("lists");
            after = reply.entries.last().map_or(after, |entry| entry.cookie);
            seen.extend(
                reply.entries.into_iter().filter(|entry| entry.name.starts_with(b"stay")).map(|entry| entry.name),
            );
            if reply.end {
                break;
            }
            fs.create(&format!("new{round}"), 0o600).expect("creates");
            if round > 0 {
                fs.unlink(&format!("new{}", round - 1)).expect("removes");
            }
        }
        assert_eq!((seen.len(), seen.iter().collect::<BTreeSet<_>>().len()), (50, 50));
    }

    #[test]
    fn only_directories_are_listed() {
        let mut fs = TestFs::new();
        let file = fs.create("f", 0o600).expect("creates").ino;
        let query = |ino| pb::ReaddirQuery { ino, after: 0, bytes_max: 100, with_attrs: false };
        assert_eq!(fs.ask(query(file)).map(|reply| reply.end), Err(FsErrno::NotDir));
        assert_eq!(fs.ask(query(999)).map(|reply| reply.end), Err(FsErrno::Stale));
        let past_the_end = pb::ReaddirQuery { after: u64::MAX, ..query(ROOT_INO) };
        assert_eq!(fs.ask(past_the_end).map(|reply| (reply.entries.len(), reply.end)), Ok((0, true)));
    }
}
