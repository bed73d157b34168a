//! Outbox: what waits to be sent on one client's stream. Filled from any thread (Raft's, when it applies), emptied by the stream:
//! all that waits goes into one frame. Bounded: the stream's reader stops while too much is unanswered or unsent.

use futures::Stream;
use futures::task::AtomicWaker;
use holdfast_proto::limits::FRAME_BYTES_MAX;
use holdfast_proto::pb::{Push, Response, ServerFrame, Welcome, response};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use tonic::Status;

/// Most requests of one stream without an answer sent.
const IN_FLIGHT_MAX: usize = 8_192;
/// Bytes of answers waiting to be sent beyond which the stream reads no more requests.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Most pushes waiting: a client that takes none is better off starting afresh.
const PUSHES_MAX: usize = 4_096;
/// A frame is closed when it has reached this size, so that with one more answer it stays under the bound.
const FRAME_FILL_BYTES: usize = FRAME_BYTES_MAX / 2;

#[derive(Default)]
struct State {
    welcome: Option<Welcome>,
    responses: VecDeque<Response>,
    pushes: VecDeque<Push>,
    waiting_bytes: usize,
    in_flight: usize,
    /// Set once: the stream ends with it after what waits has been sent.
    closed: Option<Status>,
    ended: bool,
}

#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    room: Notify,
    session: AtomicU64,
    quiet: AtomicBool,
}

fn response_bytes(response: &Response) -> usize {
    32 + match &response.result {
        Some(response::Result::Reply(reply)) => reply.len(),
        Some(response::Result::Failure(failure)) => failure.message.len() + failure.leader.len(),
        _ => 0,
    }
}

impl Outbox {
    /// The session attached to this stream, 0 for none.
    pub fn session(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    pub fn set_session(&self, session: u64) {
        self.session.store(session, Ordering::Relaxed);
    }

    /// The client keeps no caches: it wants no invalidations.
    pub fn set_quiet(&self) {
        self.quiet.store(true, Ordering::Relaxed);
    }

    pub fn wants_changes(&self) -> bool {
        !self.quiet.load(Ordering::Relaxed)
    }

    /// Counts requests that came in and have to be answered.
    pub fn take_in(&self, requests: usize) {
        self.state.lock().in_flight += requests;
    }

    /// Whether the stream should take no more for now.
    fn is_full(state: &State) -> bool {
        !state.ended && (state.in_flight > IN_FLIGHT_MAX || state.waiting_bytes > WAITING_BYTES_MAX)
    }

    /// Returns when there is room for more requests, or the stream has ended.
    pub async fn wait_for_room(&self) {
        loop {
            let room = self.room.notified();
            if !Self::is_full(&self.state.lock()) {
                return;
            }
            room.await;
        }
    }

    fn has_room_to_send(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.waiting_bytes <= WAITING_BYTES_MAX
    }

    /// Returns when the answers that wait take less than their bound of memory, or the stream has ended.
    pub async fn wait_for_sending(&self) {
        loop {
            let room = self.room.notified();
            if self.has_room_to_send() {
                return;
            }
            room.await;
        }
    }

    pub fn welcome(&self, welcome: Welcome) {
        self.state.lock().welcome = Some(welcome);
        self.waker.wake();
    }

    pub fn respond(&self, responses: impl IntoIterator<Item = Response>) {
        let mut state = self.state.lock();
        if state.ended {
            return;
        }
        for response in responses {
            state.waiting_bytes += response_bytes(&response);
            state.responses.push_back(response);
        }
        drop(state);
        self.waker.wake();
    }

    pub fn push(&self, push: Push) {
        let mut state = self.state.lock();
        if state.ended || state.closed.is_some() {
            return;
        }
        if state.pushes.len() >= PUSHES_MAX {
            state.closed = Some(Status::resource_exhausted("this client does not take what is pushed to it"));
        } else {
            state.pushes.push_back(push);
        }
        drop(state);
        self.waker.wake();
    }

    /// Ends the stream after what waits has been sent. The first reason is kept.
    pub fn close(&self, status: Status) {
        let mut state = self.state.lock();
        if state.closed.is_none() {
            state.closed = Some(status);
        }
        drop(state);
        self.waker.wake();
    }

    pub fn is_closed(&self) -> bool {
        let state = self.state.lock();
        state.ended || state.closed.is_some()
    }

    fn take_frame(&self) -> Option<ServerFrame> {
        let mut state = self.state.lock();
        if state.welcome.is_none() && state.responses.is_empty() && state.pushes.is_empty() {
            return None;
        }
        let was_full = Self::is_full(&state);
        let mut frame = ServerFrame { welcome: state.welcome.take(), ..ServerFrame::default() };
        let mut bytes = 0;
        if state.waiting_bytes <= FRAME_FILL_BYTES {
            frame.responses = std::mem::take(&mut state.responses).into();
            bytes = std::mem::take(&mut state.waiting_bytes);
        }
        while bytes < FRAME_FILL_BYTES
            && let Some(response) = state.responses.pop_front()
        {
            let size = response_bytes(&response);
            bytes += size;
            state.waiting_bytes -= size;
            frame.responses.push(response);
        }
        state.in_flight = state.in_flight.saturating_sub(frame.responses.len());
        frame.pushes = std::mem::take(&mut state.pushes).into();
        if was_full {
            self.room.notify_waiters();
        }
        Some(frame)
    }
}

/// The sending side of a stream. Dropping it (the client has gone) ends the outbox.
pub struct Frames(pub Arc<Outbox>);

impl Stream for Frames {
    type Item = Result<ServerFrame, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.waker.register(cx.waker());
        if let Some(frame) = self.0.take_frame() {
            return Poll::Ready(Some(Ok(frame)));
        }
        let mut state = self.0.state.lock();
        if state.ended {
            return Poll::Ready(None);
        }
        match state.closed.clone() {
            Some(status) => {
                state.ended = true;
                drop(state);
                self.0.room.notify_waiters();
                Poll::Ready((status.code() != tonic::Code::Ok).then_some(Err(status)))
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        state.responses.clear();
        state.pushes.clear();
        drop(state);
        self.0.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt, StreamExt};

    fn reply(id: u64, len: usize) -> Response {
        Response { id, log_index: 1, result: Some(response::Result::Reply(vec![0; len].into())) }
    }

    #[test]
    fn all_that_waits_goes_into_one_frame() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = Frames(outbox.clone());
        assert!(frames.next().now_or_never().is_none());
        outbox.respond([reply(1, 10), reply(2, 10)]);
        outbox.respond([reply(3, 10)]);
        let frame = frames.next().now_or_never().flatten().expect("a frame").expect("no error");
        assert_eq!(frame.responses.iter().map(|response| response.id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn large_answers_are_spread_over_frames_below_the_bound() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = Frames(outbox.clone());
        outbox.respond((0..20).map(|id| reply(id, 1 << 20)));
        let mut seen = 0;
        while let Some(Some(frame)) = frames.next().now_or_never() {
            let frame = frame.expect("no error");
            assert!(prost::Message::encoded_len(&frame) < FRAME_BYTES_MAX);
            seen += frame.responses.len();
        }
        assert_eq!(seen, 20);
        assert_eq!(outbox.state.lock().waiting_bytes, 0);
    }

    #[test]
    fn a_stream_with_too_much_unanswered_waits_until_answers_are_sent() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = Frames(outbox.clone());
        outbox.take_in(IN_FLIGHT_MAX + 1);
        assert!(outbox.wait_for_room().now_or_never().is_none());
        outbox.respond([reply(1, 1)]);
        assert!(frames.next().now_or_never().is_some());
        assert!(outbox.wait_for_room().now_or_never().is_some());
    }

    #[test]
    fn a_closed_stream_sends_what_waits_and_then_its_reason() {
        let outbox = Arc::new(Outbox::default());
        let mut frames = Frames(outbox.clone());
        outbox.respond([reply(1, 1)]);
        outbox.close(Status::unavailable("bye"));
        assert!(frames.next().now_or_never().flatten().expect("a frame").is_ok());
        assert_eq!(frames.next().now_or_never().flatten().expect("end").expect_err("reason").message(), "bye");
        assert!(frames.next().now_or_never().expect("ready").is_none());
    }

    #[test]
    fn a_client_that_takes_no_pushes_is_dropped() {
        let outbox = Outbox::default();
        (0..=PUSHES_MAX).for_each(|_| outbox.push(Push::default()));
        assert!(outbox.is_closed());
    }
}
