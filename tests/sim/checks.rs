//! What must hold of the nodes at every moment: Raft's safety properties (Ongaro and Ousterhout, "In Search of an Understandable
//! Consensus Algorithm", figure 3 and section 5), looked at from outside after each step of the clock.
//!
//! What the paper calls a term is here a leader id, (term, node): openraft orders them so, and a node may grant a vote to a higher
//! node id of the same term. So "one vote a term" reads: votes that were answered never go back.

use crate::os::hash_of;
use crate::promises::Promises;
use metad::raft::node::RaftNode;
use metad::raft::types::{Command, Entry, LogId, Payload};
use metad::store::{KvCommit, KvRead, StoreError, keys};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::ControlFlow;

/// (term, node, index).
pub type Id = (u64, u64, u64);

pub fn id_of(id: &LogId) -> Id {
    (id.leader_id.term, id.leader_id.node_id, id.index)
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    content: u64,
    before: Option<Id>,
}

#[derive(Default)]
struct Mirror {
    log: BTreeMap<u64, Id>,
    leads: Option<u64>,
    /// Its entries before this index have been looked at as committed.
    committed_before: u64,
}

#[derive(Default)]
pub struct Checks {
    /// Every entry that was ever in a log.
    known: BTreeMap<Id, Known>,
    mirrors: BTreeMap<u64, Mirror>,
    committed: BTreeMap<u64, Id>,
    /// The commands among them.
    pub commands: BTreeMap<u64, bytes::Bytes>,
    payloads: BTreeMap<Id, bytes::Bytes>,
    /// Digest of the state at each index at which one was looked at.
    states: BTreeMap<u64, u64>,
    leaders: BTreeMap<u64, Vec<u64>>,
    pub promises: Promises,
    pub wrong: Vec<String>,
}

fn content(entry: &Entry) -> u64 {
    match &entry.payload {
        Payload::Blank => 0,
        Payload::Normal(Command(bytes)) => hash_of(bytes),
        Payload::Membership(membership) => hash_of(format!("{membership:?}").as_bytes()),
    }
}

impl Checks {
    pub fn committed_count(&self) -> usize {
        self.committed.len()
    }

    /// A node went down: what it knew is looked at afresh.
    pub fn forget(&mut self, id: u64) {
        let mirror = self.mirrors.remove(&id).unwrap_or_default();
        self.promises.go_down(id, |index| mirror.log.get(&index).copied());
    }

    pub fn look(&mut self, node: &RaftNode) {
        let last = node.log().last_log_id();
        let mirror = self.mirrors.remove(&node.id);
        if mirror.is_none() {
            self.promises.come_back(node);
        }
        let mirror = mirror.unwrap_or_default();
        let mut mirror = self.follow(node, last.as_ref(), mirror);
        self.check_committed(node, &mut mirror);
        self.check_leader(node, &mut mirror);
        self.mirrors.insert(node.id, mirror);
        self.wrong.append(&mut self.promises.wrong);
    }

    /// Takes over what has changed in a node's log. Log Matching (section 5.3): an entry is the same in all logs, and so is the one before it.
    fn follow(&mut self, node: &RaftNode, last: Option<&LogId>, mut mirror: Mirror) -> Mirror {
        let newest = mirror.log.last_key_value().map(|(_, id)| *id);
        let Some(last) = last.map(id_of) else { return mirror };
        if newest == Some(last) {
            return mirror;
        }
        // Back to where both agree: an id says which entry it is.
        let first = node.log().purged_index();
        let mut from = mirror.log.last_key_value().map_or(0, |(index, _)| index + 1).min(last.2 + 1);
        let entries = loop {
            let start = from.saturating_sub(8).max(if first == 0 { 0 } else { first + 1 });
            let Ok(part) = node.log().entries(start..last.2 + 1) else {
                self.wrong.push(format!("node {}: its log cannot be read", node.id));
                return mirror;
            };
            let agrees =
                part.first().is_some_and(|entry| mirror.log.get(&entry.log_id.index) == Some(&id_of(&entry.log_id)));
            let at_start = start == 0 || start == first + 1;
            from = start;
            if agrees || at_start {
                break part;
            }
        };
        mirror.log.split_off(&from);
        if first > 0 {
            // What a checkpoint holds is no longer in the log; what was there before it came may have been anything.
            mirror.log = mirror.log.split_off(&(first + 1));
            mirror.committed_before = mirror.committed_before.max(first + 1);
        }
        mirror.committed_before = mirror.committed_before.min(from);
        for entry in &entries {
            self.take(node.id, entry, &mut mirror);
        }
        mirror
    }

    fn take(&mut self, node: u64, entry: &Entry, mirror: &mut Mirror) {
        let id = id_of(&entry.log_id);
        let before = id.2.checked_sub(1).and_then(|index| mirror.log.get(&index).copied());
        let known = Known { content: content(entry), before };
        match self.known.get(&id) {
            Some(other) if other.content != known.content => {
                self.wrong.push(format!("log matching: entry {id:?} of node {node} has another content"));
            }
            Some(other) if before.is_some() && other.before.is_some() && other.before != before => {
                self.wrong
                    .push(format!("log matching: before {id:?} node {node} has {before:?}, not {:?}", other.before));
            }
            Some(_) => {}
            None => {
                self.known.insert(id, known);
            }
        }
        if let Payload::Normal(Command(bytes)) = &entry.payload {
            self.payloads.insert(id, bytes.clone());
        }
        mirror.log.insert(id.2, id);
    }

    /// State Machine Safety (section 5.4.3): what is committed at an index is the same on all nodes, for ever.
    fn check_committed(&mut self, node: &RaftNode, mirror: &mut Mirror) {
        let Some(newest) = node.committed().as_ref().map(id_of) else { return };
        // Once openraft has accepted a checkpoint it counts all of that as committed, then installs it, and purges the log after that. Until
        // then the log may hold entries that never were committed; by Log Matching it holds none before the newest that was.
        if newest.2 < mirror.committed_before || mirror.log.get(&newest.2) != Some(&newest) {
            return;
        }
        let through = newest.2;
        for (index, id) in mirror.log.range(mirror.committed_before..=through) {
            mirror.committed_before = index + 1;
            match self.committed.get(index) {
                Some(other) if other != id => {
                    let node = node.id;
                    self.wrong
                        .push(format!("state machine safety: node {node} has {id:?} committed, another {other:?}"));
                }
                Some(_) => {}
                None => {
                    self.committed.insert(*index, *id);
                    if let Some(bytes) = self.payloads.get(id) {
                        self.commands.insert(*index, bytes.clone());
                    }
                }
            }
        }
    }

    /// Leader Completeness (section 5.4): a new leader has all that was committed before. Election Safety (5.2).
    fn check_leader(&mut self, node: &RaftNode, mirror: &mut Mirror) {
        let leadership = node.leadership();
        let term = leadership.is_self.then_some(leadership.term);
        if term == mirror.leads {
            return;
        }
        mirror.leads = term;
        let Some(term) = term else { return };
        let leaders = self.leaders.entry(term).or_default();
        if !leaders.contains(&node.id) {
            leaders.push(node.id);
        }
        let first = node.log().purged_index();
        for (index, id) in self.committed.range(first + 1..).filter(|(_, id)| id.0 < term) {
            if mirror.log.get(index) != Some(id) {
                self.wrong.push(format!("leader completeness: node {} leads term {term} without {id:?}", node.id));
                return;
            }
        }
    }

    /// Terms that had more than one leader, which openraft allows.
    pub fn shared_terms(&self) -> usize {
        self.leaders.values().filter(|nodes| nodes.len() > 1).count()
    }

    pub fn leaders_count(&self) -> usize {
        self.leaders.values().map(Vec::len).sum()
    }

    /// The same index, the same state.
    pub fn look_at_state(&mut self, node: &RaftNode) {
        match node.store().view(digest) {
            Ok((index, sum)) => match self.states.insert(index, sum) {
                Some(other) if other != sum => {
                    self.wrong.push(format!("node {} has another state at index {index} than others", node.id));
                }
                _ => {}
            },
            Err(error) => self.wrong.push(format!("node {}: {error}", node.id)),
        }
    }
}

fn hash_pairs(view: &dyn KvRead, counts: impl Fn(&[u8]) -> bool) -> Result<u64, StoreError> {
    let mut hasher = DefaultHasher::new();
    view.scan(&[], &keys::STATE_END, &mut |key, value| {
        for bytes in [key, value].into_iter().filter(|_| counts(key)) {
            hasher.write_usize(bytes.len());
            hasher.write(bytes);
        }
        ControlFlow::Continue(())
    })?;
    Ok(hasher.finish())
}

/// The index a state is of, and a digest of all of it.
fn digest(view: &dyn KvRead) -> Result<(u64, u64), StoreError> {
    Ok((metad::raft::state_machine::applied_index(view)?, hash_pairs(view, |_| true)?))
}

/// A digest of what commands have made, whoever applied them.
pub fn made_by_commands(view: &dyn KvRead) -> Result<u64, StoreError> {
    hash_pairs(view, |key| *key != *keys::raft_applied() && *key != *keys::raft_membership())
}
