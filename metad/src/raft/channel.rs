//! Connections to peers. A peer connection starts with a preamble, so that the listener hands it to Raft's own runtime, where no
//! client load can delay a heartbeat. Each call carries the cluster id, so that two clusters can never mix.
//! Called by raft/network; rpc/listener reads the preamble, rpc/raft_service the metadata.

use super::dial::PeerChannel;
use super::state_machine::NodeStore;
use crate::identity::ClusterId;
use crate::store::node_record::StoreId;
use crate::store::{KvCommit, read};
use holdfast_proto::pb::raft_client::RaftClient;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tonic::codegen::{Service, http::Uri};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// First bytes of a connection between nodes, before TLS and HTTP/2. Its first byte starts neither of those.
pub const PREAMBLE: &[u8; 8] = b"HFPEER1\n";
/// Largest message between nodes, bytes.
pub const PEER_MESSAGE_BYTES_MAX: usize = 128 << 20;
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

pub const CLUSTER_HEADER: &str = "holdfast-cluster";
pub const NODE_HEADER: &str = "holdfast-node";
pub const STORE_HEADER: &str = "holdfast-store";
pub const TARGET_HEADER: &str = "holdfast-target-store";

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// The cluster this node belongs to, once it knows.
#[derive(Clone, Default)]
pub struct ClusterCell(Arc<RwLock<Option<ClusterId>>>);

impl ClusterCell {
    pub fn new(cluster: Option<ClusterId>) -> ClusterCell {
        ClusterCell(Arc::new(RwLock::new(cluster)))
    }

    pub fn get(&self) -> Option<ClusterId> {
        *self.0.read()
    }

    pub fn set(&self, cluster: ClusterId) {
        *self.0.write() = Some(cluster);
    }
}

/// What every call to a peer says about its caller.
#[derive(Clone)]
pub struct Caller {
    pub node: u64,
    pub cluster: ClusterCell,
    pub store: StoreId,
    /// Whom it calls, and the state that says which life of its disk is meant.
    pub target: Option<(u64, Arc<NodeStore>)>,
}

impl Caller {
    pub fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let metadata = request.metadata_mut();
        if let Some(value) = self.cluster.get().and_then(|cluster| cluster.to_string().parse().ok()) {
            metadata.insert(CLUSTER_HEADER, value);
        }
        metadata.insert(NODE_HEADER, self.node.into());
        if let Ok(value) = self.store.to_string().parse() {
            metadata.insert(STORE_HEADER, value);
        }
        if let Some(value) = self.meant_store().and_then(|store| store.to_string().parse().ok()) {
            metadata.insert(TARGET_HEADER, value);
        }
        request
    }

    fn meant_store(&self) -> Option<StoreId> {
        let (id, state) = self.target.as_ref()?;
        // A store that cannot be read stops the node elsewhere.
        state.view(|view| read::node(view, *id)).ok()??.store
    }
}

/// Opens TCP and says the preamble.
#[derive(Clone)]
struct PeerConnector;

impl Service<Uri> for PeerConnector {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let invalid = || io::Error::new(io::ErrorKind::InvalidInput, format!("no host and port in {uri}"));
            let host = uri.host().ok_or_else(invalid)?.trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().ok_or_else(invalid)?;
            let mut stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            stream.write_all(PREAMBLE).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// A TCP connection of its own to `addr`, made when first used and made again when lost.
pub(super) fn connect_lazy(addr: &str, tls: Option<&ClientTlsConfig>) -> Result<Channel, tonic::transport::Error> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{addr}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.clone())?;
    }
    Ok(endpoint.connect_with_connector_lazy(PeerConnector))
}

pub(super) fn client_of(channel: PeerChannel) -> RaftClient<PeerChannel> {
    RaftClient::new(channel)
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
}
