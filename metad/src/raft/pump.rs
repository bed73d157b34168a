//! Pump: one append stream to one follower, both directions driven by whoever polls the answers. So dropping it drops openraft's
//! request stream at once, which holds the replication lock while it is polled. Called by raft/network only.
//!
//! A request without entries only carries the commit index and follows every round. It is held back for a moment, so that it
//! rides on the next append; the answer it is owed follows from that append's success.

use super::convert;
use super::types::{LogId, TypeConfig};
use futures::channel::mpsc;
use futures::{Stream, StreamExt};
use holdfast_proto::pb::RaftFrame;
use openraft::AnyError;
use openraft::errors::{NetworkError, RPCError, Unreachable};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How long a commit-only request may wait for company.
const HOLD_MAX: Duration = Duration::from_millis(5);
/// A request not answered within this time ends the stream: a half-dead link must not wedge replication.
const ANSWER_DEADLINE: Duration = Duration::from_millis(1_500);

type Append = AppendEntriesRequest<TypeConfig>;
type RpcError = RPCError<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, RpcError>;

pub fn unreachable(message: impl ToString) -> RpcError {
    RPCError::Unreachable(Unreachable::from_string(message))
}

pub fn network_error(message: impl ToString) -> RpcError {
    RPCError::Network(NetworkError::new(&AnyError::error(message.to_string())))
}

/// One request on the wire.
struct Sent {
    deadline: Instant,
    /// Set where a commit-only request was merged into this one: the log id that answers it.
    merged: Option<Option<LogId>>,
}

pub struct Pump<S> {
    peer: u64,
    requests: Option<S>,
    outgoing: Option<mpsc::Sender<RaftFrame>>,
    incoming: tonic::Streaming<RaftFrame>,
    /// Encoded, waiting for room in `outgoing`.
    staged: VecDeque<RaftFrame>,
    sent: VecDeque<Sent>,
    held: Option<Append>,
    hold_timer: Pin<Box<Sleep>>,
    answer_timer: Pin<Box<Sleep>>,
    /// Second half of an answer that stood for two requests.
    ready: Option<StreamAppendResult<TypeConfig>>,
    ended: bool,
}

impl<S> Pump<S>
where
    S: Stream<Item = Append> + Unpin,
{
    pub fn new(
        peer: u64,
        requests: S,
        outgoing: mpsc::Sender<RaftFrame>,
        incoming: tonic::Streaming<RaftFrame>,
    ) -> Pump<S> {
        Pump {
            peer,
            requests: Some(requests),
            outgoing: Some(outgoing),
            incoming,
            staged: VecDeque::new(),
            sent: VecDeque::new(),
            held: None,
            hold_timer: Box::pin(tokio::time::sleep(HOLD_MAX)),
            answer_timer: Box::pin(tokio::time::sleep(ANSWER_DEADLINE)),
            ready: None,
            ended: false,
        }
    }

    fn stage(&mut self, request: &Append, merged: Option<Option<LogId>>) {
        let deadline = Instant::now() + ANSWER_DEADLINE;
        if self.sent.is_empty() {
            self.answer_timer.as_mut().reset(deadline);
        }
        self.staged.push_back(RaftFrame { data: convert::encode_append(request) });
        self.sent.push_back(Sent { deadline, merged });
    }

    fn release_held(&mut self) {
        if let Some(held) = self.held.take() {
            self.stage(&held, None);
        }
    }

    fn take_request(&mut self, request: Append) {
        if request.entries.is_empty() && self.held.is_none() {
            self.hold_timer.as_mut().reset(Instant::now() + HOLD_MAX);
            self.held = Some(request);
            return;
        }
        match self.held.take() {
            // The same leader goes on from the same point: the newer request says all that the held one did.
            Some(held) if held.vote == request.vote && held.prev_log_id == request.prev_log_id => {
                self.stage(&request, Some(held.prev_log_id));
            }
            Some(held) => {
                self.stage(&held, None);
                self.stage(&request, None);
            }
            None => self.stage(&request, None),
        }
    }

    /// Moves requests towards the wire until one side has to wait.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), RpcError> {
        loop {
            self.poll_staged(cx)?;
            if !self.staged.is_empty() {
                return Ok(());
            }
            let Some(requests) = self.requests.as_mut() else {
                self.outgoing = None;
                return Ok(());
            };
            match requests.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => self.take_request(request),
                Poll::Ready(None) => {
                    self.requests = None;
                    self.release_held();
                }
                Poll::Pending if self.held.is_some() && self.hold_timer.as_mut().poll(cx).is_ready() => {
                    self.release_held();
                }
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn poll_staged(&mut self, cx: &mut Context<'_>) -> Result<(), RpcError> {
        let Some(outgoing) = self.outgoing.as_mut() else { return Ok(()) };
        while !self.staged.is_empty() {
            match outgoing.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(frame) = self.staged.pop_front() {
                        outgoing.start_send(frame).map_err(|_| network_error("append stream is closed"))?;
                    }
                }
                Poll::Ready(Err(_)) => return Err(network_error("append stream is closed")),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn poll_answers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        match self.incoming.poll_next_unpin(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(self.take_answer(frame))),
            Poll::Ready(Some(Err(status))) => {
                Poll::Ready(Some(Err(unreachable(format!("peer {}: {}", self.peer, status.message())))))
            }
            Poll::Ready(None) if self.sent.is_empty() => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Err(network_error("append stream ended before its answers")))),
            Poll::Pending => self.poll_deadline(cx),
        }
    }

    fn take_answer(&mut self, frame: RaftFrame) -> Answer {
        let Some(sent) = self.sent.pop_front() else {
            return Err(network_error(format!("peer {} answered what nobody asked", self.peer)));
        };
        if let Some(next) = self.sent.front() {
            self.answer_timer.as_mut().reset(next.deadline);
        }
        let result = convert::decode_append_result(frame.data).map_err(network_error)?;
        Ok(match (sent.merged, &result) {
            (Some(merged), Ok(_)) => {
                self.ready = Some(result);
                Ok(merged)
            }
            _ => result,
        })
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        if self.sent.is_empty() || self.answer_timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Some(Err(network_error(format!("peer {}: no answer in {ANSWER_DEADLINE:?}", self.peer)))))
    }
}

impl<S> Stream for Pump<S>
where
    S: Stream<Item = Append> + Unpin,
{
    type Item = Answer;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let this = &mut *self;
        if let Some(result) = this.ready.take() {
            return Poll::Ready(Some(Ok(result)));
        }
        if this.ended {
            return Poll::Ready(None);
        }
        let next = match this.poll_requests(cx) {
            Ok(()) => this.poll_answers(cx),
            Err(error) => Poll::Ready(Some(Err(error))),
        };
        this.ended = matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}
