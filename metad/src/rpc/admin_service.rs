//! What an operator asks of one node: its status, whether its state is sound, and to hand over leadership. Called by tonic.

use crate::disk_room::DiskRoom;
use crate::raft::channel::ClusterCell;
use crate::raft::node::RaftNode;
use crate::rpc::push::Hub;
use crate::rpc::verify::Verifier;
use holdfast_proto::pb::admin_server::Admin;
use holdfast_proto::pb::{
    CheckpointReply, CheckpointRequest, Member, NodeStatus, NodeStatusQuery, TransferLeaderReply,
    TransferLeaderRequest, VerifyReply, VerifyRequest,
};
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
        status.members = self.node.members().into_iter().map(|(id, addr, voter)| Member { id, addr, voter }).collect();
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
