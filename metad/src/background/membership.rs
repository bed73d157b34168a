//! The keeper of the members: on the leader, brings Raft's membership to what the state says of the nodes, one step at a time. It keeps
//! nothing in mind: all it goes by is in the state and in Raft, so any new leader goes on where the last one stopped. Started by server.

use crate::raft::dial::Dial;
use crate::raft::members::MemberView;
use crate::raft::node::RaftNode;
use crate::rpc::propose::Proposer;
use crate::rpc::standing::Standing;
use crate::store::node_record::{NodeRecord, StoreId};
use crate::store::{KvCommit, StoreError, read};
use holdfast_proto::pb::{self, WhoRequest, mutation};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// With nothing to wait for, the members are looked at this often.
const INTERVAL: Duration = Duration::from_millis(500);
/// While a step is due that depends on how far a node is.
const BUSY_INTERVAL: Duration = Duration::from_millis(20);
/// A node that was admitted asks again within this time, and then lets the leader in: a call before would fail, and be made again late.
const ADMITTED_PAUSE: Duration = Duration::from_millis(25);
/// A peer that has not answered in this time is not there.
const ASK_DEADLINE: Duration = Duration::from_millis(500);
const HANDOVER_DEADLINE: Duration = Duration::from_secs(2);
/// A learner that lacks no more than so many entries becomes a voter: it is there before anybody waits for it.
const LAG_MAX: u64 = 500;

/// All that a step is decided by.
#[derive(Clone, Debug, Default)]
pub struct Look {
    pub id: u64,
    /// This node's own life.
    pub store: Option<StoreId>,
    pub nodes: BTreeMap<u64, NodeRecord>,
    pub is_founding: bool,
    pub raft: MemberView,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The members are as they should be, as far as anybody can tell now.
    Done,
    /// Something is under way: look again soon.
    Wait,
    Record,
    Settle,
    Founded,
    /// This node has no place any more: another is to lead.
    HandOver,
    /// Raft is to forget the node: it is no member any more, or another life of it wants to come.
    Drop(u64),
    Admit(u64, StoreId),
    RegisterSelf(StoreId),
    AddLearner(u64, String),
    Promote(u64),
}

/// The next step. Pure.
pub fn next_step(look: &Look) -> Step {
    let Look { raft, nodes, .. } = look;
    if nodes.is_empty() {
        return Step::Record;
    }
    // Without a quorum that answers nothing can be committed: the leader would be refused, and log it, at each try.
    if !raft.settled || !raft.is_quorum(&raft.voters) {
        return Step::Wait;
    }
    if raft.joint {
        return Step::Settle;
    }
    if look.is_founding && raft.voters.len() * 2 > nodes.len() {
        return Step::Founded;
    }
    let ways = [register_self, drop_one, admit, promote, add_learner];
    ways.iter().find_map(|way| way(look)).unwrap_or_else(|| still(look))
}

fn register_self(look: &Look) -> Option<Step> {
    let known = look.nodes.get(&look.id)?;
    look.store.filter(|_| known.store.is_none()).map(Step::RegisterSelf)
}

/// Of those that Raft is to forget, one without which those that are there are a quorum still.
fn drop_one(look: &Look) -> Option<Step> {
    let Look { raft, nodes, .. } = look;
    // While the life that has the place answers, whoever wants to come in its place is somebody else, started with its id by mistake.
    let gone = |id: &u64, node: &NodeRecord| node.newcomer.is_some() && !raft.answering.contains(id);
    let unwanted = |id: &u64| nodes.get(id).is_none_or(|node| gone(id, node));
    let mut members = raft.learners.iter().chain(&raft.voters).copied().filter(unwanted);
    let id = members.find(|id| {
        let others: BTreeSet<u64> = raft.voters.iter().copied().filter(|voter| voter != id).collect();
        !raft.voters.contains(id) || raft.is_quorum(&others)
    })?;
    Some(if id == look.id { Step::HandOver } else { Step::Drop(id) })
}

/// Only what Raft has forgotten is replaced.
fn admit(look: &Look) -> Option<Step> {
    let mut free = look.nodes.iter().filter(|(id, _)| !look.raft.has(**id));
    free.find_map(|(id, node)| node.newcomer.map(|newcomer| Step::Admit(*id, newcomer)))
}

fn promote(look: &Look) -> Option<Step> {
    let Look { raft, nodes, .. } = look;
    let near = |id: &&u64| raft.matched.get(*id).is_some_and(|at| at + LAG_MAX >= raft.last_log);
    let ready = |id: &&u64| nodes.contains_key(*id) && raft.answering.contains(*id) && near(id);
    raft.learners.iter().find(ready).map(|id| Step::Promote(*id))
}

fn add_learner(look: &Look) -> Option<Step> {
    let mut absent = look.nodes.iter().filter(|(id, node)| node.store.is_some() && !look.raft.has(**id));
    absent.next().map(|(id, node)| Step::AddLearner(*id, node.addr.clone()))
}

fn still(look: &Look) -> Step {
    let known = |id: &u64| look.nodes.get(id).is_some_and(|node| node.newcomer.is_none());
    let settled = look.raft.learners.is_empty() && look.raft.voters.iter().all(known);
    if settled && !look.is_founding { Step::Done } else { Step::Wait }
}

pub struct Keeper {
    pub node: Arc<RaftNode>,
    pub standing: Arc<Standing>,
    pub proposer: Arc<Proposer>,
    pub dial: Dial,
    /// Whom the cluster is founded with, where this node founds it.
    pub peers: BTreeMap<u64, String>,
    pub init: bool,
}

impl Keeper {
    /// Runs until the process ends.
    pub async fn run(self) {
        let mut changes = self.node.watch();
        loop {
            let pause = match self.look() {
                None if self.node.leadership().is_self => BUSY_INTERVAL,
                None => INTERVAL,
                Some(look) => match next_step(&look) {
                    Step::Done => INTERVAL,
                    Step::Wait => BUSY_INTERVAL,
                    step => match self.take(&look, &step).await {
                        Ok(()) if matches!(step, Step::Admit(..)) => ADMITTED_PAUSE,
                        Ok(()) => Duration::ZERO,
                        Err(why) => {
                            tracing::debug!(?step, why, "a change of the members was not made");
                            BUSY_INTERVAL
                        }
                    },
                },
            };
            if pause == INTERVAL {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.standing.newcomers.notified() => {}
                    () = self.leads(&mut changes) => {}
                }
            } else {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Returns when this node begins to lead; a leader's other changes are looked at in their time.
    async fn leads(&self, changes: &mut crate::raft::node::Changes) {
        let before = self.node.leadership();
        while before.is_self || !self.node.leadership().is_self {
            if !changes.changed().await {
                return std::future::pending().await;
            }
        }
    }

    /// None: this node does not lead, or does not know yet what the leader before it has done.
    fn look(&self) -> Option<Look> {
        let raft = self.node.member_view()?;
        if !self.node.has_applied_own_term() {
            return None;
        }
        let state = self.node.store().view(|view| Ok::<_, StoreError>((read::nodes(view)?, read::is_founding(view)?)));
        match state {
            Ok((nodes, is_founding)) => {
                Some(Look { id: self.node.id, store: Some(self.standing.store), nodes, is_founding, raft })
            }
            Err(error) => {
                tracing::warn!(%error, "read the members");
                None
            }
        }
    }

    async fn take(&self, look: &Look, step: &Step) -> Result<(), String> {
        let failed = |error: crate::error::MetadError| error.to_string();
        match step {
            Step::Done | Step::Wait => {}
            Step::Record => self.propose(mutation::Op::Found(self.first_members(&look.raft))).await?,
            Step::Founded => {
                self.propose(mutation::Op::Found(pb::FoundOp { nodes: Vec::new(), done: true })).await?;
                tracing::info!(voters = ?look.raft.voters, "the cluster is founded");
            }
            Step::Settle => self.node.settle().await.map_err(failed)?,
            Step::HandOver => {
                let leader = self.node.transfer_leader(None, HANDOVER_DEADLINE).await.map_err(failed)?;
                tracing::info!(leader, "this node is to be removed: it has handed over leadership");
            }
            Step::Drop(id) => {
                self.node.drop_member(*id).await.map_err(failed)?;
                tracing::info!(node = id, "removed from the members");
            }
            Step::Admit(id, store) => {
                let op = pb::AdmitNodeOp { id: *id, store: store.to_wire() };
                self.propose(mutation::Op::AdmitNode(op)).await?;
                tracing::info!(node = id, %store, "a new life of the node's disk has its place");
            }
            Step::RegisterSelf(store) => {
                let op = pb::JoinNodeOp { id: self.node.id, store: store.to_wire(), blank: false };
                self.propose(mutation::Op::JoinNode(op)).await?;
            }
            Step::AddLearner(id, addr) => {
                self.node.add_learner(*id, addr).await.map_err(failed)?;
                tracing::info!(node = id, addr, "learns");
            }
            Step::Promote(id) => {
                self.check_learnt(&look.nodes[id].addr).await?;
                self.node.promote(*id).await.map_err(failed)?;
                tracing::info!(node = id, "votes");
            }
        }
        Ok(())
    }

    /// A node that does not know yet that it was let in does not vote, and without a leader never comes to know: one that is counted on
    /// must know it, on its disk.
    async fn check_learnt(&self, addr: &str) -> Result<(), String> {
        let mut client = self.dial.connect(addr).map_err(|error| error.to_string())?;
        let asked =
            tokio::time::timeout(ASK_DEADLINE, client.who(self.standing.caller().request(WhoRequest::default()))).await;
        match asked {
            Ok(Ok(reply)) if reply.get_ref().learns => Err("it does not know yet that it was let in".to_owned()),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Those of the configuration, where this node has just founded the cluster of itself alone; else those that Raft has had since
    /// before there were records.
    fn first_members(&self, raft: &MemberView) -> pb::FoundOp {
        let alone = raft.voters.iter().eq([&self.node.id]) && raft.learners.is_empty();
        let nodes = match self.init && alone {
            true => self.peers.iter().map(|(id, addr)| pb::NodeAddr { id: *id, addr: addr.clone() }).collect(),
            false => self.node.members().into_iter().map(|(id, addr, _)| pb::NodeAddr { id, addr }).collect(),
        };
        pb::FoundOp { nodes, done: !(self.init && alone) }
    }

    async fn propose(&self, op: mutation::Op) -> Result<(), String> {
        match self.proposer.propose_local(op).await {
            Ok(outcome) => match outcome.verdict {
                crate::apply::Verdict::Reply(_) => Ok(()),
                other => Err(format!("{other:?}")),
            },
            Err(failure) => Err(failure.message),
        }
    }
}

#[cfg(test)]
#[path = "membership_test.rs"]
mod tests;
