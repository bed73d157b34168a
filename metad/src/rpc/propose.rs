//! Proposer: gathers the mutations of all streams into log entries. All that queued while at most two entries are outstanding
//! goes into the next one, stamped once; with nothing queued an entry is one mutation and waits for nothing. It knows no
//! operation. Called by rpc/meta_service and background; its answers come on Raft's thread, as entries are applied.

use super::outbox::Outbox;
use super::push::Hub;
use super::status;
use crate::apply::{Outcome, Verdict};
use crate::clock::Clock;
use crate::disk_room::DiskRoom;
use crate::raft::node::RaftNode;
use crate::raft::types::{Command, EntryResponder, Proposed};
use crate::store::KvCommit;
use bytes::Bytes;
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::pb::{self, FailureCode};
use parking_lot::Mutex;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Log entries outstanding at most.
const OUTSTANDING_MAX: usize = 2;
/// A second entry goes out beside the first only with so many mutations: a round costs every node a flush and as much CPU as applying a
/// hundred mutations, so what dribbles in while one is under way does better to gather for the next.
const SECOND_ENTRY_MUTATIONS: usize = 16;
/// Bounds of one log entry: apply runs on Raft's thread and must not hold up heartbeats.
const ENTRY_MUTATIONS_MAX: usize = 512;
const ENTRY_BYTES_MAX: usize = 2 << 20;
/// Bytes of mutations that may queue; beyond it clients are told to come back.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// A proposal without an answer for this long is answered with "unknown": an isolated leader would keep it for ever.
const DEADLINE: Duration = Duration::from_secs(3);
/// A new leader knows that it leads a few milliseconds before it takes writes: so long, and so often, a refused entry is retried.
const RETRY_FOR: Duration = Duration::from_millis(500);
const RETRY_PAUSE: Duration = Duration::from_millis(5);
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

pub type LocalResult = Result<Outcome, pb::Failure>;

/// Who is told how a mutation ended.
pub enum ReplyTo {
    Stream {
        outbox: Arc<Outbox>,
        request: u64,
        /// An open_session: its reply attaches the stream to the session.
        opens: bool,
    },
    Local(oneshot::Sender<LocalResult>),
}

impl ReplyTo {
    fn session(&self) -> u64 {
        match self {
            ReplyTo::Stream { outbox, .. } => outbox.session(),
            ReplyTo::Local(_) => 0,
        }
    }
}

struct Queued {
    reply_to: ReplyTo,
    mutation: pb::Mutation,
    bytes: usize,
    since: Instant,
}

struct Batch {
    waiters: Vec<ReplyTo>,
    entry: Bytes,
    since: Instant,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    queue_bytes: usize,
    outstanding: BTreeMap<u64, Batch>,
    batches: u64,
}

pub struct Proposer {
    node: Arc<RaftNode>,
    hub: Arc<Hub>,
    clock: Arc<dyn Clock>,
    room: Arc<DiskRoom>,
    runtime: tokio::runtime::Handle,
    state: Mutex<State>,
}

impl Proposer {
    /// `runtime` is where retries and deadlines are kept.
    pub fn new(
        node: Arc<RaftNode>,
        hub: Arc<Hub>,
        clock: Arc<dyn Clock>,
        room: Arc<DiskRoom>,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Proposer> {
        Arc::new(Proposer { node, hub, clock, room, runtime, state: Mutex::new(State::default()) })
    }

    /// Queues mutations whose shape has been checked. Each will be answered exactly once.
    pub fn submit(self: &Arc<Self>, mutations: impl IntoIterator<Item = (ReplyTo, pb::Mutation)>) {
        let since = Instant::now();
        let mut turned_away = Vec::new();
        let mutations = mutations.into_iter().map(|(reply_to, mutation)| match faults::planted(Bug::EarlyAck) {
            true => (self.answer_early(reply_to, &mutation), mutation),
            false => (reply_to, mutation),
        });
        {
            let mut state = self.state.lock();
            for (reply_to, mutation) in mutations {
                let bytes = mutation.encoded_len();
                if state.queue_bytes + bytes > QUEUE_BYTES_MAX {
                    turned_away.push(reply_to);
                    continue;
                }
                state.queue_bytes += bytes;
                state.queue.push_back(Queued { reply_to, mutation, bytes, since });
            }
        }
        fail_all(turned_away, || status::failure(FailureCode::Unavailable, String::new(), "too much is queued"));
        self.launch();
    }

    /// `Bug::EarlyAck`: what needs nothing of the outcome is answered by what this node would make of it now. Returns who waits on.
    fn answer_early(&self, reply_to: ReplyTo, mutation: &pb::Mutation) -> ReplyTo {
        use pb::mutation::Op;
        let (ReplyTo::Stream { outbox, request, .. }, Some(Op::SetXattr(_) | Op::RemoveXattr(_) | Op::Rename(_))) =
            (&reply_to, &mutation.op)
        else {
            return reply_to;
        };
        let index = self.node.facts().applied + 1;
        let (time, mutations) = (Some(self.clock.now()), vec![mutation.clone()]);
        let entry = pb::LogEntry { time, mutations, tight: false };
        let would_be = self.node.store().view(|view| crate::apply::apply_entry(view, index, &entry));
        match would_be.map(|mut applied| applied.outcomes.pop()) {
            Ok(Some(Outcome { verdict: verdict @ Verdict::Reply(_), .. })) => {
                outbox.respond([status::response(*request, index, status::of_verdict(verdict))]);
                ReplyTo::Local(oneshot::channel().0)
            }
            _ => reply_to,
        }
    }

    /// Proposes one mutation of this node's own and waits for its outcome.
    ///
    /// # Errors
    /// It was not done, or nobody knows.
    pub async fn propose_local(self: &Arc<Self>, op: pb::mutation::Op) -> LocalResult {
        let (sender, receiver) = oneshot::channel();
        let mutation = pb::Mutation { op: Some(op), ..Default::default() };
        self.submit([(ReplyTo::Local(sender), mutation)]);
        receiver.await.unwrap_or_else(|_| Err(status::failure(FailureCode::Unknown, String::new(), "stopping")))
    }

    /// Proposes entries while there is something to propose and room for it.
    fn launch(self: &Arc<Self>) {
        loop {
            let (id, entry) = {
                let mut state = self.state.lock();
                if !state.has_room() {
                    return;
                }
                state.take_batch(self.clock.now(), self.room.is_tight())
            };
            self.send(id, entry);
        }
    }

    fn send(self: &Arc<Self>, id: u64, entry: Bytes) {
        metrics::counter!(crate::metrics::PROPOSALS).increment(1);
        let this = self.clone();
        let responder = EntryResponder::new(move |end| this.finish(id, end));
        // If Raft does not take it, the responder is dropped and answers by itself.
        self.node.propose(Command(entry), responder);
    }

    /// The end of one entry, on Raft's thread.
    fn finish(self: &Arc<Self>, id: u64, end: Proposed) {
        match end {
            Proposed::Applied { log_index, outcomes } => {
                let batch = self.state.lock().outstanding.remove(&id);
                // The next round first: the answers of this one do not depend on it, nor it on them.
                self.launch();
                let waiters = batch.as_ref().map_or(&[][..], |batch| &batch.waiters);
                self.hub.publish(&outcomes, |at| waiters.get(at).map_or(0, ReplyTo::session));
                if let Some(batch) = batch {
                    metrics::histogram!(crate::metrics::COMMIT_SECONDS).record(batch.since.elapsed().as_secs_f64());
                    self.answer(batch.waiters, log_index, outcomes);
                }
            }
            Proposed::NotAppended => {
                self.refused(id);
                self.launch();
            }
            Proposed::Unknown => {
                self.drop_batch(id, || {
                    status::failure(FailureCode::Unknown, self.node.leader_addr(), "leadership changed meanwhile")
                });
                self.launch();
            }
        }
    }

    /// Raft did not append the entry. Either another node leads, or this one is about to.
    fn refused(self: &Arc<Self>, id: u64) {
        let leadership = self.node.leadership();
        let retry = {
            let state = self.state.lock();
            let batch = state.outstanding.get(&id);
            batch.filter(|batch| batch.since.elapsed() < RETRY_FOR).map(|batch| batch.entry.clone())
        };
        let soon_leader = leadership.is_self || leadership.leader.is_none();
        match retry.filter(|_| soon_leader) {
            Some(entry) => {
                let this = self.clone();
                self.runtime.spawn(async move {
                    tokio::time::sleep(RETRY_PAUSE).await;
                    // Swept meanwhile: its clients have been told that nobody knows, so it must not come after that.
                    if this.state.lock().outstanding.contains_key(&id) {
                        this.send(id, entry);
                    }
                });
            }
            None => self.drop_batch(id, || status::not_leader(&self.node)),
        }
    }

    fn drop_batch(&self, id: u64, failure: impl Fn() -> pb::Failure) {
        let batch = self.state.lock().outstanding.remove(&id);
        if let Some(batch) = batch {
            fail_all(batch.waiters, failure);
        }
    }

    fn answer(&self, waiters: Vec<ReplyTo>, index: u64, outcomes: Vec<Outcome>) {
        let mut to_streams = Grouped::default();
        for (waiter, outcome) in waiters.into_iter().zip(outcomes) {
            match waiter {
                ReplyTo::Stream { outbox, request, opens } => {
                    if opens {
                        self.attach(&outbox, &outcome.verdict);
                    }
                    let response = status::response(request, index, status::of_verdict(outcome.verdict));
                    to_streams.add(outbox, response);
                }
                // Whoever asked may have stopped waiting.
                ReplyTo::Local(sender) => drop(sender.send(Ok(outcome))),
            }
        }
        to_streams.flush();
    }

    fn attach(&self, outbox: &Arc<Outbox>, verdict: &Verdict) {
        if let Verdict::Reply(reply) = verdict
            && let Ok(opened) = pb::OpenSessionReply::decode(reply.clone())
        {
            self.hub.attach(opened.session, opened.volume, outbox);
        }
    }

    /// Answers what has waited too long. Runs until the process ends.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            let (unknown, undone) = self.state.lock().take_expired();
            fail_all(unknown, || status::failure(FailureCode::Unknown, String::new(), "no quorum answered in time"));
            fail_all(undone, || status::failure(FailureCode::Unavailable, String::new(), "no quorum answers"));
            self.launch();
        }
    }
}

impl State {
    /// Whether what is queued may go out now.
    fn has_room(&self) -> bool {
        match self.outstanding.len() {
            0 => !self.queue.is_empty(),
            under_way => under_way < OUTSTANDING_MAX && self.queue.len() >= SECOND_ENTRY_MUTATIONS,
        }
    }

    fn take_batch(&mut self, now: pb::TimeSpec, tight: bool) -> (u64, Bytes) {
        let mut log_entry = pb::LogEntry { time: Some(now), mutations: Vec::new(), tight };
        let mut batch = Batch { waiters: Vec::new(), entry: Bytes::new(), since: Instant::now() };
        let mut bytes = 0;
        while log_entry.mutations.len() < ENTRY_MUTATIONS_MAX
            && let Some(queued) = self.queue.pop_front_if(|next| bytes == 0 || bytes + next.bytes <= ENTRY_BYTES_MAX)
        {
            bytes += queued.bytes.max(1);
            self.queue_bytes -= queued.bytes;
            log_entry.mutations.push(queued.mutation);
            batch.waiters.push(queued.reply_to);
        }
        metrics::histogram!(crate::metrics::BATCH_MUTATIONS).record(log_entry.mutations.len() as f64);
        batch.entry = log_entry.encode_to_vec().into();
        self.batches += 1;
        let (id, entry) = (self.batches, batch.entry.clone());
        self.outstanding.insert(id, batch);
        (id, entry)
    }

    /// Waiters of proposals nobody answered, and of mutations never proposed.
    fn take_expired(&mut self) -> (Vec<ReplyTo>, Vec<ReplyTo>) {
        let mut unknown = Vec::new();
        self.outstanding.retain(|_, batch| {
            let keep = batch.since.elapsed() < DEADLINE;
            if !keep {
                unknown.append(&mut batch.waiters);
            }
            keep
        });
        let mut undone = Vec::new();
        while let Some(queued) = self.queue.pop_front_if(|queued| queued.since.elapsed() >= DEADLINE) {
            self.queue_bytes -= queued.bytes;
            undone.push(queued.reply_to);
        }
        (unknown, undone)
    }
}

fn fail_all(waiters: Vec<ReplyTo>, failure: impl Fn() -> pb::Failure) {
    let mut to_streams = Grouped::default();
    for waiter in waiters {
        match waiter {
            ReplyTo::Stream { outbox, request, .. } => to_streams.add(outbox, status::failed(request, failure())),
            ReplyTo::Local(sender) => drop(sender.send(Err(failure()))),
        }
    }
    to_streams.flush();
}

/// Responses of one batch, handed over once a run of the same stream: one lock and one wake-up instead of one each.
#[derive(Default)]
struct Grouped {
    outbox: Option<Arc<Outbox>>,
    responses: Vec<pb::Response>,
}

impl Grouped {
    fn add(&mut self, outbox: Arc<Outbox>, response: pb::Response) {
        if !self.outbox.as_ref().is_some_and(|current| Arc::ptr_eq(current, &outbox)) {
            self.flush();
            self.outbox = Some(outbox);
        }
        self.responses.push(response);
    }

    fn flush(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            outbox.respond(self.responses.drain(..));
        }
    }
}
