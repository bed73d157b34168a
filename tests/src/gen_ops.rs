//! A seeded generator of operations over a small tree, so that names meet each other often; and what the model test compares.
//! Called by the model test. The same seed gives the same operations.

use crate::fs::{Fs, Kind, Lock, LockMode, Result, SetTime, Stat};
use crate::model::locks;
use crate::model::tree::UNKNOWN_TIME;
use crate::model::xattrs::{self, SmallAcl};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt::Debug;

/// Dangles for everybody, so that all implementations refuse a path through it alike.
pub const NOWHERE: &str = "/nonexistent-for-the-model-test/x";

/// Owners of locks on one mount.
const LOCK_OWNERS: u64 = 3;

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Create { path: String, mode: u32, exclusive: bool },
    Open(String),
    Mkdir { path: String, mode: u32 },
    Mkfifo { path: String, mode: u32 },
    Symlink(String),
    Readlink(String),
    Link { old: String, new: String },
    Unlink(String),
    Rmdir(String),
    Rename { old: String, new: String, flags: u32 },
    Chmod { path: String, mode: u32 },
    Chown { path: String, uid: Option<u32>, gid: Option<u32> },
    Utimens { path: String, atime: SetTime, mtime: SetTime },
    Truncate { path: String, size: u64 },
    Write { path: String, offset: u64, len: usize, fill: u8 },
    Read { path: String, offset: u64, len: usize },
    Fallocate { path: String, mode: i32, offset: u64, len: u64 },
    CopyFileRange { from: String, at: u64, to: String, to_at: u64, len: u64 },
    Readdir(String),
    SetXattr { path: String, name: &'static str, value: Vec<u8>, flags: u32 },
    RemoveXattr { path: String, name: &'static str },
    Lock { owner: u64, path: String, lock: Lock },
}

impl Step {
    /// The same on another mount, whose owners of locks are others.
    pub fn by_actor(mut self, actor: u64) -> Step {
        if let Step::Lock { owner, .. } = &mut self {
            *owner += actor * LOCK_OWNERS;
        }
        self
    }
}

/// An endless stream of steps.
#[derive(Debug)]
pub struct Steps {
    random: StdRng,
    /// Offsets and sizes stay below this.
    bytes_max: u64,
}

impl Steps {
    pub fn new(seed: u64, bytes_max: u64) -> Steps {
        Steps { random: StdRng::seed_from_u64(seed), bytes_max }
    }

    fn path(&mut self) -> String {
        let depth = self.random.random_range(1..=3);
        let names: Vec<_> = (0..depth).map(|_| ["a", "b", "c", "d"][self.random.random_range(0..4)]).collect();
        names.join("/")
    }

    fn mode(&mut self) -> u32 {
        let special =
            if self.random.random_bool(0.15) { [0o4000, 0o2000, 0o1000][self.random.random_range(0..3)] } else { 0 };
        0o600 | self.random.random_range(0..0o200) | special
    }

    fn time(&mut self) -> SetTime {
        match self.random.random_range(0..4) {
            0 => SetTime::Omit,
            1 => SetTime::Now,
            _ => SetTime::To((self.random.random_range(0..4_000_000_000), self.random.random_range(0..1_000_000_000))),
        }
    }

    fn id(&mut self) -> Option<u32> {
        self.random.random_bool(0.6).then(|| self.random.random_range(0..5))
    }

    fn offset(&mut self) -> u64 {
        let edge = self.random.random_bool(0.3);
        let offset = self.random.random_range(0..self.bytes_max);
        if edge { offset / 65_536 * 65_536 } else { offset }
    }

    fn data_step(&mut self) -> Step {
        let path = self.path();
        let len = self.random.random_range(0..20_000);
        match self.random.random_range(0..9) {
            0 => Step::Truncate { path, size: self.offset() },
            1 => Step::Read { path, offset: self.offset(), len },
            2 | 3 => {
                // Allocate, punch, zero, and what is not supported.
                let mode = [0, 1, 3, 3, 3, 16, 17, 2, 8, 32][self.random.random_range(0..10)];
                Step::Fallocate { path, mode, offset: self.offset(), len: self.random.random_range(1..50_000) }
            }
            4 | 5 => {
                let (to, len) = (self.path(), self.random.random_range(0..100_000));
                Step::CopyFileRange { from: path, at: self.offset(), to, to_at: self.offset(), len }
            }
            _ => Step::Write { path, offset: self.offset(), len, fill: self.random.random() },
        }
    }

    fn xattr_step(&mut self, path: String) -> Step {
        let name = ["user.a", "trusted.b"][self.random.random_range(0..2)];
        let random = &mut self.random;
        match random.random_range(0..8) {
            0 => Step::RemoveXattr { path, name },
            1 => Step::SetXattr { path, name: xattrs::CAPABILITY, value: xattrs::CAPS.to_vec(), flags: 0 },
            2..5 => {
                let mut perm = || random.random_range(0..8);
                let acl = SmallAcl { owner: perm(), named: Some((perm(), perm())), group: perm(), other: perm() };
                let named = acl.named.filter(|_| random.random_bool(0.7));
                let name = [xattrs::ACCESS, xattrs::DEFAULT][random.random_range(0..2)];
                Step::SetXattr { path, name, value: SmallAcl { named, ..acl }.encode(), flags: 0 }
            }
            _ => {
                let value = vec![random.random(); random.random_range(0..40)];
                Step::SetXattr { path, name, value, flags: [0, 0, 1, 2][random.random_range(0..4)] }
            }
        }
    }

    fn lock_step(&mut self, path: String) -> Step {
        let first = self.random.random_range(0..locks::BYTES_MAX);
        let last = self.random.random_range(first..locks::BYTES_MAX);
        let modes = [LockMode::Shared, LockMode::Exclusive, LockMode::Unlock];
        let mode = modes[self.random.random_range(0..3)];
        Step::Lock { owner: self.random.random_range(0..LOCK_OWNERS), path, lock: Lock { mode, first, last } }
    }

    fn attribute_step(&mut self) -> Step {
        let path = self.path();
        match self.random.random_range(0..6) {
            0 => Step::Chmod { path, mode: self.mode() },
            // chown(-1, -1) sends nothing that a server could see.
            1 => Step::Chown { path, uid: Some(self.random.random_range(0..5)), gid: self.id() },
            2..5 => self.xattr_step(path),
            _ => match (self.time(), self.time()) {
                // Linux answers this one without a look at the path.
                (SetTime::Omit, SetTime::Omit) => Step::Utimens { path, atime: SetTime::Now, mtime: SetTime::Omit },
                (atime, mtime) => Step::Utimens { path, atime, mtime },
            },
        }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let path = self.path();
        Some(match self.random.random_range(0..104) {
            0..14 => Step::Create { path, mode: self.mode() & 0o777, exclusive: self.random.random() },
            14..26 => Step::Mkdir { path, mode: self.mode() & 0o1777 },
            26..29 => Step::Mkfifo { path, mode: self.mode() & 0o777 },
            29..33 => Step::Symlink(path),
            33..35 => Step::Readlink(path),
            35..42 => Step::Link { old: path, new: self.path() },
            42..49 => Step::Unlink(path),
            49..53 => Step::Rmdir(path),
            53..68 => {
                let flags = [0, 0, 0, 1, 2][self.random.random_range(0..5)];
                Step::Rename { old: path, new: self.path(), flags }
            }
            68..78 => self.attribute_step(),
            78..95 => self.data_step(),
            95..97 => Step::Open(path),
            97..101 => self.lock_step(path),
            _ => Step::Readdir(path),
        })
    }
}

/// What a step answered, in a form that two filesystems can be compared by.
pub type Said = Result<String>;

fn said<T: Debug>(result: Result<T>) -> Said {
    result.map(|value| format!("{value:?}"))
}

/// Does one step.
pub fn run(fs: &dyn Fs, step: &Step) -> Said {
    match step {
        Step::Create { path, mode, exclusive } => said(fs.create(path, *mode, *exclusive)),
        Step::Open(path) => said(fs.open(path)),
        Step::Mkdir { path, mode } => said(fs.mkdir(path, *mode)),
        Step::Mkfifo { path, mode } => said(fs.mknod(path, Kind::Fifo, *mode, 0)),
        Step::Symlink(path) => said(fs.symlink(NOWHERE, path)),
        Step::Readlink(path) => said(fs.readlink(path)),
        Step::Link { old, new } => said(fs.link(old, new)),
        Step::Unlink(path) => said(fs.unlink(path)),
        Step::Rmdir(path) => said(fs.rmdir(path)),
        Step::Rename { old, new, flags } => said(fs.rename(old, new, *flags)),
        Step::Chmod { path, mode } => said(fs.chmod(path, *mode)),
        Step::Chown { path, uid, gid } => said(fs.chown(path, *uid, *gid)),
        Step::Utimens { path, atime, mtime } => said(fs.utimens(path, *atime, *mtime)),
        Step::Truncate { path, size } => said(fs.truncate(path, *size)),
        Step::Write { path, offset, len, fill } => said(fs.write(path, *offset, &filled(*len, *fill))),
        Step::Read { path, offset, len } => said(fs.read(path, *offset, *len)),
        Step::Fallocate { path, mode, offset, len } => said(fs.fallocate(path, *mode, *offset, *len)),
        Step::CopyFileRange { from, at, to, to_at, len } => said(fs.copy_file_range((from, *at), (to, *to_at), *len)),
        Step::Readdir(path) => said(fs.readdir(path)),
        Step::SetXattr { path, name, value, flags } => said(fs.set_xattr(path, name, value, *flags)),
        Step::Lock { owner, path, lock } => said(fs.lock(*owner, path, *lock)),
        Step::RemoveXattr { path, name } => said(fs.remove_xattr(path, name)),
    }
}

fn filled(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|index| fill.wrapping_add((index % 251) as u8)).collect()
}

/// Whether the step reads or writes a FIFO or device, which a mount would hand to the kernel and not to us.
pub fn leaves_the_filesystem(model: &dyn Fs, step: &Step) -> bool {
    let paths = match step {
        Step::Create { path, .. } | Step::Open(path) | Step::Truncate { path, .. } => vec![path],
        Step::Write { path, .. } | Step::Read { path, .. } | Step::Fallocate { path, .. } => vec![path],
        Step::CopyFileRange { from, to, .. } => vec![from, to],
        // What is no file is locked by the kernel alone.
        Step::Lock { path, .. } => return !model.stat(path).is_ok_and(|stat| stat.kind == Kind::File),
        _ => return false,
    };
    let is_ours = |kind| matches!(kind, Kind::File | Kind::Dir | Kind::Symlink);
    paths.into_iter().any(|path| model.stat(path).is_ok_and(|stat| !is_ours(stat.kind)))
}

/// Panics where two trees differ in anything that a user could see. Inode numbers must agree up to a renaming.
pub fn compare(model: &dyn Fs, real: &dyn Fs) {
    let mut same = Vec::new();
    compare_dir(model, real, "", &mut same);
    same.sort_unstable();
    same.dedup();
    for pair in same.windows(2) {
        assert!(pair[0].0 != pair[1].0, "two inodes {:?} where the model has one", (pair[0].1, pair[1].1));
    }
    same.sort_unstable_by_key(|pair| pair.1);
    for pair in same.windows(2) {
        assert!(pair[0].1 != pair[1].1, "one inode {} where the model has two", pair[0].1);
    }
}

fn compare_dir(model: &dyn Fs, real: &dyn Fs, dir: &str, same: &mut Vec<(u64, u64)>) {
    let expected = model.readdir(dir).expect("the model's own directory");
    assert_eq!(real.readdir(dir).as_ref(), Ok(&expected), "entries of {dir:?}");
    for (name, kind) in expected {
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        same.push(compare_inode(model, real, &path));
        if kind == Kind::Dir {
            compare_dir(model, real, &path, same);
        }
    }
}

fn compare_inode(model: &dyn Fs, real: &dyn Fs, path: &str) -> (u64, u64) {
    let expected = model.stat(path).expect("the model's own entry");
    let found = real.stat(path).unwrap_or_else(|errno| panic!("stat of {path:?}: errno {errno}"));
    assert_eq!(comparable(&found, &expected), comparable(&expected, &expected), "attributes of {path:?}");
    let names = model.list_xattr(path).expect("the model's own entry");
    assert_eq!(real.list_xattr(path).as_ref(), Ok(&names), "extended attributes of {path:?}");
    for name in names {
        assert_eq!(real.get_xattr(path, &name), model.get_xattr(path, &name), "attribute {name} of {path:?}");
    }
    match expected.kind {
        Kind::File => {
            let len = usize::try_from(expected.size).expect("small files");
            let (found, expected) = (real.read(path, 0, len + 1), model.read(path, 0, len + 1));
            let first = found.as_ref().ok().zip(expected.as_ref().ok()).map(|(a, b)| differs_at(a, b));
            assert!(found == expected, "data of {path:?} differs, first at {first:?}, errno {:?}", found.err());
        }
        Kind::Symlink => assert_eq!(real.readlink(path), model.readlink(path), "target of {path:?}"),
        _ => {}
    }
    (expected.ino, found.ino)
}

fn differs_at(one: &[u8], two: &[u8]) -> Option<usize> {
    one.iter().zip(two).position(|(a, b)| a != b).or((one.len() != two.len()).then(|| one.len().min(two.len())))
}

/// A stat without what a model cannot know: inode numbers, times that the server stamps, the size of a directory.
fn comparable(stat: &Stat, model: &Stat) -> Stat {
    let known = |time, reference| if reference == UNKNOWN_TIME { UNKNOWN_TIME } else { time };
    Stat {
        ino: 0,
        size: if stat.kind == Kind::Dir { 0 } else { stat.size },
        atime: known(stat.atime, model.atime),
        mtime: known(stat.mtime, model.mtime),
        ctime: UNKNOWN_TIME,
        ..stat.clone()
    }
}
