//! Follows Raft's state: logs changes of leader, keeps the gauges, and ends the streams of sessions when this node stops leading,
//! so that even idle clients renew their leases with the new leader. Started by server.

use crate::raft::node::{Leadership, RaftNode};
use crate::rpc::push::Hub;
use std::sync::Arc;
use std::time::Duration;

/// The gauges follow at this pace; leadership at once.
const GAUGES_INTERVAL: Duration = Duration::from_secs(1);

/// Runs until Raft stops.
pub async fn run(node: Arc<RaftNode>, hub: Arc<Hub>) {
    let mut changes = node.watch();
    let mut gauges = tokio::time::interval(GAUGES_INTERVAL);
    let mut known: Option<Leadership> = None;
    loop {
        let now = node.leadership();
        if known.is_none_or(|known| (known.leader, known.is_self) != (now.leader, now.is_self)) {
            leader_changed(&node, &hub, known, now);
            known = Some(now);
        }
        // Raft's state changes with every entry; what is watched here changes rarely, and a short delay does no harm.
        tokio::select! {
            _ = gauges.tick() => set_gauges(&node, &hub),
            changed = changes.changed() => {
                if !changed {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn leader_changed(node: &RaftNode, hub: &Hub, before: Option<Leadership>, now: Leadership) {
    metrics::counter!(crate::metrics::LEADER_CHANGES).increment(1);
    match now.leader {
        Some(_) if now.is_self => tracing::info!(term = now.term, "this node leads"),
        Some(leader) => tracing::info!(term = now.term, leader, "follows the leader"),
        None => tracing::info!(term = now.term, "no leader"),
    }
    if before.is_some_and(|before| before.is_self) && !now.is_self {
        hub.close_all(&format!("node {} no longer leads", node.id));
    }
}

fn set_gauges(node: &RaftNode, hub: &Hub) {
    let leadership = node.leadership();
    let applied = node.facts().applied;
    metrics::gauge!(crate::metrics::LEADER).set(f64::from(u8::from(leadership.is_self)));
    metrics::gauge!(crate::metrics::TERM).set(leadership.term as f64);
    metrics::gauge!(crate::metrics::APPLIED_INDEX).set(applied as f64);
    metrics::gauge!(crate::metrics::IMAGE_INDEX).set(node.image_index() as f64);
    metrics::gauge!(crate::metrics::SESSIONS).set(hub.attached().len() as f64);
}
