//! Dead: numbers of inodes that are gone, which no later one may have. Made to be cloned at every step of a search: a clone shares all but
//! the newest few. Pure. Called by `tree_state`.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

const RECENT_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dead {
    old: Arc<BTreeSet<u64>>,
    recent: Arc<Vec<u64>>,
}

impl Dead {
    pub fn insert(&mut self, ino: u64) {
        let recent = Arc::make_mut(&mut self.recent);
        recent.push(ino);
        if recent.len() == RECENT_MAX {
            Arc::make_mut(&mut self.old).extend(recent.drain(..));
        }
    }

    pub fn contains(&self, ino: u64) -> bool {
        self.recent.contains(&ino) || self.old.contains(&ino)
    }
}

impl Hash for Dead {
    /// Their count does: calls that were all done have made the same numbers known, and those that are not alive are dead.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.old.len() + self.recent.len()).hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_died_stays_dead_in_every_clone_made_since() {
        let mut dead = Dead::default();
        let before = dead.clone();
        for ino in 0..200 {
            dead.insert(ino);
        }
        let after = dead.clone();
        assert!((0..200).all(|ino| after.contains(ino) && !before.contains(ino)) && !after.contains(200));
    }
}
