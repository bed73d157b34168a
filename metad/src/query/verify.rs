//! Verify: the whole of one state, counted, digested and held against the invariants. Reads every pair twice, and the invariants hold all
//! inodes and entries of a volume in memory. Called by rpc/verify.

use crate::apply::invariants;
use crate::store::{KvRead, StoreError, keys};
use crc_fast::{CrcAlgorithm, Digest};
use holdfast_proto::pb;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Problems that are told of; the others are counted.
const PROBLEMS_TOLD_MAX: usize = 50;
const PROBLEM_CHARS_MAX: usize = 500;
/// Above the keys of every volume. What is the store's own never shows in a state.
const END: [u8; 4] = [0xff; 4];

/// What there is to say of this state; which node and log index it is of is for the caller to add. A state that cannot be read is one
/// with a problem.
pub fn verify(view: &dyn KvRead) -> pb::VerifyReply {
    let mut reply = pb::VerifyReply::default();
    let mut problems: Vec<String> = Vec::new();
    let checked = digest(view, &mut reply).and_then(|()| {
        problems = invariants::check(view)?.iter().map(ToString::to_string).collect();
        Ok(())
    });
    if let Err(error) = checked {
        problems.push(format!("the state cannot be read: {}", describe(&error)));
    }
    reply.problem_count = problems.len() as u64;
    problems.truncate(PROBLEMS_TOLD_MAX);
    reply.problems = problems.iter().map(|problem| shorten(problem)).collect();
    reply
}

/// Lengths come before bytes, so that no two states are one sequence of bytes.
fn digest(view: &dyn KvRead, reply: &mut pb::VerifyReply) -> Result<(), StoreError> {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    let mut kinds: BTreeMap<u8, u64> = BTreeMap::new();
    view.scan(&[], &END, &mut |key, value| {
        digest.update(&(key.len() as u32).to_le_bytes());
        digest.update(&(value.len() as u32).to_le_bytes());
        digest.update(key);
        digest.update(value);
        *kinds.entry(key.get(keys::HEAD_BYTES - 1).copied().unwrap_or(0)).or_default() += 1;
        ControlFlow::Continue(())
    })?;
    reply.digest = digest.finalize();
    reply.keys = kinds.values().sum();
    let count = |(kind, keys): (u8, u64)| pb::KindCount {
        kind: u32::from(kind),
        name: keys::kind::name(kind).to_owned(),
        keys,
    };
    reply.kinds = kinds.into_iter().map(count).collect();
    Ok(())
}

/// The error, and why.
pub fn describe(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn shorten(problem: &str) -> String {
    match problem.char_indices().nth(PROBLEM_CHARS_MAX) {
        Some((end, _)) => format!("{} ...", &problem[..end]),
        None => problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::test_fs::{TestFs, VOLUME};
    use crate::store::KvCommit;
    use crate::store::txn::Txn;
    use bytes::Bytes;

    fn small_fs() -> TestFs {
        let mut fs = TestFs::new();
        let dir = fs.mkdir("d", 0o700).expect("makes").ino;
        let file = fs.create_at(dir, "f", 0o600, true).expect("creates").attr.expect("attr").ino;
        fs.write(file, 0, 100).expect("writes");
        fs
    }

    fn after(fs: &TestFs, damage: impl FnOnce(&mut Txn<'_>)) -> pb::VerifyReply {
        fs.store().view(|view| {
            let mut txn = Txn::new(view);
            damage(&mut txn);
            verify(&txn)
        })
    }

    fn keys_of(reply: &pb::VerifyReply, name: &str) -> u64 {
        reply.kinds.iter().find(|count| count.name == name).map_or(0, |count| count.keys)
    }

    #[test]
    fn a_sound_state_has_no_problem_and_its_keys_are_counted_by_kind() {
        let reply = after(&small_fs(), |_| ());
        assert_eq!((reply.problem_count, &reply.problems[..]), (0, &[][..]));
        assert_eq!((keys_of(&reply, "INODE"), keys_of(&reply, "DENTRY"), keys_of(&reply, "SLICE")), (3, 2, 1));
        assert_eq!(reply.keys, reply.kinds.iter().map(|count| count.keys).sum::<u64>());
        assert_eq!(keys::kind::name(keys::kind::LOCK), "LOCK");
        assert!(reply.kinds.iter().all(|count| !count.name.is_empty()));
    }

    #[test]
    fn equal_states_have_equal_digests_and_any_difference_shows() {
        let fs = small_fs();
        let digest = after(&fs, |_| ()).digest;
        assert_eq!(after(&small_fs(), |_| ()).digest, digest);
        assert_ne!(after(&fs, |txn| txn.delete(&keys::inode(VOLUME, 3))).digest, digest);
        assert_ne!(after(&fs, |txn| txn.put_bytes(&keys::inode(VOLUME, 9), "x".into())).digest, digest);
        // The same bytes, divided otherwise between a key and its value.
        let pair = |name: &[u8], value: &'static [u8]| {
            after(&fs, |txn| txn.put_bytes(&keys::xattr(VOLUME, 1, name), Bytes::from_static(value))).digest
        };
        assert_ne!(pair(b"ab", b"c"), pair(b"a", b"bc"));
    }

    #[test]
    fn problems_are_told_of_in_bounds() {
        let fs = small_fs();
        let lost = after(&fs, |txn| txn.delete(&keys::inode(VOLUME, 3)));
        assert!(lost.problems.iter().any(|problem| problem.contains("names 3")), "{:?}", lost.problems);
        let damaged = after(&fs, |txn| txn.put_bytes(&keys::inode(VOLUME, 3), "\u{7f}".into()));
        assert_eq!(damaged.problem_count, 1);
        assert!(damaged.problems[0].starts_with("the state cannot be read: "), "{:?}", damaged.problems);
        let many = after(&fs, |txn| (10..1000).for_each(|ino| txn.put_bytes(&keys::symlink(VOLUME, ino), "x".into())));
        assert_eq!((many.problem_count, many.problems.len()), (990, PROBLEMS_TOLD_MAX));
        let long = after(&fs, |txn| (10..1000).for_each(|ino| txn.put_bytes(&keys::orphan(VOLUME, 1, ino), "".into())));
        assert!(long.problems.iter().all(|problem| problem.len() < PROBLEM_CHARS_MAX + 8), "{:?}", long.problems);
        assert_eq!(shorten("sch\u{f6}n"), "sch\u{f6}n");
    }

    #[test]
    fn a_state_without_anything_is_told_of_and_nothing_panics() {
        let fs = small_fs();
        let empty = after(&fs, |txn| (1..4).for_each(|ino| txn.delete(&keys::inode(VOLUME, ino))));
        assert!(empty.problem_count > 0);
    }
}
