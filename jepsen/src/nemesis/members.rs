//! Changes of membership: a node is replaced by the spare one while clients go on, and comes back in its place with an empty disk. Called
//! through `Nemesis`.

use super::process::any_node;
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_proto::pb;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::VecDeque;

/// What `holdfast cluster` waits for at most; the cluster goes on by itself.
const WITHIN_S: &str = "30";
const TRIES_MAX: usize = 5;

/// By the command that an operator types.
#[derive(Clone, Copy, Debug)]
enum Change {
    Add(u64),
    Remove(u64),
}

#[derive(Default)]
pub struct Replace {
    gone: Option<u64>,
    /// What is still to be done until all are in their places again, in order.
    left: VecDeque<Change>,
}

fn members(world: &World) -> Option<Vec<pb::Member>> {
    Some(world.cluster.status(world.cluster.leader_now()?).ok()?.members)
}

impl Change {
    /// # Errors
    /// What the command says. It may be done all the same, and may be asked for again.
    fn make(self, world: &World) -> Result<(), String> {
        let meta = world.meta_of_members();
        let ask = |args: [&str; 3]| {
            let ended = world.cluster.holdfast(&["cluster", args[0], &meta, args[1], "--timeout", WITHIN_S, args[2]]);
            if ended.code == Some(0) { Ok(()) } else { Err(ended.stderr) }
        };
        match self {
            Change::Add(id) => {
                if !world.cluster.is_running(id) {
                    world.cluster.start_node(id);
                }
                ask(["add", &format!("{id}={}", world.cluster.node(id).addr()), "--json"])
            }
            Change::Remove(id) => {
                let asked = ask(["remove", &id.to_string(), "--yes"]);
                // An earlier try may have done it.
                let is_gone = || members(world).is_some_and(|all| all.iter().all(|member| member.id != id));
                asked.or_else(|why| if is_gone() { Ok(()) } else { Err(why) })?;
                world.cluster.kill(id);
                world.cluster.node(id).disk().wipe();
                Ok(())
            }
        }
    }
}

impl Replace {
    fn step(&mut self, world: &World) -> Result<(), String> {
        if let Some(change) = self.left.front() {
            change.make(world)?;
            self.left.pop_front();
        }
        Ok(())
    }
}

impl Nemesis for Replace {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let (gone, came) = (any_node(world, dice), world.spare());
        self.gone = Some(gone);
        self.left = [Change::Add(came), Change::Remove(gone), Change::Add(gone), Change::Remove(came)].into();
        // Beside other faults, such as packets that are lost, it may take longer: then it is done when these are healed.
        let done = self.step(world).and_then(|()| self.step(world));
        Ok(json!({"gone": gone, "came": came, "not done": done.err()}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let members = members(world).unwrap_or_default();
        let voters: Vec<_> = members.iter().filter(|member| member.voter).map(|member| member.id).collect();
        let changed = voters.contains(&world.spare()) && self.gone.is_some_and(|gone| !voters.contains(&gone));
        Bite { bit: changed, evidence: json!({"voters": voters}) }
    }

    fn end(&mut self, world: &World) {
        let mut failed = 0;
        while !self.left.is_empty() {
            if let Err(why) = self.step(world) {
                failed += 1;
                assert!(failed < TRIES_MAX, "the members do not come back to their places: {why}");
            }
        }
    }
}
