//! Tests of range_lock: each rule by itself, and random histories against a model that knows the owner of every byte.

use super::*;
use std::collections::BTreeMap;

const ANN: Owner = Owner { session: 1, number: 10 };
const BEN: Owner = Owner { session: 2, number: 10 };

fn held(owner: Owner, mode: Mode, first: u64, last: u64) -> Held {
    Held { range: Range::new(first, last).expect("a range"), owner, mode, pid: 7 }
}

fn shown(locks: &RangeLocks, owner: Owner) -> Vec<(u64, u64, Mode)> {
    let own = locks.as_slice().iter().filter(|held| held.owner == owner);
    own.map(|held| (held.range.first, held.range.last, held.mode)).collect()
}

use Mode::{Exclusive, Shared};

#[test]
fn neighbours_and_overlaps_of_one_mode_become_one_range() {
    let mut locks = RangeLocks::default();
    locks.lock(held(ANN, Shared, 0, 9));
    locks.lock(held(ANN, Shared, 20, 29));
    locks.lock(held(ANN, Shared, 10, 15));
    assert_eq!(shown(&locks, ANN), [(0, 15, Shared), (20, 29, Shared)]);
    locks.lock(held(ANN, Shared, 14, 25));
    assert_eq!(shown(&locks, ANN), [(0, 29, Shared)]);
}

#[test]
fn another_mode_splits_what_the_owner_had_there() {
    let mut locks = RangeLocks::default();
    locks.lock(held(ANN, Exclusive, 0, 99));
    locks.lock(held(ANN, Shared, 40, 49));
    assert_eq!(shown(&locks, ANN), [(0, 39, Exclusive), (40, 49, Shared), (50, 99, Exclusive)]);
    locks.lock(held(ANN, Exclusive, 30, 59));
    assert_eq!(shown(&locks, ANN), [(0, 99, Exclusive)]);
}

#[test]
fn unlocking_cuts_out_of_the_middle_and_touches_nobody_else() {
    let mut locks = RangeLocks::default();
    locks.lock(held(ANN, Shared, 0, LOCK_LAST_BYTE));
    locks.lock(held(BEN, Shared, 5, 6));
    locks.unlock(ANN, Range { first: 5, last: 9 });
    assert_eq!(shown(&locks, ANN), [(0, 4, Shared), (10, LOCK_LAST_BYTE, Shared)]);
    assert_eq!(shown(&locks, BEN), [(5, 6, Shared)]);
    locks.unlock(ANN, Range::ALL);
    assert_eq!(shown(&locks, ANN), []);
}

#[test]
fn only_others_are_in_the_way_and_only_if_one_of_both_is_exclusive() {
    let mut locks = RangeLocks::default();
    locks.lock(held(ANN, Shared, 10, 19));
    let blockers = |wanted: Held| locks.in_the_way(&wanted).count();
    assert_eq!(blockers(held(ANN, Exclusive, 0, 100)), 0);
    assert_eq!(blockers(held(BEN, Shared, 0, 100)), 0);
    assert_eq!(blockers(held(BEN, Exclusive, 19, 19)), 1);
    assert_eq!(blockers(held(BEN, Exclusive, 0, 9)), 0);
    assert_eq!(blockers(held(BEN, Exclusive, 20, LOCK_LAST_BYTE)), 0);
}

#[test]
fn the_same_number_in_another_session_is_another_owner() {
    let mut locks = RangeLocks::default();
    locks.lock(held(ANN, Exclusive, 0, 0));
    assert_eq!(locks.in_the_way(&held(BEN, Shared, 0, 0)).count(), 1);
    locks.drop_owners(|owner| owner.session == 1);
    assert!(locks.is_empty());
}

#[test]
fn ranges_that_no_file_has_are_none() {
    assert_eq!(Range::new(1, 0), None);
    assert_eq!(Range::new(0, LOCK_LAST_BYTE + 1), None);
    assert_eq!(Range::new(0, LOCK_LAST_BYTE), Some(Range::ALL));
    let backwards = Held { range: Range { first: 3, last: 2 }, ..held(ANN, Shared, 0, 0) };
    assert_eq!(RangeLocks::from_stored(vec![backwards]), None);
    assert_eq!(RangeLocks::from_stored(vec![held(ANN, Shared, 5, 5), held(ANN, Shared, 0, 0)]), None);
}

/// Mode of each owner at each byte.
type Model = BTreeMap<(u64, Owner), Mode>;

fn blocked(model: &Model, wanted: &Held) -> bool {
    model.iter().any(|((byte, owner), mode)| {
        *owner != wanted.owner
            && (wanted.range.first..=wanted.range.last).contains(byte)
            && (*mode == Exclusive || wanted.mode == Exclusive)
    })
}

/// xorshift64*: this crate has no random numbers of its own.
fn next(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
}

const BYTES: u64 = 24;

#[test]
fn random_histories_agree_with_a_model_that_knows_every_byte() {
    for seed in 1..=300_u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut locks, mut model) = (RangeLocks::default(), Model::new());
        for step in 0..120 {
            let owner = Owner { session: next(&mut state) % 2, number: next(&mut state) % 3 };
            let (a, b) = (next(&mut state) % BYTES, next(&mut state) % BYTES);
            let mode = if next(&mut state).is_multiple_of(2) { Shared } else { Exclusive };
            let wanted = held(owner, mode, a.min(b), a.max(b));
            let bytes = || wanted.range.first..=wanted.range.last;
            if next(&mut state).is_multiple_of(4) {
                locks.unlock(owner, wanted.range);
                bytes().for_each(|byte| {
                    model.remove(&(byte, owner));
                });
            } else {
                let free = locks.in_the_way(&wanted).next().is_none();
                assert_eq!(free, !blocked(&model, &wanted), "seed {seed} step {step}");
                if free {
                    locks.lock(wanted);
                    model.extend(bytes().map(|byte| ((byte, owner), mode)));
                }
            }
            compare(&locks, &model, &format!("seed {seed} step {step}"));
        }
    }
}

/// The same bytes, in as few ranges as can be, and in an order that can be stored.
fn compare(locks: &RangeLocks, model: &Model, at: &str) {
    let mut bytes = Model::new();
    let (mut range_count, mut run_count) = (0, 0);
    for lock in locks.as_slice() {
        range_count += 1;
        for byte in lock.range.first..=lock.range.last {
            assert_eq!(bytes.insert((byte, lock.owner), lock.mode), None, "{at}: an owner's ranges overlap");
        }
    }
    assert_eq!(&bytes, model, "{at}");
    for ((byte, owner), mode) in model {
        assert_eq!(locks.mode_at(*owner, *byte), Some(*mode), "{at}");
        let before = byte.checked_sub(1).and_then(|before| model.get(&(before, *owner)));
        run_count += usize::from(before != Some(mode));
    }
    assert_eq!(range_count, run_count, "{at}: ranges that touch were not joined");
    assert_eq!(RangeLocks::from_stored(locks.as_slice().to_vec()).as_ref(), Some(locks), "{at}");
}
