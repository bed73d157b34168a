//! Checkpointer: on every node, makes a checkpoint whenever one is due. Started by server.

use crate::disk_room::DiskRoom;
use crate::raft::node::RaftNode;
use crate::seldom::Seldom;
use std::sync::Arc;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);
/// After a failure (a full disk) the next try waits so long.
const RETRY: Duration = Duration::from_secs(15);

/// What must be left beside a new checkpoint: the log goes on meanwhile.
const ROOM_BESIDE: u64 = 16 << 20;

/// Whether a checkpoint somewhat larger than the last one leaves room for the log, which must not meet a full disk.
fn has_room(node: &RaftNode, room: &DiskRoom) -> bool {
    let last_bytes = node.newest_checkpoint().map_or(0, |newest| newest.bytes);
    room.free_bytes() >= last_bytes + last_bytes / 4 + ROOM_BESIDE
}

/// Runs until the process ends.
pub async fn run(node: Arc<RaftNode>, room: Arc<DiskRoom>, log_bytes_min: u64) {
    let failures = Seldom::default();
    loop {
        tokio::time::sleep(INTERVAL).await;
        let made = match node.is_checkpoint_due(log_bytes_min) {
            Ok(false) => continue,
            Ok(true) if !has_room(&node, &room) => Err("the disk has no room for it".to_owned()),
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
