//! A run: workloads on a cluster of real processes while nemeses come and go, and then what the checkers say. Called by `cli/run`.
//!
//! Faults come one after the other, each for a while; then all nodes must serve again with equal, sound states, the workloads have their last
//! look, and the histories are judged. A fault that was ordered and never bit fails the run.

pub mod recorder;
pub mod world;

use crate::checker::suite;
use crate::checker::{Outcome, Verdict};
use crate::history::{History, Kind};
use crate::nemesis::{self, Nemesis};
use crate::workload::{self, Scene, Workload};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use recorder::Recorder;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use world::World;

/// How long a fault lasts, seconds.
const FAULT_S: std::ops::Range<f64> = 2.0..4.0;
/// Between a fault that was healed and the next.
const CALM_S: std::ops::Range<f64> = 1.5..3.0;
/// Before the first fault, so that there is something to lose; and after the last, so that service is seen again.
const QUIET: Duration = Duration::from_secs(3);

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
}

impl Plan {
    /// What repeats this run.
    pub fn command(&self) -> String {
        let nemeses = if self.nemeses.is_empty() { "none".to_owned() } else { self.nemeses.join(",") };
        format!(
            "jepsen run --workload {} --nemesis {nemeses} --time {} --seed {} --nodes {} --clients {} --mounts {}",
            self.workloads.join(","),
            self.time.as_secs(),
            self.seed,
            self.nodes,
            self.clients,
            self.mounts
        )
    }

    fn meta(&self, workload: &str) -> Map<String, Value> {
        let nemeses = if self.nemeses.is_empty() { "none".to_owned() } else { self.nemeses.join(",") };
        let about = json!({"workload": workload, "nemesis": nemeses, "seed": self.seed, "command": self.command()});
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
    for name in &plan.nemeses {
        nemesis::by_name(name)?;
    }
    say("starts the cluster");
    let world = Arc::new(World::start(plan.nodes, plan.clients, plan.mounts));
    let (start, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let part = |workload: Arc<dyn Workload>| {
        let scene = Scene { world: world.clone(), recorder: Recorder::new(start), stop: stop.clone(), seed: plan.seed };
        Part { workload, scene: Arc::new(scene) }
    };
    let parts: Vec<_> = workloads.into_iter().map(part).collect();
    let threads: Vec<_> = parts.iter().flat_map(spawn).collect();
    std::thread::sleep(QUIET);
    faults(plan, &world, &parts, start, say);
    std::thread::sleep(QUIET);
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
    let mut judged: Vec<_> = parts.iter().map(|part| judge(plan, part)).collect::<Result<_, _>>()?;
    if let (Err(wrong), Some(first)) = (&settled, judged.first_mut()) {
        first.verdicts.push(states(wrong));
    }
    Ok(judged)
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
fn faults(plan: &Plan, world: &World, parts: &[Part], start: Instant, say: &dyn Fn(&str)) {
    let mut dice = StdRng::seed_from_u64(plan.seed);
    let mut id = 0;
    while !plan.nemeses.is_empty() {
        let mut round = plan.nemeses.clone();
        round.shuffle(&mut dice);
        for name in round {
            if id >= plan.nemeses.len() as u64 && start.elapsed() >= plan.time {
                return;
            }
            id += 1;
            let Ok(mut nemesis) = nemesis::by_name(&name) else { return };
            say(&format!("{:4} s  {name}", start.elapsed().as_secs()));
            fault((id, &name), nemesis.as_mut(), world, parts, &mut dice);
            std::thread::sleep(Duration::from_secs_f64(dice.random_range(CALM_S)));
        }
    }
    std::thread::sleep(plan.time.saturating_sub(start.elapsed()));
}

fn fault((id, name): (u64, &str), nemesis: &mut dyn Nemesis, world: &World, parts: &[Part], dice: &mut StdRng) {
    let tell = |kind: Kind, f: &str, value: Value| {
        parts.iter().for_each(|part| part.scene.recorder.nemesis(kind, f, value.clone()));
    };
    tell(Kind::Invoke, name, json!({"id": id}));
    let begun = begin(nemesis, world, dice);
    std::thread::sleep(Duration::from_secs_f64(dice.random_range(FAULT_S)));
    match begun {
        Ok(what) => {
            let bite = nemesis.look(world);
            tell(Kind::Ok, name, json!({"id": id, "what": what, "bit": bite.bit, "evidence": bite.evidence}));
        }
        Err(why) => tell(Kind::Ok, name, json!({"id": id, "bit": false, "evidence": why})),
    }
    tell(Kind::Invoke, "heal", json!({"id": id}));
    nemesis.end(world);
    // The next fault meets a cluster that is whole: combinations are for nemeses that say so.
    world.cluster.wait_ready();
    tell(Kind::Ok, "heal", json!({"id": id}));
}

/// There may be no leader for a moment.
fn begin(nemesis: &mut dyn Nemesis, world: &World, dice: &mut StdRng) -> Result<Value, String> {
    let start = Instant::now();
    loop {
        match nemesis.begin(world, dice) {
            Err(_) if start.elapsed() < QUIET => std::thread::sleep(Duration::from_millis(50)),
            begun => return begun,
        }
    }
}

fn judge(plan: &Plan, part: &Part) -> Result<Judged, String> {
    let history = part.scene.recorder.history(plan.meta(part.workload.name()));
    let checkers = suite::checkers(part.workload.name(), &history)?;
    let verdicts = checkers.iter().map(|checker| checker.check(&history)).collect();
    Ok(Judged { history, verdicts })
}

fn states(wrong: &str) -> Verdict {
    let anomaly = crate::checker::Anomaly { kind: "states".into(), text: wrong.to_owned(), events: Vec::new() };
    Verdict {
        checker: "states".into(),
        outcome: Outcome::Invalid(vec![anomaly]),
        counts: Default::default(),
        anomalies_count: 1,
        notes: Vec::new(),
        figures: Value::Null,
    }
}
