//! Requests as a client may send them that means no good: any numbers, any bytes for names. Called by frames and state.

use crate::records::number;
use bytes::Bytes;
use holdfast_proto::pb::mutation::Op;
use holdfast_proto::pb::query::Ask;
use holdfast_proto::{ROOT_INO, TRASH_INO, pb};
use rand::Rng;
use rand::rngs::StdRng;

fn pick<T: Clone>(random: &mut StdRng, from: &[T]) -> T {
    from[random.random_range(0..from.len())].clone()
}

/// Mostly inodes that are there.
fn ino(random: &mut StdRng) -> u64 {
    match random.random_range(0..12) {
        0 => number(random),
        1 => TRASH_INO,
        2..6 => ROOT_INO,
        _ => random.random_range(1..24),
    }
}

fn name(random: &mut StdRng) -> Bytes {
    let strange: [&[u8]; 11] =
        [b"", b".", b"..", b"a/b", b"/", b"a\0b", b"\xff\xfe", &[b'x'; 255], &[b'x'; 256], &[b'x'; 4097], b".trash"];
    let usual: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"lost+found"];
    let from: &[&[u8]] = if random.random_range(0..4) == 0 { &strange } else { &usual };
    Bytes::copy_from_slice(pick(random, from))
}

fn xattr_name(random: &mut StdRng) -> Bytes {
    let names: [&[u8]; 8] = [
        b"user.a",
        b"user.",
        b"",
        b"system.posix_acl_access",
        b"system.posix_acl_default",
        b"security.capability",
        b"trusted.x",
        &[b'u'; 300],
    ];
    Bytes::copy_from_slice(pick(random, &names))
}

/// Places in files: beginnings, borders of chunks, the end of what may be.
fn place(random: &mut StdRng) -> u64 {
    match random.random_range(0..4) {
        0 => number(random),
        1 => ((64 << 20) * random.random_range(0..3) + random.random_range(0..3_u64)).saturating_sub(1),
        _ => random.random_range(0..300_000),
    }
}

fn small(random: &mut StdRng) -> u32 {
    number(random) as u32
}

fn maybe<T>(random: &mut StdRng, make: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    random.random::<bool>().then(|| make(random))
}

fn time(random: &mut StdRng) -> pb::SetTime {
    let time = maybe(random, |random| pb::TimeSpec { sec: number(random) as i64, nsec: small(random) });
    pb::SetTime { now: random.random(), time }
}

fn slice(random: &mut StdRng, session: u64) -> pb::Slice {
    let len = pick(random, &[1, 4096, 65_536, 100_000, 0, u32::MAX]);
    let own = session << 32 | random.random_range(1..1000);
    let usual = random.random_range(0..3) > 0;
    pb::Slice {
        chunk: if usual { random.random_range(0..2) } else { small(random) },
        chunk_offset: if usual { random.random_range(0..200_000) } else { small(random) },
        len,
        slice_id: pick(random, &[own, own, own, 0, 1, u64::MAX]),
        slice_offset: if usual { 0 } else { small(random) },
        slice_len: if usual { len } else { small(random) },
        block_crc32c: vec![7; if usual { len.div_ceil(65_536).min(64) } else { random.random_range(0..4) } as usize],
    }
}

fn range(random: &mut StdRng) -> pb::LockRange {
    let (a, b) = (number(random), number(random));
    pb::LockRange { first: a, last: if random.random() { b.max(a) } else { b } }
}

fn flags(random: &mut StdRng, most: u32) -> u32 {
    if random.random_range(0..5) == 0 { small(random) } else { random.random_range(0..=most) }
}

pub fn op(random: &mut StdRng, session: u64) -> Op {
    match random.random_range(0..4) {
        0..2 => of_names(random),
        2 => of_files(random, session),
        _ => of_others(random),
    }
}

fn of_names(random: &mut StdRng) -> Op {
    let (parent, name, mode, umask) = (ino(random), name(random), small(random), small(random));
    match random.random_range(0..9) {
        0 | 1 => Op::Create(pb::CreateOp { parent, name, mode, exclusive: random.random(), umask }),
        2 => Op::Mkdir(pb::MkdirOp { parent, name, mode, umask }),
        3 => {
            let kind = random.random_range(-1..9);
            Op::Mknod(pb::MknodOp { parent, name, mode, kind, rdev: small(random), umask })
        }
        4 => Op::Symlink(pb::SymlinkOp { parent, target: self::name(random), name }),
        5 => Op::Link(pb::LinkOp { ino: ino(random), new_parent: parent, new_name: name }),
        6 => Op::Unlink(pb::UnlinkOp { parent, name }),
        7 => Op::Rmdir(pb::RmdirOp { parent, name }),
        _ => {
            let (new_parent, new_name) = (ino(random), self::name(random));
            Op::Rename(pb::RenameOp { parent, name, new_parent, new_name, flags: flags(random, 4) })
        }
    }
}

fn of_files(random: &mut StdRng, session: u64) -> Op {
    let ino = ino(random);
    match random.random_range(0..6) {
        0 => Op::Setattr(pb::SetattrOp {
            ino,
            mode: maybe(random, small),
            uid: maybe(random, small),
            gid: maybe(random, small),
            size: maybe(random, place),
            atime: maybe(random, time),
            mtime: maybe(random, time),
            by_handle: random.random(),
            kill_priv: random.random(),
        }),
        1 | 2 => {
            let slices = (0..random.random_range(0..4)).map(|_| slice(random, session)).collect();
            Op::CommitWrite(pb::CommitWriteOp { ino, slices, kill_priv: random.random() })
        }
        3 => {
            let (offset, len) = (place(random), place(random));
            Op::Fallocate(pb::FallocateOp { ino, offset, len, mode: pick(random, &[0, 1, 2, 3, 16, 17, 64, u32::MAX]) })
        }
        4 => Op::CopyFileRange(pb::CopyFileRangeOp {
            ino_in: ino,
            offset_in: place(random),
            ino_out: self::ino(random),
            offset_out: place(random),
            len: place(random),
        }),
        _ => {
            let (name, value) = (xattr_name(random), crate::records::some_bytes(random));
            match random.random() {
                true => Op::SetXattr(pb::SetXattrOp { ino, name, value, flags: flags(random, 2) }),
                false => Op::RemoveXattr(pb::RemoveXattrOp { ino, name }),
            }
        }
    }
}

fn of_others(random: &mut StdRng) -> Op {
    let ino = ino(random);
    let inos = |random: &mut StdRng| (0..random.random_range(0..4)).map(|_| self::ino(random)).collect();
    match random.random_range(0..11) {
        0..4 => Op::SetLock(pb::SetLockOp {
            ino,
            owner: random.random_range(0..3),
            kind: random.random_range(0..4),
            mode: random.random_range(0..5),
            range: maybe(random, range),
            pid: small(random),
            wait: random.random_range(0..4),
            no_deadlock: random.random(),
        }),
        4 => Op::CancelLock(pb::CancelLockOp { ino, wait: random.random_range(0..4) }),
        5 => Op::DropLocks(pb::DropLocksOp { ino, owners: vec![random.random_range(0..3), number(random)] }),
        6 => Op::Hold(pb::HoldOp { through_index: random.random_range(0..200), inos: inos(random) }),
        7 => Op::Release(pb::ReleaseOp { inos: inos(random) }),
        8 => {
            Op::PurgeSlices(pb::PurgeSlicesOp { slice_ids: vec![number(random), 1 << 32 | random.random_range(1..50)] })
        }
        9 => {
            let reads = vec![pb::AtimeRead { ino, age_ms: number(random) }];
            Op::TouchAtimes(pb::TouchAtimesOp { reads })
        }
        _ => of_leaders_and_operators(random),
    }
}

fn of_leaders_and_operators(random: &mut StdRng) -> Op {
    let inos = (0..random.random_range(0..4)).map(|_| ino(random)).collect();
    match random.random_range(0..8) {
        0 => Op::Reclaim(pb::ReclaimOp { volume: random.random_range(0..3), inos }),
        1 => Op::EmptyTrash(pb::EmptyTrashOp { volume: random.random_range(0..3) }),
        2 => Op::ExpireSessions(pb::ExpireSessionsOp { sessions: vec![random.random_range(3..9), number(random)] }),
        3 => Op::OpenSession(pb::OpenSessionOp {
            uuid: random.random::<[u8; 16]>().to_vec().into(),
            volume: pick(random, &["vol", "", "other"]).to_owned(),
            ..Default::default()
        }),
        4 => Op::FormatVolume(pb::FormatVolumeOp {
            settings: Some(pb::VolumeSettings {
                name: crate::records::text(random),
                uuid: random.random::<[u8; 16]>().to_vec().into(),
                block_size: small(random),
                trash_days: small(random),
                storage: maybe(random, |_| pb::Storage::default()),
                ..Default::default()
            }),
        }),
        5 => Op::ConfigVolume(pb::ConfigVolumeOp {
            name: pick(random, &["vol", "x"]).to_owned(),
            capacity_bytes: maybe(random, number),
            inodes_max: maybe(random, number),
            storage: None,
            trash_days: maybe(random, small),
        }),
        6 => Op::AddNode(pb::AddNodeOp {
            node: maybe(random, |random| pb::NodeAddr { id: number(random), addr: crate::records::text(random) }),
        }),
        _ => Op::JoinNode(pb::JoinNodeOp {
            id: number(random),
            store: random.random::<[u8; 16]>().to_vec().into(),
            blank: random.random(),
        }),
    }
}

pub fn ask(random: &mut StdRng) -> Ask {
    let ino = ino(random);
    match random.random_range(0..15) {
        0 => Ask::Lookup(pb::LookupQuery { parent: ino, name: name(random) }),
        1 => Ask::Getattr(pb::GetattrQuery { ino }),
        2 => Ask::Open(pb::OpenQuery { ino }),
        3 => Ask::Readlink(pb::ReadlinkQuery { ino }),
        4 => Ask::Readdir(pb::ReaddirQuery {
            ino,
            after: number(random),
            bytes_max: small(random),
            with_attrs: random.random(),
        }),
        5 => Ask::Statfs(pb::StatfsQuery {}),
        6 => Ask::ReadSlices(pb::ReadSlicesQuery { ino, first_chunk: small(random), chunk_count: small(random) }),
        7 => Ask::DeletedSlices(pb::DeletedSlicesQuery { count_max: small(random), after: number(random) }),
        8 => Ask::Volume(pb::VolumeQuery { name: crate::records::text(random) }),
        9 => Ask::GetXattr(pb::GetXattrQuery { ino, name: xattr_name(random) }),
        10 => Ask::ListXattr(pb::ListXattrQuery { ino }),
        11 => Ask::Lseek(pb::LseekQuery { ino, offset: place(random), hole: random.random() }),
        12 => Ask::GetLock(pb::GetLockQuery {
            ino,
            owner: number(random),
            mode: random.random_range(0..5),
            range: maybe(random, range),
        }),
        13 => Ask::LockWait(pb::LockWaitQuery { session: number(random), ino, wait: number(random) }),
        _ => Ask::ScanSlices(pb::ScanSlicesQuery {
            after: maybe(random, |random| pb::SliceKey { ino, chunk: small(random), order: number(random) }),
            count_max: small(random),
        }),
    }
}

pub fn creds(random: &mut StdRng) -> pb::Creds {
    let uid = pick(random, &[0, 0, 0, 1000, u32::MAX]);
    pb::Creds { uid, gid: uid, groups: vec![random.random_range(0..3)] }
}
