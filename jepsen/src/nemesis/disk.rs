//! Faults of disks: power loss, no room, damage. Called through `Nemesis`.

use super::process::{any_node, leader};
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::files::files_below;
use holdfast_tests::tracer::Tracer;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Nodes whose disks vanish under them, with all that was not synced.
#[derive(Default)]
pub struct Power {
    pub all: bool,
    pub down: Vec<u64>,
    pub refused: usize,
    /// Of the dice by which disks tear that do.
    pub seed: u64,
}

/// All nodes lose power, and their disks have torn what was not flushed.
#[derive(Default)]
pub struct Torn(Power);

impl Nemesis for Torn {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        self.0.all = true;
        let chosen = self.0.begin(world, dice)?;
        self.0.power_on(world);
        Ok(chosen)
    }

    /// Something was on its way to a disk.
    fn look(&mut self, world: &World) -> Bite {
        let torn: Vec<_> = self.0.down.iter().map(|&id| world.cluster.node(id).disk().torn_count()).collect();
        let refused = self.0.look(world);
        Bite { bit: refused.bit && torn.iter().any(|count| *count > 0), evidence: json!({"sectors_lost_so_far": torn}) }
    }

    fn end(&mut self, world: &World) {
        self.0.down.drain(..).for_each(|id| world.cluster.start_node(id));
    }
}

impl Power {
    fn power_on(&self, world: &World) {
        for &id in &self.down {
            world.cluster.reap(id);
            world.cluster.node(id).disk().power_on(self.seed.wrapping_add(id));
        }
    }
}

impl Nemesis for Power {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        self.seed = dice.random();
        self.down = if self.all { world.members() } else { vec![any_node(world, dice)] };
        self.down.iter().for_each(|&id| world.cluster.node(id).disk().power_off());
        // Nobody writes there any more: that is the evidence, and it must be seen before the disk is back.
        let cannot = |id: &&u64| std::fs::write(world.cluster.node(**id).data_dir().join("probe"), b"x").is_err();
        self.refused = self.down.iter().filter(cannot).count();
        self.down.iter().filter(|&&id| world.cluster.is_running(id)).for_each(|&id| world.cluster.kill(id));
        Ok(json!({"nodes": self.down}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        Bite { bit: self.refused == self.down.len(), evidence: json!({"disks_that_refuse": self.refused}) }
    }

    fn end(&mut self, world: &World) {
        self.power_on(world);
        self.down.drain(..).for_each(|id| world.cluster.start_node(id));
    }
}

/// A node that has just met the full disk may be on its way to its end for so long.
const STOPPING_FOR: Duration = Duration::from_secs(2);

/// The leader's disk has no room left.
#[derive(Default)]
pub struct Full {
    node: Option<u64>,
}

impl Nemesis for Full {
    fn begin(&mut self, world: &World, _dice: &mut StdRng) -> Result<Value, String> {
        let id = leader(world)?;
        world.cluster.node(id).disk().fill(0);
        self.node = Some(id);
        Ok(json!({"node": id}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let Some(id) = self.node else { return Bite { bit: false, evidence: Value::Null } };
        let free = world.cluster.node(id).disk().free_bytes();
        let stopped = !world.cluster.is_running(id);
        Bite { bit: free < 1 << 20, evidence: json!({"free_bytes": free, "stopped": stopped}) }
    }

    /// A node that met the full disk has stopped, and is started by its unit once there is room.
    fn end(&mut self, world: &World) {
        let Some(id) = self.node.take() else { return };
        world.cluster.node(id).disk().empty();
        let start = Instant::now();
        while world.cluster.is_running(id) && start.elapsed() < STOPPING_FOR {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !world.cluster.is_running(id) {
            world.cluster.reap(id);
            world.cluster.start_node(id);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Flip,
    Truncate,
}

/// A node goes down, and its files are not what they were when it comes back.
pub struct Damage {
    how: How,
    node: Option<u64>,
    damaged: Vec<String>,
}

impl Damage {
    pub fn of(how: How) -> Damage {
        Damage { how, node: None, damaged: Vec::new() }
    }

    /// The log's largest file, which holds what the node promised.
    fn damage(&mut self, path: PathBuf, dice: &mut StdRng) -> std::io::Result<()> {
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&path)?;
        let len = file.metadata()?.len();
        if len < 2 {
            return Ok(());
        }
        match self.how {
            How::Flip => {
                let at = dice.random_range(0..len);
                let mut byte = [0];
                file.read_exact_at(&mut byte, at)?;
                byte[0] ^= 1 << dice.random_range(0..8);
                file.write_all_at(&byte, at)?;
                self.damaged.push(format!("{} at {at} of {len}", path.display()));
            }
            How::Truncate => {
                let keep = dice.random_range(0..len);
                file.set_len(keep)?;
                self.damaged.push(format!("{} from {len} to {keep}", path.display()));
            }
        }
        file.sync_all()
    }
}

impl Nemesis for Damage {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        world.cluster.kill(id);
        self.node = Some(id);
        self.damaged.clear();
        let size = |path: &PathBuf| path.metadata().map(|meta| meta.len()).unwrap_or_default();
        let wal = files_below(&world.cluster.node(id).data_dir().join("wal")).into_iter().max_by_key(size);
        if let Some(path) = wal {
            self.damage(path, dice).map_err(|error| error.to_string())?;
        }
        Ok(json!({"node": id, "damaged": self.damaged}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        Bite { bit: !self.damaged.is_empty(), evidence: json!({"damaged": self.damaged}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(id) = self.node.take() {
            world.cluster.start_node(id);
        }
    }
}

/// From some moment on no fsync of a node succeeds: it must stop.
#[derive(Default)]
pub struct Fsync {
    node: Option<u64>,
    tracer: Option<Tracer>,
}

const FSYNC_FAILS: &str = "fdatasync,fsync:error=EIO";
/// Until it meets one.
const STOPS_WITHIN: Duration = Duration::from_secs(40);

impl Nemesis for Fsync {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        let pid = world.cluster.pid(id).ok_or_else(|| format!("node {id} does not run"))?;
        self.tracer = Some(Tracer::attach(pid, FSYNC_FAILS));
        self.node = Some(id);
        Ok(json!({"node": id}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let Some(id) = self.node else { return Bite { bit: false, evidence: Value::Null } };
        let start = Instant::now();
        while world.cluster.is_running(id) && start.elapsed() < STOPS_WITHIN {
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = world.cluster.node(id).log();
        let said = log.lines().rev().find(|line| line.contains("this node stops")).unwrap_or_default().to_owned();
        Bite { bit: !world.cluster.is_running(id) && !said.is_empty(), evidence: json!({"node": id, "said": said}) }
    }

    fn end(&mut self, world: &World) {
        let Some(id) = self.node.take() else { return };
        if world.cluster.is_running(id) {
            world.cluster.kill(id);
        }
        self.tracer = None;
        world.cluster.reap(id);
        world.cluster.start_node(id);
    }
}
