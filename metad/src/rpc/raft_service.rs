//! What peers ask of this node's Raft. Served on Raft's own runtime. Refuses peers of another cluster, and all of them until this node
//! has its place in one (standing). Malformed messages end in a Status. Called by tonic.

use super::door::Door;
use crate::identity::ClusterId;
use crate::raft::channel::{CLUSTER_HEADER, NODE_HEADER, STORE_HEADER, TARGET_HEADER};
use crate::raft::convert::{self, DecodeError};
use crate::raft::node::RaftNode;
use crate::raft::types::{AppendRequest, Snapshot};
use crate::rpc::snapshot_inbox::SnapshotInbox;
use crate::seldom::Seldom;
use crate::store::node_record::StoreId;
use crate::store::{KvCommit, read};
use bytes::BytesMut;
use futures::{Stream, StreamExt};
use holdfast_proto::pb::raft_server::Raft;
use holdfast_proto::pb::{JoinReply, JoinRequest, RaftFrame, WhoReply, WhoRequest};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

pub struct RaftService {
    pub node: Arc<RaftNode>,
    pub door: Door,
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

fn text<'a>(metadata: &'a MetadataMap, name: &str) -> &'a str {
    metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
}

impl RaftService {
    /// Lets in peers of this cluster only. One that has no place in it yet may ask for one, and nothing else.
    fn check_cluster(&self, metadata: &MetadataMap) -> Result<Option<ClusterId>, Status> {
        let theirs = ClusterId::parse(text(metadata, CLUSTER_HEADER));
        match (self.door.standing.cluster.get(), theirs) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                if self.strangers.is_due(Instant::now()) {
                    let peer = text(metadata, NODE_HEADER);
                    tracing::warn!(peer, %theirs, %ours, "refused a peer of another cluster: check --peers of both");
                }
                Err(Status::failed_precondition(format!("this node belongs to cluster {ours}, not {theirs}")))
            }
            _ => Ok(theirs),
        }
    }

    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        if self.check_cluster(metadata)?.is_none() {
            return Err(Status::failed_precondition("caller belongs to no cluster yet"));
        }
        if !self.door.standing.serves() {
            return Err(Status::unavailable("this node knows nothing, and waits for the leader to let it in"));
        }
        self.check_caller(metadata)?;
        self.check_target(metadata)
    }

    /// A life of a disk that another has replaced must neither lead nor vote: what it knows, this cluster no longer counts on.
    fn check_caller(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let id = text(metadata, NODE_HEADER).parse().ok();
        let (Some(id), Some(store)) = (id, StoreId::parse(text(metadata, STORE_HEADER))) else { return Ok(()) };
        match self.is_former(id, store)? {
            true => Err(Status::failed_precondition("another life of the caller's disk has its place")),
            false => Ok(()),
        }
    }

    /// The caller means another life of this node's disk. Where that was before this one, the caller lags behind; else this one is an
    /// old disk that was put back, which does not have what the leader knows this node to have.
    fn check_target(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let standing = &self.door.standing;
        let meant = StoreId::parse(text(metadata, TARGET_HEADER)).filter(|meant| *meant != standing.store);
        match meant {
            // It was let in by a leader in this very life, and does not know yet which ones were before.
            Some(meant) if !standing.learns() && !self.is_former(standing.id, meant)? => {
                Err(Status::failed_precondition("this is a former life of the node's disk"))
            }
            _ => Ok(()),
        }
    }

    fn is_former(&self, id: u64, store: StoreId) -> Result<bool, Status> {
        let known = self.node.store().view(|view| read::node(view, id)).map_err(fatal)?;
        Ok(known.is_some_and(|known| known.former.contains(&store)))
    }

    /// A node that learns knows nothing of who may vote, or lead.
    fn check_has_learnt(&self) -> Result<(), Status> {
        match self.door.standing.learns() {
            true => Err(Status::unavailable("learns what its former life may have known")),
            false => Ok(()),
        }
    }

    /// A restarted voter may have granted a lease that still holds.
    fn check_may_vote(&self) -> Result<(), Status> {
        self.check_has_learnt()?;
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
        // The leader itself gives its lease up, so that it does not matter when this node started.
        self.0.check_has_learnt()?;
        let transfer = convert::decode_transfer_request(request.into_inner().data).map_err(malformed)?;
        let answer = self.0.node.raft().handle_transfer_leader(transfer).await.map_err(fatal)?;
        Ok(Response::new(RaftFrame { data: convert::encode_transfer_response(&answer) }))
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Status> {
        self.0.check_cluster(request.metadata())?;
        Ok(Response::new(self.0.door.join(request.into_inner()).await))
    }

    async fn who(&self, request: Request<WhoRequest>) -> Result<Response<WhoReply>, Status> {
        Ok(Response::new(self.0.door.who(&request.into_inner())))
    }
}

fn decode_append(frame: Result<RaftFrame, Status>) -> Result<AppendRequest, Status> {
    convert::decode_append(frame?.data).map_err(malformed)
}
