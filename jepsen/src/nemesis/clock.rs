//! Clocks of nodes that are wrong: the shim in `shim/clock.c`, which `World` has all nodes preload where clocks are to be spoilt, answers
//! as the page in a file says, which is written here. Called through `Nemesis`, and by `run/world`.

use super::process::any_node;
use super::{Bite, Nemesis};
use crate::run::world::World;
use holdfast_tests::process;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The jump of a wall clock, seconds, either way.
const JUMP_S: std::ops::Range<i64> = 60..3600;
/// Leases of leaders hold for as long as clocks differ by less than a fifth; real ones differ by a ten-thousandth.
const RATES: [f64; 2] = [0.9, 1.1];

/// Pages of the nodes, and the shim.
#[derive(Debug)]
pub struct Clocks {
    dir: PathBuf,
}

/// As `struct page` of the shim has it, without its first and last fields.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reading {
    offset_ns: i64,
    rate: f64,
    from_ns: i64,
    to_ns: i64,
}

const PAGE_LEN: usize = 48;
const ASKED_AT: u64 = 40;

/// Of this process, and of all others that have no shim.
fn monotonic_ns() -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a structure that lives as long as the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

impl Clocks {
    /// Compiles the shim into `dir`; clocks are right at first.
    pub fn new(dir: &Path, ids: &[u64]) -> Clocks {
        let clocks = Clocks { dir: dir.to_owned() };
        let source = clocks.dir.join("clock.c");
        std::fs::write(&source, include_str!("../../shim/clock.c")).expect("write the shim");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-shared", "-fPIC", "-o"]).arg(clocks.shim()).arg(source);
        process::run(cc).ok("cc");
        for &id in ids {
            std::fs::write(clocks.page(id), [0; PAGE_LEN]).expect("write a page");
        }
        clocks
    }

    fn shim(&self) -> PathBuf {
        self.dir.join("clock.so")
    }

    fn page(&self, id: u64) -> PathBuf {
        self.dir.join(format!("clock-{id}"))
    }

    /// What a node is started with; `{id}` stands for its number.
    pub fn env(dir: &Path) -> Vec<(String, String)> {
        let clocks = Clocks { dir: dir.to_owned() };
        let page = clocks.dir.join("clock-{id}");
        let pairs = [("LD_PRELOAD", clocks.shim()), ("JEPSEN_CLOCK", page)];
        pairs.map(|(name, path)| (name.to_owned(), path.to_string_lossy().into_owned())).to_vec()
    }

    fn open(&self, id: u64) -> File {
        File::options().read(true).write(true).open(self.page(id)).expect("a page")
    }

    fn read(file: &File) -> (u64, Reading) {
        let mut page = [0; PAGE_LEN];
        file.read_exact_at(&mut page, 0).expect("read a page");
        let word = |at: usize| <[u8; 8]>::try_from(&page[at..at + 8]).expect("eight bytes");
        let reading = Reading {
            offset_ns: i64::from_ne_bytes(word(8)),
            rate: f64::from_ne_bytes(word(16)),
            from_ns: i64::from_ne_bytes(word(24)),
            to_ns: i64::from_ne_bytes(word(32)),
        };
        // A page that nobody wrote is right.
        let reading =
            if reading.rate == 0.0 { Reading { rate: 1.0, from_ns: 0, to_ns: 0, ..reading } } else { reading };
        (u64::from_ne_bytes(word(0)), reading)
    }

    /// The monotonic clock goes on from where it is.
    fn set(&self, id: u64, offset_ns: i64, rate: f64) {
        let file = self.open(id);
        let (sequence, was) = Clocks::read(&file);
        let from_ns = monotonic_ns();
        let to_ns = was.to_ns + ((from_ns - was.from_ns) as f64 * was.rate) as i64;
        let write = |at: u64, word: [u8; 8]| file.write_all_at(&word, at).expect("write a page");
        write(0, (sequence + 1).to_ne_bytes());
        write(8, offset_ns.to_ne_bytes());
        write(16, rate.to_ne_bytes());
        write(24, from_ns.to_ne_bytes());
        write(32, to_ns.to_ne_bytes());
        write(0, (sequence + 2).to_ne_bytes());
    }

    fn asked_count(&self, id: u64) -> u64 {
        let mut word = [0; 8];
        self.open(id).read_exact_at(&mut word, ASKED_AT).expect("read a page");
        u64::from_ne_bytes(word)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Jump,
    Rate,
}

/// A clock that is wrong.
pub struct Wrong {
    how: How,
    node: Option<u64>,
    asked: u64,
}

impl Wrong {
    pub fn of(how: How) -> Wrong {
        Wrong { how, node: None, asked: 0 }
    }
}

impl Nemesis for Wrong {
    fn begin(&mut self, world: &World, dice: &mut StdRng) -> Result<Value, String> {
        let id = any_node(world, dice);
        let (seconds, rate) = match self.how {
            How::Jump => (dice.random_range(JUMP_S) * if dice.random() { 1 } else { -1 }, 1.0),
            How::Rate => (0, RATES[dice.random_range(0..RATES.len())]),
        };
        world.clocks().set(id, seconds * 1_000_000_000, rate);
        self.asked = world.clocks().asked_count(id);
        self.node = Some(id);
        Ok(json!({"node": id, "jump_s": seconds, "rate": rate}))
    }

    /// The node has asked what time it is, and was told that.
    fn look(&mut self, world: &World) -> Bite {
        let asked = self.node.map_or(0, |id| world.clocks().asked_count(id) - self.asked);
        Bite { bit: asked > 0, evidence: json!({"asked": asked}) }
    }

    fn end(&mut self, world: &World) {
        if let Some(id) = self.node.take() {
            world.clocks().set(id, 0, 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_the_shim_sees_the_clock_that_it_is_told_to_see() {
        let dir = process::scratch_dir("clock");
        std::fs::create_dir_all(&dir).expect("a directory");
        let clocks = Clocks::new(&dir, &[1]);
        let wall_s = |preloaded: bool| -> i64 {
            let mut date = Command::new("date");
            date.arg("+%s");
            if preloaded {
                date.envs(Clocks::env(&dir).into_iter().map(|(name, value)| (name, value.replace("{id}", "1"))));
            }
            process::run(date).ok("date").stdout.trim().parse().expect("seconds")
        };
        let apart = || wall_s(true) - wall_s(false);
        assert!(apart().abs() < 5);
        clocks.set(1, -1_000_000_000_000, 1.0);
        assert!((-1_005..-995).contains(&apart()));
        assert!(clocks.asked_count(1) > 0);
        // The rate changes, and the clock does not leap.
        let (_, before) = Clocks::read(&clocks.open(1));
        clocks.set(1, 0, 2.0);
        let (_, after) = Clocks::read(&clocks.open(1));
        assert_eq!((before.rate, after.rate), (1.0, 2.0));
        assert!((after.to_ns - after.from_ns).abs() < 1_000_000);
    }
}
