//! Faults of processes: killed, stopped, back without a disk. Called through `Nemesis`.

use super::{Bite, Nemesis};
use crate::run::world::World;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Leader,
    One,
    Majority,
    All,
}

/// The leader that a majority follows now.
pub(super) fn leader(world: &World) -> Result<u64, String> {
    world.cluster.leader_now().ok_or_else(|| "there is no leader".to_owned())
}

pub(super) fn any_node(world: &World, dice: &mut StdRng) -> u64 {
    world.members().choose(dice).copied().unwrap_or(1)
}

fn choose(whom: Whom, world: &World, dice: &mut StdRng) -> Result<Vec<u64>, String> {
    let mut ids = world.members();
    match whom {
        Whom::Leader => ids = vec![leader(world)?],
        Whom::One => ids = vec![any_node(world, dice)],
        Whom::Majority => {
            ids.shuffle(dice);
            ids.truncate(ids.len() / 2 + 1);
        }
        Whom::All => {}
    }
    Ok(ids)
}

/// kill -9.
pub struct Kill {
    whom: Whom,
    killed: Vec<u64>,
}

impl Kill {
    pub fn of(whom: Whom) -> Kill {
        Kill { whom, killed: Vec::new() }
    }
}

impl Nemesis for Kill {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        self.killed = choose(self.whom, world, dice)?;
        self.killed.iter().for_each(|&id| world.cluster.kill(id));
        Ok(json!({"nodes": self.killed}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let bit = self.killed.iter().all(|&id| !world.cluster.is_running(id));
        Bite { bit, evidence: json!({"gone": self.killed}) }
    }

    fn end(&mut self, world: &World) {
        self.killed.drain(..).for_each(|id| world.cluster.start_node(id));
    }
}

/// SIGSTOP of the leader.
#[derive(Default)]
pub struct Pause {
    paused: Option<u64>,
}

impl Nemesis for Pause {
    fn begin(&mut self, world: &World, _dice: &mut StdRng) -> Result<Value, String> {
        let id = leader(world)?;
        world.cluster.pause(id);
        self.paused = Some(id);
        Ok(json!({"node": id}))
    }

    /// It answers nobody, and is there.
    fn look(&mut self, world: &World) -> Bite {
        let silent = self.paused.is_some_and(|id| world.cluster.is_running(id) && world.cluster.status(id).is_err());
        Bite { bit: silent, evidence: json!({"silent": self.paused}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(id) = self.paused.take() {
            world.cluster.resume(id);
        }
    }
}

/// A node is killed, and comes back with an empty disk.
#[derive(Default)]
pub struct Wipe {
    wiped: Option<u64>,
    left: usize,
}

impl Nemesis for Wipe {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        world.cluster.kill(id);
        world.cluster.node(id).disk().wipe();
        self.wiped = Some(id);
        Ok(json!({"node": id}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let Some(id) = self.wiped else { return Bite { bit: false, evidence: Value::Null } };
        self.left = holdfast_tests::files::files_below(&world.cluster.node(id).data_dir()).len();
        Bite { bit: self.left == 0, evidence: json!({"node": id, "files_left": self.left}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(id) = self.wiped.take() {
            world.cluster.start_node(id);
        }
    }
}

/// The leader hands its office over, as it does before it stops in order.
#[derive(Default)]
pub struct Transfer {
    from: Option<u64>,
}

impl Nemesis for Transfer {
    fn begin(&mut self, world: &World, _dice: &mut StdRng) -> Result<Value, String> {
        let from = leader(world)?;
        let to = holdfast_tests::admin::transfer_leader(&world.cluster.node(from).addr(), 0)?;
        self.from = Some(from);
        Ok(json!({"from": from, "to": to}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let now = world.cluster.leader_now();
        Bite { bit: now.is_some() && now != self.from, evidence: json!({"was": self.from, "is": now}) }
    }

    fn end(&mut self, _world: &World) {}
}

/// A node that lost its disk, and is killed again in the middle of receiving the state.
#[derive(Default)]
pub struct Install {
    node: Option<u64>,
    part_bytes: u64,
    feedings: usize,
}

/// Until the leader feeds it.
const FED_WITHIN: Duration = Duration::from_secs(10);
/// A small state is there before anybody has seen it come, or comes from the log after all: then it is wiped and fed again.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// What there is of a checkpoint that a leader sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Received {
    Nothing,
    /// Bytes so far.
    Part(u64),
    All,
}

impl Install {
    /// Starts the empty node, and kills it as soon as part of a checkpoint is there, or all of it.
    fn feed(&mut self, world: &World, id: u64) {
        world.cluster.kill(id);
        world.cluster.node(id).disk().wipe();
        world.cluster.start_node(id);
        let (dir, start) = (world.cluster.node(id).data_dir(), Instant::now());
        while start.elapsed() < FED_WITHIN {
            match received(&holdfast_tests::files::files_below(&dir)) {
                Received::Nothing => {}
                Received::Part(bytes) => {
                    self.part_bytes = bytes;
                    break;
                }
                Received::All => break,
            }
        }
    }
}

impl Nemesis for Install {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let leader = leader(world)?;
        let others: Vec<_> = world.members().into_iter().filter(|id| *id != leader).collect();
        let id = others.choose(dice).copied().ok_or("there is no follower")?;
        self.node = Some(id);
        let start = Instant::now();
        while self.part_bytes == 0 && start.elapsed() < SEEN_WITHIN {
            // The log reaches back to the older of two checkpoints: from now on it does not reach far enough for an empty node.
            for _ in 0..2 {
                let _ = holdfast_tests::admin::checkpoint(&world.cluster.node(leader).addr());
            }
            self.feed(world, id);
            self.feedings += 1;
        }
        world.cluster.kill(id);
        Ok(json!({"node": id, "leader": leader}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        Bite { bit: self.part_bytes > 0, evidence: json!({"bytes_received": self.part_bytes, "tries": self.feedings}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(id) = self.node.take() {
            world.cluster.start_node(id);
        }
    }
}

/// By the names of its files, as metad's snapshot inbox and checkpoint directory give them.
fn received(files: &[PathBuf]) -> Received {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if files.iter().any(|path| name(path).ends_with(".ckpt")) {
        return Received::All;
    }
    let parts = files.iter().filter(|path| name(path).starts_with("receive-"));
    match parts.filter_map(|path| path.metadata().ok()).map(|part| part.len()).sum() {
        0 => Received::Nothing,
        bytes => Received::Part(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_of_a_checkpoint_is_part_of_one() {
        let dir = holdfast_tests::process::scratch_dir("received");
        let file = |name: &str, bytes: &str| {
            let path = dir.join(name);
            std::fs::write(&path, bytes).expect("written");
            path
        };
        let mut files =
            vec![file("IDENTITY.part", "node = 1"), file("00000000000000000007.part", "a checkpoint of its own")];
        assert_eq!(received(&files), Received::Nothing);
        files.push(file("receive-00000000000000000007-100.part", ""));
        assert_eq!(received(&files), Received::Nothing);
        files.push(file("receive-00000000000000000007-100.part", "1234"));
        files.remove(2);
        assert_eq!(received(&files), Received::Part(4));
        files.push(file("00000000000000000007.ckpt", ""));
        assert_eq!(received(&files), Received::All);
    }
}
