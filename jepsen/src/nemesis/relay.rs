//! Faults of the network that the kernel here cannot make: packets of a node that come late and in another order, or twice. Called through
//! `Nemesis`.

use super::process::any_node;
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::relay::{Relay, Weather};
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::time::Duration;

/// Each packet's own: heartbeats come every 50 ms, and 150 ms without one begin an election.
const DELAY_MAX: Duration = Duration::from_millis(60);
const TWICE_PERCENT: u32 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Delay,
    Duplicate,
}

pub struct Spoil {
    how: How,
    relay: Option<Relay>,
}

impl Spoil {
    pub fn of(how: How) -> Spoil {
        Spoil { how, relay: None }
    }
}

impl Nemesis for Spoil {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        let weather = match self.how {
            How::Delay => Weather { delay_max: DELAY_MAX, twice_percent: 0, seed: dice.random() },
            How::Duplicate => Weather { delay_max: Duration::ZERO, twice_percent: TWICE_PERCENT, seed: dice.random() },
        };
        self.relay = Some(Relay::start(world.cluster.net(), id, weather).map_err(|error| error.to_string())?);
        Ok(json!({"node": id, "weather": format!("{weather:?}")}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        let spoilt = self.relay.as_ref().map_or(0, Relay::spoilt_count);
        Bite { bit: spoilt > 0, evidence: json!({"packets": spoilt}) }
    }

    fn end(&mut self, _world: &World) {
        self.relay = None;
    }
}
