//! Nemeses: faults that are brought about for a while and then healed, each with the evidence that it bit. Called by `run`.

use crate::run::world::World;
use rand::rngs::StdRng;
use serde_json::Value;

mod client;
mod disk;
mod network;
mod process;

/// Whether a fault was seen to bite, and by what.
#[derive(Clone, Debug)]
pub struct Bite {
    pub bit: bool,
    pub evidence: Value,
}

pub trait Nemesis: Send {
    /// Brings it about. Returns what was chosen, for the reader of the history.
    ///
    /// # Errors
    /// Why it cannot be done now: there is no leader.
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String>;

    /// Looks, before it is healed, whether it bites.
    fn look(&mut self, world: &World) -> Bite;

    /// Heals it. What is needed for that is kept from the beginning: the leader may be another by now.
    fn end(&mut self, world: &World);
}

type Make = fn() -> Box<dyn Nemesis>;

pub const ALL: &[(&str, &str, Make)] = &[
    ("kill-leader", "kill -9 of the leader", || Box::new(process::Kill::of(process::Whom::Leader))),
    ("kill-one", "kill -9 of any node", || Box::new(process::Kill::of(process::Whom::One))),
    ("kill-majority", "kill -9 of two of three", || Box::new(process::Kill::of(process::Whom::Majority))),
    ("kill-all", "kill -9 of all nodes", || Box::new(process::Kill::of(process::Whom::All))),
    ("transfer", "the leader hands its office over", || Box::new(process::Transfer::default())),
    ("pause-leader", "SIGSTOP of the leader", || Box::new(process::Pause::default())),
    ("wipe", "a node comes back without its disk", || Box::new(process::Wipe::default())),
    ("partition-leader", "the leader and its peers hear nothing of each other", || {
        Box::new(network::Cut::of(network::Shape::Leader))
    }),
    ("partition-ring", "each node hears a majority, and no two the same", || {
        Box::new(network::Cut::of(network::Shape::Ring))
    }),
    ("partition-one-way", "a node is heard by its peers and hears nothing of them", || {
        Box::new(network::Cut::of(network::Shape::OneWay))
    }),
    ("partition-client", "a client is cut off from all nodes", || Box::new(network::Cut::of(network::Shape::Client))),
    ("loss", "packets are lost at every node", || Box::new(network::Cut::of(network::Shape::Loss))),
    ("reset", "connections of a node are reset", || Box::new(network::Cut::of(network::Shape::Reset))),
    ("power-one", "a node loses power, and what it had not synced", || {
        Box::new(disk::Power { all: false, ..Default::default() })
    }),
    ("power-all", "all nodes lose power at once, and what they had not synced", || {
        Box::new(disk::Power { all: true, ..Default::default() })
    }),
    ("disk-full", "the disk of the leader is full", || Box::new(disk::Full::default())),
    ("fsync-error", "fsync fails on a node", || Box::new(disk::Fsync::default())),
    ("client-kill", "kill -9 of the process of a mount", || Box::new(client::Kill::default())),
    ("client-pause", "SIGSTOP of the process of a mount", || Box::new(client::Pause::default())),
    ("flip", "bits flip in the files of a node that is down", || Box::new(disk::Damage::of(disk::How::Flip))),
    ("truncate", "files of a node that is down lose their end", || Box::new(disk::Damage::of(disk::How::Truncate))),
];

/// # Errors
/// There is none of that name.
pub fn by_name(name: &str) -> Result<Box<dyn Nemesis>, String> {
    match ALL.iter().find(|(known, _, _)| *known == name) {
        Some((_, _, make)) => Ok(make()),
        None => {
            let known: Vec<_> = ALL.iter().map(|(name, _, _)| *name).collect();
            Err(format!("there is no nemesis {name:?}; there are none, {}", known.join(", ")))
        }
    }
}
