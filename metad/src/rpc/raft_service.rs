//! What peers ask of this node's Raft. Served on Raft's own runtime. Refuses peers of another cluster; a new node learns its
//! cluster from the first peer that calls. Malformed messages end in a Status. Called by tonic.

use crate::identity::{ClusterId, Identity};
use crate::raft::channel::{CLUSTER_HEADER, ClusterCell, NODE_HEADER};
use crate::raft::convert::{self, DecodeError};
use crate::raft::node::RaftNode;
use crate::raft::types::{AppendRequest, Snapshot};
use crate::rpc::snapshot_inbox::SnapshotInbox;
use crate::seldom::Seldom;
use bytes::BytesMut;
use futures::{Stream, StreamExt};
use holdfast_proto::pb::RaftFrame;
use holdfast_proto::pb::raft_server::Raft;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub struct RaftService {
    pub node: Arc<RaftNode>,
    pub cluster: ClusterCell,
    pub identity: Arc<Mutex<Identity>>,
    pub inbox: SnapshotInbox,
    pub strangers: Seldom,
}

#[derive(Clone)]
pub struct PeerServer(pub Arc<RaftService>);

fn malformed(error: DecodeError) -> Status {
    Status::invalid_argument(format!("malformed raft message: {error}"))
}

fn fatal(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

impl RaftService {
    /// Lets in peers of this cluster only.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        let peer = text(NODE_HEADER);
        let Some(theirs) = ClusterId::parse(text(CLUSTER_HEADER)) else {
            return Err(Status::failed_precondition("caller belongs to no cluster yet"));
        };
        match self.cluster.get() {
            Some(ours) if ours == theirs => Ok(()),
            Some(ours) => {
                if self.strangers.is_due(Instant::now()) {
                    tracing::warn!(peer, %theirs, %ours, "refused a peer of another cluster: check --peers of both");
                }
                Err(Status::failed_precondition(format!("this node belongs to cluster {ours}, not {theirs}")))
            }
            None => self.join(theirs, peer),
        }
    }

    fn join(&self, cluster: ClusterId, peer: &str) -> Result<(), Status> {
        let mut identity = self.identity.lock();
        // Two peers may call at once; the first one's word stands.
        if let Some(ours) = identity.cluster().filter(|ours| *ours != cluster) {
            return Err(Status::failed_precondition(format!("this node belongs to cluster {ours}, not {cluster}")));
        }
        identity.set_cluster(cluster).map_err(fatal)?;
        self.cluster.set(cluster);
        tracing::info!(%cluster, peer, "joined the cluster of the first peer that called");
        Ok(())
    }

    /// A restarted voter may have granted a lease that still holds.
    fn check_may_vote(&self) -> Result<(), Status> {
        if self.node.may_vote() { Ok(()) } else { Err(Status::unavailable("restarted too recently to vote")) }
    }
}

#[tonic::async_trait]
impl Raft for PeerServer {
    type AppendStream = Pin<Box<dyn Stream<Item = Result<RaftFrame, Status>> + Send>>;

    async fn append(&self, request: Request<Streaming<RaftFrame>>) -> Result<Response<Self::AppendStream>, Status> {
        self.0.admit(request.metadata())?;
        // A frame that cannot be decoded ends the input: the answers to those before it are still sent.
        let requests = request.into_inner().map(decode_append).take_while(|append| {
            if let Err(status) = append {
                tracing::debug!(%status, "append stream ended");
            }
            futures::future::ready(append.is_ok())
        });
        let node = self.0.node.clone();
        let requests = requests.filter_map(move |append| {
            node.hear_peer();
            futures::future::ready(append.ok())
        });
        let results = self.0.node.raft().stream_append(requests);
        let frames = results.map(|result| match result {
            Ok(result) => Ok(RaftFrame { data: convert::encode_append_result(&result) }),
            Err(error) => Err(fatal(error)),
        });
        Ok(Response::new(Box::pin(frames)))
    }

    async fn vote(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        self.0.admit(request.metadata())?;
        self.0.check_may_vote()?;
        let vote = convert::decode_vote_request(request.into_inner().data).map_err(malformed)?;
        let answer = self.0.node.raft().vote(vote).await.map_err(fatal)?;
        Ok(Response::new(RaftFrame { data: convert::encode_vote_response(&answer) }))
    }

    async fn pre_vote(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        self.0.admit(request.metadata())?;
        self.0.check_may_vote()?;
        let vote = convert::decode_vote_request(request.into_inner().data).map_err(malformed)?;
        let answer = self.0.node.raft().pre_vote(vote).await.map_err(fatal)?;
        Ok(Response::new(RaftFrame { data: convert::encode_vote_response(&answer) }))
    }

    async fn offer_snapshot(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        self.0.admit(request.metadata())?;
        let (_, meta, body_bytes) = convert::decode_snapshot_head(request.into_inner().data).map_err(malformed)?;
        let offset = self.0.inbox.offered(&meta, body_bytes).await?;
        Ok(Response::new(RaftFrame { data: convert::encode_offset(offset) }))
    }

    async fn snapshot(&self, request: Request<Streaming<RaftFrame>>) -> Result<Response<RaftFrame>, Status> {
        self.0.admit(request.metadata())?;
        let mut frames = request.into_inner();
        let head = frames.message().await?.ok_or_else(|| Status::invalid_argument("snapshot without a head"))?;
        let (vote, meta, body_bytes) = convert::decode_snapshot_head(head.data).map_err(malformed)?;
        // From now until it is installed this node is not ready.
        let _rebuilding = self.0.node.rebuilding();
        let snapshot = self.0.inbox.receive(&meta, body_bytes, &mut frames).await?;
        let snapshot = Snapshot { meta, snapshot };
        let answer = self.0.node.raft().install_full_snapshot(vote, snapshot).await.map_err(fatal)?;
        let mut data = BytesMut::new();
        convert::put_vote(&mut data, &answer.vote);
        Ok(Response::new(RaftFrame { data: data.freeze() }))
    }

    async fn transfer_leader(&self, request: Request<RaftFrame>) -> Result<Response<RaftFrame>, Status> {
        self.0.admit(request.metadata())?;
        let transfer = convert::decode_transfer_request(request.into_inner().data).map_err(malformed)?;
        let answer = self.0.node.raft().handle_transfer_leader(transfer).await.map_err(fatal)?;
        Ok(Response::new(RaftFrame { data: convert::encode_transfer_response(&answer) }))
    }
}

fn decode_append(frame: Result<RaftFrame, Status>) -> Result<AppendRequest, Status> {
    convert::decode_append(frame?.data).map_err(malformed)
}
