//! What one node says of itself, asked over its gRPC port or its admin port. Called by cluster.rs and by tests.

use holdfast_proto::pb;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The harness's runtime: for tests that are not async themselves.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("tokio runtime")
    })
}

/// Status of the node at `addr` (host:port).
///
/// # Errors
/// It does not answer within two seconds.
pub fn status(addr: &str) -> Result<pb::NodeStatus, String> {
    let url = format!("http://{addr}");
    runtime().block_on(async move {
        let ask = async {
            let mut admin = pb::admin_client::AdminClient::connect(url).await.map_err(|error| error.to_string())?;
            let reply = admin.status(pb::NodeStatusQuery {}).await.map_err(|status| status.to_string())?;
            Ok(reply.into_inner())
        };
        tokio::time::timeout(Duration::from_secs(2), ask).await.unwrap_or_else(|_| Err("no answer".to_string()))
    })
}

/// Has the node at `addr` make a checkpoint, and how long that took.
pub fn checkpoint(addr: &str) -> (pb::CheckpointReply, Duration) {
    let url = format!("http://{addr}");
    runtime().block_on(async move {
        let mut admin = pb::admin_client::AdminClient::connect(url).await.expect("connects");
        let made = admin.checkpoint(pb::CheckpointRequest {}).await.expect("makes one").into_inner();
        let took = Duration::from_millis(made.took_ms.into());
        (made, took)
    })
}

/// Asks the node at `addr`, the leader, to hand its office to node `to` (0: whom it likes).
///
/// # Errors
/// It refuses, or does not answer within five seconds.
pub fn transfer_leader(addr: &str, to: u64) -> Result<u64, String> {
    let url = format!("http://{addr}");
    runtime().block_on(async move {
        let ask = async {
            let mut admin = pb::admin_client::AdminClient::connect(url).await.map_err(|error| error.to_string())?;
            let request = pb::TransferLeaderRequest { to };
            let reply = admin.transfer_leader(request).await.map_err(|status| status.to_string())?;
            Ok(reply.into_inner().leader)
        };
        tokio::time::timeout(Duration::from_secs(5), ask).await.unwrap_or_else(|_| Err("no answer".to_string()))
    })
}

/// What the node at `addr` finds of its whole state, at log index `at` if that comes soon.
///
/// # Errors
/// It is busy with another verification, or does not answer within half a minute.
pub async fn verify(addr: &str, at: u64) -> Result<pb::VerifyReply, String> {
    let url = format!("http://{addr}");
    let ask = async {
        let mut admin = pb::admin_client::AdminClient::connect(url).await.map_err(|error| error.to_string())?;
        let reply = admin.verify(pb::VerifyRequest { at }).await.map_err(|status| status.to_string())?;
        Ok(reply.into_inner())
    };
    tokio::time::timeout(Duration::from_secs(30), ask).await.unwrap_or_else(|_| Err("no answer".to_string()))
}

/// What the admin port answers to a GET: head and body.
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("admin port");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: metad\r\nConnection: close\r\n\r\n").expect("request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answer");
    answer
}
