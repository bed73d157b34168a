//! Admin calls to single nodes: plain unary gRPC. Called by `holdfast cluster` and `holdfast bench-meta`.

use super::channel::{self, describe, refused};
use crate::config::MetaConfig;
use crate::error::ClientError;
use futures::future::join_all;
use holdfast_proto::pb;
use holdfast_proto::pb::admin_client::AdminClient;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tonic::Code;
use tonic::transport::Channel;

const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// It writes its whole state, at 64 MiB/s at most.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(3_600);
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
const CHANGE_TIMEOUT: Duration = Duration::from_secs(5);
const CHANGE_PAUSE: Duration = Duration::from_millis(200);

/// One node, as asked.
#[derive(Clone, Debug)]
pub struct NodeView {
    pub addr: String,
    /// Err: why it did not answer.
    pub status: Result<pb::NodeStatus, String>,
}

/// A channel to one node's admin service.
pub async fn connect(config: &MetaConfig, addr: &str) -> Result<AdminClient<Channel>, String> {
    let channel = channel::connect(addr, config.tls.as_ref()).await;
    channel.map(AdminClient::new).map_err(|error| error.to_string())
}

async fn ask(config: &MetaConfig, addr: &str) -> Result<pb::NodeStatus, String> {
    let asked = async {
        let mut admin = connect(config, addr).await?;
        let answer = admin.status(pb::NodeStatusQuery {}).await.map_err(|status| refused(&status).to_string())?;
        Ok(answer.into_inner())
    };
    tokio::time::timeout(STATUS_TIMEOUT, asked).await.unwrap_or_else(|_| Err("does not answer".to_owned()))
}

/// Asks all nodes of the configuration at once, then those that these named. A node that is known by two addresses is listed once.
pub async fn cluster_status(config: &MetaConfig) -> Vec<NodeView> {
    let mut asked: BTreeSet<String> = BTreeSet::new();
    let mut to_ask: Vec<String> = config.nodes.clone();
    let mut views: Vec<NodeView> = Vec::new();
    while !to_ask.is_empty() {
        let answers = join_all(to_ask.iter().map(|addr| ask(config, addr))).await;
        for (addr, status) in to_ask.drain(..).zip(answers) {
            asked.insert(addr.clone());
            views.push(NodeView { addr, status });
        }
        let answered: BTreeSet<u64> = views.iter().filter_map(|v| v.status.as_ref().ok()).map(|s| s.id).collect();
        let members = views.iter().filter_map(|v| v.status.as_ref().ok()).flat_map(|s| &s.members);
        let new: BTreeSet<String> =
            members.filter(|m| !answered.contains(&m.id) && !asked.contains(&m.addr)).map(|m| m.addr.clone()).collect();
        to_ask.extend(new);
    }
    tidy(views)
}

/// Has the node at `addr` make a checkpoint.
///
/// # Errors
/// Why it made none.
pub async fn make_checkpoint(config: &MetaConfig, addr: &str) -> Result<pb::CheckpointReply, String> {
    let asked = async {
        let mut admin = connect(config, addr).await?;
        let answer = admin.checkpoint(pb::CheckpointRequest {}).await.map_err(|status| refused(&status).to_string())?;
        Ok(answer.into_inner())
    };
    tokio::time::timeout(CHECKPOINT_TIMEOUT, asked).await.unwrap_or_else(|_| Err("does not answer".to_owned()))
}

/// One row a node, by id; an unreachable address that is a second name of a member that answered is left out.
fn tidy(mut views: Vec<NodeView>) -> Vec<NodeView> {
    let mut seen = BTreeSet::new();
    views.retain(|view| view.status.as_ref().map_or(true, |status| seen.insert(status.id)));
    views.sort_by_key(|view| (view.status.as_ref().map_or(u64::MAX, |status| status.id), view.addr.clone()));
    views
}

/// The node that leads, by the word of the node itself with the highest term.
pub fn leader_of(views: &[NodeView]) -> Option<&pb::NodeStatus> {
    let leads = |status: &&pb::NodeStatus| status.role == "leader";
    views.iter().filter_map(|view| view.status.as_ref().ok()).filter(leads).max_by_key(|status| status.term)
}

/// Asks the leader to hand over to node `to` (0: the one with the longest log). The new leader's id.
///
/// # Errors
/// Unavailable, where there is no leader; Failed, where it refuses.
pub async fn transfer_leader(config: &MetaConfig, to: u64) -> Result<u64, ClientError> {
    let views = cluster_status(config).await;
    let view = leading_view(&views)?;
    let failed = |why: String| ClientError::Failed(format!("{} does not hand over: {why}", view.addr));
    let asked = async {
        let mut admin = connect(config, &view.addr).await?;
        let request = pb::TransferLeaderRequest { to };
        let reply = admin.transfer_leader(request).await.map_err(|status| describe(&status))?;
        Ok(reply.into_inner().leader)
    };
    let answer = tokio::time::timeout(TRANSFER_TIMEOUT, asked).await;
    answer.unwrap_or_else(|_| Err("does not answer".to_owned())).map_err(failed)
}

fn leading_view(views: &[NodeView]) -> Result<&NodeView, ClientError> {
    let leads = |view: &&NodeView| {
        leader_of(views).is_some_and(|leader| view.status.as_ref().is_ok_and(|status| status.id == leader.id))
    };
    views.iter().find(leads).ok_or_else(|| ClientError::Unavailable(no_leader(views)))
}

/// A change of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Add { id: u64, addr: String },
    Remove { id: u64 },
}

/// Asks the leader to change the members; asks again while there is none, or it is new. What follows is in its status.
///
/// # Errors
/// Failed, where it refuses; Unavailable, where no leader takes it.
pub async fn change_members(config: &MetaConfig, change: &MemberChange) -> Result<(), ClientError> {
    let started = Instant::now();
    loop {
        match try_change(config, change).await {
            Err(ClientError::Unavailable(_)) if started.elapsed() < config.call_deadline => {
                tokio::time::sleep(CHANGE_PAUSE).await;
            }
            end => return end,
        }
    }
}

async fn try_change(config: &MetaConfig, change: &MemberChange) -> Result<(), ClientError> {
    let views = cluster_status(config).await;
    let leader = &leading_view(&views)?.addr;
    let asked = async {
        let mut admin = connect(config, leader).await.map_err(ClientError::Unavailable)?;
        let answer = match change.clone() {
            MemberChange::Add { id, addr } => admin.add_node(pb::AddNodeRequest { id, addr }).await.map(drop),
            MemberChange::Remove { id } => admin.remove_node(pb::RemoveNodeRequest { id }).await.map(drop),
        };
        answer.map_err(|status| match status.code() {
            Code::FailedPrecondition => ClientError::Failed(describe(&status)),
            Code::Unimplemented => ClientError::Failed(format!("{leader} is too old to change members: upgrade it")),
            _ => ClientError::Unavailable(format!("{leader}: {}", describe(&status))),
        })
    };
    let answer = tokio::time::timeout(CHANGE_TIMEOUT, asked).await;
    answer.unwrap_or_else(|_| Err(ClientError::Unavailable(format!("{leader} does not answer"))))
}

/// Why there is no leader to be seen, for a person.
pub fn no_leader(views: &[NodeView]) -> String {
    let addrs: Vec<&str> = views.iter().map(|view| view.addr.as_str()).collect();
    if views.iter().all(|view| view.status.is_err()) {
        return format!("no metadata node of {} answers; are they running?", addrs.join(","));
    }
    let up = views.iter().filter(|view| view.status.is_ok()).count();
    format!("no leader: {up} of {} metadata nodes answer, and a leader needs most of them", views.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(id: u64, role: &str, term: u64) -> NodeView {
        let status = pb::NodeStatus { id, role: role.into(), term, ..Default::default() };
        NodeView { addr: format!("n{id}:1"), status: Ok(status) }
    }

    fn down(addr: &str) -> NodeView {
        NodeView { addr: addr.into(), status: Err("not reachable".into()) }
    }

    #[test]
    fn of_two_that_claim_to_lead_the_higher_term_is_right() {
        let views = [up(1, "leader", 4), up(2, "leader", 5), up(3, "follower", 5)];
        assert_eq!(leader_of(&views).map(|s| s.id), Some(2));
    }

    #[test]
    fn a_node_that_answers_under_two_addresses_is_one_row_and_the_unreachable_come_last() {
        let views = tidy(vec![down("x:1"), up(2, "leader", 1), up(2, "leader", 1), up(1, "follower", 1)]);
        let addrs: Vec<&str> = views.iter().map(|v| v.addr.as_str()).collect();
        assert_eq!(addrs, ["n1:1", "n2:1", "x:1"]);
    }

    #[test]
    fn without_a_leader_the_message_says_how_many_are_up() {
        assert!(no_leader(&[down("a:1"), down("b:1")]).contains("a:1,b:1 answers; are they running?"));
        assert!(no_leader(&[down("a:1"), up(1, "candidate", 1), down("b:1")]).contains("1 of 3"));
    }
}
