//! Hub: which sessions are attached to this node by which stream, how long their leases last, and what is pushed to them.
//! Everything here is in memory and may be lost: clients ask again on a new stream, and a new leader gives every session a full
//! lease. Called by rpc, and by background.

use super::outbox::Outbox;
use crate::apply::Outcome;
use crate::query::background::SessionState;
use holdfast_proto::pb::{self, push};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

struct Member {
    volume: u32,
    expires: Instant,
    outbox: Option<Arc<Outbox>>,
    /// Log index of the orphan question that this stream has not answered yet.
    asked_through: u64,
}

/// A session with a stream here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attached {
    pub session: u64,
    pub volume: u32,
    pub asked_through: u64,
}

pub struct Hub {
    /// How long a session may be silent.
    pub lease: Duration,
    members: Mutex<BTreeMap<u64, Member>>,
    /// Rings when there may be orphans to ask about or reclaim.
    pub orphans: Notify,
}

fn push(event: push::Event) -> pb::Push {
    pb::Push { event: Some(event) }
}

impl Hub {
    pub fn new(lease: Duration) -> Hub {
        Hub { lease, members: Mutex::default(), orphans: Notify::default() }
    }

    /// Binds a stream to a session, in place of any earlier stream of it.
    pub fn attach(&self, session: u64, volume: u32, outbox: &Arc<Outbox>) {
        outbox.set_session(session);
        let expires = Instant::now() + self.lease;
        let member = Member { volume, expires, outbox: Some(outbox.clone()), asked_through: 0 };
        self.members.lock().insert(session, member);
        self.orphans.notify_one();
    }

    /// Forgets a stream that ended; the session keeps its lease.
    pub fn detach(&self, outbox: &Arc<Outbox>) {
        if let Some(member) = self.members.lock().get_mut(&outbox.session())
            && member.outbox.as_ref().is_some_and(|current| Arc::ptr_eq(current, outbox))
        {
            member.outbox = None;
        }
    }

    /// Renews the lease of a session that was heard of.
    pub fn renew(&self, session: u64) {
        if let Some(member) = self.members.lock().get_mut(&session) {
            member.expires = Instant::now() + self.lease;
        }
    }

    /// Makes the set of sessions that of the state; those new here get a full lease. Returns those whose lease has run out.
    pub fn reconcile(&self, state: &[SessionState]) -> Vec<u64> {
        let now = Instant::now();
        let known: BTreeMap<u64, u32> = state.iter().map(|known| (known.info.session, known.info.volume)).collect();
        // Session ids ascend: one above all that were listed was opened since.
        let newest = known.keys().next_back().copied().unwrap_or(0);
        let mut members = self.members.lock();
        members.retain(|session, _| *session > newest || known.contains_key(session));
        for (session, volume) in &known {
            let fresh = || Member { volume: *volume, expires: now + self.lease, outbox: None, asked_through: 0 };
            members.entry(*session).or_insert_with(fresh);
        }
        let silent = members.iter().filter(|(session, member)| member.expires <= now && known.contains_key(session));
        silent.map(|(session, _)| *session).collect()
    }

    /// Gives every session a full lease: after a change of leader, or after this process itself was not running.
    pub fn renew_all(&self) {
        let expires = Instant::now() + self.lease;
        self.members.lock().values_mut().for_each(|member| member.expires = expires);
    }

    /// Ends all streams that carry a session: another node leads now, and leases are kept there.
    pub fn close_all(&self, why: &str) {
        let members = std::mem::take(&mut *self.members.lock());
        for outbox in members.into_values().filter_map(|member| member.outbox) {
            outbox.close(tonic::Status::unavailable(why));
        }
    }

    pub fn attached(&self) -> Vec<Attached> {
        let members = self.members.lock();
        let streams = members.iter().filter(|(_, member)| member.outbox.is_some());
        streams
            .map(|(session, member)| Attached {
                session: *session,
                volume: member.volume,
                asked_through: member.asked_through,
            })
            .collect()
    }

    /// Pushes an orphan question. One is outstanding for a session at a time, so that answers cannot overtake one another.
    pub fn ask(&self, session: u64, question: pb::OrphanQuestion) {
        if let Some(member) = self.members.lock().get_mut(&session)
            && let Some(outbox) = &member.outbox
        {
            member.asked_through = question.through_index;
            outbox.push(push(push::Event::Orphaned(question)));
        }
    }

    pub fn ask_to_reclaim(&self, session: u64) {
        self.push_to(session, push::Event::Reclaim(pb::ReclaimWork {}));
    }

    pub fn tell_lost(&self, session: u64) {
        self.push_to(session, push::Event::SessionLost(pb::SessionLost { session }));
    }

    fn push_to(&self, session: u64, event: push::Event) {
        if let Some(outbox) = self.members.lock().get(&session).and_then(|member| member.outbox.as_ref()) {
            outbox.push(push(event));
        }
    }

    /// Tells others what one applied log entry did; `origin` says which session sent a mutation of it. On Raft's thread: cheap
    /// where nobody has to be told.
    pub fn publish(&self, outcomes: &[Outcome], origin: impl Fn(usize) -> u64) {
        for session in outcomes.iter().flat_map(|outcome| &outcome.effects.ended) {
            self.tell_lost(*session);
            self.members.lock().remove(session);
        }
        if outcomes.iter().any(|outcome| !outcome.effects.orphaned.is_empty()) {
            self.orphans.notify_one();
        }
        for (session, wait) in outcomes.iter().flat_map(|outcome| &outcome.effects.granted) {
            self.push_to(*session, push::Event::LockGranted(pb::LockGranted { waits: vec![*wait] }));
        }
        let members = self.members.lock();
        for (session, member) in members.iter() {
            let Some(outbox) = member.outbox.as_ref().filter(|outbox| outbox.wants_changes()) else { continue };
            if let Some(changes) = changes_for(*session, member.volume, outcomes, &origin) {
                outbox.push(push(push::Event::Invalidate(changes)));
            }
        }
    }
}

/// What an entry changed in a volume, other than by this session itself; one message for all of it.
fn changes_for(
    session: u64,
    volume: u32,
    outcomes: &[Outcome],
    origin: impl Fn(usize) -> u64,
) -> Option<pb::Invalidate> {
    let mut changes = pb::Invalidate::default();
    for (at, Outcome { effects, .. }) in outcomes.iter().enumerate() {
        if effects.volume == volume && origin(at) != session {
            changes.inos.extend_from_slice(&effects.inos);
            changes.dentries.extend_from_slice(&effects.dentries);
        }
    }
    (!changes.inos.is_empty() || !changes.dentries.is_empty()).then_some(changes)
}

#[cfg(test)]
#[path = "push_test.rs"]
mod tests;
