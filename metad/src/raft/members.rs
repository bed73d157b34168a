//! The members as Raft has them: who votes, who learns, how far each is; and the single changes of it, one at a time. Which change is
//! due is background/membership's to say.

use super::node::RaftNode;
use super::types::{AppendRequest, LeaderId, TypeConfig, Vote};
use crate::error::MetadError;
use crate::store::{KvCommit, keys, read};
use openraft::errors::{InitializeError, RaftError};
use openraft::metrics::RaftMetrics;
use openraft::{BasicNode, ChangeMembers, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A change that no quorum confirms in this time is left to itself: the next look at the members tells what became of it.
const CHANGE_DEADLINE: Duration = Duration::from_secs(3);
/// Silence after which a member is not counted on.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// One look of the leader at the members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    pub voters: BTreeSet<u64>,
    pub learners: BTreeSet<u64>,
    /// The newest membership is committed; until then no other may be proposed.
    pub settled: bool,
    /// A change of two steps has made its first one only: its leader is gone.
    pub joint: bool,
    pub last_log: u64,
    /// Last log index known to be on each other member; none where nothing is known.
    pub matched: BTreeMap<u64, u64>,
    /// Members that have lately answered, this one included.
    pub answering: BTreeSet<u64>,
}

impl MemberView {
    pub fn has(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id)
    }

    /// Whether those of `voters` that answer are a quorum of them.
    pub fn is_quorum(&self, voters: &BTreeSet<u64>) -> bool {
        voters.intersection(&self.answering).count() * 2 > voters.len()
    }
}

impl RaftNode {
    /// None: this node does not lead.
    pub fn member_view(&self) -> Option<MemberView> {
        self.metrics(|metrics| {
            if metrics.state != ServerState::Leader || metrics.current_leader != Some(self.id) {
                return None;
            }
            let (effective, committed) = (&metrics.membership_config, &metrics.committed_membership_config);
            let membership = effective.membership();
            let now = <openraft::alias::InstantOf<super::types::TypeConfig> as openraft::Instant>::now();
            let heard = metrics.heartbeat.iter().flatten();
            let heard = heard.filter(|(_, at)| at.as_ref().is_some_and(|at| now < **at + SILENCE_MAX));
            let replication = metrics.replication.iter().flatten();
            Some(MemberView {
                voters: membership.voter_ids().collect(),
                learners: membership.learner_ids().collect(),
                settled: effective.log_id() == committed.log_id(),
                joint: membership.get_joint_config().len() > 1,
                last_log: metrics.last_log_index.unwrap_or(0),
                matched: replication.filter_map(|(id, at)| Some((*id, at.as_ref()?.index))).collect(),
                answering: heard.map(|(id, _)| *id).chain([self.id]).collect(),
            })
        })
    }

    /// Id, address and whether it votes, of each member.
    pub fn members(&self) -> Vec<(u64, String, bool)> {
        self.metrics(|metrics| {
            let membership = metrics.membership_config.membership();
            let voters: Vec<u64> = membership.voter_ids().collect();
            let member = |(id, _): (&u64, &BasicNode)| (*id, self.addr_in(metrics, *id), voters.contains(id));
            membership.nodes().map(member).collect()
        })
    }

    pub fn votes(&self, id: u64) -> bool {
        self.metrics(|metrics| metrics.membership_config.membership().voter_ids().any(|voter| voter == id))
    }

    /// Whether the cluster has been founded with as many voters as were asked for, or long ago.
    pub fn is_founded(&self) -> bool {
        if self.founded.load(Ordering::Relaxed) {
            return true;
        }
        let founded = self.store().view(|view| Ok(!read::is_founding(view)? && read::any(view, &keys::nodes())?));
        let founded = founded.unwrap_or_else(|error: crate::store::StoreError| {
            tracing::warn!(%error, "look whether the cluster is founded");
            false
        });
        self.founded.fetch_or(founded, Ordering::Relaxed);
        founded
    }

    /// Whether this leader's state shows all that the leaders before it have done.
    pub fn has_applied_own_term(&self) -> bool {
        self.metrics(|metrics| self.has_applied_own(metrics))
    }

    /// Whether an entry that this node has made in its present office is applied. The term alone does not tell: one may have had
    /// two leaders after each other.
    pub(super) fn has_applied_own(&self, metrics: &RaftMetrics<TypeConfig>) -> bool {
        let own = LeaderId { term: metrics.current_term, node_id: self.id };
        metrics.last_applied.is_some_and(|id| id.leader_id == own)
    }

    /// Members that do not vote yet.
    pub fn awaited(&self) -> Vec<u64> {
        let recorded = self.store().view(read::nodes).unwrap_or_default();
        recorded.into_keys().filter(|id| !self.votes(*id)).collect()
    }

    /// Founds a cluster of this node alone.
    ///
    /// # Errors
    /// Raft is stopping.
    pub async fn found_alone(&self, addr: &str) -> Result<(), MetadError> {
        match self.raft.initialize(BTreeMap::from([(self.id, BasicNode::new(addr))])).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(MetadError::Raft(format!("found the cluster: {error}"))),
        }
    }

    /// Takes note of a leader, durably, as if it had sent a heartbeat: leaders of earlier terms are refused from then on. One that was
    /// deposed must not find in a blank node the voter that it lost.
    ///
    /// # Errors
    /// Raft is stopping.
    pub async fn hear_leader(&self, term: u64, leader: u64) -> Result<(), MetadError> {
        let vote = Vote::new_committed(term, leader);
        let heartbeat = AppendRequest { vote, prev_log_id: None, entries: Vec::new(), leader_commit: None };
        let answered = self.raft.append_entries(heartbeat).await;
        answered.map(drop).map_err(|error| MetadError::Raft(format!("note the leader: {error}")))
    }

    /// # Errors
    /// Raft did not do it, or not in time.
    pub async fn add_learner(&self, id: u64, addr: &str) -> Result<(), MetadError> {
        self.change(ChangeMembers::AddNodes([(id, BasicNode::new(addr))].into()), true).await
    }

    /// Lets a learner vote.
    ///
    /// # Errors
    /// As `add_learner`.
    pub async fn promote(&self, id: u64) -> Result<(), MetadError> {
        self.change(ChangeMembers::AddVoterIds([id].into()), true).await
    }

    /// Makes Raft forget a member, and all that it knows of its log.
    ///
    /// # Errors
    /// As `add_learner`.
    pub async fn drop_member(&self, id: u64) -> Result<(), MetadError> {
        let change = match self.votes(id) {
            true => ChangeMembers::RemoveVoters([id].into()),
            false => ChangeMembers::RemoveNodes([id].into()),
        };
        self.change(change, false).await
    }

    /// Makes the second step of a change whose leader is gone.
    ///
    /// # Errors
    /// As `add_learner`.
    pub async fn settle(&self) -> Result<(), MetadError> {
        self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), false).await
    }

    async fn change(&self, change: ChangeMembers<u64, BasicNode>, retain: bool) -> Result<(), MetadError> {
        match tokio::time::timeout(CHANGE_DEADLINE, self.raft.change_membership(change, retain)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(MetadError::Raft(error.to_string())),
            Err(_) => Err(MetadError::Raft("no quorum confirms the change of members".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_of_those_that_vote_and_answer() {
        let view = MemberView { answering: [1, 2, 9].into(), ..MemberView::default() };
        assert!(view.is_quorum(&[1].into()));
        assert!(view.is_quorum(&[1, 2, 3].into()));
        assert!(!view.is_quorum(&[1, 3].into()));
        assert!(!view.is_quorum(&[1, 2, 3, 4].into()));
        assert!(!view.is_quorum(&BTreeSet::new()));
    }
}
