//! One run: machines, network and clients under one clock, and the faults that the seed chooses.

use crate::carry::Port;
use crate::checks::{self, Checks};
use crate::client::{Client, Crowd, History};
use crate::disk::Crash;
use crate::faults::Faults;
use crate::machine::{Machine, paused_runtime};
use crate::members::Members;
use crate::net::{Net, Toward, Weather, address};
use crate::operator::{Ask, operate};
use crate::oracle;
use crate::os;
use crate::planted::Planted;
use crate::promises::Said;
use crate::tally::{self, Tally};
use crate::trace::Trace;
use metad::raft::node::RaftNode;
use metad::store::node_record::{NodeRecord, StoreId};
use metad::store::{Batch, KvCommit, StoreError, keys, read};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// The clock goes in such steps, milliseconds: nothing takes less time from one machine to another.
pub const TICK: u64 = 2;
/// The machines there are, of which the first few found the cluster.
const MACHINES: u64 = 4;
const FOUNDERS: u64 = 3;
const CLIENTS: u64 = 3;
/// Clients are machines of the network, too.
const FIRST_CLIENT: u64 = 100;
const OPERATOR: u64 = 200;
const FOUNDED_WITHIN: u64 = 20_000;
const ANSWERED_WITHIN: u64 = 20_000;
const EQUAL_WITHIN: u64 = 10_000;
const SETTLED_WITHIN: u64 = 20_000;
/// Faults start machines some dozen times in a run.
const STARTS_MAX: u64 = 600;

pub struct Plan {
    pub seed: u64,
    pub planted: Planted,
}

/// One seed in so many makes a long run: faults that pile up for seconds.
pub const LONG_EVERY: u64 = 20;

impl Plan {
    /// Most runs are short, so that there can be many: what is found is mostly found by few faults at the right moments.
    pub fn is_long(&self) -> bool {
        self.seed.is_multiple_of(LONG_EVERY)
    }
}

/// What a run came to.
pub struct Outcome {
    pub wrong: Vec<String>,
    pub trace: Vec<String>,
    pub summary: String,
    /// Lines of `Tally`.
    pub tally: Vec<String>,
}

pub struct World {
    pub now: u64,
    pub rng: StdRng,
    pub net: Arc<Net>,
    pub machines: BTreeMap<u64, Machine>,
    /// Those that are to run.
    pub in_service: BTreeSet<u64>,
    /// Those that are to be members.
    pub members: BTreeSet<u64>,
    /// Which life of its disk each has had last; None: one that has not begun.
    lives: BTreeMap<u64, Option<StoreId>>,
    peers: BTreeMap<u64, String>,
    pub tally: Tally,
    pub trace: Trace,
    pub checks: Checks,
    /// Nodes that acknowledged entries in the last step, and through which index.
    pub acknowledged: BTreeMap<u64, u64>,
    crowd: Arc<Crowd>,
    clients: Runtime,
    clients_began: Instant,
    pub wrong: Vec<String>,
    is_long: bool,
    starts_count: u64,
}

impl World {
    pub fn new(plan: &Plan, root: &Path) -> World {
        let trace = Trace::default();
        let mut rng = StdRng::seed_from_u64(os::mix(plan.seed));
        let net = Net::new(rng.random(), plan.planted, trace.clone());
        let founders: BTreeSet<u64> = (1..=FOUNDERS).collect();
        let peers: BTreeMap<u64, String> = founders.iter().map(|id| (*id, address(*id))).collect();
        let machine = |id| (id, Machine::new(root, id, id <= FOUNDERS, plan.planted));
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
            clients.spawn(Client::new(id, port, (1..=MACHINES).collect(), crowd.clone(), rng).run());
        }
        World {
            now: 0,
            rng,
            net,
            machines: (1..=MACHINES).map(machine).collect(),
            in_service: founders.clone(),
            members: founders,
            lives: BTreeMap::new(),
            peers,
            tally: Tally::default(),
            trace,
            checks: Checks::default(),
            acknowledged: BTreeMap::new(),
            crowd,
            clients,
            clients_began,
            wrong: Vec::new(),
            is_long: plan.is_long(),
            starts_count: 0,
        }
    }

    pub fn note(&self, line: impl FnOnce() -> String) {
        self.trace.note(self.now, line);
    }

    pub fn start(&mut self, id: u64) {
        let (net, peers) = (self.net.clone(), self.peers.clone());
        if let Some(machine) = self.machines.get_mut(&id).filter(|machine| !machine.is_up()) {
            machine.start(&net, &peers);
            self.trace.note(self.now, || format!("node {id} starts"));
            self.starts_count += 1;
            if self.starts_count > STARTS_MAX {
                self.wrong.push(format!("machines were started {STARTS_MAX} times"));
            }
        }
    }

    pub fn crash(&mut self, id: u64, crash: Crash) {
        if let Some(node) = self.machines.get(&id).and_then(Machine::node) {
            self.checks.look(&node);
            self.checks.look_at_state(&node);
        }
        self.checks.forget(id);
        self.crowd.nodes.lock().remove(&id);
        for (role, what) in [(Toward::Server, tally::RECEIVER_CRASHED), (Toward::Client, tally::SENDER_CRASHED)] {
            if self.net.transfers(id, role) && self.machines[&id].is_up() {
                self.tally.count(what);
            }
        }
        self.net.down(id, crash != Crash::Kill);
        if let Some(machine) = self.machines.get_mut(&id).filter(|machine| machine.is_up()) {
            let story = machine.crash(crash, &mut self.rng);
            self.trace.note(self.now, || format!("node {id} goes down: {crash:?} {story}"));
        }
        if crash == Crash::Wipe {
            self.machines[&id].wipe();
            self.note(|| format!("node {id} has lost its disk"));
            if self.crowd.planted != Planted::ForgottenDisk {
                self.lives.insert(id, None);
            }
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
            match said {
                Said::Resumes => self.tally.count(tally::RESUMED),
                Said::Installed => {
                    self.tally.count(tally::FED);
                    if self.crowd.planted == Planted::ForgottenAnswers {
                        self.forget_answers(id);
                    }
                }
                Said::Has(..) | Said::Voted(_) => {}
            }
            self.checks.promises.hear(id, said);
        }
        self.follow_lives(&nodes);
        self.check_voters(&nodes);
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

    /// Whom a leader counts on can vote.
    fn check_voters(&mut self, nodes: &[Arc<RaftNode>]) {
        for (leader, view) in nodes.iter().filter_map(|node| Some((node.id, node.member_view()?))) {
            let learns = |id: &&u64| self.machines.get(*id).is_some_and(Machine::learns);
            if let Some(id) = view.voters.iter().find(learns) {
                self.wrong.push(format!("node {id} is a voter to leader {leader}, and refuses to vote"));
            }
        }
    }

    /// Planted bug.
    fn forget_answers(&mut self, id: u64) {
        let Some(node) = self.node(id) else { return };
        let mut slots = Batch::default();
        let scanned = node.store().view(|view| {
            view.scan(&keys::all_slots(), &keys::all_slots().end(), &mut |key, _| {
                slots.0.insert(bytes::Bytes::copy_from_slice(key), None);
                ControlFlow::Continue(())
            })
        });
        let done = scanned.and_then(|()| node.store().commit(node.facts().applied, slots));
        self.wrong.extend(done.err().map(|error| error.to_string()));
    }

    /// A node that has lost its disk may answer nobody before a leader has recorded its new life.
    fn follow_lives(&mut self, nodes: &[Arc<RaftNode>]) {
        for (id, machine) in &self.machines {
            let Some(life) = machine.life() else { continue };
            if self.lives.insert(*id, Some(life)).is_some_and(|before| before != Some(life)) {
                self.checks.promises.begin_life(*id);
            }
        }
        for id in self.checks.promises.strangers() {
            let let_in = |node: &Arc<RaftNode>| {
                let record = node.store().view(|view| read::node(view, id)).ok().flatten();
                record
                    .is_some_and(|record| record.store.is_some() && Some(record.store) == self.lives.get(&id).copied())
            };
            if nodes.iter().any(let_in) {
                self.checks.promises.let_in(id);
            }
        }
    }

    /// Whether the members are those that they are to be, each with the disk that it has now.
    pub fn has_settled_members(&self) -> bool {
        let nodes = self.nodes();
        let mut views = nodes.iter().filter_map(|node| Some((node, node.member_view()?)));
        views.any(|(node, view)| {
            let records = node.store().view(read::nodes).unwrap_or_default();
            let known = |(id, node): (&u64, &NodeRecord)| {
                node.newcomer.is_none() && node.store.is_some() && Some(node.store) == self.lives.get(id).copied()
            };
            view.settled
                && !view.joint
                && view.learners.is_empty()
                && view.voters == self.members
                && records.keys().eq(&self.members)
                && records.iter().all(known)
        })
    }

    /// Has an operator ask for something until it is done.
    pub fn operate(&self, ask: Ask, done: Arc<AtomicBool>) {
        let port = Arc::new(Port { net: self.net.clone(), id: OPERATOR });
        self.clients.spawn(operate(port, (1..=MACHINES).collect(), ask, done));
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
        for id in self.in_service.clone() {
            self.start(id);
            if let Some(machine) = self.machines.get_mut(&id) {
                (machine.stopped_until, machine.rate, machine.slow_disk) = (0, 1000, false);
            }
        }
        self.note(|| "all is well again".to_owned());
    }

    /// From the founding of the cluster over the faults to the last check.
    fn live(&mut self) -> Result<(), StoreError> {
        self.in_service.clone().into_iter().for_each(|id| self.start(id));
        self.net.set_weather(Weather { delay_max: 2, ..Weather::default() });
        if !self.until(FOUNDED_WITHIN, World::leads) {
            self.wrong.push("the cluster was not founded".to_owned());
            return Ok(());
        }
        let mut faults = Faults::new(&mut self.rng, self.now, self.is_long);
        let mut members = Members::new(self, self.is_long);
        while self.wrong.is_empty() && !faults.is_over(self.now) {
            faults.strike(self);
            members.step(self, true);
            self.step();
        }
        self.heal();
        let deadline = self.now + SETTLED_WITHIN;
        while self.wrong.is_empty() && !members.are_settled() && self.now < deadline {
            members.step(self, false);
            self.step();
        }
        if self.wrong.is_empty() && !members.are_settled() {
            self.wrong.push(format!("liveness: the members do not come to be {:?}", self.members));
        }
        self.until(if self.is_long { 1_000 } else { 100 }, |_| false);
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
        let members = self.members.clone();
        let nodes = move |world: &World| -> Vec<_> { members.iter().filter_map(|id| world.node(*id)).collect() };
        let count = self.members.len();
        let equal = |world: &World| {
            let nodes = nodes(world);
            let facts: Vec<_> = nodes.iter().map(|node| node.facts()).collect();
            facts.len() == count
                && facts.iter().all(|f| f.applied == facts[0].last_log && f.last_log == facts[0].last_log)
        };
        if !self.until(EQUAL_WITHIN, equal) {
            let all: Vec<_> = nodes(self).iter().map(|n| (n.id, n.facts().applied, n.facts().last_log)).collect();
            self.wrong.push(format!("liveness: nodes are not equal {EQUAL_WITHIN} ms after the last answer: {all:?}"));
            return Ok(());
        }
        for node in nodes(self) {
            self.checks.look(&node);
            self.checks.look_at_state(&node);
            let problems = node.store().view(metad::apply::invariants::check)?;
            self.wrong.extend(problems.into_iter().map(|problem| format!("node {}: {problem:?}", node.id)));
        }
        self.wrong.append(&mut self.checks.wrong);
        let (wrong, replayed) = oracle::judge(&self.crowd.history.lock(), &self.checks.commands)?;
        self.wrong.extend(wrong);
        let expected = replayed.view(checks::made_by_commands)?;
        for node in nodes(self) {
            if node.store().view(checks::made_by_commands)? != expected {
                self.wrong.push(format!("node {} has not the state that the log gives", node.id));
            }
        }
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
    Outcome { wrong, trace: trace.take(), summary, tally: world.tally.lines() }
}
