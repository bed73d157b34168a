//! ReadGate: before a query is answered, this node must lead for certain. While its lease is sure that costs nothing, and the
//! query is answered where it was read; else one ReadIndex round is made for all queries that queued. Called by rpc/meta_service.

use super::outbox::Outbox;
use super::status;
use crate::apply::Verdict;
use crate::error::Fatal;
use crate::query;
use crate::raft::node::{RaftNode, ReadError};
use crate::store::{KvCommit, StoreError};
use holdfast_proto::faults::{self, Bug};
use holdfast_proto::pb;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A reader of many queries (large directories) lets other streams in after so long.
const SLICE_MAX: Duration = Duration::from_millis(2);
/// Queries waiting for a quorum round; beyond it clients are told to come back.
const WAITING_MAX: usize = 65_536;

/// A query and where its answer goes.
pub struct Ask {
    pub outbox: Arc<Outbox>,
    pub request: u64,
    pub query: pb::Query,
}

#[derive(Default)]
struct State {
    waiting: Vec<Ask>,
    round: bool,
}

pub struct ReadGate {
    node: Arc<RaftNode>,
    fatal: Fatal,
    state: Mutex<State>,
}

impl ReadGate {
    pub fn new(node: Arc<RaftNode>, fatal: Fatal) -> Arc<ReadGate> {
        Arc::new(ReadGate { node, fatal, state: Mutex::new(State::default()) })
    }

    /// Answers queries whose shape has been checked, now or after a quorum round.
    pub async fn ask(self: &Arc<Self>, asks: Vec<Ask>) {
        if asks.is_empty() {
            return;
        }
        if self.node.lease_is_sure() || faults::planted(Bug::StaleReads) {
            return self.answer_all(asks).await;
        }
        let leadership = self.node.leadership();
        if !leadership.is_self {
            return self.fail_all(asks, || status::not_leader(&self.node));
        }
        self.queue(asks);
    }

    fn queue(self: &Arc<Self>, asks: Vec<Ask>) {
        let mut state = self.state.lock();
        if state.waiting.len() + asks.len() > WAITING_MAX {
            drop(state);
            let busy = || status::failure(pb::FailureCode::Unavailable, String::new(), "too many queries wait");
            return self.fail_all(asks, busy);
        }
        state.waiting.extend(asks);
        if !std::mem::replace(&mut state.round, true) {
            let this = self.clone();
            tokio::spawn(async move { this.rounds().await });
        }
    }

    /// Makes rounds until nobody waits. A round only serves those that waited before it began.
    async fn rounds(self: Arc<Self>) {
        loop {
            let asks = {
                let mut state = self.state.lock();
                let asks = std::mem::take(&mut state.waiting);
                state.round = !asks.is_empty();
                asks
            };
            if asks.is_empty() {
                return;
            }
            metrics::counter!(crate::metrics::READ_INDEX_ROUNDS).increment(1);
            match self.node.read_index().await {
                Ok(()) => self.answer_by_stream(asks),
                Err(ReadError::NotLeader) => self.fail_all(asks, || status::not_leader(&self.node)),
                Err(error) => self.fail_all(asks, || status::of_read_error(&self.node, &error)),
            }
        }
    }

    /// One task a stream: a client that takes no answers must not hold up the others of its round.
    fn answer_by_stream(self: &Arc<Self>, asks: Vec<Ask>) {
        let mut asks = asks.into_iter().peekable();
        while let Some(first) = asks.next() {
            let outbox = first.outbox.clone();
            let mut run = vec![first];
            while let Some(next) = asks.next_if(|ask| Arc::ptr_eq(&ask.outbox, &outbox)) {
                run.push(next);
            }
            let this = self.clone();
            tokio::spawn(async move { this.answer_all(run).await });
        }
    }

    async fn answer_all(&self, asks: Vec<Ask>) {
        metrics::counter!(crate::metrics::READS).increment(asks.len() as u64);
        let mut slice = Instant::now();
        let mut answered: Option<(Arc<Outbox>, Vec<pb::Response>)> = None;
        for ask in asks {
            let response = match self.answer(&ask.query) {
                Ok((index, verdict)) => status::response(ask.request, index, status::of_verdict(verdict)),
                Err(error) => {
                    tracing::error!(%error, "a query found the store damaged; this node stops");
                    self.fatal.raise(format!("answer a query: {error}"));
                    let unknown = status::failure(pb::FailureCode::Unavailable, String::new(), "this node stops");
                    status::failed(ask.request, unknown)
                }
            };
            match &mut answered {
                Some((outbox, responses)) if Arc::ptr_eq(outbox, &ask.outbox) => responses.push(response),
                _ => {
                    flush(answered.replace((ask.outbox.clone(), vec![response])));
                }
            }
            if slice.elapsed() > SLICE_MAX {
                flush(answered.take());
                ask.outbox.wait_for_sending().await;
                tokio::task::yield_now().await;
                slice = Instant::now();
            }
        }
        flush(answered);
    }

    /// One query, on one state, with the index of that state.
    fn answer(&self, query: &pb::Query) -> Result<(u64, Verdict), StoreError> {
        self.node.store().view(|view| {
            let index = crate::raft::state_machine::applied_index(view)?;
            Ok((index, query::answer(view, query)?))
        })
    }

    fn fail_all(&self, asks: Vec<Ask>, failure: impl Fn() -> pb::Failure) {
        for ask in asks {
            ask.outbox.respond([status::failed(ask.request, failure())]);
        }
    }
}

fn flush(answered: Option<(Arc<Outbox>, Vec<pb::Response>)>) {
    if let Some((outbox, responses)) = answered {
        outbox.respond(responses);
    }
}
