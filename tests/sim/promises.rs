//! What nodes have promised each other over the network, and must remember through every crash: entries that they acknowledged, and votes.
//! A follower answers once an entry is on its disk, a voter once its vote is (Raft, section 5: "persistent state on all servers, updated
//! on stable storage before responding to RPCs").

use crate::checks::{Id, id_of};
use bytes::{Buf, Bytes};
use holdfast_proto::pb::RaftFrame;
use metad::raft::convert;
use metad::raft::node::RaftNode;
use metad::raft::types::Vote;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Of the calls that carry promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Append,
    Vote,
    Offer,
    Snapshot,
    Other,
}

impl Kind {
    pub fn of_path(path: &str) -> Kind {
        match path.rsplit('/').next() {
            Some("Append") => Kind::Append,
            Some("Vote") => Kind::Vote,
            Some("OfferSnapshot") => Kind::Offer,
            Some("Snapshot") => Kind::Snapshot,
            _ => Kind::Other,
        }
    }
}

/// (term, node).
pub type Ballot = (u64, u64);

fn ballot(vote: &Vote) -> Ballot {
    (vote.leader_id.term, vote.leader_id.node_id)
}

#[derive(Clone, Copy, Debug)]
pub enum Said {
    /// All up to this entry is on its disk.
    Has(Id),
    Voted(Ballot),
    /// It has the beginning of a checkpoint already.
    Resumes,
    /// It has taken a checkpoint in place of its state, or refused it.
    Installed,
}

/// The messages in some bytes of a gRPC stream.
fn frames(mut bytes: Bytes) -> Vec<Bytes> {
    let mut found = Vec::new();
    while bytes.len() >= 5 {
        let len = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize;
        bytes.advance(5);
        let Ok(frame) = RaftFrame::decode(bytes.split_to(len.min(bytes.len()))) else { break };
        found.push(frame.data);
    }
    found
}

/// What an answer promises.
pub fn said(kind: Kind, bytes: &Bytes) -> Vec<Said> {
    let promise = |data: Bytes| match kind {
        Kind::Append => convert::decode_append_result(data).ok()?.ok()?.map(|id| Said::Has(id_of(&id))),
        Kind::Vote => {
            let answer = convert::decode_vote_response(data).ok()?;
            answer.vote_granted.then(|| Said::Voted(ballot(&answer.vote)))
        }
        Kind::Offer => convert::decode_offset(data).ok().filter(|offset| *offset > 0).map(|_| Said::Resumes),
        Kind::Snapshot => Some(Said::Installed),
        Kind::Other => None,
    };
    if kind == Kind::Other { Vec::new() } else { frames(bytes.clone()).into_iter().filter_map(promise).collect() }
}

/// Planted bug: whoever asks for a vote gets it. The answer to `asked` in place of `bytes`.
pub fn always_granted(asked: &Bytes, bytes: &Bytes) -> Option<Bytes> {
    let request = convert::decode_vote_request(frames(asked.clone()).pop()?).ok()?;
    let mut answer = convert::decode_vote_response(frames(bytes.clone()).pop()?).ok()?;
    (answer.vote, answer.vote_granted) = (request.vote, true);
    let frame = RaftFrame { data: convert::encode_vote_response(&answer) }.encode_to_vec();
    let mut forged = vec![0];
    forged.extend_from_slice(&(frame.len() as u32).to_be_bytes());
    forged.extend(frame);
    Some(forged.into())
}

#[derive(Default)]
struct Promised {
    has: Option<Id>,
    voted: Option<Ballot>,
}

#[derive(Default)]
pub struct Promises {
    of: BTreeMap<u64, Promised>,
    /// Nodes that have forgotten what they promised. Until the cluster has let them in, they answer nobody.
    strangers: BTreeSet<u64>,
    pub wrong: Vec<String>,
}

impl Promises {
    pub fn hear(&mut self, node: u64, said: Said) {
        if self.strangers.contains(&node) {
            self.wrong.push(format!("node {node} said {said:?} before it was let in with its new disk"));
        }
        let promised = self.of.entry(node).or_default();
        match said {
            Said::Resumes | Said::Installed => {}
            Said::Has(id) => promised.has = promised.has.max(Some(id)),
            Said::Voted(ballot) => {
                if promised.voted.is_some_and(|before| ballot < before) {
                    let before = promised.voted;
                    self.wrong.push(format!("election safety: node {node} votes for {ballot:?} after {before:?}"));
                }
                promised.voted = promised.voted.max(Some(ballot));
            }
        }
    }

    /// A node begins a new life, on an empty disk.
    pub fn begin_life(&mut self, node: u64) {
        self.of.remove(&node);
        self.strangers.insert(node);
    }

    /// Nodes that wait to be let in.
    pub fn strangers(&self) -> Vec<u64> {
        self.strangers.iter().copied().collect()
    }

    pub fn let_in(&mut self, node: u64) {
        self.strangers.remove(&node);
    }

    /// A node goes down. What a later leader took out of its log, it need not have.
    pub fn go_down(&mut self, node: u64, entry_at: impl Fn(u64) -> Option<Id>) {
        if let Some(promised) = self.of.get_mut(&node) {
            promised.has = promised.has.filter(|id| entry_at(id.2) == Some(*id));
        }
    }

    /// A node has come back.
    pub fn come_back(&mut self, node: &RaftNode) {
        let Some(promised) = self.of.get(&node.id) else { return };
        if let Some(id) = promised.has.filter(|id| id.2 > node.log().purged_index()) {
            let entries = node.log().entries(id.2..id.2 + 1).unwrap_or_default();
            if entries.first().map(|entry| id_of(&entry.log_id)) != Some(id) {
                self.wrong.push(format!("durability: node {} acknowledged {id:?} and has lost it", node.id));
            }
        }
        let vote = node.log().vote().map(|vote| ballot(&vote));
        if vote < promised.voted {
            let voted = promised.voted;
            self.wrong.push(format!("durability: node {} voted {voted:?} and remembers {vote:?}", node.id));
        }
    }
}
