//! Faults of processes: killed, stopped, back without a disk. Called through `Nemesis`.

use super::{Bite, Nemesis};
use crate::run::world::World;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Value, json};

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
    world.cluster.ids().choose(dice).copied().unwrap_or(1)
}

fn choose(whom: Whom, world: &World, dice: &mut StdRng) -> Result<Vec<u64>, String> {
    let mut ids = world.cluster.ids();
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
