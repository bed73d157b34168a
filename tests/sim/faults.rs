//! What goes wrong, and when: each seed has its own mixture.

use crate::disk::Crash;
use crate::net::Weather;
use crate::tally;
use crate::world::World;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::Duration;

const KINDS: usize = 13;
const TRANSFER_DEADLINE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
enum Due {
    Start(u64),
    Crash(u64, Crash),
    /// Of all that are there.
    Checkpoints,
    Mend,
}

/// Milliseconds by which follow-ups put off the end.
const PUT_OFF_MAX: u64 = 3_000;

/// The first fault of a run, where it is one that short runs would seldom come to.
#[derive(Clone, Copy, Debug, Default)]
enum Opening {
    #[default]
    Any,
    LeftBehind,
    CrashTwice,
}

pub struct Faults {
    ends: u64,
    /// What follows upon faults does not put the end off for ever.
    ends_max: u64,
    next: u64,
    pace: u64,
    /// How likely each kind is in this run; some never come.
    weights: [u32; KINDS],
    opening: Opening,
    /// What is to follow, and when.
    agenda: Vec<(u64, Due)>,
    /// Machines that were killed, and lose power as soon as they have acknowledged all of their log in their next life.
    doomed: BTreeSet<u64>,
}

impl Faults {
    pub fn new(rng: &mut StdRng, now: u64, is_long: bool) -> Faults {
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = if rng.random_bool(0.6) { rng.random_range(1..10) } else { 0 };
        }
        let (lasts, pace) = match is_long {
            true => (rng.random_range(1_500..4_000), rng.random_range(30..300)),
            false => (rng.random_range(200..900), rng.random_range(20..150)),
        };
        let next = now + rng.random_range(1..200);
        let opening = match rng.random_range(0..100) {
            0..25 => Opening::LeftBehind,
            25..35 => Opening::CrashTwice,
            _ => Opening::Any,
        };
        let (ends, ends_max) = (now + lasts, now + lasts + PUT_OFF_MAX);
        Faults { ends, ends_max, next, pace, weights, opening, agenda: Vec::new(), doomed: BTreeSet::new() }
    }

    fn put_off(&mut self, until: u64) {
        self.ends = self.ends.max(until.min(self.ends_max));
    }

    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends
    }

    pub fn strike(&mut self, world: &mut World) {
        let now = world.now;
        let due: Vec<(u64, Due)> = self.agenda.extract_if(.., |(at, _)| *at <= now).collect();
        due.into_iter().for_each(|(_, due)| self.follow_up(world, due));
        for (from, to) in world.net.take_transfers() {
            self.disturb(world, from, to);
        }
        for (id, index) in world.acknowledged.clone() {
            let last = world.node(id).and_then(|node| node.log().last_log_id());
            if last.is_some_and(|last| last.index <= index) && self.doomed.remove(&id) {
                self.crash(world, id, Crash::WorstPowerLoss);
            }
        }
        if world.now < self.next {
            return;
        }
        self.next = world.now + world.rng.random_range(1..=2 * self.pace);
        match std::mem::take(&mut self.opening) {
            Opening::Any => {}
            Opening::LeftBehind => return self.leave_behind(world),
            Opening::CrashTwice => {
                // The leader is left with nothing new to tell them.
                let followers = followers(world);
                return self.crash_twice(world, &followers);
            }
        }
        let total: u32 = self.weights.iter().sum();
        if total == 0 {
            return;
        }
        let mut drawn = world.rng.random_range(0..total);
        let kind = self.weights.iter().position(|weight| {
            let hit = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            hit
        });
        self.inflict(kind.unwrap_or(0), world);
    }

    fn inflict(&mut self, kind: usize, world: &mut World) {
        let id = some_machine(world);
        match kind {
            0 => self.crash(world, id, Crash::Kill),
            1 => self.crash(world, id, Crash::PowerLoss),
            2 => world.in_service.clone().into_iter().for_each(|id| self.crash(world, id, Crash::PowerLoss)),
            3 => partition(world, id),
            4 => world.net.cut(BTreeSet::new()),
            5 => stop(world, id),
            6 => slow_disk(world, id),
            7 => weather(world),
            8 => quiet_work(world, id),
            9 => {
                let other = some_machine(world);
                self.crash_twice(world, &[id, other]);
            }
            10 => checkpoint(world, id),
            11 => self.leave_behind(world),
            _ => clock(world, id),
        }
    }

    /// Processes are killed, and as soon as their next ones have acknowledged the end of their log the power goes: what was found in the log at
    /// the start must be on the disk by then.
    fn crash_twice(&mut self, world: &mut World, ids: &[u64]) {
        for &id in ids {
            if world.machines[&id].is_up() {
                world.crash(id, Crash::Kill);
                self.agenda.push((world.now + world.rng.random_range(2..40), Due::Start(id)));
                self.doomed.insert(id);
            }
        }
        self.put_off(world.now + 900);
    }

    fn crash(&mut self, world: &mut World, id: u64, crash: Crash) {
        if !world.machines[&id].is_up() {
            return;
        }
        world.crash(id, crash);
        let at = world.now + world.rng.random_range(20..1_500);
        self.agenda.push((at, Due::Start(id)));
    }

    fn follow_up(&mut self, world: &mut World, due: Due) {
        match due {
            Due::Start(id) if world.in_service.contains(&id) => world.start(id),
            Due::Start(_) => {}
            Due::Crash(id, crash) => self.crash(world, id, crash),
            Due::Checkpoints => world.in_service.clone().into_iter().for_each(|id| checkpoint(world, id)),
            Due::Mend => world.net.cut(BTreeSet::new()),
        }
    }

    /// One is down or cut off while the others make checkpoints, two of them each, so that the log that it needs is gone.
    fn leave_behind(&mut self, world: &mut World) {
        let Some(id) = some_follower(world) else { return };
        let first = world.now + world.rng.random_range(50..150);
        let second = first + world.rng.random_range(60..200);
        let back = second + world.rng.random_range(1..80);
        world.note(|| format!("node {id} is left behind"));
        if world.rng.random_bool(0.8) {
            let crash = if world.rng.random_bool(0.7) { Crash::Kill } else { Crash::PowerLoss };
            world.crash(id, crash);
            self.agenda.push((back, Due::Start(id)));
        } else {
            let others = world.in_service.iter().copied().filter(|other| *other != id);
            world.net.cut(others.flat_map(|other| [(id, other), (other, id)]).collect());
            self.agenda.push((back, Due::Mend));
        }
        self.agenda.extend([(first, Due::Checkpoints), (second, Due::Checkpoints)]);
        // Nothing else, or it never gets that far.
        self.next = self.next.max(back + 20);
        self.put_off(back + 100);
    }

    /// Somebody receives a checkpoint: often one of both ends goes down within.
    fn disturb(&mut self, world: &mut World, from: u64, to: u64) {
        if world.rng.random_bool(0.4) {
            let id = if world.rng.random_bool(0.5) { from } else { to };
            let crash = if world.rng.random_bool(0.5) { Crash::Kill } else { Crash::PowerLoss };
            self.agenda.push((world.now + world.rng.random_range(1..40), Due::Crash(id, crash)));
        }
    }
}

fn some_machine(world: &mut World) -> u64 {
    let machines: Vec<u64> = world.in_service.iter().copied().collect();
    machines[world.rng.random_range(0..machines.len())]
}

fn followers(world: &World) -> Vec<u64> {
    let follows = |id: &&u64| world.node(**id).is_some_and(|node| !node.leadership().is_self);
    world.in_service.iter().filter(follows).copied().collect()
}

fn some_follower(world: &mut World) -> Option<u64> {
    let followers = followers(world);
    (!followers.is_empty()).then(|| followers[world.rng.random_range(0..followers.len())])
}

fn checkpoint(world: &mut World, id: u64) {
    let Some(node) = world.node(id).filter(|node| node.facts().applied > 0) else { return };
    world.note(|| format!("node {id} is to make a checkpoint"));
    let (tally, trace, now) = (world.tally.clone(), world.trace.clone(), world.now);
    world.machines[&id].spawn(async move {
        let made = node.checkpoint().await;
        if made.is_ok() {
            tally.count(tally::CHECKPOINT);
        }
        let made = made.map(|made| (made.index, made.bytes)).map_err(|error| error.one_line());
        trace.note(now, || format!("node {id} has made the checkpoint: {made:?}"));
    });
}

/// Cuts some links: around one node, in one direction, or anywhere.
fn partition(world: &mut World, id: u64) {
    let nodes: Vec<u64> = world.in_service.iter().copied().collect();
    let others = nodes.iter().copied().filter(|other| *other != id);
    let links: BTreeSet<(u64, u64)> = match world.rng.random_range(0..5) {
        0 => others.flat_map(|other| [(id, other), (other, id)]).collect(),
        1 => others.map(|other| (id, other)).collect(),
        2 => others.map(|other| (other, id)).collect(),
        3 => others.take(1).flat_map(|other| [(id, other), (other, id)]).collect(),
        _ => {
            let all = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
            all.filter(|(from, to)| from != to && world.rng.random_bool(0.4)).collect()
        }
    };
    world.note(|| format!("links are cut: {links:?}"));
    world.net.cut(links);
}

fn stop(world: &mut World, id: u64) {
    let until = world.now + world.rng.random_range(20..1_200);
    world.note(|| format!("node {id} stands still until {until}"));
    if let Some(machine) = world.machines.get_mut(&id) {
        machine.stopped_until = until;
    }
}

fn slow_disk(world: &mut World, id: u64) {
    if let Some(machine) = world.machines.get_mut(&id) {
        machine.slow_disk = !machine.slow_disk;
        let slow = machine.slow_disk;
        world.note(|| format!("node {id} has a slow disk: {slow}"));
    }
}

fn weather(world: &mut World) {
    let weather = match world.rng.random_range(0..4) {
        0 => Weather { delay_max: 2, ..Weather::default() },
        1 => Weather { delay_max: 20, slow: 100, loss: 0, twice: 2_000 },
        2 => Weather { delay_max: 4, slow: 300, loss: 100, twice: 5_000 },
        _ => Weather { delay_max: 60, slow: 500, loss: 500, twice: 5_000 },
    };
    world.note(|| format!("{weather:?}"));
    world.net.set_weather(weather);
}

/// What nodes do by themselves or are told to: drain the state into the image, hand over leadership.
fn quiet_work(world: &mut World, id: u64) {
    let Some(node) = world.node(id) else { return };
    if world.rng.random_bool(0.5) {
        let drained = node.store().drain_now();
        world.note(|| format!("node {id} drains: {drained:?}, image at {}", node.image_index()));
    } else {
        world.note(|| format!("node {id} is asked to hand over leadership"));
        let work = async move { drop(node.transfer_leader(None, TRANSFER_DEADLINE).await) };
        world.machines[&id].spawn(work);
    }
}

/// A clock that is fast or slow, within what the lease allows for.
fn clock(world: &mut World, id: u64) {
    let rate = world.rng.random_range(920..=1_080);
    if let Some(machine) = world.machines.get_mut(&id) {
        machine.rate = rate;
    }
    world.note(|| format!("the clock of node {id} goes at {rate} of 1000"));
}
