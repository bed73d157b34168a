//! The reference tree, call by call: `Fs` for the model, with the refusals that Linux gives to root.

use super::tree::{Model, inode};
use super::xattrs::{ACCESS, DEFAULT, SmallAcl};
use crate::fs::{Fs, Kind, Lock, Result, SetTime, Stat, Time, User};

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
        tree.edit(ino).xattrs.chmod(mode);
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
            node.xattrs.drop_capability();
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
        node.xattrs.drop_capability();
        node.mtime = None;
        Ok(())
    }

    fn write(&self, path: &str, offset: u64, data: &[u8]) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.opened(path, true)?;
        let node = tree.edit(ino);
        if !data.is_empty() {
            node.bytes.write(offset, data);
            node.xattrs.drop_capability();
            node.mtime = None;
        }
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
        node.xattrs.drop_capability();
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
        node.xattrs.drop_capability();
        node.mtime = None;
        Ok(data.len() as u64)
    }

    fn seek(&self, _path: &str, _offset: u64, _whence: i32) -> Result<u64> {
        panic!("where a filesystem keeps holes is its own affair")
    }

    fn set_xattr(&self, path: &str, name: &str, value: &[u8], flags: u32) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.walk(path)?;
        let node = tree.edit(ino);
        if name == ACCESS || name == DEFAULT {
            let acl = SmallAcl::decode(value).ok_or(libc::EINVAL)?;
            node.mode = node.xattrs.set_acl((node.kind, node.mode), name, acl)?;
            return Ok(());
        }
        node.xattrs.set(node.kind, name, value, flags)
    }

    fn get_xattr(&self, path: &str, name: &str) -> Result<Vec<u8>> {
        let tree = self.0.borrow();
        let node = tree.get(tree.walk(path)?);
        node.xattrs.get(node.kind, name)
    }

    fn list_xattr(&self, path: &str) -> Result<Vec<String>> {
        let tree = self.0.borrow();
        Ok(tree.get(tree.walk(path)?).xattrs.list())
    }

    fn remove_xattr(&self, path: &str, name: &str) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.walk(path)?;
        let node = tree.edit(ino);
        node.xattrs.remove(node.kind, name)
    }

    fn lock(&self, owner: u64, path: &str, lock: Lock) -> Result<()> {
        let mut tree = self.0.borrow_mut();
        let ino = tree.opened(path, true)?;
        tree.locks.set(owner, ino, lock)
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
