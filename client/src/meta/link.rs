//! The link: what callers, the outbound stream and the driver share, under one lock that is held for microseconds: the queue of encoded
//! requests, the flights, the session. No await and no I/O here. A caller puts its request into the queue and wakes the outbound
//! stream; the driver hands each answer to its caller. Called by meta::client, meta::stream.

use super::flight::{Flight, Flights, Kind, Outcome, Waiter};
use super::retry::{self, Decision, Progress, SlotFate, Trouble};
use super::session::{Live, Owner, Session, State};
use super::slots::Slots;
use crate::config::MetaConfig;
use crate::error::ClientError;
use bytes::Bytes;
use holdfast_proto::limits::REQUEST_BYTES_MAX;
use holdfast_proto::{FsErrno, pb};
use pb::push::Event;
use pb::request::Body;
use pb::response::Result as Wire;
use prost::Message;
use std::collections::VecDeque;
use std::task::Waker;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// What an abandoned or internal flight has in place of a deadline.
const FOREVER: Duration = Duration::MAX;

/// Why a request could not be taken now.
#[derive(Debug)]
pub enum NotTaken {
    /// All slots or places are in use: wait for room and try again.
    Full,
    Never(ClientError),
}

/// What a frame or a tick leaves to do outside the lock.
#[derive(Debug, Default)]
pub struct Effects {
    pub done: Vec<(Waiter, Outcome)>,
    pub pushes: Vec<pb::Push>,
    /// Somebody waits for room, and there is some.
    pub room: bool,
    /// The outbound stream has something to send.
    pub waker: Option<Waker>,
    /// This node does not lead (any more); who does, where known.
    pub redirect: Option<Option<String>>,
    /// The earliest flight that waits out a backoff.
    pub due: Option<Instant>,
    /// A flight went unanswered for longer than the suspicion.
    pub suspicious: bool,
}

/// All shared state. See the file's head.
#[derive(Debug)]
pub struct Core {
    pub outbox: VecDeque<Bytes>,
    pub flights: Flights,
    pub session: Session,
    /// Session to be named in the next frame; 0: none.
    pub keep_alive: u64,
    /// Which outbound stream may take from the outbox; 0: none.
    pub active_stream: u64,
    pub waker: Option<Waker>,
    /// Callers that found no room.
    pub waiting_count: u32,
    /// Requests taken so far: what the driver tells activity by.
    pub taken_count: u64,
    /// The driver sleeps until it is poked.
    pub driver_idle: bool,
    /// Set once the driver has ended: nothing is taken any more.
    pub stopped: bool,
    slot_count: u32,
    suspicion: Duration,
    resend_after: Duration,
}

impl Core {
    pub fn new(config: &MetaConfig) -> Core {
        Core {
            outbox: VecDeque::new(),
            flights: Flights::default(),
            session: Session::default(),
            keep_alive: 0,
            active_stream: 0,
            waker: None,
            waiting_count: 0,
            taken_count: 0,
            driver_idle: false,
            stopped: false,
            slot_count: config.slot_count,
            suspicion: config.suspicion,
            resend_after: config.resend_after,
        }
    }

    /// Takes a mutation of the session `seen`, which the caller had when it began: under any other it must not take effect.
    ///
    /// # Errors
    /// Full, or final. `op` is left in place where it is Full.
    pub fn take_mutation(
        &mut self,
        seen: u64,
        creds: &pb::Creds,
        op: &mut Option<pb::mutation::Op>,
        waiter: Waiter,
        limits: (Instant, Duration),
    ) -> Result<(), NotTaken> {
        let id = self.next_id()?;
        let live = self.session.for_mutation().map_err(NotTaken::Never)?;
        if live.id != seen {
            return Err(NotTaken::Never(ClientError::SessionLost));
        }
        let ticket = live.slots.take().ok_or(NotTaken::Full)?;
        let session = live.id;
        let mutation =
            pb::Mutation { session, slot: ticket.slot, seq: ticket.seq, creds: Some(creds.clone()), op: op.take() };
        let request = encode(id, Body::Mutation(mutation));
        if let Err(error) = check_size(&request) {
            live.slots.not_recorded(ticket);
            return Err(NotTaken::Never(error));
        }
        self.launch(id, Kind::Bound { session, ticket }, request, Some(waiter), limits, true);
        Ok(())
    }

    /// Takes a mutation without a session.
    pub fn take_unbound(
        &mut self,
        op: &mut Option<pb::mutation::Op>,
        waiter: Waiter,
        limits: (Instant, Duration),
    ) -> Result<(), NotTaken> {
        let id = self.next_id()?;
        let creds = Some(pb::Creds::default());
        let request = encode(id, Body::Mutation(pb::Mutation { creds, op: op.take(), ..Default::default() }));
        check_size(&request).map_err(NotTaken::Never)?;
        self.launch(id, Kind::Unbound, request, Some(waiter), limits, true);
        Ok(())
    }

    /// Takes a query; `bound` where it is asked of the session's volume.
    pub fn take_query(
        &mut self,
        bound: bool,
        creds: &pb::Creds,
        ask: &mut Option<pb::query::Ask>,
        waiter: Waiter,
        limits: (Instant, Duration),
    ) -> Result<(), NotTaken> {
        let id = self.next_id()?;
        let (session, lost) = match bound {
            true => self.session.for_query().map(|id| (id, id == 0)).map_err(NotTaken::Never)?,
            false => (0, false),
        };
        let request = encode(id, Body::Query(pb::Query { session, creds: Some(creds.clone()), ask: ask.take() }));
        check_size(&request).map_err(NotTaken::Never)?;
        let kind = if bound { Kind::Query { session } } else { Kind::UnboundQuery };
        self.launch(id, kind, request, Some(waiter), limits, !lost);
        Ok(())
    }

    fn next_id(&self) -> Result<u64, NotTaken> {
        if self.stopped {
            return Err(NotTaken::Never(closed()));
        }
        self.flights.next_id().ok_or(NotTaken::Full)
    }

    fn launch(
        &mut self,
        id: u64,
        kind: Kind,
        request: Bytes,
        waiter: Option<Waiter>,
        (now, wait): (Instant, Duration),
        send: bool,
    ) {
        if send {
            self.outbox.push_back(request.clone());
        }
        self.taken_count += 1;
        let deadline = now.checked_add(wait);
        let flight = Flight { kind, request, waiter, submitted: now, sent: now, deadline, attempts: 0, due: None };
        self.flights.insert(id, flight);
    }

    /// A new stream is up: everything unanswered goes out again, in order, with the ids it had.
    pub fn begin_stream(&mut self, stream: u64, now: Instant) {
        self.active_stream = stream;
        self.outbox.clear();
        self.keep_alive = self.session.id();
        for id in self.flights.ids() {
            let Some(flight) = self.flights.get_mut(id) else { continue };
            if flight.kind == (Kind::Query { session: 0 }) {
                continue;
            }
            flight.sent = now;
            flight.due = None;
            self.outbox.push_back(flight.request.clone());
        }
    }

    /// The stream is gone. Nobody knows what became of what was under way.
    pub fn end_stream(&mut self) {
        self.active_stream = 0;
        self.outbox.clear();
        for id in self.flights.ids() {
            if let Some(flight) = self.flights.get_mut(id) {
                flight.attempts += 1;
            }
        }
    }

    /// The driver has ended: whoever still waits learns that the link is closed, by the end of its channel.
    pub fn stop(&mut self) {
        self.end_stream();
        self.stopped = true;
        self.session.state = State::Over(closed());
        self.flights = Flights::default();
    }

    /// Digests one frame of the server.
    pub fn on_frame(&mut self, frame: pb::ServerFrame, now: Instant, jitter: f32, effects: &mut Effects) {
        for response in frame.responses {
            self.on_response(response, now, jitter, effects);
        }
        for push in frame.pushes {
            match &push.event {
                Some(Event::SessionLost(lost)) => self.lose_session(lost.session, now, effects),
                Some(_) => effects.pushes.push(push),
                None => debug!("a push without an event"),
            }
        }
        self.settle(effects);
    }

    fn on_response(&mut self, response: pb::Response, now: Instant, jitter: f32, effects: &mut Effects) {
        let outcome = match response.result {
            Some(Wire::Reply(reply)) => Ok((reply, response.log_index)),
            Some(Wire::Errno(number)) => Err(match FsErrno::from_number(number) {
                Some(errno) => ClientError::Refused(errno),
                None => ClientError::Protocol(format!("a refusal with the unknown number {number}")),
            }),
            Some(Wire::Failure(failure)) => {
                let code = pb::FailureCode::try_from(failure.code).unwrap_or(pb::FailureCode::Unspecified);
                let trouble = Trouble::Failure { code, leader: failure.leader, message: failure.message };
                return self.on_trouble(response.id, &trouble, now, jitter, effects);
            }
            None => {
                let trouble = Trouble::Garbled("a response without a result".to_owned());
                return self.on_trouble(response.id, &trouble, now, jitter, effects);
            }
        };
        let Some(flight) = self.flights.remove(response.id) else {
            debug!(id = response.id, "an answer that nobody asked for");
            return;
        };
        effects.room = true;
        if let (Kind::Bound { session, ticket }, State::Live(live)) = (flight.kind, &mut self.session.state)
            && live.id == session
        {
            live.slots.answered(ticket);
        }
        match (flight.kind, flight.waiter) {
            (Kind::Reopen, _) => self.on_reopened(outcome, now, effects),
            (_, Some(waiter)) => effects.done.push((waiter, outcome)),
            (_, None) => debug!(id = response.id, "an abandoned request was resolved"),
        }
    }

    fn on_trouble(&mut self, id: u64, trouble: &Trouble, now: Instant, jitter: f32, effects: &mut Effects) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        flight.attempts += 1;
        let progress = Progress {
            attempts: flight.attempts,
            elapsed: now.saturating_duration_since(flight.submitted),
            deadline: flight.deadline.map_or(FOREVER, |at| at.saturating_duration_since(flight.submitted)),
            jitter,
        };
        debug!(id, ?trouble, attempts = progress.attempts, "a request failed");
        match retry::decide(trouble, progress) {
            Decision::Retry { after } => {
                let due = now + after;
                flight.due = Some(due);
                effects.due = Some(effects.due.map_or(due, |known| known.min(due)));
            }
            Decision::Redirect { to } => effects.redirect = Some(to.or(effects.redirect.take().flatten())),
            Decision::NewSession => self.on_session_lost_answer(id, now, effects),
            Decision::Fail(error) => self.fail(id, trouble, error, now, effects),
        }
    }

    /// Gives up on one flight. Where it may still be under way, its slot stays busy with the flight that resolves it.
    fn fail(&mut self, id: u64, trouble: &Trouble, error: ClientError, now: Instant, effects: &mut Effects) {
        let Some(flight) = self.flights.get_mut(id) else { return };
        let waiter = flight.waiter.take();
        let unresolved = matches!(error, ClientError::Unavailable(_)) && matches!(flight.kind, Kind::Bound { .. });
        if unresolved {
            flight.deadline = None;
            flight.due = Some(now + self.resend_after);
        } else if let Some(flight) = self.flights.remove(id) {
            effects.room = true;
            self.settle_slot(&flight, trouble, now, effects);
            if flight.kind == Kind::Reopen {
                self.on_reopened(Err(error.clone()), now, effects);
            }
        }
        if let Some(waiter) = waiter {
            effects.done.push((waiter, Err(error)));
        }
    }

    fn settle_slot(&mut self, flight: &Flight, trouble: &Trouble, now: Instant, effects: &mut Effects) {
        let (Kind::Bound { session, ticket }, State::Live(live)) = (flight.kind, &mut self.session.state) else {
            return;
        };
        if live.id != session {
            return;
        }
        match retry::slot_fate(trouble, flight.attempts) {
            SlotFate::NotRecorded => live.slots.not_recorded(ticket),
            SlotFate::Retire => live.slots.retire(ticket),
        }
        if live.slots.exhausted() {
            error!(session, "no usable slot is left: the session is replaced");
            self.lose_session(session, now, effects);
        }
    }

    fn on_session_lost_answer(&mut self, id: u64, now: Instant, effects: &mut Effects) {
        let Some(kind) = self.flights.get_mut(id).map(|flight| flight.kind) else { return };
        match kind {
            Kind::Bound { session, .. } => {
                self.lose_session(session, now, effects);
                // Its session was already replaced, or is being closed.
                let lost = Trouble::Garbled(String::new());
                self.fail(id, &lost, ClientError::SessionLost, now, effects);
            }
            Kind::Query { session } => {
                self.lose_session(session, now, effects);
                self.ask_again(id, now);
            }
            Kind::Unbound | Kind::UnboundQuery | Kind::Reopen => {
                let error = ClientError::Protocol("a request without a session was told that it is lost".to_owned());
                self.fail(id, &Trouble::Garbled(String::new()), error, now, effects);
            }
        }
    }

    /// The server ended the session: what it carried fails, and a request for another one goes out.
    pub fn lose_session(&mut self, session: u64, now: Instant, effects: &mut Effects) {
        if !self.session.is_live(session) {
            return;
        }
        let closing = self.session.closing;
        self.session.state = if closing { State::Over(closed()) } else { State::Lost };
        self.keep_alive = 0;
        for id in self.flights.ids() {
            match self.flights.get_mut(id).map(|flight| flight.kind) {
                Some(Kind::Bound { .. }) => {
                    let waiter = self.flights.remove(id).and_then(|flight| flight.waiter);
                    effects.done.extend(waiter.map(|waiter| (waiter, Err(ClientError::SessionLost))));
                }
                Some(Kind::Query { .. }) => self.ask_again(id, now),
                Some(Kind::Unbound | Kind::UnboundQuery | Kind::Reopen) | None => {}
            }
        }
        effects.room = true;
        if closing {
            return;
        }
        warn!(session, "the metadata cluster ended the session; what was under way fails, and another is opened");
        effects.pushes.push(pb::Push { event: Some(Event::SessionLost(pb::SessionLost { session })) });
        self.reopen(now);
    }

    fn reopen(&mut self, now: Instant) {
        let Some(owner) = &self.session.owner else { return };
        let op = owner.open_op();
        let Some(id) = self.flights.next_id() else {
            self.session.state = State::Over(ClientError::SessionLost);
            return;
        };
        let body = pb::Mutation {
            creds: Some(pb::Creds::default()),
            op: Some(pb::mutation::Op::OpenSession(op)),
            ..Default::default()
        };
        let request = encode(id, Body::Mutation(body));
        self.launch(id, Kind::Reopen, request, None, (now, FOREVER), true);
    }

    fn on_reopened(&mut self, outcome: Outcome, now: Instant, effects: &mut Effects) {
        let reply = outcome.and_then(|(reply, _)| {
            pb::OpenSessionReply::decode(reply).map_err(|error| ClientError::Protocol(format!("open_session: {error}")))
        });
        match reply {
            Ok(reply) => self.install(reply.session, now),
            Err(reason) => {
                error!(%reason, "no session could be opened in place of the lost one");
                // Not as it came: ENOENT for the volume must not look like ENOENT for a file.
                let reason = format!("the session was lost, and no other could be opened: {reason}");
                self.session.state = State::Over(ClientError::Failed(reason));
                self.fail_waiting_queries(effects);
            }
        }
    }

    fn fail_waiting_queries(&mut self, effects: &mut Effects) {
        let State::Over(reason) = &self.session.state else { return };
        let reason = reason.clone();
        for id in self.flights.ids() {
            if self.flights.get_mut(id).is_some_and(|f| matches!(f.kind, Kind::Query { .. })) {
                let waiter = self.flights.remove(id).and_then(|flight| flight.waiter);
                effects.done.extend(waiter.map(|waiter| (waiter, Err(reason.clone()))));
            }
        }
    }

    /// A session was opened: mutations go under it from now on, and queries that waited for it are asked.
    pub fn install(&mut self, session: u64, now: Instant) {
        info!(session, "session open");
        self.session.state = State::Live(Live { id: session, slots: Slots::new(self.slot_count) });
        // Named at once, so that the server knows whose stream this is.
        self.keep_alive = session;
        for id in self.flights.ids() {
            if self.flights.get_mut(id).is_some_and(|f| f.kind == Kind::Query { session: 0 }) {
                self.ask_again(id, now);
            }
        }
    }

    pub fn set_owner(&mut self, owner: Owner) {
        self.session.owner = Some(owner);
    }

    /// Puts a query under the session that is live now; where none is, it waits for the next.
    fn ask_again(&mut self, id: u64, now: Instant) {
        let session = self.session.id();
        let Some(flight) = self.flights.get_mut(id) else { return };
        flight.kind = Kind::Query { session };
        flight.due = None;
        if session == 0 {
            return;
        }
        // Our own bytes: they decode.
        let Ok(mut request) = pb::Request::decode(flight.request.clone()) else { return };
        if let Some(Body::Query(query)) = &mut request.body {
            query.session = session;
        }
        flight.request = request.encode_to_vec().into();
        flight.sent = now;
        self.outbox.push_back(flight.request.clone());
    }

    /// Looks after time: deadlines, backoffs, silence. `why` tells in what state the cluster seems to be.
    pub fn on_tick(&mut self, now: Instant, why: impl Fn() -> String, effects: &mut Effects) {
        for id in self.flights.ids() {
            let Some(flight) = self.flights.get_mut(id) else { continue };
            if flight.deadline.is_some_and(|deadline| now >= deadline) {
                let seconds = now.saturating_duration_since(flight.submitted).as_secs();
                let error = ClientError::Unavailable(format!("{} (gave up after {seconds} s)", why()));
                self.fail(id, &Trouble::StreamLost, error, now, effects);
                continue;
            }
            let age = now.saturating_duration_since(flight.sent);
            let waits = flight.kind == Kind::Query { session: 0 };
            match flight.due {
                Some(due) if due > now => {
                    effects.due = Some(effects.due.map_or(due, |known| known.min(due)));
                    continue;
                }
                Some(_) => {}
                None if waits || age < self.suspicion => continue,
                None => {
                    effects.suspicious = true;
                    if age < self.resend_after {
                        continue;
                    }
                }
            }
            flight.due = None;
            flight.sent = now;
            if self.active_stream != 0 {
                self.outbox.push_back(flight.request.clone());
            }
        }
        self.settle(effects);
    }

    /// Picks up what must be woken once the lock is released.
    fn settle(&mut self, effects: &mut Effects) {
        effects.room &= self.waiting_count > 0;
        if !self.outbox.is_empty() || self.keep_alive != 0 {
            effects.waker = self.waker.take();
        }
    }
}

/// What everything gets after the session was closed by ourselves.
pub fn closed() -> ClientError {
    ClientError::Unavailable("the session is closed".to_owned())
}

fn encode(id: u64, body: Body) -> Bytes {
    pb::Request { id, body: Some(body) }.encode_to_vec().into()
}

fn check_size(request: &Bytes) -> Result<(), ClientError> {
    if request.len() <= REQUEST_BYTES_MAX {
        return Ok(());
    }
    Err(ClientError::Protocol(format!("a request of {} bytes, over the bound of {REQUEST_BYTES_MAX}", request.len())))
}
