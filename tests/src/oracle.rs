//! A load of writes whose every acknowledgement is noted outside the filesystem under test, and the check afterwards that
//! nothing acknowledged is missing or different. Called by the failover and restart tests.

use crate::process;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the filesystem acknowledged.
#[derive(Clone, Debug)]
struct Acked {
    /// Relative to the load's directory.
    name: String,
    content: Vec<u8>,
    removed: bool,
}

/// What one worker saw.
#[derive(Debug, Default)]
struct Seen {
    acked: Vec<Acked>,
    errors: Vec<String>,
    /// When each acknowledgement came.
    times: Vec<Instant>,
}

/// Running workers.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    seen: Vec<Arc<Mutex<Seen>>>,
    dir: PathBuf,
}

/// What is left to check once the load has ended.
#[derive(Debug)]
pub struct Evidence {
    seen: Vec<Seen>,
}

impl Load {
    /// Starts `worker_count` threads, each in its own directory under `dir`.
    pub fn start(dir: &Path, worker_count: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Load { stop, workers: Vec::new(), seen: Vec::new(), dir: dir.to_path_buf() };
        for worker in 0..worker_count {
            let seen = Arc::new(Mutex::new(Seen::default()));
            let (stop, noted, home) = (load.stop.clone(), seen.clone(), dir.join(format!("w{worker}")));
            std::fs::create_dir(&home).expect("a worker's directory");
            load.workers.push(process::apart(move || work(worker, &home, &stop, &noted)));
            load.seen.push(seen);
        }
        load
    }

    pub fn acked_count(&self) -> usize {
        self.seen.iter().map(|seen| seen.lock().unwrap().times.len()).sum()
    }

    /// Waits until this many further operations were acknowledged: the load goes on.
    pub fn wait_progress(&self, more: usize) {
        let target = self.acked_count() + more;
        crate::process::wait_for("the load to go on", || (self.acked_count() >= target).then_some(()));
    }

    /// The longest time without an acknowledgement for any worker since `since`.
    pub fn longest_pause(&self, since: Instant) -> Duration {
        let pause = |seen: &Arc<Mutex<Seen>>| {
            let seen = seen.lock().unwrap();
            let first = seen.times.partition_point(|&at| at < since).saturating_sub(1);
            seen.times[first..].windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
        };
        self.seen.iter().map(pause).max().unwrap_or_default()
    }

    /// Lets the workers finish what they are at, and ends them.
    pub fn stop(self) -> Evidence {
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.join().expect("a worker of the load");
        }
        let take = |seen: Arc<Mutex<Seen>>| std::mem::take(&mut *seen.lock().unwrap());
        let _ = self.dir;
        Evidence { seen: self.seen.into_iter().map(take).collect() }
    }
}

impl Evidence {
    pub fn acked_count(&self) -> usize {
        self.seen.iter().map(|seen| seen.acked.len()).sum()
    }

    /// Panics if an application saw an error.
    pub fn no_errors(&self) {
        let errors: Vec<_> = self.seen.iter().flat_map(|seen| &seen.errors).collect();
        assert!(errors.is_empty(), "{} errors reached the application, first: {:?}", errors.len(), errors[0]);
    }

    /// Panics if anything that was acknowledged is missing or different below `dir`.
    pub fn verify(&self, dir: &Path) {
        assert!(self.acked_count() > 0, "nothing was acknowledged: this run proves nothing");
        for (worker, seen) in self.seen.iter().enumerate() {
            for acked in &seen.acked {
                let path = dir.join(format!("w{worker}")).join(&acked.name);
                match (std::fs::read(&path), acked.removed) {
                    (Ok(found), false) => assert!(found == acked.content, "{} differs", path.display()),
                    (Err(error), true) if error.raw_os_error() == Some(libc::ENOENT) => {}
                    (Ok(_), true) => panic!("{} is back after an acknowledged unlink", path.display()),
                    (Err(error), _) => panic!("{}: {error}", path.display()),
                }
            }
        }
    }
}

/// Create, write, fsync, close, rename, sometimes unlink: for ever. An error ends the worker's attempt, not the worker.
fn work(worker: usize, home: &Path, stop: &AtomicBool, noted: &Mutex<Seen>) {
    let mut round = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let content = content_of(worker, round);
        let (name, temporary) = (format!("f{round}"), home.join(format!("t{round}")));
        if let Err(error) = write_file(&temporary, &content) {
            note_error(noted, format!("write {}: {error}", temporary.display()));
            continue;
        }
        if let Err(error) = std::fs::rename(&temporary, home.join(&name)) {
            note_error(noted, format!("rename to {name}: {error}"));
            continue;
        }
        note(noted, Acked { name: name.clone(), content, removed: false });
        if round.is_multiple_of(5) {
            match std::fs::remove_file(home.join(&name)) {
                Ok(()) => noted.lock().unwrap().acked.last_mut().expect("just noted").removed = true,
                Err(error) => {
                    // Unknown whether it happened: neither state may be asserted.
                    noted.lock().unwrap().acked.pop();
                    note_error(noted, format!("unlink {name}: {error}"));
                }
            }
        }
    }
}

fn content_of(worker: usize, round: u64) -> Vec<u8> {
    let line = format!("worker {worker} round {round}\n");
    line.repeat(1 + (round % 400) as usize).into_bytes()
}

fn write_file(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn note(noted: &Mutex<Seen>, acked: Acked) {
    let mut seen = noted.lock().unwrap();
    seen.acked.push(acked);
    seen.times.push(Instant::now());
}

fn note_error(noted: &Mutex<Seen>, error: String) {
    noted.lock().unwrap().errors.push(error);
    // A filesystem that is gone answers at once; do not fill the memory with its answers.
    std::thread::sleep(Duration::from_millis(50));
}
