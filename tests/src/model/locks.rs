//! Locks of the reference tree: byte by byte, who has it and how. Slow and plain.

use crate::fs::{Lock, LockMode, Result};
use std::collections::BTreeMap;

/// Bytes that locks may be of.
pub const BYTES_MAX: u64 = 32;

#[derive(Debug, Default)]
pub struct Locks {
    /// (inode, byte, owner): whether it is exclusive.
    held: BTreeMap<(u64, u64, u64), bool>,
    /// The one inode that each owner has open.
    opened: BTreeMap<u64, u64>,
}

impl Locks {
    pub fn set(&mut self, owner: u64, ino: u64, lock: Lock) -> Result<()> {
        if self.opened.insert(owner, ino).is_some_and(|before| before != ino) {
            self.held.retain(|(_, _, of), _| *of != owner);
        }
        let wanted = match lock.mode {
            LockMode::Shared => Some(false),
            LockMode::Exclusive => Some(true),
            LockMode::Unlock => None,
        };
        let mut others = self
            .held
            .iter()
            .filter(|((at, byte, of), _)| *at == ino && *of != owner && (lock.first..=lock.last).contains(byte));
        if others.any(|(_, exclusive)| wanted.is_some_and(|wanted| wanted || *exclusive)) {
            return Err(libc::EAGAIN);
        }
        for byte in lock.first..=lock.last {
            match wanted {
                Some(exclusive) => self.held.insert((ino, byte, owner), exclusive),
                None => self.held.remove(&(ino, byte, owner)),
            };
        }
        Ok(())
    }
}
