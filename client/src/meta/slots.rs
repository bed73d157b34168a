//! Slots of one session: which (slot, seq) a mutation gets, and when a slot may carry the next one. Pure. A slot carries one mutation
//! at a time and its seq grows by one, so the state machine needs to keep only the last reply of each slot.
//! Called by meta::link under its lock.

use holdfast_proto::limits::SESSION_SLOTS_MAX;

/// The name of one mutation within its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub slot: u32,
    pub seq: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// The last seq that the server has answered.
    Free {
        last: u64,
    },
    Busy {
        seq: u64,
    },
    /// Nobody knows where it stands: never used again in this session.
    Retired,
}

/// All slots of a session.
#[derive(Debug)]
pub struct Slots {
    slots: Vec<Slot>,
    /// One bit a slot, set where it is free: the lowest is found in a few instructions.
    free: Vec<u64>,
    busy_count: u32,
}

impl Slots {
    /// `slot_count` is bounded by SESSION_SLOTS_MAX.
    pub fn new(slot_count: u32) -> Slots {
        let count = slot_count.clamp(1, SESSION_SLOTS_MAX) as usize;
        let mut free = vec![u64::MAX; count.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (free.last_mut(), count % 64) {
            *last = (1 << rest) - 1;
        }
        Slots { slots: vec![Slot::Free { last: 0 }; count], free, busy_count: 0 }
    }

    /// The lowest free slot with its next seq; None while all carry something. Low first, because the state machine keeps a reply for
    /// each slot that was ever used.
    pub fn take(&mut self) -> Option<Ticket> {
        let word = self.free.iter().position(|&bits| bits != 0)?;
        let bit = self.free[word].trailing_zeros();
        let slot = word as u32 * 64 + bit;
        let Slot::Free { last } = self.slots[slot as usize] else {
            debug_assert!(false, "a set bit is a free slot");
            return None;
        };
        self.free[word] &= !(1 << bit);
        self.slots[slot as usize] = Slot::Busy { seq: last + 1 };
        self.busy_count += 1;
        Some(Ticket { slot, seq: last + 1 })
    }

    /// The server has answered: the next mutation here has the next seq.
    pub fn answered(&mut self, ticket: Ticket) {
        self.put_back(ticket, Slot::Free { last: ticket.seq });
    }

    /// The server refused to look at it and kept nothing: the same seq is given again.
    pub fn not_recorded(&mut self, ticket: Ticket) {
        self.put_back(ticket, Slot::Free { last: ticket.seq - 1 });
    }

    /// Server and client disagree, or nobody knows what the server has kept.
    pub fn retire(&mut self, ticket: Ticket) {
        self.put_back(ticket, Slot::Retired);
    }

    /// Mutations that are under way.
    pub fn busy_count(&self) -> u32 {
        self.busy_count
    }

    /// Whether every slot is lost for this session, so that only a new session helps.
    pub fn exhausted(&self) -> bool {
        self.busy_count == 0 && self.free.iter().all(|&bits| bits == 0)
    }

    fn put_back(&mut self, ticket: Ticket, state: Slot) {
        let index = ticket.slot as usize;
        if self.slots.get(index) != Some(&Slot::Busy { seq: ticket.seq }) {
            debug_assert!(false, "slot {} does not carry seq {}", ticket.slot, ticket.seq);
            return;
        }
        self.slots[index] = state;
        self.busy_count -= 1;
        if let Slot::Free { .. } = state {
            self.free[index / 64] |= 1 << (index % 64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mutation_of_a_slot_has_seq_one_and_the_next_one_more() {
        let mut slots = Slots::new(4);
        let first = slots.take().unwrap();
        assert_eq!(first, Ticket { slot: 0, seq: 1 });
        slots.answered(first);
        assert_eq!(slots.take(), Some(Ticket { slot: 0, seq: 2 }));
    }

    #[test]
    fn low_slots_are_used_first() {
        let mut slots = Slots::new(130);
        let taken: Vec<Ticket> = (0..130).map(|_| slots.take().unwrap()).collect();
        assert!(taken.iter().enumerate().all(|(i, t)| t.slot as usize == i && t.seq == 1));
        slots.answered(taken[100]);
        slots.answered(taken[70]);
        assert_eq!(slots.take(), Some(Ticket { slot: 70, seq: 2 }));
        assert_eq!(slots.take(), Some(Ticket { slot: 100, seq: 2 }));
    }

    #[test]
    fn no_more_are_in_flight_than_there_are_slots() {
        for count in [1, 63, 64, 65, SESSION_SLOTS_MAX] {
            let mut slots = Slots::new(count);
            for _ in 0..count {
                assert!(slots.take().is_some());
            }
            assert_eq!(slots.take(), None, "{count}");
            assert_eq!(slots.busy_count(), count);
        }
        let mut slots = Slots::new(u32::MAX);
        assert_eq!((0..).map_while(|_: u32| slots.take()).count(), SESSION_SLOTS_MAX as usize);
    }

    #[test]
    fn a_mutation_that_was_not_recorded_leaves_its_seq_to_the_next() {
        let mut slots = Slots::new(2);
        let ticket = slots.take().unwrap();
        slots.not_recorded(ticket);
        assert_eq!(slots.take(), Some(ticket));
    }

    #[test]
    fn a_retired_slot_is_never_given_again() {
        let mut slots = Slots::new(2);
        let ticket = slots.take().unwrap();
        slots.retire(ticket);
        let next = slots.take().unwrap();
        assert_eq!(next.slot, 1);
        assert_eq!(slots.take(), None);
        assert!(!slots.exhausted());
        slots.retire(next);
        assert!(slots.exhausted());
    }
}
