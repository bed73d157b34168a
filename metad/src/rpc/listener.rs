//! The one listening port. A connection that starts with the peer preamble goes to Raft's runtime, any other to the clients'
//! server; TLS and HTTP/2 are theirs. Called by server.

use crate::raft::channel::PREAMBLE;
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// A connection says who it is within this time.
const PREAMBLE_DEADLINE: Duration = Duration::from_secs(5);
/// Connections accepted and not yet taken by their server.
const BACKLOG: usize = 256;

pub type Accepted = io::Result<TcpStream>;

/// Where connections come out. Streams are handed over as std's: each server registers them with its own runtime.
pub struct Split {
    pub clients: mpsc::Receiver<std::net::TcpStream>,
    pub peers: mpsc::Receiver<std::net::TcpStream>,
}

/// Accepts until both servers have gone.
pub fn split(listener: TcpListener) -> (Split, impl Future<Output = ()>) {
    let (to_clients, clients) = mpsc::channel(BACKLOG);
    let (to_peers, peers) = mpsc::channel(BACKLOG);
    let accept = async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (to_clients, to_peers) = (to_clients.clone(), to_peers.clone());
                    tokio::spawn(async move {
                        let sorted = tokio::time::timeout(PREAMBLE_DEADLINE, sort(stream)).await;
                        if let Ok(Ok((is_peer, stream))) = sorted {
                            let to = if is_peer { to_peers } else { to_clients };
                            // A server that has gone takes no more connections.
                            let _ = to.send(stream).await;
                        }
                    });
                }
                // Out of file descriptors, most likely: connections in progress will free some.
                Err(error) => {
                    tracing::warn!(%error, "accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    (Split { clients, peers }, accept)
}

async fn sort(mut stream: TcpStream) -> io::Result<(bool, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let mut first = [0u8; 1];
    // Neither a TLS handshake nor an HTTP/2 preface begins with this byte.
    let is_peer = stream.peek(&mut first).await? == 1 && first[0] == PREAMBLE[0];
    if is_peer {
        let mut preamble = [0u8; PREAMBLE.len()];
        stream.read_exact(&mut preamble).await?;
        if preamble != *PREAMBLE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a peer of this version"));
        }
    }
    Ok((is_peer, stream.into_std()?))
}

/// A server's incoming connections, registered with the runtime that polls them.
pub fn incoming(
    mut streams: mpsc::Receiver<std::net::TcpStream>,
) -> impl futures::Stream<Item = Accepted> + Send + 'static {
    futures::stream::poll_fn(move |cx| streams.poll_recv(cx).map(|stream| stream.map(TcpStream::from_std)))
}
