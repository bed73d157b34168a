//! Changes of the members, one at a time, as an operator makes them: a node is added, one is removed, one has lost its disk and comes back
//! with an empty one. Whatever else goes wrong meanwhile, each is done in the end.

use crate::disk::Crash;
use crate::operator::Ask;
use crate::tally;
use crate::world::World;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fewer could not lose a disk.
const MEMBERS_MIN: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Add,
    Remove,
    Replace,
}

struct Change {
    what: What,
    id: u64,
    /// It concerns the node that led when it began.
    led: bool,
    start_at: u64,
    /// Tells the operator.
    done: Arc<AtomicBool>,
}

pub struct Members {
    change: Option<Change>,
    next: u64,
    /// None: the members stay as they are.
    pace: Option<u64>,
}

impl Members {
    pub fn new(world: &mut World, is_long: bool) -> Members {
        let pace = match is_long {
            true => world.rng.random_range(200..1_500),
            false => world.rng.random_range(20..400),
        };
        let pace = world.rng.random_bool(0.3).then_some(pace);
        Members { change: None, next: world.now, pace }
    }

    pub fn are_settled(&self) -> bool {
        self.change.is_none()
    }

    /// `begins`: a new change may begin.
    pub fn step(&mut self, world: &mut World, begins: bool) {
        let Some(pace) = self.pace else { return };
        let now = world.now;
        if let Some(change) = self.change.as_mut().filter(|change| change.start_at > 0 && change.start_at <= now) {
            change.start_at = 0;
            world.start(change.id);
        }
        if now < self.next {
            return;
        }
        // To look at the members takes time.
        self.next = now + 10;
        if !world.has_settled_members() {
            return;
        }
        match self.change.take_if(|change| change.start_at == 0) {
            Some(change) => {
                change.finish(world);
                self.next = now + world.rng.random_range(1..=2 * pace);
            }
            None if begins && self.change.is_none() => self.change = begin(world),
            None => {}
        }
    }
}

fn begin(world: &mut World) -> Option<Change> {
    let absent = world.machines.keys().copied().find(|id| !world.members.contains(id));
    let members: Vec<u64> = world.members.iter().copied().collect();
    let id = members[world.rng.random_range(0..members.len())];
    let what = match world.rng.random_range(0..3) {
        0 if absent.is_some() => What::Add,
        0 | 1 if members.len() > MEMBERS_MIN => What::Remove,
        _ => What::Replace,
    };
    let id = if what == What::Add { absent? } else { id };
    let led = world.node(id).is_some_and(|node| node.leadership().is_self);
    let mut change = Change { what, id, led, start_at: 0, done: Arc::default() };
    world.note(|| format!("members: {what:?} {id}"));
    match what {
        What::Add => {
            world.members.insert(id);
            world.in_service.insert(id);
            world.start(id);
            world.operate(Ask::Add(id), change.done.clone());
        }
        What::Remove => {
            world.members.remove(&id);
            world.operate(Ask::Remove(id), change.done.clone());
        }
        What::Replace => {
            world.crash(id, Crash::Wipe);
            change.start_at = world.now + world.rng.random_range(2..400);
        }
    }
    Some(change)
}

impl Change {
    fn finish(self, world: &mut World) {
        self.done.store(true, Ordering::SeqCst);
        let (what, id) = (self.what, self.id);
        world.note(|| format!("members: {what:?} {id} is done"));
        let names: &[&str] = match (what, self.led) {
            (What::Add, _) => &[tally::ADDED],
            (What::Remove, false) => &[tally::REMOVED],
            (What::Remove, true) => &[tally::REMOVED, tally::LEADER_REMOVED],
            (What::Replace, false) => &[tally::REPLACED],
            (What::Replace, true) => &[tally::REPLACED, tally::LEADER_REPLACED],
        };
        names.iter().for_each(|name| world.tally.count(name));
        if what == What::Remove {
            // Its machine is given back, and may be added again, as new.
            world.crash(id, Crash::Wipe);
            world.in_service.remove(&id);
        }
    }
}
