//! What an operator asks of one node: its status, whether its state is sound, to add or remove a member, and to hand over leadership.
//! Called by tonic.

use crate::disk_room::DiskRoom;
use crate::raft::channel::ClusterCell;
use crate::raft::members::MemberView;
use crate::raft::node::RaftNode;
use crate::rpc::propose::Proposer;
use crate::rpc::push::Hub;
use crate::rpc::standing::Standing;
use crate::rpc::verify::Verifier;
use crate::store::node_record::NodeRecord;
use crate::store::{KvCommit, read};
use holdfast_proto::limits::NODES_MAX;
use holdfast_proto::pb::admin_server::Admin;
use holdfast_proto::pb::mutation::Op;
use holdfast_proto::pb::{
    AddNodeOp, AddNodeReply, AddNodeRequest, CheckpointReply, CheckpointRequest, Member, NodeAddr, NodeStatus,
    NodeStatusQuery, RemoveNodeOp, RemoveNodeReply, RemoveNodeRequest, TransferLeaderReply, TransferLeaderRequest,
    VerifyReply, VerifyRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

const TRANSFER_DEADLINE: Duration = Duration::from_secs(5);

pub struct AdminService {
    pub node: Arc<RaftNode>,
    pub cluster: ClusterCell,
    pub hub: Arc<Hub>,
    pub addr: String,
    pub room: Arc<DiskRoom>,
    pub verifier: Arc<Verifier>,
    pub proposer: Arc<Proposer>,
    pub standing: Arc<Standing>,
}

#[derive(Clone)]
pub struct AdminServer(pub Arc<AdminService>);

impl AdminService {
    fn status(&self) -> NodeStatus {
        let facts = self.node.facts();
        let mut status = NodeStatus {
            id: self.node.id,
            role: facts.role.to_owned(),
            leader: facts.leader.unwrap_or(0),
            term: facts.term,
            last_log: facts.last_log,
            committed: facts.committed,
            applied: facts.applied,
            ..NodeStatus::default()
        };
        status.addr = self.addr.clone();
        status.cluster = self.cluster.get().map(|cluster| cluster.to_string()).unwrap_or_default();
        status.version = holdfast_proto::version::BUILD.to_owned();
        status.image = self.node.image_index();
        status.members = self.members();
        if let Some(newest) = self.node.newest_checkpoint() {
            (status.checkpoint, status.checkpoint_bytes) = (newest.index, newest.bytes);
        }
        status.free_bytes = self.room.free_bytes();
        status.tight = self.room.is_tight();
        status.log_bytes = self.node.log_disk_bytes();
        status.sessions = self.hub.attached().len() as u64;
        status.ready = self.node.is_ready();
        status
    }

    /// Those that Raft has and those that are recorded, which differ while the keeper is at work.
    fn members(&self) -> Vec<Member> {
        let records = self.node.store().view(read::nodes).unwrap_or_default();
        let view = self.node.member_view().unwrap_or_default();
        let mut members: BTreeMap<u64, Member> = BTreeMap::new();
        for (id, addr, voter) in self.node.members() {
            let state = state_of(records.get(&id), records.is_empty(), Some(voter)).to_owned();
            members.insert(id, Member { id, addr, voter, state, ..Member::default() });
        }
        for (id, record) in records.iter().filter(|(id, _)| !members.contains_key(id)).collect::<Vec<_>>() {
            let state = state_of(Some(record), false, None).to_owned();
            members.insert(*id, Member { id: *id, addr: record.addr.clone(), state, ..Member::default() });
        }
        let seen = |mut member: Member| {
            member.matched = view.matched.get(&member.id).copied().unwrap_or(0);
            member.answers = view.answering.contains(&member.id);
            member
        };
        members.into_values().map(seen).collect()
    }

    /// What only the leader may do, with the members as it sees them.
    fn lead(&self) -> Result<MemberView, Status> {
        let view = self.node.member_view().filter(|_| self.node.has_applied_own_term() && self.node.is_founded());
        view.ok_or_else(|| Status::unavailable("this node does not lead, or not yet"))
    }

    async fn propose(&self, op: Op) -> Result<(), Status> {
        let outcome = self.proposer.propose_local(op).await;
        let outcome = outcome.map_err(|failure| Status::unavailable(failure.message))?;
        self.standing.newcomers.notify_one();
        match outcome.verdict {
            crate::apply::Verdict::Reply(_) => Ok(()),
            crate::apply::Verdict::Refused(errno) => Err(Status::failed_precondition(errno.to_string())),
            crate::apply::Verdict::Failed(code) => Err(Status::failed_precondition(code.as_str_name())),
        }
    }

    async fn add(&self, id: u64, addr: String) -> Result<(), Status> {
        self.lead()?;
        let records = self.node.store().view(read::nodes).map_err(|error| Status::internal(error.to_string()))?;
        check_add(&records, id, &addr).map_err(Status::failed_precondition)?;
        self.propose(Op::AddNode(AddNodeOp { node: Some(NodeAddr { id, addr }) })).await
    }

    async fn remove(&self, id: u64) -> Result<(), Status> {
        let view = self.lead()?;
        let records = self.node.store().view(read::nodes).map_err(|error| Status::internal(error.to_string()))?;
        check_remove(&records, &view, id).map_err(Status::failed_precondition)?;
        self.propose(Op::RemoveNode(RemoveNodeOp { id })).await
    }
}

/// `voter`: what Raft has; None where it has not.
fn state_of(record: Option<&NodeRecord>, unrecorded: bool, voter: Option<bool>) -> &'static str {
    match (record, voter) {
        (None, _) if !unrecorded => "leaving",
        (Some(record), Some(_)) if record.newcomer.is_some() => "returning",
        (_, Some(true)) => "voter",
        (_, Some(false)) => "learner",
        (_, None) => "joining",
    }
}

/// Why a node may not be added.
fn check_add(records: &BTreeMap<u64, NodeRecord>, id: u64, addr: &str) -> Result<(), String> {
    let port_ok = addr.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if id == 0 || !port_ok {
        return Err(format!("{id}={addr} is not of the form ID=HOST:PORT, with ids from 1"));
    }
    match records.get(&id) {
        Some(known) if known.addr == addr => return Ok(()),
        Some(known) => {
            let at = &known.addr;
            return Err(format!("node {id} is a member already, at {at}: remove it first, or choose another id"));
        }
        None => {}
    }
    if let Some((other, _)) = records.iter().find(|(_, known)| known.addr == addr) {
        return Err(format!("{addr} is the address of node {other}"));
    }
    if records.len() >= NODES_MAX {
        Err(format!("there are {NODES_MAX} members, the most there may be"))
    } else {
        Ok(())
    }
}

/// Why a node may not be removed.
fn check_remove(records: &BTreeMap<u64, NodeRecord>, view: &MemberView, id: u64) -> Result<(), String> {
    if !records.contains_key(&id) && !view.has(id) {
        return Err(format!("there is no node {id}"));
    }
    if !view.voters.contains(&id) {
        return Ok(());
    }
    let others: BTreeSet<u64> = view.voters.iter().copied().filter(|voter| *voter != id).collect();
    if others.is_empty() {
        return Err(format!("node {id} is the only one that votes: add another first"));
    }
    if view.is_quorum(&others) {
        return Ok(());
    }
    let silent: Vec<String> = others.difference(&view.answering).map(u64::to_string).collect();
    Err(format!(
        "without node {id} there would be no quorum: of the other {} voters, {} do not answer ({}); start them first",
        others.len(),
        silent.len(),
        silent.join(", ")
    ))
}

#[tonic::async_trait]
impl Admin for AdminServer {
    async fn status(&self, _: Request<NodeStatusQuery>) -> Result<Response<NodeStatus>, Status> {
        Ok(Response::new(self.0.status()))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyReply>, Status> {
        self.0.verifier.verify(request.into_inner().at).await.map(Response::new)
    }

    async fn checkpoint(&self, _: Request<CheckpointRequest>) -> Result<Response<CheckpointReply>, Status> {
        let made = self.0.node.checkpoint().await.map_err(|error| Status::internal(error.one_line()))?;
        let (id, took_ms) = (self.0.node.id, made.took.as_millis().min(u128::from(u32::MAX)) as u32);
        Ok(Response::new(CheckpointReply { id, index: made.index, bytes: made.bytes, took_ms }))
    }

    async fn add_node(&self, request: Request<AddNodeRequest>) -> Result<Response<AddNodeReply>, Status> {
        let AddNodeRequest { id, addr } = request.into_inner();
        self.0.add(id, addr.clone()).await?;
        tracing::info!(node = id, addr, "is to be a member, on request");
        Ok(Response::new(AddNodeReply {}))
    }

    async fn remove_node(&self, request: Request<RemoveNodeRequest>) -> Result<Response<RemoveNodeReply>, Status> {
        let id = request.into_inner().id;
        self.0.remove(id).await?;
        tracing::info!(node = id, "is to be removed, on request");
        Ok(Response::new(RemoveNodeReply {}))
    }

    async fn transfer_leader(
        &self,
        request: Request<TransferLeaderRequest>,
    ) -> Result<Response<TransferLeaderReply>, Status> {
        let to = Some(request.into_inner().to).filter(|to| *to != 0);
        let leader = self.0.node.transfer_leader(to, TRANSFER_DEADLINE).await;
        let leader = leader.map_err(|error| Status::failed_precondition(error.to_string()))?;
        tracing::info!(leader, "leadership handed over on request");
        Ok(Response::new(TransferLeaderReply { leader }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: &[u64]) -> BTreeMap<u64, NodeRecord> {
        ids.iter().map(|id| (*id, NodeRecord::new(&format!("n{id}:1")))).collect()
    }

    fn view(voters: &[u64], answering: &[u64]) -> MemberView {
        let (voters, answering) = (voters.iter().copied().collect(), answering.iter().copied().collect());
        MemberView { voters, answering, ..MemberView::default() }
    }

    #[test]
    fn what_is_added_has_an_id_and_an_address_of_its_own() {
        let known = records(&[1, 2]);
        assert_eq!((check_add(&known, 3, "n3:1"), check_add(&known, 2, "n2:1")), (Ok(()), Ok(())));
        for (id, addr, part) in
            [(2, "x:1", "already, at n2:1"), (3, "n1:1", "address of node 1"), (0, "x:1", "form"), (3, "x", "form")]
        {
            let why = check_add(&known, id, addr).expect_err(part);
            assert!(why.contains(part), "{why}");
        }
        let full: Vec<u64> = (1..=NODES_MAX as u64).collect();
        assert!(check_add(&records(&full), 99, "x:1").is_err());
    }

    #[test]
    fn what_would_lose_the_quorum_is_not_removed() {
        let known = records(&[1, 2, 3, 4]);
        assert_eq!(check_remove(&known, &view(&[1, 2, 3], &[1, 2, 3]), 3), Ok(()));
        assert_eq!(check_remove(&known, &view(&[1, 2, 3], &[1, 2]), 3), Ok(()));
        assert_eq!(check_remove(&known, &view(&[1, 2, 3], &[1, 2]), 4), Ok(()));
        let why = check_remove(&known, &view(&[1, 2, 3], &[1, 2]), 2).expect_err("refused");
        assert!(why.contains("no quorum") && why.contains("(3)"), "{why}");
        assert!(check_remove(&known, &view(&[1], &[1]), 1).is_err());
        assert!(check_remove(&known, &view(&[1], &[1]), 9).expect_err("refused").contains("no node 9"));
    }
}
