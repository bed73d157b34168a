//! Faults of a client: the process that serves a mount, killed or stopped. Called through `Nemesis`.

use super::{Bite, Nemesis};
use crate::run::world::{self, World};
use holdfast_tests::process;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::ops::Range;

/// Which mount, and its process.
#[derive(Clone, Copy, Debug)]
struct Victim {
    number: usize,
    pid: u32,
}

fn any(world: &World, dice: &mut StdRng) -> Result<Victim, String> {
    if world.mounts.is_empty() {
        return Err("there is no mount".to_owned());
    }
    let number = dice.random_range(0..world.mounts.len());
    let pid = world.mounts[number].pid().ok_or("the mount has no process")?;
    Ok(Victim { number, pid })
}

/// kill -9 of the process; the directory is mounted again afterwards.
#[derive(Default)]
pub struct Kill {
    victim: Option<Victim>,
}

impl Nemesis for Kill {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let victim = any(world, dice)?;
        process::signal(victim.pid, libc::SIGKILL);
        self.victim = Some(victim);
        Ok(json!({"mount": victim.number}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        let gone = self.victim.is_some_and(|victim| !process::signal(victim.pid, 0));
        Bite { bit: gone, evidence: json!({"gone": self.victim.map(|victim| victim.pid)}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(victim) = self.victim.take() {
            world.remount(victim.number);
        }
    }
}

/// SIGSTOP of the process: calls on the mount wait.
#[derive(Default)]
pub struct Pause {
    victim: Option<Victim>,
}

/// The state of a process, as proc(5) has it.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

impl Nemesis for Pause {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let victim = any(world, dice)?;
        process::signal(victim.pid, libc::SIGSTOP);
        self.victim = Some(victim);
        Ok(json!({"mount": victim.number}))
    }

    fn look(&mut self, _world: &World) -> Bite {
        let state = self.victim.and_then(|victim| state(victim.pid));
        Bite { bit: state == Some('T'), evidence: json!({"state": state.map(String::from)}) }
    }

    fn seconds(&self) -> Range<f64> {
        let lease = world::SESSION_LEASE_S as f64;
        lease - 1.0..2.0 * lease
    }

    fn end(&mut self, _world: &World) {
        if let Some(victim) = self.victim.take() {
            process::signal(victim.pid, libc::SIGCONT);
        }
    }
}
