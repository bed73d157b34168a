//! What goes wrong, and when: each seed has its own mixture.

use crate::disk::Crash;
use crate::net::Weather;
use crate::world::World;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeSet;
use std::time::Duration;

const KINDS: usize = 11;
const TRANSFER_DEADLINE: Duration = Duration::from_secs(1);

pub struct Faults {
    ends: u64,
    next: u64,
    pace: u64,
    /// How likely each kind is in this run; some never come.
    weights: [u32; KINDS],
    /// Machines that are down, and when they start again.
    down: Vec<(u64, u64)>,
    /// Machines that were killed, and lose power as soon as they have acknowledged all of their log in their next life.
    doomed: BTreeSet<u64>,
}

impl Faults {
    pub fn new(rng: &mut StdRng, now: u64) -> Faults {
        let mut weights = [0; KINDS];
        for weight in &mut weights {
            *weight = if rng.random_bool(0.6) { rng.random_range(1..10) } else { 0 };
        }
        let (ends, pace) = (now + rng.random_range(1_500..4_000), rng.random_range(30..300));
        Faults { ends, next: now + 200, pace, weights, down: Vec::new(), doomed: BTreeSet::new() }
    }

    pub fn is_over(&self, now: u64) -> bool {
        now >= self.ends
    }

    pub fn strike(&mut self, world: &mut World) {
        let now = world.now;
        self.down.extract_if(.., |(_, at)| *at <= now).for_each(|(id, _)| world.start(id));
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
        let id = world.rng.random_range(1..=3);
        match kind {
            0 => self.crash(world, id, Crash::Kill),
            1 => self.crash(world, id, Crash::PowerLoss),
            2 => (1..=3).for_each(|id| self.crash(world, id, Crash::PowerLoss)),
            3 => partition(world, id),
            4 => world.net.cut(BTreeSet::new()),
            5 => stop(world, id),
            6 => slow_disk(world, id),
            7 => weather(world),
            8 => quiet_work(world, id),
            9 => self.crash_twice(world, id),
            _ => clock(world, id),
        }
    }

    /// Processes are killed, and as soon as their next ones have acknowledged the end of their log the power goes: what was found in the log at
    /// the start must be on the disk by then.
    fn crash_twice(&mut self, world: &mut World, id: u64) {
        let second = id % 3 + 1;
        for id in if world.rng.random_bool(0.7) { vec![id, second] } else { vec![id] } {
            if world.machines[&id].is_up() {
                world.crash(id, Crash::Kill);
                self.down.push((id, world.now + world.rng.random_range(2..40)));
                self.doomed.insert(id);
            }
        }
    }

    fn crash(&mut self, world: &mut World, id: u64, crash: Crash) {
        if !world.machines[&id].is_up() {
            return;
        }
        world.crash(id, crash);
        let at = world.now + world.rng.random_range(20..1_500);
        self.down.push((id, at));
    }
}

/// Cuts some links: around one node, in one direction, or anywhere.
fn partition(world: &mut World, id: u64) {
    let nodes = [1, 2, 3];
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
