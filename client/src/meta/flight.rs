//! Flights: the requests that have no final answer yet, by request id. Pure. An id holds the place in the table and a counter, so finding
//! is an index and a comparison, and an answer that comes twice finds nothing. Called by meta::link under its lock.

use super::slots::Ticket;
use crate::error::ClientError;
use bytes::Bytes;
use std::time::Instant;
use tokio::sync::oneshot;

/// Most requests in flight, queries and mutations together.
pub const FLIGHTS_MAX: usize = 8192;
const PLACE_BITS: u32 = 16;
const _: () = assert!(FLIGHTS_MAX < 1 << PLACE_BITS);

/// The encoded reply, and the log index it was applied or read at.
pub type Outcome = Result<(Bytes, u64), ClientError>;
pub type Waiter = oneshot::Sender<Outcome>;

/// What a request is to the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A mutation of the session.
    Bound { session: u64, ticket: Ticket },
    /// A mutation that is idempotent by itself, without a session.
    Unbound,
    /// Session 0: the session was lost, and it waits for the next one.
    Query { session: u64 },
    /// A question to the cluster, of no session.
    UnboundQuery,
    /// Our own request for a session in place of a lost one. Nobody waits for it.
    Reopen,
}

/// One request under way.
#[derive(Debug)]
pub struct Flight {
    pub kind: Kind,
    /// The encoded pb::Request, sent again as it is.
    pub request: Bytes,
    /// None where the caller gave up: its slot is still ours to resolve.
    pub waiter: Option<Waiter>,
    pub submitted: Instant,
    pub sent: Instant,
    pub deadline: Option<Instant>,
    /// How often it was refused or lost.
    pub attempts: u32,
    /// Where it waits out a backoff: when to send it again.
    pub due: Option<Instant>,
}

/// All requests under way.
#[derive(Debug, Default)]
pub struct Flights {
    places: Vec<Option<(u64, Flight)>>,
    vacant: Vec<u32>,
    counter: u64,
}

impl Flights {
    pub fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of the next request; `insert` must follow. None where the table is full.
    pub fn next_id(&self) -> Option<u64> {
        let place = match self.vacant.last() {
            Some(&place) => place as usize,
            None => self.places.len(),
        };
        (place < FLIGHTS_MAX).then(|| (self.counter + 1) << PLACE_BITS | place as u64)
    }

    /// Takes a request under the id that `next_id` gave.
    pub fn insert(&mut self, id: u64, flight: Flight) {
        debug_assert_eq!(self.next_id(), Some(id));
        self.counter += 1;
        match self.vacant.pop() {
            Some(place) => self.places[place as usize] = Some((id, flight)),
            None => self.places.push(Some((id, flight))),
        }
    }

    pub fn get_mut(&mut self, id: u64) -> Option<&mut Flight> {
        match self.places.get_mut(place_of(id)) {
            Some(Some((found, flight))) if *found == id => Some(flight),
            _ => None,
        }
    }

    pub fn remove(&mut self, id: u64) -> Option<Flight> {
        let entry = self.places.get_mut(place_of(id))?.take_if(|(found, _)| *found == id)?;
        self.vacant.push(place_of(id) as u32);
        Some(entry.1)
    }

    /// In the order of submission.
    pub fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.iter().map(|(id, _)| id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn iter(&self) -> impl Iterator<Item = (u64, &Flight)> {
        self.places.iter().flatten().map(|(id, flight)| (*id, flight))
    }
}

fn place_of(id: u64) -> usize {
    (id & ((1 << PLACE_BITS) - 1)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flight() -> Flight {
        let now = Instant::now();
        Flight {
            kind: Kind::Unbound,
            request: Bytes::new(),
            waiter: None,
            submitted: now,
            sent: now,
            deadline: None,
            attempts: 0,
            due: None,
        }
    }

    fn add(flights: &mut Flights) -> u64 {
        let id = flights.next_id().unwrap();
        flights.insert(id, flight());
        id
    }

    #[test]
    fn an_answer_that_comes_twice_finds_nothing() {
        let mut flights = Flights::default();
        let first = add(&mut flights);
        assert!(flights.remove(first).is_some());
        let second = add(&mut flights);
        assert_eq!(place_of(first), place_of(second));
        assert!(flights.remove(first).is_none());
        assert!(flights.get_mut(first).is_none());
        assert!(flights.get_mut(second).is_some());
        assert_eq!(flights.len(), 1);
    }

    #[test]
    fn ids_from_elsewhere_find_nothing() {
        let mut flights = Flights::default();
        add(&mut flights);
        for id in [0, 1, u64::MAX, 77 << PLACE_BITS] {
            assert!(flights.remove(id).is_none(), "{id}");
        }
    }

    #[test]
    fn ids_come_in_order_of_submission_whatever_place_they_took() {
        let mut flights = Flights::default();
        let first = add(&mut flights);
        let second = add(&mut flights);
        flights.remove(first);
        let third = add(&mut flights);
        assert_eq!(flights.ids(), [second, third]);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut flights = Flights::default();
        let ids: Vec<u64> = (0..FLIGHTS_MAX).map(|_| add(&mut flights)).collect();
        assert_eq!(flights.next_id(), None);
        flights.remove(ids[5]);
        assert!(flights.next_id().is_some());
    }
}
