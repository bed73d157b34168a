//! Verification of a whole cluster: every node checks its own state, at one log index, and the states are compared. Called by
//! `holdfast cluster verify`.

use super::admin::{NodeView, cluster_status, connect, no_leader};
use super::channel::describe;
use crate::config::MetaConfig;
use crate::error::ClientError;
use futures::future::join_all;
use holdfast_proto::pb;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How far before the nodes the index is at which they are compared: 0 fits a cluster at rest, the others one at work, which has to
/// come to the index after all nodes wait for it and before they stop waiting.
const LEADS: [u64; 5] = [0, 16, 128, 1024, 8192];
const PAUSE: Duration = Duration::from_millis(100);

/// One node, as it found its own state.
#[derive(Clone, Debug)]
pub struct Verified {
    pub addr: String,
    /// 0 where the node did not tell.
    pub id: u64,
    pub reachable: bool,
    /// Err: why it did not say.
    pub answer: Result<pb::VerifyReply, String>,
}

/// What can be said of the states of those that are reachable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// All are the same, at this log index.
    Equal { index: u64 },
    /// Nodes stood at this index with different states.
    Differ { index: u64 },
    /// They did not stand at one index in the time given, or did not all answer.
    Unknown,
}

/// Asks all nodes of the configuration, and those they name, until their states can be compared or `timeout` is over.
///
/// # Errors
/// Unavailable, where no node answers.
pub async fn cluster_verify(config: &MetaConfig, timeout: Duration) -> Result<(Vec<Verified>, Agreement), ClientError> {
    let deadline = Instant::now() + timeout;
    for lead in LEADS.iter().cycle() {
        let views = cluster_status(config).await;
        let newest =
            views.iter().filter_map(|view| view.status.as_ref().ok()).map(|s| s.applied.max(s.committed)).max();
        let Some(newest) = newest else { return Err(ClientError::Unavailable(no_leader(&views))) };
        let nodes = join_all(views.iter().map(|view| ask(config, view, newest + lead, deadline))).await;
        let agreement = compare(&nodes);
        if agreement != Agreement::Unknown || Instant::now() + PAUSE >= deadline {
            return Ok((nodes, agreement));
        }
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("a cycle has no end")
}

async fn ask(config: &MetaConfig, view: &NodeView, at: u64, deadline: Instant) -> Verified {
    let addr = view.addr.clone();
    let status = match &view.status {
        Ok(status) => status,
        Err(why) => return Verified { addr, id: 0, reachable: false, answer: Err(why.clone()) },
    };
    let asked = async {
        let mut admin = connect(config, &addr).await?;
        let reply = admin.verify(pb::VerifyRequest { at }).await.map_err(|status| describe(&status))?;
        Ok(reply.into_inner())
    };
    let answer = tokio::time::timeout_at(deadline, asked).await;
    let answer = answer.unwrap_or_else(|_| Err("is not done in time; raise --timeout".to_owned()));
    Verified { addr: addr.clone(), id: status.id, reachable: true, answer }
}

/// One difference at one index is proof; equality needs all that are reachable.
fn compare(nodes: &[Verified]) -> Agreement {
    let mut digests: BTreeMap<u64, u64> = BTreeMap::new();
    for reply in nodes.iter().filter_map(|node| node.answer.as_ref().ok()) {
        if *digests.entry(reply.applied).or_insert(reply.digest) != reply.digest {
            return Agreement::Differ { index: reply.applied };
        }
    }
    let silent = nodes.iter().any(|node| node.reachable && node.answer.is_err());
    match digests.keys().next() {
        Some(&index) if digests.len() == 1 && !silent => Agreement::Equal { index },
        _ => Agreement::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: u64, applied: u64, digest: u64) -> Verified {
        let answer = Ok(pb::VerifyReply { id, applied, digest, ..Default::default() });
        Verified { addr: format!("n:{id}"), id, reachable: true, answer }
    }

    fn silent(reachable: bool) -> Verified {
        Verified { addr: "n:9".into(), id: 9, reachable, answer: Err("no".into()) }
    }

    #[test]
    fn equal_means_all_reachable_nodes_at_one_index() {
        let equal = Agreement::Equal { index: 7 };
        assert_eq!(compare(&[said(1, 7, 70), said(2, 7, 70), said(3, 7, 70)]), equal);
        assert_eq!(compare(&[said(1, 7, 70), silent(false), said(3, 7, 70)]), equal);
        assert_eq!(compare(&[said(1, 7, 70), silent(true), said(3, 7, 70)]), Agreement::Unknown);
        assert_eq!(compare(&[said(1, 7, 70), said(2, 7, 70), said(3, 8, 80)]), Agreement::Unknown);
        assert_eq!(compare(&[silent(true)]), Agreement::Unknown);
    }

    #[test]
    fn two_states_of_one_index_that_differ_are_proof_whatever_the_others_say() {
        let differ = Agreement::Differ { index: 7 };
        assert_eq!(compare(&[said(1, 7, 70), said(2, 7, 71), silent(true)]), differ);
        assert_eq!(compare(&[said(1, 9, 90), said(2, 7, 70), said(3, 7, 71)]), differ);
    }
}
