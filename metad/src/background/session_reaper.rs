//! SessionReaper: on the leader, proposes the end of sessions whose lease ran out. A new leader knows nothing of who was heard of,
//! so it gives every session a full lease first. Started by server.

use crate::query::background;
use crate::raft::node::RaftNode;
use crate::rpc::propose::Proposer;
use crate::rpc::push::Hub;
use crate::store::KvCommit;
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb::{self, mutation};
use std::sync::Arc;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(1);
/// A tick this late means that this process was not running: clients could not renew their leases here meanwhile.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// What must not be forgotten from one tick to the next.
#[derive(Default)]
struct Reign {
    term: Option<u64>,
    ticked: Option<Instant>,
}

impl Reign {
    /// Whether leases known here still mean something: the same leadership as at the last tick, and no long pause since.
    fn continues(&mut self, term: u64, now: Instant) -> bool {
        let same = self.term.replace(term) == Some(term);
        let ticked = self.ticked.replace(now);
        same && ticked.is_some_and(|ticked| now.duration_since(ticked) < PAUSE_MAX)
    }
}

/// Runs until the process ends.
pub async fn run(node: Arc<RaftNode>, hub: Arc<Hub>, proposer: Arc<Proposer>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut reign = Reign::default();
    loop {
        ticks.tick().await;
        let leadership = node.leadership();
        if !leadership.is_self {
            reign = Reign::default();
            continue;
        }
        if !reign.continues(leadership.term, Instant::now()) {
            hub.renew_all();
        }
        match node.store().view(background::sessions) {
            Ok(sessions) => expire(&proposer, hub.reconcile(&sessions)).await,
            Err(error) => tracing::warn!(%error, "list sessions"),
        }
    }
}

async fn expire(proposer: &Arc<Proposer>, silent: Vec<u64>) {
    for sessions in silent.chunks(BACKGROUND_BATCH_MAX) {
        let op = mutation::Op::ExpireSessions(pb::ExpireSessionsOp { sessions: sessions.to_vec() });
        match proposer.propose_local(op).await {
            Ok(_) => {
                metrics::counter!(crate::metrics::SESSIONS_EXPIRED).increment(sessions.len() as u64);
                tracing::info!(?sessions, "ended sessions that were silent for longer than their lease");
            }
            // The next tick tries again, if this node still leads then.
            Err(failure) => tracing::debug!(message = failure.message, "end silent sessions"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_mean_nothing_after_a_new_term_or_a_long_pause() {
        let mut reign = Reign::default();
        let start = Instant::now();
        assert!(!reign.continues(3, start));
        assert!(reign.continues(3, start + INTERVAL));
        assert!(!reign.continues(4, start + 2 * INTERVAL));
        assert!(reign.continues(4, start + 3 * INTERVAL));
        assert!(!reign.continues(4, start + 3 * INTERVAL + PAUSE_MAX));
    }
}
