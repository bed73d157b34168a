//! Nemeses: faults that are brought about for a while and then healed, each with the evidence that it bit. Called by `run`.

use crate::run::world::World;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::time::{Duration, Instant};

mod client;
pub mod clock;
mod disk;
mod members;
mod network;
mod process;
mod relay;
pub mod store;

/// A fault that needs a leader, and finds none for so long on a busy machine, cannot be brought about.
const BEGINS_WITHIN: Duration = Duration::from_secs(12);

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

    /// How long it lasts.
    fn seconds(&self) -> Range<f64> {
        2.0..4.0
    }

    /// Heals it. What is needed for that is kept from the beginning: the leader may be another by now.
    fn end(&mut self, world: &World);
}

/// What a fault is done to. Two of one family never are at one time; they begin and are healed in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// The clocks of nodes: all are started with the shim.
    Clock,
    Network,
    /// The object store: the volume is on one that can be spoilt.
    Store,
    /// Processes and disks of nodes.
    Node,
    /// The same, and there is a node to spare.
    Members,
    /// The same, and disks tear when they lose power.
    Torn,
    /// Last: a mount that comes back waits for calls on the one before, and those for all else.
    Client,
}

impl Family {
    /// Whether the two can be there at one time.
    pub fn goes_with(self, other: Family) -> bool {
        let of_nodes = |family| matches!(family, Family::Node | Family::Members | Family::Torn);
        self != other && !(of_nodes(self) && of_nodes(other))
    }
}

/// A kind of fault.
pub struct Kind {
    pub name: &'static str,
    pub what: &'static str,
    pub family: Family,
    make: fn() -> Box<dyn Nemesis>,
}

macro_rules! kinds {
    ($($name:literal, $what:literal, $family:ident, $make:expr;)*) => {
        pub const ALL: &[Kind] = &[$(Kind { name: $name, what: $what, family: Family::$family, make: || Box::new($make) },)*];
    };
}

kinds! {
    "kill-leader", "kill -9 of the leader", Node, process::Kill::of(process::Whom::Leader);
    "kill-one", "kill -9 of any node", Node, process::Kill::of(process::Whom::One);
    "kill-majority", "kill -9 of two of three", Node, process::Kill::of(process::Whom::Majority);
    "kill-all", "kill -9 of all nodes", Node, process::Kill::of(process::Whom::All);
    "transfer", "the leader hands its office over", Node, process::Transfer::default();
    "pause-leader", "SIGSTOP of the leader", Node, process::Pause::default();
    "wipe", "a node comes back without its disk", Node, process::Wipe::default();
    "install", "a node that lost its disk is killed while it receives a checkpoint", Node, process::Install::default();
    "members", "a node is replaced by another, and comes back in its place", Members, members::Replace::default();
    "partition-leader", "the leader and its peers hear nothing of each other", Network, network::Cut::of(network::Shape::Leader);
    "partition-ring", "each node hears a majority, and no two the same", Network, network::Cut::of(network::Shape::Ring);
    "partition-one-way", "a node is heard by its peers and hears nothing of them", Network, network::Cut::of(network::Shape::OneWay);
    "partition-client", "a client is cut off from all nodes", Network, network::Cut::of(network::Shape::Client);
    "loss", "packets are lost at every node", Network, network::Cut::of(network::Shape::Loss);
    "reset", "connections of a node are reset", Network, network::Cut::of(network::Shape::Reset);
    "delay", "packets of a node come late, and in another order", Network, relay::Spoil::of(relay::How::Delay);
    "duplicate", "packets of a node come twice", Network, relay::Spoil::of(relay::How::Duplicate);
    "clock-jump", "the wall clock of a node jumps, and back", Clock, clock::Wrong::of(clock::How::Jump);
    "clock-rate", "all clocks of a node run at another rate", Clock, clock::Wrong::of(clock::How::Rate);
    "power-one", "a node loses power, and what it had not synced", Node, disk::Power { all: false, ..Default::default() };
    "power-all", "all nodes lose power at once, and what they had not synced", Node, disk::Power { all: true, ..Default::default() };
    "power-torn", "all nodes lose power at once, and of what they had not synced any sectors", Torn, disk::Torn::default();
    "disk-full", "the disk of the leader is full", Node, disk::Full::default();
    "fsync-error", "fsync fails on a node", Node, disk::Fsync::default();
    "flip", "bits flip in the files of a node that is down", Node, disk::Damage::of(disk::How::Flip);
    "truncate", "files of a node that is down lose their end", Node, disk::Damage::of(disk::How::Truncate);
    "client-kill", "kill -9 of the process of a mount", Client, client::Kill::default();
    "client-pause", "SIGSTOP of the process of a mount, mostly for longer than its lease", Client, client::Pause::default();
    "store-down", "the object store takes no connection", Store, store::Spoil::of(store::How::Down);
    "store-slow", "the object store takes its time", Store, store::Spoil::of(store::How::Slow);
    "store-replies-lost", "the object store does what it is asked, and its answers are lost", Store, store::Spoil::of(store::How::RepliesLost);
}

/// # Errors
/// There is none of that name.
pub fn by_name(name: &str) -> Result<&'static Kind, String> {
    ALL.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let known: Vec<_> = ALL.iter().map(|kind| kind.name).collect();
        format!("there is no nemesis {name:?}; there are none, {}", known.join(", "))
    })
}

/// Several faults, one or more, that come and go together.
pub struct Together(Vec<(&'static Kind, Box<dyn Nemesis>)>);

impl Together {
    pub fn new(mut kinds: Vec<&'static Kind>) -> Together {
        kinds.sort_by_key(|kind| kind.family);
        Together(kinds.into_iter().map(|kind| (kind, (kind.make)())).collect())
    }

    /// Their names, with `+` between.
    pub fn name(&self) -> String {
        self.0.iter().map(|(kind, _)| kind.name).collect::<Vec<_>>().join("+")
    }
}

/// There may be no leader for a moment.
fn begin_soon(nemesis: &mut dyn Nemesis, world: &World, dice: &mut StdRng) -> Result<Value, String> {
    let start = Instant::now();
    loop {
        match nemesis.begin(world, dice) {
            Err(_) if start.elapsed() < BEGINS_WITHIN => std::thread::sleep(Duration::from_millis(50)),
            begun => return begun,
        }
    }
}

impl Nemesis for Together {
    /// One that cannot be brought about beside the others is left out, and that is said.
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let (mut chosen, mut begun, mut last) = (Map::new(), Vec::new(), String::new());
        for (kind, mut nemesis) in self.0.drain(..) {
            match begin_soon(nemesis.as_mut(), world, dice) {
                Ok(what) => {
                    chosen.insert(kind.name.to_owned(), what);
                    begun.push((kind, nemesis));
                }
                Err(why) => {
                    chosen.insert(kind.name.to_owned(), json!({"left out": why}));
                    last = why;
                }
            }
        }
        self.0 = begun;
        if self.0.is_empty() { Err(last) } else { Ok(Value::Object(chosen)) }
    }

    fn look(&mut self, world: &World) -> Bite {
        let bites: Vec<_> = self.0.iter_mut().map(|(kind, nemesis)| (kind.name, nemesis.look(world))).collect();
        // One may leave nothing for another to bite: who asks the store where most nodes are gone?
        let bit = bites.iter().any(|(_, bite)| bite.bit);
        let told = |bite: Bite| json!({"bit": bite.bit, "evidence": bite.evidence});
        Bite { bit, evidence: bites.into_iter().map(|(name, bite)| (name.to_owned(), told(bite))).collect() }
    }

    /// As long as the one that needs the longest.
    fn seconds(&self) -> Range<f64> {
        let all = self.0.iter().map(|(_, nemesis)| nemesis.seconds());
        all.reduce(|a, b| a.start.max(b.start)..a.end.max(b.end)).unwrap_or(0.0..1.0)
    }

    fn end(&mut self, world: &World) {
        self.0.iter_mut().for_each(|(_, nemesis)| nemesis.end(world));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_comes_back_when_all_else_is_healed() {
        let families: Vec<_> = Together::new(ALL.iter().collect()).0.iter().map(|(kind, _)| kind.family).collect();
        let first_client = families.iter().position(|family| *family == Family::Client).expect("there is one");
        assert!(families[first_client..].iter().all(|family| *family == Family::Client), "{families:?}");
    }
}
