//! Losing a session and opening another: what becomes of each thing that was under way. The rest of `Core` is in link.rs. Called by
//! meta::link and meta::client, under the link's lock.

use super::flight::{Kind, Outcome};
use super::link::{Core, Effects, FOREVER, closed, encode};
use super::retry::Trouble;
use super::session::{Live, Owner, State};
use super::slots::Slots;
use crate::error::ClientError;
use holdfast_proto::pb;
use pb::push::Event;
use pb::request::Body;
use prost::Message;
use std::time::Instant;
use tracing::{error, info, warn};

impl Core {
    pub(super) fn on_session_lost_answer(&mut self, id: u64, now: Instant, effects: &mut Effects) {
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

    pub(super) fn on_reopened(&mut self, outcome: Outcome, now: Instant, effects: &mut Effects) {
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
}
