//! Checkpointer: on every node, makes a checkpoint whenever one is due. Started by server.

use crate::raft::node::RaftNode;
use crate::seldom::Seldom;
use std::sync::Arc;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);
/// After a failure (a full disk) the next try waits so long.
const RETRY: Duration = Duration::from_secs(15);

/// Runs until the process ends.
pub async fn run(node: Arc<RaftNode>, log_bytes_min: u64) {
    let failures = Seldom::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let made = match node.is_checkpoint_due(log_bytes_min) {
            Ok(false) => continue,
            Ok(true) => node.checkpoint().await.map_err(|error| error.one_line()),
            Err(error) => Err(error.to_string()),
        };
        match made {
            Ok(made) => {
                let (index, bytes, seconds) = (made.index, made.bytes, made.took.as_secs_f64());
                tracing::info!(index, bytes, seconds, log_bytes = node.log_disk_bytes(), "made a checkpoint");
            }
            Err(error) => {
                if failures.is_due(Instant::now()) {
                    tracing::error!(error, "no checkpoint could be made: the log grows until one can");
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}
