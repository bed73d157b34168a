//! The simulated disk below a node's log. The log's own files are on a real (memory) filesystem; what is simulated is when a flush counts,
//! and what a crash leaves of that which no flush has covered: nothing, a part, or sectors in any order.
//!
//! The image and checkpoints are not behind it: they are written and synced in one go at moments that the run chooses.

use crate::planted::Planted;
use metad::raft::log_flush::{FlushEnd, FlushWatch};
use parking_lot::{Condvar, Mutex};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const SECTOR_BYTES: usize = 512;

/// Bytes of each file, by name.
pub type Lengths = BTreeMap<String, u64>;

/// How a node goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process ends: what it has written is there.
    Kill,
    /// What was not synced is lost, or torn.
    PowerLoss,
    /// All that was not synced is lost.
    WorstPowerLoss,
    /// The disk is lost.
    Wipe,
}

struct Ended {
    end: FlushEnd,
    /// As the files were when the WAL had made this flush.
    lengths: Lengths,
}

struct Pending {
    at: u64,
    ended: Ended,
}

#[derive(Default)]
struct State {
    started: u64,
    made: u64,
    ended: VecDeque<Ended>,
    pending: VecDeque<Pending>,
    durable: Lengths,
}

pub struct Disk {
    wal: PathBuf,
    planted: Planted,
    state: Mutex<State>,
    ended: Condvar,
}

fn lengths(dir: &Path) -> io::Result<Lengths> {
    let mut found = Lengths::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        found.insert(entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len());
    }
    Ok(found)
}

impl FlushWatch for Disk {
    fn synced(&self) {
        if !matches!(self.planted, Planted::LyingFsync | Planted::UnsyncedStart) {
            self.state.lock().durable = lengths(&self.wal).expect("the WAL's directory is there");
        }
    }

    fn started(&self) {
        self.state.lock().started += 1;
    }

    fn ended(&self, end: FlushEnd) {
        let lengths = lengths(&self.wal).expect("the WAL's directory is there");
        let mut state = self.state.lock();
        state.made += 1;
        state.ended.push_back(Ended { end, lengths });
        self.ended.notify_all();
    }
}

impl Disk {
    /// `durable`: of what an earlier process left; else all that is in `wal` now.
    pub fn new(wal: &Path, planted: Planted, durable: Option<Lengths>) -> Disk {
        let durable = durable.unwrap_or_else(|| lengths(wal).unwrap_or_default());
        let state = State { durable, ..State::default() };
        Disk { wal: wal.to_owned(), planted, state: Mutex::new(state), ended: Condvar::new() }
    }

    /// Waits, in real time, until the WAL has made all flushes that were started, and settles when they count.
    pub fn settle(&self, mut latency: impl FnMut() -> u64, now: u64) {
        let mut state = self.state.lock();
        while state.made < state.started {
            self.ended.wait(&mut state);
        }
        while let Some(ended) = state.ended.pop_front() {
            let after = state.pending.back().map_or(0, |last| last.at);
            let at = (now + latency()).max(after);
            state.pending.push_back(Pending { at, ended });
        }
    }

    /// Completes the flushes that are due.
    pub fn complete(&self, now: u64) {
        loop {
            let due = {
                let mut state = self.state.lock();
                if state.pending.front().is_none_or(|next| next.at > now) {
                    return;
                }
                let Some(Pending { ended, .. }) = state.pending.pop_front() else { return };
                if self.planted != Planted::LyingFsync {
                    state.durable = ended.lengths.clone();
                }
                ended.end
            };
            // It may start the next flush.
            due.complete();
        }
    }

    pub fn durable(&self) -> Lengths {
        self.state.lock().durable.clone()
    }

    /// Forgets the flushes that nobody will hear of.
    pub fn abandon(&self) {
        let (pending, ended) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.pending), std::mem::take(&mut state.ended))
        };
        drop((pending, ended));
    }

    /// Writes what a crash leaves of the log to `to`. Says what became of it.
    ///
    /// # Errors
    /// The real filesystem failed.
    pub fn crash(&self, to: &Path, crash: Crash, rng: &mut StdRng) -> io::Result<String> {
        let durable = self.state.lock().durable.clone();
        let mut story = Vec::new();
        fs::create_dir_all(to)?;
        for (name, length) in lengths(&self.wal)? {
            let synced = durable.get(&name).copied();
            let bytes = fs::read(self.wal.join(&name))?;
            if synced != Some(length) && name.ends_with(".wal") && crash == Crash::Kill {
                story.push(format!("{name}: {} of {length} bytes synced", synced.unwrap_or(0)));
            }
            if crash == Crash::Kill || synced == Some(length) {
                fs::write(to.join(&name), bytes)?;
                continue;
            }
            let (left, how) = match crash {
                Crash::WorstPowerLoss | Crash::Wipe => {
                    (bytes[..synced.unwrap_or(0) as usize].to_vec(), "the rest lost".to_owned())
                }
                _ => tear(&bytes, synced.unwrap_or(0) as usize, rng),
            };
            story.push(format!("{name}: {} of {length} bytes synced, {how}", synced.unwrap_or(0)));
            // A file of which nothing was synced may be gone with its name.
            if synced.is_some() || !left.is_empty() {
                fs::write(to.join(&name), left)?;
            }
        }
        Ok(story.join("; "))
    }
}

/// The synced beginning of a file and what a power loss leaves of the rest.
fn tear(bytes: &[u8], synced: usize, rng: &mut StdRng) -> (Vec<u8>, String) {
    let synced = synced.min(bytes.len());
    match rng.random_range(0..4) {
        0 => (bytes[..synced].to_vec(), "the rest lost".to_owned()),
        1 => {
            let cut = rng.random_range(synced..=bytes.len());
            (bytes[..cut].to_vec(), format!("cut at {cut}"))
        }
        2 => (bytes.to_vec(), "all there".to_owned()),
        _ => {
            // Sectors reach the disk in any order; those that did not are a hole, or what was there before: zeros.
            let end = match rng.random_bool(0.5) {
                true => bytes.len(),
                false => rng.random_range(synced..=bytes.len()),
            };
            let mut left = bytes[..end].to_vec();
            let mut lost = Vec::new();
            for sector in (synced / SECTOR_BYTES)..end.div_ceil(SECTOR_BYTES) {
                if rng.random_bool(0.5) {
                    let from = (sector * SECTOR_BYTES).max(synced);
                    left[from..((sector + 1) * SECTOR_BYTES).min(end)].fill(0);
                    lost.push(sector);
                }
            }
            (left, format!("to {end}, without sectors {lost:?}"))
        }
    }
}
