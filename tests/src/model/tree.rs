//! The reference tree: inodes and names, with the refusals that Linux gives to root. Implements `Fs`, so that the model test
//! can hold it against a real one, call by call. Links are taken to dangle: a path through one is ENOENT.

use super::bytes::SparseBytes;
use super::locks::Locks;
use super::xattrs::Xattrs;
use crate::fs::{Kind, Result, Stat, Time, split};
use std::cell::RefCell;
use std::collections::BTreeMap;

const ROOT: u64 = 1;
const NAME_BYTES_MAX: usize = 255;
const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) rdev: u32,
    pub(super) nlink: u32,
    /// Directories: names. Others: empty.
    pub(super) names: BTreeMap<String, u64>,
    /// Directories: "..".
    pub(super) parent: u64,
    pub(super) target: String,
    pub(super) bytes: SparseBytes,
    pub(super) xattrs: Xattrs,
    /// Set by utimens and not changed by the server's clock since.
    pub(super) atime: Option<Time>,
    pub(super) mtime: Option<Time>,
}

#[derive(Debug)]
pub(super) struct Tree {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) next: u64,
    pub(super) locks: Locks,
}

/// The reference filesystem.
#[derive(Debug)]
pub struct Model(pub(super) RefCell<Tree>);

/// A time that the model does not know, in a `Stat`.
pub const UNKNOWN_TIME: Time = (i64::MIN, 0);

pub(super) fn inode(kind: Kind, mode: u32) -> Inode {
    Inode {
        kind,
        mode: mode & 0o7777,
        uid: 0,
        gid: 0,
        rdev: 0,
        nlink: if kind == Kind::Dir { 2 } else { 1 },
        names: BTreeMap::new(),
        parent: ROOT,
        target: String::new(),
        bytes: SparseBytes::default(),
        xattrs: Xattrs::default(),
        atime: None,
        mtime: None,
    }
}

impl Tree {
    pub(super) fn get(&self, ino: u64) -> &Inode {
        &self.inodes[&ino]
    }

    pub(super) fn edit(&mut self, ino: u64) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("the model holds every inode that a name leads to")
    }

    pub(super) fn walk(&self, path: &str) -> Result<u64> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |ino, name| self.child(ino, name))
    }

    fn child(&self, ino: u64, name: &str) -> Result<u64> {
        self.directory(ino)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        self.get(ino).names.get(name).copied().ok_or(libc::ENOENT)
    }

    pub(super) fn directory(&self, ino: u64) -> Result<u64> {
        match self.get(ino).kind {
            Kind::Dir => Ok(ino),
            Kind::Symlink => Err(libc::ENOENT),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// Parent directory, name, and what the name leads to now.
    pub(super) fn place<'a>(&self, path: &'a str) -> Result<(u64, &'a str, Option<u64>)> {
        let (parent, name) = split(path);
        let parent = self.directory(self.walk(parent)?)?;
        match self.child(parent, name) {
            Ok(ino) => Ok((parent, name, Some(ino))),
            Err(libc::ENOENT) => Ok((parent, name, None)),
            Err(other) => Err(other),
        }
    }

    pub(super) fn followed(&self, path: &str) -> Result<u64> {
        let ino = self.walk(path)?;
        if self.get(ino).kind == Kind::Symlink { Err(libc::ENOENT) } else { Ok(ino) }
    }

    /// Something with bytes. A directory has none, but can be opened.
    pub(super) fn opened(&self, path: &str, for_bytes: bool) -> Result<u64> {
        let ino = self.walk(path)?;
        match self.get(ino).kind {
            Kind::Dir if for_bytes => Err(libc::EISDIR),
            Kind::Symlink => Err(libc::ELOOP),
            _ => Ok(ino),
        }
    }

    /// A new inode under a free name.
    pub(super) fn add(&mut self, path: &str, mut new: Inode) -> Result<u64> {
        let (parent, name, taken) = self.place(path)?;
        if taken.is_some() {
            return Err(libc::EEXIST);
        }
        if self.get(parent).mode & 0o2000 != 0 {
            new.gid = self.get(parent).gid;
            if new.kind == Kind::Dir {
                new.mode |= 0o2000;
            }
        }
        (new.xattrs, new.mode) = self.get(parent).xattrs.inherit(new.kind, new.mode);
        new.parent = parent;
        let ino = self.next;
        self.next += 1;
        self.inodes.insert(ino, new);
        self.attach(parent, name, ino);
        Ok(ino)
    }

    pub(super) fn attach(&mut self, parent: u64, name: &str, ino: u64) {
        if self.get(ino).kind == Kind::Dir {
            self.edit(ino).parent = parent;
            self.edit(parent).nlink += 1;
        }
        self.touch_dir(parent);
        self.edit(parent).names.insert(name.to_string(), ino);
    }

    pub(super) fn detach(&mut self, parent: u64, name: &str) -> u64 {
        let ino = self.edit(parent).names.remove(name).expect("the name is there");
        self.touch_dir(parent);
        if self.get(ino).kind == Kind::Dir {
            self.edit(parent).nlink -= 1;
        }
        ino
    }

    /// One name of `ino` less; gone with the last.
    pub(super) fn drop_name(&mut self, ino: u64) {
        self.edit(ino).nlink -= 1;
        if self.get(ino).nlink == 0 || self.get(ino).kind == Kind::Dir {
            self.inodes.remove(&ino);
        }
    }

    fn touch_dir(&mut self, ino: u64) {
        self.edit(ino).mtime = None;
    }

    fn is_ancestor(&self, above: u64, below: u64) -> bool {
        let mut at = below;
        while at != above {
            if at == ROOT {
                return false;
            }
            at = self.get(at).parent;
        }
        true
    }

    pub(super) fn rename(&mut self, old: &str, new: &str, flags: u32) -> Result<()> {
        // Both paths are walked before either last name is looked at.
        self.directory(self.walk(split(old).0)?)?;
        self.directory(self.walk(split(new).0)?)?;
        let (old_parent, old_name, source) = self.place(old)?;
        let source = source.ok_or(libc::ENOENT)?;
        let (new_parent, new_name, target) = self.place(new)?;
        match (flags & EXCHANGE != 0, target) {
            (false, Some(_)) if flags & NOREPLACE != 0 => return Err(libc::EEXIST),
            (true, None) => return Err(libc::ENOENT),
            _ => {}
        }
        if self.is_ancestor(source, new_parent) {
            return Err(libc::EINVAL);
        }
        if target.is_some_and(|target| self.is_ancestor(target, old_parent)) {
            return Err(if flags & EXCHANGE != 0 { libc::EINVAL } else { libc::ENOTEMPTY });
        }
        if target == Some(source) {
            return Ok(());
        }
        if flags & EXCHANGE != 0 {
            self.exchange((old_parent, old_name), (new_parent, new_name));
            return Ok(());
        }
        if let Some(target) = target {
            self.may_replace(source, target)?;
            self.detach(new_parent, new_name);
            self.drop_name(target);
        }
        self.detach(old_parent, old_name);
        self.attach(new_parent, new_name, source);
        Ok(())
    }

    fn may_replace(&self, source: u64, target: u64) -> Result<()> {
        match (self.get(source).kind == Kind::Dir, self.get(target).kind == Kind::Dir) {
            (true, false) => Err(libc::ENOTDIR),
            (false, true) => Err(libc::EISDIR),
            (true, true) if !self.get(target).names.is_empty() => Err(libc::ENOTEMPTY),
            _ => Ok(()),
        }
    }

    fn exchange(&mut self, one: (u64, &str), two: (u64, &str)) {
        let first = self.detach(one.0, one.1);
        let second = self.detach(two.0, two.1);
        self.attach(one.0, one.1, second);
        self.attach(two.0, two.1, first);
    }

    pub(super) fn stat(&self, ino: u64) -> Stat {
        let node = self.get(ino);
        let size = match node.kind {
            Kind::Symlink => node.target.len() as u64,
            _ => node.bytes.size(),
        };
        Stat {
            ino,
            kind: node.kind,
            mode: node.mode,
            nlink: node.nlink,
            uid: node.uid,
            gid: node.gid,
            rdev: node.rdev,
            size,
            atime: node.atime.unwrap_or(UNKNOWN_TIME),
            mtime: node.mtime.unwrap_or(UNKNOWN_TIME),
            ctime: UNKNOWN_TIME,
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        let mut root = inode(Kind::Dir, 0o755);
        root.parent = ROOT;
        Model(RefCell::new(Tree { inodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1, locks: Locks::default() }))
    }
}
