//! What openraft sends to peers: append streams, votes, pre-votes, leader transfers and snapshots, each with a deadline of our
//! own. Appends, heartbeats and snapshots go over connections of their own. Called by openraft only.

use super::channel::Caller;
use super::convert;
use super::dial::{Dial, PeerChannel};
use super::pump::{Pump, network_error, unreachable};
use super::snapshot::SnapshotFile;
use super::state_machine::NodeStore;
use super::types::{TypeConfig, Vote};
use crate::blocking;
use crate::seldom::Seldom;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream};
use holdfast_proto::pb::RaftFrame;
use holdfast_proto::pb::raft_client::RaftClient;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, BasicNode, OptionalSend};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

type RpcError = RPCError<TypeConfig>;

/// Opening an append stream to a peer that is there takes a round trip.
const OPEN_DEADLINE: Duration = Duration::from_millis(1_000);
/// A vote or transfer answered later than this is of no use to an election.
const VOTE_DEADLINE: Duration = Duration::from_millis(500);
/// The peer reads what it has.
const OFFER_DEADLINE: Duration = Duration::from_secs(120);
/// A snapshot must move at least one frame in this time, and be installed within that.
pub const SNAPSHOT_FRAME_BYTES: usize = 1 << 20;
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(3_600);
const SNAPSHOT_PAUSE: Duration = Duration::from_secs(1);
const APPENDS_STAGED_MAX: usize = 32;
const BACKOFF: Duration = Duration::from_millis(100);

pub struct PeerNetwork {
    pub caller: Caller,
    pub state: Arc<NodeStore>,
    /// Addresses by the configuration of this node; where silent, the membership's count.
    pub addrs: BTreeMap<u64, String>,
    pub dial: Dial,
    pub snapshot_frame_bytes: usize,
}

impl RaftNetworkFactory<TypeConfig> for PeerNetwork {
    type Network = PeerConnection;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerConnection {
        let addr = self.addrs.get(&target).unwrap_or(&node.addr);
        let client = self
            .dial
            .connect(addr)
            .map_err(|error| tracing::error!(peer = target, addr, %error, "peer address is of no use"))
            .ok();
        let (open_from, strangers) = (Instant::now(), Seldom::default());
        let caller = Caller { target: Some((target, self.state.clone())), ..self.caller.clone() };
        PeerConnection { target, caller, client, open_from, strangers, frame_bytes: self.snapshot_frame_bytes }
    }
}

pub struct PeerConnection {
    target: u64,
    caller: Caller,
    client: Option<RaftClient<PeerChannel>>,
    /// The next append stream is not opened before: a peer that is down or refuses us fails at once, and openraft asks again at once
    /// (its own backoff counts requests taken from a stream, and none is taken from one that never opened).
    open_from: Instant,
    strangers: Seldom,
    frame_bytes: usize,
}

impl PeerConnection {
    fn client(&self) -> Result<RaftClient<PeerChannel>, RpcError> {
        // A clone shares the connection.
        self.client.clone().ok_or_else(|| unreachable(format!("peer {} has no usable address", self.target)))
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, RpcError> {
        match tokio::time::timeout(deadline, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                self.warn_of_strangers(&status);
                Err(unreachable(format!("peer {}: {}", self.target, status.message())))
            }
            Err(_) => Err(unreachable(format!("peer {}: no answer in {deadline:?}", self.target))),
        }
    }

    /// A peer of another cluster is a mistake in the configuration that an operator must see.
    fn warn_of_strangers(&self, status: &tonic::Status) {
        if status.code() == tonic::Code::FailedPrecondition && self.strangers.is_due(std::time::Instant::now()) {
            tracing::warn!(peer = self.target, "peer refuses this node: {}", status.message());
        }
    }

    /// How much of a snapshot the peer has already.
    async fn offer_snapshot(&self, head: Bytes) -> Result<u64, RpcError> {
        let mut client = self.client()?;
        let offer = self.caller.request(RaftFrame { data: head });
        let answer = self.within(OFFER_DEADLINE, client.offer_snapshot(offer)).await?;
        convert::decode_offset(answer.data).map_err(network_error)
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let lost = |error: RpcError| StreamingError::Unreachable(Unreachable::from_string(error.to_string()));
        let mut client = self.client().map_err(lost)?;
        let data = convert::encode_snapshot_head(&vote, &snapshot.meta, snapshot.snapshot.bytes);
        let from = self.offer_snapshot(data.clone()).await.map_err(lost)?;
        tracing::info!(peer = self.target, bytes = snapshot.snapshot.bytes, from, "sends a checkpoint");
        let (frames, body) = mpsc::channel(4);
        let reader =
            tokio::spawn(send_file(RaftFrame { data }, snapshot.snapshot.file, from, frames, self.frame_bytes));
        let answer = self.within(SNAPSHOT_DEADLINE, client.snapshot(self.caller.request(body))).await;
        if let Ok(Err(error)) = reader.await {
            tracing::warn!(peer = self.target, %error, "sending a checkpoint ended early");
        }
        let mut data = answer.map_err(lost)?.data;
        match convert::get_vote(&mut data) {
            Ok(vote) => Ok(SnapshotResponse::new(vote)),
            Err(error) => Err(StreamingError::Network(NetworkError::new(&AnyError::error(error.to_string())))),
        }
    }

    async fn ask_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre: bool,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let frame = self.caller.request(RaftFrame { data: convert::encode_vote_request(request) });
        let answer = match pre {
            true => self.within(VOTE_DEADLINE, client.pre_vote(frame)).await?,
            false => self.within(VOTE_DEADLINE, client.vote(frame)).await?,
        };
        convert::decode_vote_response(answer.data).map_err(network_error)
    }
}

impl NetStreamAppend<TypeConfig> for PeerConnection {
    fn stream_append<'s, S>(
        &'s mut self,
        requests: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            tokio::time::sleep_until(self.open_from).await;
            let mut client = self.client()?;
            let (outgoing, body) = mpsc::channel(APPENDS_STAGED_MAX);
            let opened = self.within(OPEN_DEADLINE, client.append(self.caller.request(body))).await;
            if opened.is_err() {
                self.open_from = Instant::now() + BACKOFF;
            }
            let incoming = opened?;
            Ok(Box::pin(Pump::new(self.target, requests, outgoing, incoming)) as BoxStream<'s, _>)
        })
    }
}

impl NetVote<TypeConfig> for PeerConnection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(&request, false).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(&request, true).await
    }
}

impl NetTransferLeader<TypeConfig> for PeerConnection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let mut client = self.client()?;
        let frame = self.caller.request(RaftFrame { data: convert::encode_transfer_request(&request) });
        let answer = self.within(VOTE_DEADLINE, client.transfer_leader(frame)).await?;
        convert::decode_transfer_response(answer.data).map_err(network_error)
    }
}

/// Sends a file from a place on, frame by frame, as fast as the peer takes them.
async fn send_file(
    head: RaftFrame,
    mut file: File,
    from: u64,
    mut frames: mpsc::Sender<RaftFrame>,
    frame_bytes: usize,
) -> io::Result<()> {
    let gone = |_| io::Error::other("the peer takes no more");
    frames.send(head).await.map_err(gone)?;
    file.seek(SeekFrom::Start(from))?;
    loop {
        let read = blocking::spawn(move || {
            let mut chunk = Vec::with_capacity(frame_bytes);
            (&file).take(frame_bytes as u64).read_to_end(&mut chunk).map(|_| (file, chunk))
        });
        let chunk;
        (file, chunk) = read.await.map_err(io::Error::other)??;
        if chunk.is_empty() {
            return Ok(());
        }
        frames.send(RaftFrame { data: chunk.into() }).await.map_err(gone)?;
    }
}

impl NetSnapshot<TypeConfig> for PeerConnection {
    type SnapshotData = SnapshotFile;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let sent = tokio::select! {
            sent = self.send_snapshot(vote, snapshot) => sent,
            closed = cancel => return Err(StreamingError::Closed(closed)),
        };
        if sent.is_err() {
            // The peer reads all that it has before it says where to go on: not at once again.
            tokio::time::sleep(SNAPSHOT_PAUSE).await;
        }
        sent
    }
}

impl NetBackoff<TypeConfig> for PeerConnection {
    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(BACKOFF)))
    }
}
