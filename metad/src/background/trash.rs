//! Trash: on the leader, proposes to empty what has been in the trash for longer than its volume keeps it. It remembers nothing: what is due
//! follows from the state, so a new leader goes on where the last one was. What goes becomes orphans, which orphan_reclaim ends.
//! Started by server.

use crate::apply::trash;
use crate::clock::Clock;
use crate::query::background;
use crate::raft::node::RaftNode;
use crate::rpc::propose::Proposer;
use crate::store::{KvCommit, StoreError};
use holdfast_proto::pb::{self, mutation};
use std::sync::Arc;
use std::time::Duration;

/// With nothing due the state is looked at this often: one look at the first key a volume.
const INTERVAL: Duration = Duration::from_secs(1);
/// With more due than one entry removes, the next one waits this long: requests come first.
const PAUSE: Duration = Duration::from_millis(100);

pub struct TrashEmptier {
    pub node: Arc<RaftNode>,
    pub proposer: Arc<Proposer>,
    pub clock: Arc<dyn Clock>,
}

impl TrashEmptier {
    /// Runs until the process ends.
    pub async fn run(self) {
        let mut wait = INTERVAL;
        loop {
            tokio::time::sleep(wait).await;
            wait = INTERVAL;
            if !self.node.leadership().is_self {
                continue;
            }
            match self.round().await {
                Ok(true) => wait = PAUSE,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "look into the trash"),
            }
        }
    }

    /// One entry for each volume where something is due. True where there was one.
    async fn round(&self) -> Result<bool, StoreError> {
        let now = self.clock.now().into();
        let mut found = false;
        for volume in self.node.store().view(background::volumes)?.into_iter().map(|settings| settings.id) {
            if self.node.store().view(|view| trash::due(view, volume, now, 1))?.is_empty() {
                continue;
            }
            let op = mutation::Op::EmptyTrash(pb::EmptyTrashOp { volume });
            match self.proposer.propose_local(op).await {
                Ok(_) => found = true,
                // The next round tries again, if this node still leads then.
                Err(failure) => tracing::debug!(volume, message = failure.message, "empty the trash"),
            }
        }
        Ok(found)
    }
}
