//! One run: machines, network and clients under one clock, and the faults that the seed chooses.

use crate::carry::Port;
use crate::checks::Checks;
use crate::client::{Client, Crowd, History};
use crate::disk::Crash;
use crate::faults::Faults;
use crate::machine::{Machine, paused_runtime};
use crate::net::{Net, Weather, address};
use crate::oracle;
use crate::os;
use crate::planted::Planted;
use crate::promises::Said;
use crate::trace::Trace;
use metad::raft::node::RaftNode;
use metad::store::{KvCommit, StoreError};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// The clock goes in such steps, milliseconds: nothing takes less time from one machine to another.
pub const TICK: u64 = 2;
const CLIENTS: u64 = 3;
/// Clients are machines of the network, too.
const FIRST_CLIENT: u64 = 100;
const FOUNDED_WITHIN: u64 = 20_000;
const ANSWERED_WITHIN: u64 = 20_000;
const EQUAL_WITHIN: u64 = 10_000;

pub struct Plan {
    pub seed: u64,
    pub planted: Planted,
}

/// What a run came to.
pub struct Outcome {
    pub wrong: Vec<String>,
    pub trace: Vec<String>,
    pub summary: String,
}

pub struct World {
    pub now: u64,
    pub rng: StdRng,
    pub net: Arc<Net>,
    pub machines: BTreeMap<u64, Machine>,
    pub peers: BTreeMap<u64, String>,
    pub trace: Trace,
    pub checks: Checks,
    /// Nodes that acknowledged entries in the last step, and through which index.
    pub acknowledged: BTreeMap<u64, u64>,
    crowd: Arc<Crowd>,
    clients: Runtime,
    clients_began: Instant,
    pub wrong: Vec<String>,
}

impl World {
    pub fn new(plan: &Plan, root: &Path) -> World {
        let trace = Trace::default();
        let mut rng = StdRng::seed_from_u64(os::mix(plan.seed));
        let net = Net::new(rng.random(), plan.planted, trace.clone());
        let peers: BTreeMap<u64, String> = (1..=3).map(|id| (id, address(id))).collect();
        let lies = plan.planted == Planted::LyingFsync;
        let machines = peers.keys().map(|id| (*id, Machine::new(root, *id, lies))).collect();
        os::set_clock(0);
        let clients = paused_runtime();
        let clients_began = clients.block_on(async { Instant::now() });
        let crowd = Arc::new(Crowd {
            now: 0.into(),
            stop: false.into(),
            done: 0.into(),
            history: History::default().into(),
            planted: plan.planted,
            nodes: BTreeMap::new().into(),
        });
        for id in 0..CLIENTS {
            let port = Arc::new(Port { net: net.clone(), id: FIRST_CLIENT + id });
            let rng = StdRng::seed_from_u64(rng.random());
            clients.spawn(Client::new(id, port, peers.keys().copied().collect(), crowd.clone(), rng).run());
        }
        let (checks, acknowledged, wrong) = (Checks::default(), BTreeMap::new(), Vec::new());
        World { now: 0, rng, net, machines, peers, trace, checks, acknowledged, crowd, clients, clients_began, wrong }
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    pub fn start(&mut self, id: u64) {
        let (net, peers) = (self.net.clone(), self.peers.clone());
        if let Some(machine) = self.machines.get_mut(&id).filter(|machine| !machine.is_up()) {
            machine.start(&net, &peers);
            self.trace.note(self.now, || format!("node {id} starts"));
        }
    }

    pub fn crash(&mut self, id: u64, crash: Crash) {
        if let Some(node) = self.machines.get(&id).and_then(Machine::node) {
            self.checks.look(&node);
            self.checks.look_at_state(&node);
        }
        self.checks.forget(id);
        self.crowd.nodes.lock().remove(&id);
        self.net.down(id, crash != Crash::Kill);
        if let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_up()) {
            let story = machine.crash(crash, &mut self.rng);
            self.trace.note(self.now, || format!("node {id} goes down: {crash:?} {story}"));
        }
    }

    pub fn node(&self, id: u64) -> Option<Arc<RaftNode>> {
        self.machines.get(&id)?.node()
    }

    fn nodes(&self) -> Vec<Arc<RaftNode>> {
        self.machines.values().filter_map(Machine::node).collect()
    }

    /// One step of the clock.
    pub fn step(&mut self) {
        self.now += TICK;
        self.crowd.now.store(self.now, std::sync::atomic::Ordering::SeqCst);
        self.net.deliver(self.now);
        for machine in self.machines.values_mut() {
            machine.step(self.now, TICK, &mut self.rng);
        }
        os::set_clock(self.now * 1_000_000);
        let until = self.clients_began + Duration::from_millis(self.now);
        self.clients.block_on(async { tokio::time::sleep_until(until).await });
        self.look();
    }

    fn look(&mut self) {
        for (id, machine) in &self.machines {
            if let Some(why) = machine.failure() {
                self.wrong.push(format!("node {id} does not go on: {why}"));
            }
        }
        let nodes = self.nodes();
        self.acknowledged.clear();
        for (id, said) in self.net.take_said() {
            self.trace.note(self.now, || format!("node {id} has promised: {said:?}"));
            if let Said::Has((.., index)) = said {
                self.acknowledged.insert(id, index);
            }
            self.checks.promises.hear(id, said);
        }
        for node in &nodes {
            self.checks.look(node);
            if self.now.is_multiple_of(500) {
                self.checks.look_at_state(node);
            }
        }
        if self.crowd.planted == Planted::StaleReads {
            *self.crowd.nodes.lock() = nodes.into_iter().map(|node| (node.id, node)).collect();
        }
        self.wrong.append(&mut self.checks.wrong);
    }

    /// Steps until that holds; false: it did not within so many milliseconds, or something is wrong.
    pub fn until(&mut self, within: u64, holds: impl Fn(&World) -> bool) -> bool {
        let deadline = self.now + within;
        while self.now < deadline && self.wrong.is_empty() {
            self.step();
            if holds(self) {
                return true;
            }
        }
        false
    }

    fn leads(&self) -> bool {
        self.nodes().iter().any(|node| node.leadership().is_self && node.is_founded())
    }

    /// All machines run on good disks, clocks and links.
    fn heal(&mut self) {
        self.net.cut(BTreeSet::new());
        self.net.set_weather(Weather { delay_max: 2, ..Weather::default() });
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        for id in ids {
            self.start(id);
            if let Some(machine) = self.machines.get_mut(&id) {
                (machine.stopped_until, machine.rate, machine.slow_disk) = (0, 1000, false);
            }
        }
        self.note(|| "all is well again".to_owned());
    }

    /// From the founding of the cluster over the faults to the last check.
    fn live(&mut self) -> Result<(), StoreError> {
        let ids: Vec<u64> = self.machines.keys().copied().collect();
        ids.iter().for_each(|id| self.start(*id));
        self.net.set_weather(Weather { delay_max: 2, ..Weather::default() });
        if !self.until(FOUNDED_WITHIN, World::leads) {
            self.wrong.push("the cluster was not founded".to_owned());
            return Ok(());
        }
        let mut faults = Faults::new(&mut self.rng, self.now);
        while self.wrong.is_empty() && !faults.is_over(self.now) {
            faults.strike(self);
            self.step();
        }
        self.heal();
        self.until(1_000, |_| false);
        self.crowd.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let answered = |world: &World| world.crowd.done.load(std::sync::atomic::Ordering::SeqCst) == CLIENTS;
        if !self.until(ANSWERED_WITHIN, answered) && self.wrong.is_empty() {
            self.wrong.push(format!("liveness: not all was answered within {ANSWERED_WITHIN} ms after all was well"));
        }
        if self.wrong.is_empty() {
            self.finish()?;
        }
        Ok(())
    }

    /// All nodes come to the same state, which is the one that the log gives, and sound.
    fn finish(&mut self) -> Result<(), StoreError> {
        let count = self.machines.len();
        let equal = |world: &World| {
            let nodes = world.nodes();
            let facts: Vec<_> = nodes.iter().map(|node| node.facts()).collect();
            facts.len() == count
                && facts.iter().all(|f| f.applied == facts[0].last_log && f.last_log == facts[0].last_log)
        };
        if !self.until(EQUAL_WITHIN, equal) {
            let all: Vec<_> = self.nodes().iter().map(|n| (n.id, n.facts().applied, n.facts().last_log)).collect();
            self.wrong.push(format!("liveness: nodes are not equal {EQUAL_WITHIN} ms after the last answer: {all:?}"));
            return Ok(());
        }
        for node in self.nodes() {
            self.checks.look(&node);
            self.checks.look_at_state(&node);
            let problems = node.store().view(metad::apply::invariants::check)?;
            self.wrong.extend(problems.into_iter().map(|problem| format!("node {}: {problem:?}", node.id)));
        }
        self.wrong.append(&mut self.checks.wrong);
        let (wrong, _) = oracle::judge(&self.crowd.history.lock(), &self.checks.commands)?;
        self.wrong.extend(wrong);
        Ok(())
    }

    fn summary(&self) -> String {
        let history = self.crowd.history.lock();
        let answered = history.mutated.iter().filter(|mutated| mutated.answered.is_some()).count();
        format!(
            "{} ms, {} leaders ({} shared terms), {} entries, {answered} of {} mutations answered, {} reads",
            self.now,
            self.checks.leaders_count(),
            self.checks.shared_terms(),
            self.checks.committed_count(),
            history.mutated.len(),
            history.reads.len(),
        )
    }
}

/// Runs one seed in this process, which must have been seeded with it.
pub fn run(plan: &Plan, root: &Path) -> Outcome {
    let mut world = World::new(plan, root);
    if let Err(error) = world.live() {
        world.wrong.push(format!("the harness could not read a state: {error}"));
    }
    let wrong = std::mem::take(&mut world.wrong);
    for line in &wrong {
        world.note(|| format!("WRONG: {line}"));
    }
    let (summary, trace) = (world.summary(), world.trace.clone());
    world.crowd.nodes.lock().clear();
    Outcome { wrong, trace: trace.take(), summary }
}
