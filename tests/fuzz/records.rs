//! Records and keys of metad's state.

use bytes::Bytes;
use holdfast_proto::range_lock::{Held, Mode, Owner, Range, RangeLocks};
use holdfast_proto::{FsErrno, pb};
use holdfast_tests::fuzz::{Decoder, Law};
use metad::store::codec::Record;
use metad::store::inode_record::{Inode, SlicePiece};
use metad::store::keys;
use metad::store::lock_record::{FileLocks, LockCount, LockKind, Wait};
use metad::store::node_record::{NodeRecord, StoreId};
use metad::store::records::*;
use pb::FileKind;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// Numbers as they occur, and those at the edges.
pub fn number(random: &mut StdRng) -> u64 {
    match random.random_range(0..6) {
        0 => 0,
        1 => u64::MAX - random.random_range(0..2),
        2 => 1 << random.random_range(0..64),
        3 => random.random(),
        _ => random.random_range(0..100),
    }
}

fn small(random: &mut StdRng) -> u32 {
    number(random) as u32
}

pub fn text(random: &mut StdRng) -> String {
    let letters: Vec<char> = "ab0-./:[]é\0 \n".chars().collect();
    (0..random.random_range(0..12)).map(|_| letters[random.random_range(0..letters.len())]).collect()
}

pub fn some_bytes(random: &mut StdRng) -> Bytes {
    (0..random.random_range(0..40)).map(|_| random.random::<u8>()).collect::<Vec<u8>>().into()
}

fn check<R: Record + PartialEq + Debug>(name: &'static str, law: Law, make: impl Fn(&mut StdRng) -> R) {
    let valid = |random: &mut StdRng| {
        let value = make(random);
        let bytes = value.encode();
        assert_eq!(R::decode(&bytes).expect("its own encoding"), value);
        bytes.to_vec()
    };
    let read = |bytes: &[u8]| R::decode(bytes).map(|record| record.encode().to_vec()).map_err(|e| e.to_string());
    Decoder { name, law, cases: 3000, valid: &valid, read: &read }.run();
}

fn stamp(random: &mut StdRng) -> Stamp {
    Stamp { sec: number(random) as i64, nsec: small(random) }
}

fn inode(random: &mut StdRng) -> Inode {
    let kinds = [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Fifo, FileKind::Block];
    Inode {
        ino: 0,
        kind: kinds[random.random_range(0..kinds.len())],
        mode: small(random),
        nlink: small(random),
        uid: small(random),
        gid: small(random),
        rdev: small(random),
        size: number(random),
        atime: stamp(random),
        mtime: stamp(random),
        ctime: stamp(random),
        btime: stamp(random),
        generation: number(random),
        data_version: number(random),
        parent: number(random),
        entries: number(random),
        orphaned_at: number(random),
        xattrs: small(random),
    }
}

#[test]
fn inodes_and_what_they_name() {
    check("record-inode", Law::Normal, inode);
    check("record-dentry", Law::Canonical, |random| Dentry { ino: number(random), kind: inode(random).kind });
    check("record-slice", Law::Canonical, |random| SlicePiece {
        slice_id: number(random),
        chunk_offset: small(random),
        len: small(random),
        slice_offset: small(random),
        slice_len: small(random),
        block_crc32c: (0..random.random_range(0..5)).map(|_| random.random()).collect(),
    });
    check("record-symlink", Law::Canonical, |random| Symlink(some_bytes(random)));
    check("record-xattr", Law::Canonical, |random| Xattr(some_bytes(random)));
    check("record-deleted", Law::Canonical, |random| Deleted { slice_len: small(random) });
    check("record-slice-refs", Law::Canonical, |random| SliceRefs(number(random)));
}

#[test]
fn the_clusters_and_the_volumes_own() {
    check("record-stamp", Law::Canonical, stamp);
    check("record-counters", Law::Canonical, |random| Counters {
        next_session: number(random),
        next_volume: small(random),
    });
    check("record-volume-ref", Law::Canonical, |random| VolumeRef(small(random)));
    check("record-repaired", Law::Canonical, |random| Repaired(number(random)));
    check("record-usage", Law::Normal, |random| Usage {
        next_ino: number(random),
        used_bytes: number(random),
        used_inodes: number(random),
        orphans: number(random),
        deleted_slices: number(random),
        capacity_bytes: number(random),
        inodes_max: number(random),
        block_bytes: small(random),
        trash_days: small(random),
    });
    check("record-settings", Law::Normal, |random| {
        let pairs = |random: &mut StdRng| -> BTreeMap<String, String> {
            (0..random.random_range(0..3)).map(|_| (text(random), text(random))).collect()
        };
        let storage =
            pb::Storage { kind: text(random), url: text(random), options: pairs(random), secrets: pairs(random) };
        Settings(pb::VolumeSettings {
            id: small(random),
            name: text(random),
            uuid: some_bytes(random),
            storage: random.random::<bool>().then_some(storage),
            block_size: small(random),
            capacity_bytes: number(random),
            ..Default::default()
        })
    });
}

#[test]
fn sessions_and_slots() {
    check("record-session", Law::Canonical, |random| Session {
        volume: small(random),
        opened_index: number(random),
        watermark: number(random),
    });
    check("record-session-ref", Law::Canonical, |random| SessionRef(number(random)));
    check("record-session-details", Law::Normal, |random| SessionDetails {
        uuid: random.random(),
        info: pb::SessionInfo { session: number(random), host: text(random), pid: small(random), ..Default::default() },
    });
    check("record-slot", Law::Canonical, |random| Slot {
        seq: number(random),
        result: if random.random() { Ok(some_bytes(random)) } else { Err(FsErrno::NoEnt) },
    });
}

fn held(random: &mut StdRng) -> Held {
    let (a, b) = (number(random) >> 1, number(random) >> 1);
    Held {
        range: Range { first: a.min(b), last: a.max(b) },
        owner: Owner { session: number(random), number: number(random) },
        mode: if random.random() { Mode::Shared } else { Mode::Exclusive },
        pid: small(random),
    }
}

fn locks(random: &mut StdRng) -> RangeLocks {
    let mut locks = RangeLocks::default();
    (0..random.random_range(0..4)).for_each(|_| locks.lock(held(random)));
    locks
}

#[test]
fn locks_of_files() {
    check("record-locks", Law::Canonical, |random| {
        let wait = |random: &mut StdRng| Wait {
            kind: if random.random() { LockKind::Flock } else { LockKind::Range },
            wanted: held(random),
            number: number(random),
            no_deadlock: random.random(),
        };
        let waits = (0..random.random_range(0..3)).map(|_| wait(random)).collect();
        FileLocks { flocks: locks(random), ranges: locks(random), waits }
    });
    check("record-lock-count", Law::Canonical, |random| LockCount(number(random)));
}

#[test]
fn members() {
    let store = |random: &mut StdRng| StoreId::new(random.random::<u128>() >> random.random_range(0..128));
    check("record-node", Law::Canonical, |random| NodeRecord {
        addr: text(random),
        store: store(random),
        newcomer: store(random),
        former: (0..random.random_range(0..4)).filter_map(|_| store(random)).collect(),
    });
}

#[test]
fn keys_have_an_end_and_are_read_as_they_were_made() {
    let valid = |random: &mut StdRng| {
        let (volume, ino) = (random.random(), number(random));
        let key = match random.random_range(0..6) {
            0 => keys::dentry(volume, ino, &some_bytes(random).repeat(6)),
            1 => keys::slice(volume, ino, random.random(), number(random)),
            2 => keys::orphan(volume, number(random), ino),
            3 => keys::slot(ino, random.random()),
            4 => keys::xattr(volume, ino, &some_bytes(random)),
            _ => keys::volume_name(&text(random)),
        };
        key.to_vec()
    };
    let read = |bytes: &[u8]| {
        let key = keys::Key::from_stored(bytes);
        let end = key.end();
        if bytes.iter().any(|byte| *byte != 0xff) {
            assert!(*end > *key && end.len() <= key.len());
            assert!(*keys::Key::from_stored(&[bytes, &[0xff; 80]].concat()) < *end);
        }
        for at in [keys::HEAD_BYTES, keys::HEAD_BYTES + 8, keys::HEAD_BYTES + 16] {
            assert_eq!(keys::tail_u64(&key, at).is_ok(), bytes.len() >= at + 8);
            assert_eq!(keys::tail_u32(&key, at).is_ok(), bytes.len() >= at + 4);
        }
        Ok(key.to_vec())
    };
    Decoder { name: "keys", law: Law::Canonical, cases: 5000, valid: &valid, read: &read }.run();
}
