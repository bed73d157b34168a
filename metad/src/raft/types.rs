//! The types openraft is configured with, by hand: `declare_raft_types!` cannot set a responder of our own.
//! The payload of a log entry is an encoded `pb::LogEntry`; its answer is one Outcome for each mutation of it.

use crate::apply::Outcome;
use bytes::Bytes;
use openraft::errors::ClientWriteError;
use openraft::impls::leader_id_adv;
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::{BasicNode, EntryPayload, RaftTypeConfig};
use std::any::Any;
use std::fmt;

/// An encoded `pb::LogEntry`. Never decoded between the leader's batcher and apply.
#[derive(Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What apply answered to one entry, in the order of its mutations. Stays in this process: openraft asks for serde, nothing uses it.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Replies {
    #[serde(skip)]
    pub outcomes: Vec<Outcome>,
}

#[derive(Debug, Clone, Copy, Default, Eq, PartialEq, Ord, PartialOrd)]
pub struct TypeConfig;

impl RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Replies;
    type NodeId = u64;
    type Node = BasicNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = openraft::impls::Vote<LeaderId>;
    type Payload = Payload;
    type Entry = openraft::Entry<<LeaderId as openraft::vote::RaftLeaderId>::Committed, Payload>;
    type Responder<T>
        = EntryResponder
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub type LeaderId = leader_id_adv::LeaderId<u64, u64>;
pub type Payload = EntryPayload<Command, u64, BasicNode>;
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, super::snapshot::SnapshotFile>;
pub type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
type WriteResult = ClientWriteResult<TypeConfig>;
pub type Raft = openraft::Raft<TypeConfig, super::state_machine::StateMachine>;

/// How the proposal of one entry ended.
pub enum Proposed {
    /// Applied at this log index.
    Applied { log_index: u64, outcomes: Vec<Outcome> },
    /// Raft did not append it: this node does not lead, or not yet.
    NotAppended,
    /// It is in some log, and another leader may yet commit it; or Raft is stopping.
    Unknown,
}

impl From<WriteResult> for Proposed {
    fn from(result: WriteResult) -> Proposed {
        match result {
            Ok(written) => Proposed::Applied { log_index: written.log_id.index, outcomes: written.data.outcomes },
            Err(ClientWriteError::ForwardToLeader(_)) => Proposed::NotAppended,
            Err(_) => Proposed::Unknown,
        }
    }
}

type OnDone = Box<dyn FnOnce(Proposed) + Send>;

/// Runs a closure with the end of one proposed entry, on Raft's thread, as soon as it is applied; also where Raft drops the
/// proposal without a word.
pub struct EntryResponder {
    on_done: Option<OnDone>,
}

impl EntryResponder {
    pub fn new(on_done: impl FnOnce(Proposed) + Send + 'static) -> EntryResponder {
        EntryResponder { on_done: Some(Box::new(on_done)) }
    }

    fn finish(&mut self, end: Proposed) {
        if let Some(on_done) = self.on_done.take() {
            on_done(end);
        }
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for EntryResponder {
    fn on_complete(mut self, result: T) {
        let mut slot = Some(result);
        // openraft instantiates the responder with the write result only; anything else counts as unknown.
        let result = (&mut slot as &mut dyn Any).downcast_mut::<Option<WriteResult>>().and_then(Option::take);
        self.finish(result.map_or(Proposed::Unknown, Proposed::from));
    }
}

impl Drop for EntryResponder {
    fn drop(&mut self) {
        self.finish(Proposed::Unknown);
    }
}
