//! A run: workloads on a cluster of real processes while nemeses come and go, and then what the checkers say. Called by `cli/run`.
//!
//! Faults come one after the other, each for a while; then all nodes must serve again with equal, sound states, the workloads have their last
//! look, and the histories are judged. A fault that was ordered and never bit fails the run.

pub mod recorder;
pub mod world;

use crate::checker::Verdict;
use crate::checker::looked::SOUND;
use crate::checker::suite;
use crate::history::{History, Kind};
use crate::nemesis::{self, Nemesis, Together};
use crate::workload::{self, Scene, Workload};
use holdfast_proto::faults::Bug;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use recorder::Recorder;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use world::World;

/// Between a fault that was healed and the next.
const CALM_S: std::ops::Range<f64> = 1.5..3.0;
/// Before the first fault, so that there is something to lose; and after the last, at least.
const QUIET: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub struct Plan {
    pub workloads: Vec<String>,
    /// Names of nemeses; none: no faults.
    pub nemeses: Vec<String>,
    /// For the workloads; faults last a little longer where one is under way at the end.
    pub time: Duration,
    pub seed: u64,
    pub nodes: u64,
    pub clients: u64,
    pub mounts: u64,
    /// All processes have this bug.
    pub planted: Option<Bug>,
    /// Faults of different families that come together.
    pub at_once: usize,
}

impl Plan {
    /// What repeats this run.
    pub fn command(&self) -> String {
        let nemeses = self.nemeses();
        let planted = self.planted.map(|bug| format!(" --planted {}", bug.name())).unwrap_or_default();
        format!(
            "jepsen run --workload {} --nemesis {nemeses} --time {} --seed {} --nodes {} --clients {} --mounts {} --at-once {}{planted}",
            self.workloads.join(","),
            self.time.as_secs(),
            self.seed,
            self.nodes,
            self.clients,
            self.mounts,
            self.at_once
        )
    }

    fn nemeses(&self) -> String {
        if self.nemeses.is_empty() { "none".to_owned() } else { self.nemeses.join(",") }
    }

    fn meta(&self, workload: &str) -> Map<String, Value> {
        let about =
            json!({"workload": workload, "nemesis": self.nemeses(), "seed": self.seed, "command": self.command()});
        about.as_object().cloned().unwrap_or_default()
    }
}

/// One workload's part of a run.
pub struct Judged {
    pub history: History,
    pub verdicts: Vec<Verdict>,
}

struct Part {
    workload: Arc<dyn Workload>,
    scene: Arc<Scene>,
}

/// Does what the plan says. `say` is told of each step.
///
/// # Errors
/// A name in the plan is not known. What goes wrong later is a verdict.
pub fn run(plan: &Plan, say: &dyn Fn(&str)) -> Result<Vec<Judged>, String> {
    let workloads: Vec<_> = plan.workloads.iter().map(|name| workload::by_name(name)).collect::<Result<_, _>>()?;
    let kinds: Vec<_> = plan.nemeses.iter().map(|name| nemesis::by_name(name)).collect::<Result<_, _>>()?;
    if let Some(bug) = plan.planted {
        holdfast_tests::process::plant(bug);
    }
    say("starts the cluster");
    let families: Vec<_> = kinds.iter().map(|kind| kind.family).collect();
    let world = Arc::new(World::start(plan.nodes, plan.clients, plan.mounts, &families));
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let part = |workload: Arc<dyn Workload>| {
        let scene = Scene { world: world.clone(), recorder: Recorder::new(start), stop: stop.clone(), seed: plan.seed };
        Part { workload, scene: Arc::new(scene) }
    };
    let parts: Vec<_> = workloads.into_iter().map(part).collect();
    let threads: Vec<_> = parts.iter().flat_map(spawn).collect();
    std::thread::sleep(QUIET);
    faults(plan, &kinds, &world, &parts, start, say);
    await_service(&parts, start);
    stop.store(true, Ordering::Relaxed);
    say("waits for the clients");
    for thread in threads {
        if thread.join().is_err() {
            return Err("a client's thread panicked".to_owned());
        }
    }
    say("compares the states");
    let settled = world.settle();
    parts.iter().for_each(|part| part.workload.finish(&part.scene));
    say("checks the volume");
    let sound = world.fsck();
    let after = [("states", settled), ("fsck", sound)];
    parts.iter().map(|part| judge(plan, part, &after)).collect()
}

fn spawn(part: &Part) -> Vec<std::thread::JoinHandle<()>> {
    let count = part.workload.thread_count(&part.scene.world);
    let one = |thread: u64| {
        let (workload, scene) = (part.workload.clone(), part.scene.clone());
        // What works on a mount must not lend its files to the processes that this one starts.
        holdfast_tests::process::apart(move || workload.work(&scene, thread))
    };
    (0..count).map(one).collect()
}

/// All nemeses in turn, in an order of the seed's, until the time is over; each at least once.
fn faults(
    plan: &Plan,
    kinds: &[&'static nemesis::Kind],
    world: &World,
    parts: &[Part],
    start: Instant,
    say: &dyn Fn(&str),
) {
    let mut dice = StdRng::seed_from_u64(plan.seed);
    let mut id = 0;
    while !kinds.is_empty() {
        let mut round = kinds.to_vec();
        round.shuffle(&mut dice);
        while let Some(kind) = round.pop() {
            if id >= kinds.len() as u64 && start.elapsed() >= plan.time {
                return;
            }
            id += 1;
            let mut together = Together::new(company(kind, kinds, plan.at_once, &mut dice));
            say(&format!("{:4} s  {}", start.elapsed().as_secs(), together.name()));
            fault(id, &mut together, world, parts, &mut dice);
            std::thread::sleep(Duration::from_secs_f64(dice.random_range(CALM_S)));
        }
    }
    std::thread::sleep(plan.time.saturating_sub(start.elapsed()));
}

/// Service is seen again by each workload, or is not in the time that it may take.
fn await_service(parts: &[Part], start: Instant) {
    let healed = start.elapsed();
    std::thread::sleep(QUIET);
    let is_late = || start.elapsed() > healed + Duration::from_millis(suite::RECOVERY_MS_MAX);
    while !is_late() && !parts.iter().all(|part| part.scene.recorder.has_served_since(healed)) {
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A fault, and others that go with it and with each other, up to so many in all.
fn company(
    first: &'static nemesis::Kind,
    kinds: &[&'static nemesis::Kind],
    count: usize,
    dice: &mut StdRng,
) -> Vec<&'static nemesis::Kind> {
    let mut company = vec![first];
    let mut others = kinds.to_vec();
    others.shuffle(dice);
    for other in others {
        if company.len() < count && company.iter().all(|one| one.family.goes_with(other.family)) {
            company.push(other);
        }
    }
    company
}

fn fault(id: u64, nemesis: &mut Together, world: &World, parts: &[Part], dice: &mut StdRng) {
    let name = nemesis.name();
    let tell = |kind: Kind, f: &str, value: Value| {
        parts.iter().for_each(|part| part.scene.recorder.nemesis(kind, f, value.clone()));
    };
    tell(Kind::Invoke, &name, json!({"id": id}));
    match nemesis.begin(world, dice) {
        Ok(what) => {
            std::thread::sleep(Duration::from_secs_f64(dice.random_range(nemesis.seconds())));
            let bite = nemesis.look(world);
            tell(Kind::Ok, &name, json!({"id": id, "what": what, "bit": bite.bit, "evidence": bite.evidence}));
            tell(Kind::Invoke, "heal", json!({"id": id}));
            nemesis.end(world);
        }
        Err(why) => {
            tell(Kind::Ok, &name, json!({"id": id, "bit": false, "evidence": why}));
            tell(Kind::Invoke, "heal", json!({"id": id}));
        }
    }
    // The next fault meets a cluster that is whole.
    world.cluster.wait_ready();
    world.cluster.wait_voters();
    tell(Kind::Ok, "heal", json!({"id": id}));
}

fn judge(plan: &Plan, part: &Part, after: &[(&str, Result<(), String>)]) -> Result<Judged, String> {
    let mut meta = plan.meta(part.workload.name());
    for (key, looked) in after {
        let says = looked.as_ref().err().map_or(SOUND, String::as_str);
        meta.insert((*key).to_owned(), says.into());
    }
    let history = part.scene.recorder.history(meta);
    let verdicts = suite::judge(part.workload.name(), &history)?;
    Ok(Judged { history, verdicts })
}
