//! Faults of the network: who hears whom, lost packets, reset connections. Called through `Nemesis`.

use super::process::{any_node, leader};
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::net::{Net, Rule};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

/// Of all packets, at every node, both ways.
const LOST_PERCENT: u32 = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Leader,
    Ring,
    OneWay,
    Client,
    Loss,
    Reset,
}

pub struct Cut {
    shape: Shape,
    members: Vec<u64>,
}

impl Cut {
    pub fn of(shape: Shape) -> Cut {
        Cut { shape, members: Vec::new() }
    }

    fn rules(&self, world: &World, dice: &mut StdRng) -> Result<Vec<(u64, Vec<Rule>)>, String> {
        let ids = world.members();
        let others = |id: u64| ids.iter().copied().filter(|other| *other != id).collect::<Vec<_>>();
        let apart = |id: u64, from: Vec<u64>| (id, Rule::apart_from(&from));
        Ok(match self.shape {
            Shape::Leader => {
                let id = leader(world)?;
                vec![apart(id, others(id))]
            }
            Shape::Ring => {
                // Each hears the next one only: the last and the first are apart from those that are not their neighbours.
                let count = ids.len();
                let neighbours = |at: usize| [ids[(at + 1) % count], ids[(at + count - 1) % count], ids[at]];
                let far = |at: usize| ids.iter().copied().filter(|id| !neighbours(at).contains(id)).collect::<Vec<_>>();
                match count {
                    // Of three, the one between the others hears both.
                    3 => vec![apart(ids[0], vec![ids[2]])],
                    _ => (0..count).map(|at| apart(ids[at], far(at))).collect(),
                }
            }
            Shape::OneWay => {
                let id = any_node(world, dice);
                vec![(id, vec![Rule::DropFrom(others(id))])]
            }
            Shape::Client => {
                let client = Net::client(dice.random_range(0..world.client_count.max(1)));
                vec![apart(client, ids.clone())]
            }
            Shape::Loss => ids.iter().map(|&id| (id, vec![Rule::Lose(LOST_PERCENT)])).collect(),
            Shape::Reset => {
                let id = any_node(world, dice);
                vec![(id, vec![Rule::Reset(others(id))])]
            }
        })
    }
}

impl Nemesis for Cut {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let rules = self.rules(world, dice)?;
        self.members = rules.iter().map(|(id, _)| *id).collect();
        rules.iter().for_each(|(id, rules)| world.cluster.net().apply(*id, rules));
        Ok(json!({"rules": rules.iter().map(|(id, rules)| format!("{id}: {rules:?}")).collect::<Vec<_>>()}))
    }

    fn look(&mut self, world: &World) -> Bite {
        let counts: Vec<_> = self.members.iter().map(|&id| world.cluster.net().met_count(id)).collect();
        Bite { bit: counts.iter().any(|count| *count > 0), evidence: json!({"packets": counts}) }
    }

    fn end(&mut self, world: &World) {
        self.members.drain(..).for_each(|id| world.cluster.net().heal(id));
    }
}
