//! Faults of disks: power loss, no room, damage. Called through `Nemesis`.

use super::process::{any_node, leader};
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::files::files_below;
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
}

impl Nemesis for Power {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        self.down = if self.all { world.cluster.ids() } else { vec![any_node(world, dice)] };
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
        for id in self.down.drain(..) {
            world.cluster.reap(id);
            world.cluster.node(id).disk().power_on();
            world.cluster.start_node(id);
        }
    }
}

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

/// A node is started again with an fsync that fails after a while: it must stop.
#[derive(Default)]
pub struct Fsync {
    node: Option<u64>,
}

/// The first ones are of its start.
const FSYNC_FAILS: &str = "fdatasync,fsync:error=EIO:when=120+";
/// Until it meets one.
const STOPS_WITHIN: Duration = Duration::from_secs(20);

impl Nemesis for Fsync {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        world.cluster.kill(id);
        world.cluster.start_node_injected(id, FSYNC_FAILS);
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
        world.cluster.reap(id);
        world.cluster.start_node(id);
    }
}
