//! The reference tree: inodes and names, with the refusals that Linux gives to root. Implements `Fs`, so that the model test
//! can hold it against a real one, call by call. Links are taken to dangle: a path through one is ENOENT.

use super::bytes::SparseBytes;
use crate::fs::{Fs, Kind, Result, SetTime, Stat, Time, User, split};
use std::cell::RefCell;
use std::collections::BTreeMap;

const ROOT: u64 = 1;
const NAME_BYTES_MAX: usize = 255;
const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;

#[derive(Clone, Debug)]
struct Inode {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    nlink: u32,
    /// Directories: names. Others: empty.
    names: BTreeMap<String, u64>,
    /// Directories: "..".
    parent: u64,
    target: String,
    bytes: SparseBytes,
    /// Set by utimens and not changed by the server's clock since.
    atime: Option<Time>,
    mtime: Option<Time>,
}

#[derive(Debug)]
struct Tree {
    inodes: BTreeMap<u64, Inode>,
    next: u64,
}

/// The reference filesystem.
#[derive(Debug)]
pub struct Model(RefCell<Tree>);

/// A time that the model does not know, in a `Stat`.
pub const UNKNOWN_TIME: Time = (i64::MIN, 0);

fn inode(kind: Kind, mode: u32) -> Inode {
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
        atime: None,
        mtime: None,
    }
}

impl Tree {
    fn get(&self, ino: u64) -> &Inode {
        &self.inodes[&ino]
    }

    fn edit(&mut self, ino: u64) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("the model holds every inode that a name leads to")
    }

    fn walk(&self, path: &str) -> Result<u64> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(ROOT, |ino, name| self.child(ino, name))
    }

    fn child(&self, ino: u64, name: &str) -> Result<u64> {
        self.directory(ino)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(libc::ENAMETOOLONG);
        }
        self.get(ino).names.get(name).copied().ok_or(libc::ENOENT)
    }

    fn directory(&self, ino: u64) -> Result<u64> {
        match self.get(ino).kind {
            Kind::Dir => Ok(ino),
            Kind::Symlink => Err(libc::ENOENT),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// Parent directory, name, and what the name leads to now.
    fn place<'a>(&self, path: &'a str) -> Result<(u64, &'a str, Option<u64>)> {
        let (parent, name) = split(path);
        let parent = self.directory(self.walk(parent)?)?;
        match self.child(parent, name) {
            Ok(ino) => Ok((parent, name, Some(ino))),
            Err(libc::ENOENT) => Ok((parent, name, None)),
            Err(other) => Err(other),
        }
    }

    fn followed(&self, path: &str) -> Result<u64> {
        let ino = self.walk(path)?;
        if self.get(ino).kind == Kind::Symlink { Err(libc::ENOENT) } else { Ok(ino) }
    }

    /// Something with bytes. A directory has none, but can be opened.
    fn opened(&self, path: &str, for_bytes: bool) -> Result<u64> {
        let ino = self.walk(path)?;
        match self.get(ino).kind {
            Kind::Dir if for_bytes => Err(libc::EISDIR),
            Kind::Symlink => Err(libc::ELOOP),
            _ => Ok(ino),
        }
    }

    /// A new inode under a free name.
    fn add(&mut self, path: &str, mut new: Inode) -> Result<u64> {
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
        new.parent = parent;
        let ino = self.next;
        self.next += 1;
        self.inodes.insert(ino, new);
        self.attach(parent, name, ino);
        Ok(ino)
    }

    fn attach(&mut self, parent: u64, name: &str, ino: u64) {
        if self.get(ino).kind == Kind::Dir {
            self.edit(ino).parent = parent;
            self.edit(parent).nlink += 1;
        }
        self.touch_dir(parent);
        self.edit(parent).names.insert(name.to_string(), ino);
    }

    fn detach(&mut self, parent: u64, name: &str) -> u64 {
        let ino = self.edit(parent).names.remove(name).expect("the name is there");
        self.touch_dir(parent);
        if self.get(ino).kind == Kind::Dir {
            self.edit(parent).nlink -= 1;
        }
        ino
    }

    /// One name of `ino` less; gone with the last.
    fn drop_name(&mut self, ino: u64) {
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

    fn rename(&mut self, old: &str, new: &str, flags: u32) -> Result<()> {
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

    fn stat(&self, ino: u64) -> Stat {
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
        Model(RefCell::new(Tree { inodes: BTreeMap::from([(ROOT, root)]), next: ROOT + 1 }))
    }
}

impl Fs for Model {
    fn by(&self, _user: &User) -> Box<dyn Fs + '_> {
        panic!("the model knows root only")
    }

    fn create(&self, path: &str, mode: u32, exclusive: bool) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let (_, _, taken) = tree.place(path)?;
        match taken.map(|ino| tree.get(ino).kind) {
            Some(_) if exclusive => Err(libc::EEXIST),
            Some(Kind::Dir) => Err(libc::EISDIR),
            Some(Kind::Symlink) => Err(libc::ELOOP),
            Some(_) => Ok(()),
            None => tree.add(path, inode(Kind::File, mode)).map(|_| ()),
        }
    }

    fn open(&self, path: &str) -> Result<()> {
        let tree = self.0.borrow();
        let ino = tree.walk(path)?;
        if tree.get(ino).kind == Kind::Symlink { Err(libc::ELOOP) } else { Ok(()) }
    }

    fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        self.0.borrow_mut().add(path, inode(Kind::Dir, mode & 0o1777)).map(|_| ())
    }

    fn mknod(&self, path: &str, kind: Kind, mode: u32, rdev: u32) -> Result<()> {
        let mut new = inode(kind, mode);
        if matches!(kind, Kind::Char | Kind::Block) {
            new.rdev = rdev;
        }
        self.0.borrow_mut().add(path, new).map(|_| ())
    }

    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        let mut new = inode(Kind::Symlink, 0o777);
        new.target = target.to_string();
        self.0.borrow_mut().add(path, new).map(|_| ())
    }

    fn readlink(&self, path: &str) -> Result<String> {
        let tree = self.0.borrow();
        let node = tree.get(tree.walk(path)?);
        if node.kind == Kind::Symlink { Ok(node.target.clone()) } else { Err(libc::EINVAL) }
    }

    fn link(&self, old: &str, new: &str) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.walk(old)?;
        let (parent, name, taken) = tree.place(new)?;
        if taken.is_some() {
            return Err(libc::EEXIST);
        }
        if tree.get(ino).kind == Kind::Dir {
            return Err(libc::EPERM);
        }
        tree.edit(ino).nlink += 1;
        tree.attach(parent, name, ino);
        Ok(())
    }

    fn unlink(&self, path: &str) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let (parent, name, found) = tree.place(path)?;
        let ino = found.ok_or(libc::ENOENT)?;
        if tree.get(ino).kind == Kind::Dir {
            return Err(libc::EISDIR);
        }
        tree.detach(parent, name);
        tree.drop_name(ino);
        Ok(())
    }

    fn rmdir(&self, path: &str) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let (parent, name, found) = tree.place(path)?;
        let ino = found.ok_or(libc::ENOENT)?;
        match tree.get(ino) {
            node if node.kind != Kind::Dir => return Err(libc::ENOTDIR),
            node if !node.names.is_empty() => return Err(libc::ENOTEMPTY),
            _ => {}
        }
        tree.detach(parent, name);
        tree.drop_name(ino);
        Ok(())
    }

    fn rename(&self, old: &str, new: &str, flags: u32) -> Result<()> {
        self.0.borrow_mut().rename(old, new, flags)
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        let tree = self.0.borrow();
        let ino = tree.walk(path)?;
        Ok(tree.stat(ino))
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.followed(path)?;
        tree.edit(ino).mode = mode & 0o7777;
        Ok(())
    }

    fn chown(&self, path: &str, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.walk(path)?;
        let node = tree.edit(ino);
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        // Linux takes the set-id bits of a regular file away at every chown, also root's (chown(2)); set-gid without
        // group execution meant mandatory locking and stays.
        if node.kind != Kind::Dir {
            node.mode &= !0o4000;
            if node.mode & 0o010 != 0 {
                node.mode &= !0o2000;
            }
        }
        Ok(())
    }

    fn utimens(&self, path: &str, atime: SetTime, mtime: SetTime) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.walk(path)?;
        let set = |old: Option<Time>, time| match time {
            SetTime::Omit => old,
            SetTime::Now => None,
            SetTime::To(time) => Some(time),
        };
        let node = tree.edit(ino);
        node.atime = set(node.atime, atime);
        node.mtime = set(node.mtime, mtime);
        Ok(())
    }

    fn truncate(&self, path: &str, size: u64) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.followed(path)?;
        match tree.get(ino).kind {
            Kind::File => {}
            Kind::Dir => return Err(libc::EISDIR),
            _ => return Err(libc::EINVAL),
        }
        let node = tree.edit(ino);
        node.bytes.truncate(size);
        node.mtime = None;
        Ok(())
    }

    fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.opened(path, true)?;
        let node = tree.edit(ino);
        node.bytes.write(offset, data);
        node.mtime = None;
        Ok(())
    }

    fn read(&self, path: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
        let tree = self.0.borrow();
        let ino = tree.opened(path, true)?;
        Ok(tree.get(ino).bytes.read(offset, len))
    }

    fn fallocate(&self, path: &str, mode: i32, offset: u64, len: u64) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.opened(path, true)?;
        let node = tree.edit(ino);
        match mode {
            // Allocate, zero; with and without KEEP_SIZE; punch.
            0 | 1 => {}
            3 | 16 | 17 => node.bytes.erase(offset, len),
            _ => return Err(libc::EOPNOTSUPP),
        }
        if mode & 1 == 0 && offset + len > node.bytes.size() {
            node.bytes.truncate(offset + len);
        }
        node.mtime = None;
        Ok(())
    }

    fn copy_file_range(&self, from: (&str, u64), to: (&str, u64), len: u64) -> Result<u64> {
        let mut tree = self.0.borrow_mut();
        let source = tree.opened(from.0, false)?;
        let target = tree.opened(to.0, true)?;
        if tree.get(source).kind == Kind::Dir {
            return Err(libc::EISDIR);
        }
        let data = tree.get(source).bytes.read(from.1, len as usize);
        if data.is_empty() {
            return Ok(0);
        }
        if source == target && from.1.abs_diff(to.1) < data.len() as u64 {
            return Err(libc::EINVAL);
        }
        let node = tree.edit(target);
        node.bytes.write(to.1, &data);
        node.mtime = None;
        Ok(data.len() as u64)
    }

    fn seek(&self, _path: &str, _offset: u64, _whence: i32) -> Result<u64> {
        panic!("where a filesystem keeps holes is its own affair")
    }

    fn readdir(&self, path: &str) -> Result<Vec<(String, Kind)>> {
        let tree = self.0.borrow();
        let ino = tree.directory(tree.walk(path)?)?;
        let kind = |&ino: &u64| tree.get(ino).kind;
        Ok(tree.get(ino).names.iter().map(|(name, ino)| (name.clone(), kind(ino))).collect())
    }

    fn used_inodes(&self) -> Result<u64> {
        Ok(self.0.borrow().inodes.len() as u64)
    }
}
