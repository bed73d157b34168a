//! Workloads: what clients do while faults come and go. Each writes down what it asked and what it was told; a checker of the same name
//! judges that. Called by `run`.

use crate::run::recorder::Recorder;
use crate::run::world::{Mounted, World};
use holdfast::meta::MetaClient;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

mod append;
mod close_to_open;
mod lock;
mod manifest;
mod once;
mod register;
mod set;
mod token;
mod tree;
mod unlinked;

/// What all threads of one workload share.
pub struct Scene {
    pub world: Arc<World>,
    pub recorder: Arc<Recorder>,
    pub stop: Arc<AtomicBool>,
    pub seed: u64,
}

/// One thread at each client without a mount, and one on each mount.
pub fn places_count(world: &World) -> u64 {
    world.client_count + world.mounts.len() as u64
}

impl Scene {
    /// Has a thread, of those that `places_count` counts, work where it is: at a client without a mount, or on a mount.
    pub fn at_place(&self, thread: u64, direct: impl AsyncFnOnce(&MetaClient), mounted: impl FnOnce(&Mounted)) {
        match thread.checked_sub(self.world.client_count) {
            None => self.world.with_client(thread, async |client| direct(&client).await),
            Some(mount) => mounted(&self.world.mounts[mount as usize]),
        }
    }

    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The dice of one thread: the same for the same seed.
    pub fn dice(&self, thread: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(thread))
    }

    /// Sleeps, but not past the end.
    pub fn pause(&self, pause: Duration) {
        let start = Instant::now();
        while self.goes_on() && start.elapsed() < pause {
            std::thread::sleep(Duration::from_millis(5).min(pause));
        }
    }
}

/// Up to twice as long, and as long as this on average.
pub fn about(pause: Duration, dice: &mut StdRng) -> Duration {
    pause.mul_f64(dice.random_range(0.0..2.0))
}

/// Whether a directory was there. If not, it is made: somebody else may be first, or nobody answers.
pub fn was_there(dir: &Path) -> bool {
    let there = dir.is_dir();
    if !there {
        let _ = std::fs::create_dir(dir);
    }
    there
}

pub trait Workload: Send + Sync {
    /// As `checker::suite` names it.
    fn name(&self) -> &'static str;

    /// Threads that it wants in this world.
    fn thread_count(&self, world: &World) -> u64;

    /// What one of them does until it is told to stop.
    fn work(&self, scene: &Scene, thread: u64);

    /// After all faults were healed, and before the states are compared: the last look.
    fn finish(&self, _scene: &Scene) {}
}

pub const NAMES: &[(&str, &str)] = &[
    ("tree", "small trees, changed by clients with and without a mount at once"),
    ("register", "extended attributes and names made with O_EXCL, as registers"),
    ("append", "lists that all clients append to and read, for Elle too"),
    ("log", "one tree, changed for long by clients that are told the log index of each reply"),
    ("lock", "files that are written under a lock, by clients that may sleep through the end of their lease"),
    ("set", "unique names on mounts, listed meanwhile and at the end"),
    ("token", "files that everybody renames among directories: each is in one place"),
    ("once", "names that only their owner touches, and a counter: nothing is done twice"),
    ("close-to-open", "whole versions of files, written on one mount and read on others"),
    ("manifest", "files that are written, synced, and read back by a mount that never saw them"),
    ("unlinked", "files that are open on one mount, and unlinked on another"),
];

/// # Errors
/// There is none of that name.
pub fn by_name(name: &str) -> Result<Arc<dyn Workload>, String> {
    Ok(match name {
        "tree" => Arc::new(tree::Tree::small()),
        "log" => Arc::new(tree::Tree::long()),
        "append" => Arc::new(append::Append::default()),
        "lock" => Arc::new(lock::Lock),
        "register" => Arc::new(register::Register::default()),
        "set" => Arc::new(set::Set),
        "token" => Arc::new(token::Token),
        "once" => Arc::new(once::Once),
        "close-to-open" => Arc::new(close_to_open::CloseToOpen),
        "unlinked" => Arc::new(unlinked::Unlinked),
        "manifest" => Arc::new(manifest::Manifest::default()),
        other => {
            let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no workload {other:?} here; there are {}", known.join(", ")));
        }
    })
}
