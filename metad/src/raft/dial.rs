//! Dial: how a node reaches its peers: over TCP, or by a carrier that was given in its place, as the simulation does. Called by
//! raft/network and background/join.

use super::channel::connect_lazy;
use holdfast_proto::pb::raft_client::RaftClient;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, StdError, http};
use tonic::transport::{Channel, ClientTlsConfig};

type Carried = BoxFuture<http::Response<Body>, StdError>;

/// Takes a call to the node at an address, and brings its answer.
pub trait Carrier: Send + Sync {
    fn carry(&self, addr: &str, request: http::Request<Body>) -> Carried;
}

#[derive(Clone, Default)]
pub struct Dial {
    pub tls: Option<ClientTlsConfig>,
    /// In place of TCP.
    pub carrier: Option<Arc<dyn Carrier>>,
}

impl Dial {
    /// A connection of its own to `addr`, made when first used and made again when lost.
    ///
    /// # Errors
    /// The address is no host:port, or TLS cannot be set up for it.
    pub fn connect(&self, addr: &str) -> Result<RaftClient<PeerChannel>, tonic::transport::Error> {
        let channel = match &self.carrier {
            Some(carrier) => PeerChannel::Carried { carrier: carrier.clone(), addr: addr.into() },
            None => PeerChannel::Tcp(connect_lazy(addr, self.tls.as_ref())?),
        };
        Ok(super::channel::client_of(channel))
    }
}

/// What a peer is called through. A clone shares the connection.
#[derive(Clone)]
pub enum PeerChannel {
    Tcp(Channel),
    Carried { carrier: Arc<dyn Carrier>, addr: Arc<str> },
}

impl Service<http::Request<Body>> for PeerChannel {
    type Response = http::Response<Body>;
    type Error = StdError;
    type Future = Carried;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StdError>> {
        match self {
            PeerChannel::Tcp(channel) => channel.poll_ready(cx).map_err(StdError::from),
            PeerChannel::Carried { .. } => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Carried {
        match self {
            PeerChannel::Tcp(channel) => {
                let call = channel.call(request);
                Box::pin(async move { call.await.map_err(StdError::from) })
            }
            PeerChannel::Carried { carrier, addr } => carrier.carry(addr, request),
        }
    }
}
