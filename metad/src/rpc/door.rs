//! Door: how a node gets its place in the cluster. It asks any node it knows; the leader rules by the record of it, or writes one.
//! Called by rpc/raft_service; the asking side is background/join.

use super::propose::Proposer;
use super::standing::{Ruling, Standing, rule};
use crate::raft::node::RaftNode;
use crate::store::{KvCommit, StoreError, read};
use holdfast_proto::pb::{self, JoinAnswer, JoinReply, JoinRequest, WhoReply, WhoRequest, mutation};
use std::sync::Arc;

#[derive(Clone)]
pub struct Door {
    pub node: Arc<RaftNode>,
    pub standing: Arc<Standing>,
    pub proposer: Arc<Proposer>,
}

impl Door {
    /// The leader's answer to a node that wants to take part.
    pub async fn join(&self, request: JoinRequest) -> JoinReply {
        if !self.standing.serves() || !self.node.leadership().is_self || self.leads_for_certain().await.is_none() {
            return self.reply(JoinAnswer::AskLeader, "");
        }
        let ruling = self.node.store().view(|view| {
            let record = read::node(view, request.id)?;
            let nobody = record.is_none() && read::nodes(view)?.is_empty();
            Ok::<_, StoreError>(rule(record.as_ref(), nobody, &request))
        });
        match ruling {
            Ok(Ruling::Answer(answer, message)) => {
                if answer == JoinAnswer::Wait {
                    self.standing.newcomers.notify_one();
                }
                self.reply(answer, message)
            }
            Ok(Ruling::Record) => self.record(request).await,
            Err(error) => self.reply(JoinAnswer::AskLeader, &error.to_string()),
        }
    }

    async fn leads_for_certain(&self) -> Option<()> {
        if self.node.lease_is_sure() { Some(()) } else { self.node.read_index().await.ok() }
    }

    /// Whatever becomes of it, the node asks again.
    async fn record(&self, request: JoinRequest) -> JoinReply {
        let JoinRequest { id, store, blank, .. } = request;
        let op = mutation::Op::JoinNode(pb::JoinNodeOp { id, store, blank });
        match self.proposer.propose_local(op).await {
            Ok(_) => self.standing.newcomers.notify_one(),
            Err(failure) => tracing::debug!(id, message = failure.message, "record a node that joins"),
        }
        self.reply(JoinAnswer::Wait, "it has been heard")
    }

    fn reply(&self, answer: JoinAnswer, message: &str) -> JoinReply {
        let leadership = self.node.leadership();
        JoinReply {
            answer: answer as i32,
            term: leadership.term,
            leader_id: leadership.leader.unwrap_or(0),
            leader: if self.standing.serves() { self.node.leader_addr() } else { String::new() },
            cluster: self.cluster(),
            message: message.to_owned(),
        }
    }

    fn cluster(&self) -> String {
        self.standing.cluster.get().map(|cluster| cluster.to_string()).unwrap_or_default()
    }

    /// What a node that wants to found a cluster, or a leader that wants this one to vote, must know of it.
    pub fn who(&self, request: &WhoRequest) -> WhoReply {
        let promised = self.standing.promise(request.founder);
        WhoReply { promised, cluster: self.cluster(), learns: self.standing.learns() }
    }
}
