//! Channels to nodes, and attaching the stream to one. Every transport setting is here. Called by meta::leader and meta::admin.

use super::codec::{FrameCodec, OutFrame};
use crate::config::TlsConfig;
use crate::error::ClientError;
use futures::Stream;
use holdfast_proto::limits::FRAME_BYTES_MAX;
use holdfast_proto::pb;
use holdfast_proto::version::PROTOCOL;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::time::Duration;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};
use tracing::debug;

/// A node that does not take a connection in this time is not there: an election must not wait for it.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// With a handshake of several round trips.
const CONNECT_TIMEOUT_TLS: Duration = Duration::from_millis(1_000);
/// Pings find a peer that vanished without a word.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// An endpoint for `host:port`.
///
/// # Errors
/// Usage, for an address or a TLS file that is none.
pub fn endpoint(addr: &str, tls: Option<&TlsConfig>) -> Result<Endpoint, ClientError> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let bad = |error| ClientError::Usage(format!("metadata node {addr}: {error}"));
    let endpoint = Endpoint::from_shared(format!("{scheme}://{addr}"))
        .map_err(bad)?
        .tcp_nodelay(true)
        .connect_timeout(if tls.is_some() { CONNECT_TIMEOUT_TLS } else { CONNECT_TIMEOUT })
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let Some(tls) = tls else { return Ok(endpoint) };
    let config = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.ca_pem))
        .identity(Identity::from_pem(&tls.cert_pem, &tls.key_pem));
    endpoint.tls_config(config).map_err(bad)
}

/// Why a node could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    #[error("not reachable")]
    Connect,
    #[error("{0}")]
    Stream(String),
    #[error("breaks the connection off ({0}); does it want TLS, or is it no metadata node?")]
    NoProtocol(String),
    #[error("speaks protocol {0}, this client {PROTOCOL}: upgrade the older one")]
    Version(u32),
    #[error("does not answer")]
    Silent,
    #[error("belongs to another cluster; correct META, or the node's data directory")]
    Stranger,
}

/// Connects to `host:port`.
///
/// # Errors
/// Connect where nobody is there; Stream where somebody is and it does not work, with the reason.
pub async fn connect(addr: &str, tls: Option<&TlsConfig>) -> Result<Channel, AttachError> {
    let endpoint = endpoint(addr, tls).map_err(|error| AttachError::Stream(error.to_string()))?;
    endpoint.connect().await.map_err(|error| {
        debug!(addr, ?error, "connect");
        why_not(&error)
    })
}

/// The transport says no more than "transport error": what happened is at the end of the chain of causes.
fn why_not(error: &(dyn Error + 'static)) -> AttachError {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(
            ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionReset
            | ErrorKind::TimedOut
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkUnreachable,
        ) = kind
        {
            return AttachError::Connect;
        }
    }
    AttachError::Stream(format!("cannot be connected to: {cause}"))
}

/// Opens the stream and waits for the node's welcome.
///
/// # Errors
/// Whatever kept the welcome from coming.
pub async fn attach(
    channel: Channel,
    outbound: impl Stream<Item = OutFrame> + Send + 'static,
) -> Result<(pb::Welcome, Streaming<pb::ServerFrame>), AttachError> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(2 * FRAME_BYTES_MAX);
    grpc.ready().await.map_err(|_| AttachError::Connect)?;
    let path = PathAndQuery::from_static("/holdfast.v1.Meta/Attach");
    let mut inbound =
        grpc.streaming(Request::new(outbound), path, FrameCodec).await.map_err(|s| refused(&s))?.into_inner();
    let first = inbound.message().await.map_err(|s| refused(&s))?;
    let Some(welcome) = first.and_then(|frame| frame.welcome) else {
        return Err(AttachError::Stream("is no metadata node: its first frame is no welcome".to_owned()));
    };
    if welcome.protocol != PROTOCOL {
        return Err(AttachError::Version(welcome.protocol));
    }
    Ok((welcome, inbound))
}

/// Why a first call to a node failed.
pub fn refused(status: &Status) -> AttachError {
    match status.source().is_some() {
        // Not the node's word, but that of the transport under it.
        true => AttachError::NoProtocol(describe(status)),
        false => AttachError::Stream(describe(status)),
    }
}

/// One line of a status, without the transport's layers.
pub fn describe(status: &Status) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => message.to_owned(),
    }
}
