//! Changes of membership: a node is replaced by the spare one while clients go on, and comes back in its place with an empty disk. Called
//! through `Nemesis`.

use super::process::any_node;
use super::{Bite, Nemesis};
use crate::run::world::World;
use rand::rngs::StdRng;
use serde_json::{Value, json};

#[derive(Default)]
pub struct Replace {
    gone: Option<u64>,
}

fn voters(world: &World) -> Option<Vec<u64>> {
    let status = world.cluster.status(world.cluster.leader_now()?).ok()?;
    Some(status.members.iter().filter(|member| member.voter).map(|member| member.id).collect())
}

/// By the command that an operator types.
fn add(world: &World, id: u64) {
    world.cluster.start_node(id);
    let node = format!("{id}={}", world.cluster.node(id).addr());
    world.cluster.holdfast(&["cluster", "add", &world.meta_of_members(), &node]).ok("cluster add");
}

fn remove(world: &World, id: u64) {
    world
        .cluster
        .holdfast(&["cluster", "remove", &world.meta_of_members(), &id.to_string(), "--yes"])
        .ok("cluster remove");
    world.cluster.kill(id);
    world.cluster.node(id).disk().wipe();
}

impl Nemesis for Replace {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let gone = any_node(world, dice);
        add(world, world.spare());
        remove(world, gone);
        self.gone = Some(gone);
        Ok(json!({"gone": gone, "came": world.spare()}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let voters = voters(world).unwrap_or_default();
        let changed = voters.contains(&world.spare()) && self.gone.is_some_and(|gone| !voters.contains(&gone));
        Bite { bit: changed, evidence: json!({"voters": voters}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(gone) = self.gone.take() {
            add(world, gone);
            remove(world, world.spare());
        }
    }
}
