//! Files that share slices, made and removed on two mounts while leaders are killed: every copy is what its source was, and when all
//! files are gone, so are all objects.

use crate::one_at_a_time;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::files::object_count;
use holdfast_tests::mount::Mount;
use holdfast_tests::process;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const LEADER_KILLS: usize = 3;

fn content(round: usize) -> Vec<u8> {
    (0..300_000).map(|at| (at * 13 + round * 7 + at / 255) as u8).collect()
}

/// In pieces that are aligned to nothing.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let (source, target) = (File::open(from)?, File::create(to)?);
    let (mut at, mut to_at) = (0, 0);
    loop {
        let (source, target) = (source.as_raw_fd(), target.as_raw_fd());
        // SAFETY: open descriptors, and two offsets that live longer than the call.
        match unsafe { libc::copy_file_range(source, &mut at, target, &mut to_at, 77_777, 0) } {
            0 => return Ok(()),
            -1 => return Err(std::io::Error::last_os_error()),
            _ => {}
        }
    }
}

/// Writes here, copies there, changes the source, checks the copy here, and removes the files of two rounds ago.
fn round(here: &Path, there: &Path, number: usize) -> std::io::Result<()> {
    let (a, b, c) = (format!("a{number}"), format!("b{number}"), format!("c{number}"));
    let content = content(number);
    fs::write(here.join(&a), &content)?;
    copy(&there.join(&a), &there.join(&b))?;
    copy(&here.join(&b), &here.join(&c))?;
    File::options().write(true).open(there.join(&a))?.write_all_at(&[0; 100_000], 50_000)?;
    File::options().write(true).open(here.join(&b))?.set_len(1000)?;
    assert!(fs::read(there.join(&c))? == content, "the copy of a copy in round {number}");
    if number >= 2 {
        for name in ["a", "b", "c"] {
            fs::remove_file(here.join(format!("{name}{}", number - 2)))?;
        }
    }
    Ok(())
}

fn work(here: PathBuf, there: PathBuf, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> usize {
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        round(&here, &there, number).unwrap_or_else(|error| panic!("round {number}: {error}"));
        number += 1;
        done.store(number, Ordering::Relaxed);
    }
    number
}

/// No file, no orphan, and no slice that waits for its deletion.
fn is_empty(cluster: &Cluster, meta: &str) -> bool {
    let status = cluster.holdfast(&["status", meta]).ok("holdfast status").stdout;
    let zero = |what: &str| status.contains(&format!("\"{what}\": 0"));
    zero("used_bytes") && zero("orphans") && zero("deleted_slices")
}

#[test]
fn copies_survive_leader_kills_and_leave_nothing_behind() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("clones");
    let bucket = cluster.bucket("clones");
    let (one, two) = (Mount::start(&meta), Mount::start(&meta));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (here, there) = (one.dir.clone(), two.dir.clone());
    let worker = process::apart({
        let (stop, done) = (stop.clone(), done.clone());
        move || work(here, there, stop, done)
    });
    let progress = |more: usize| {
        let target = done.load(Ordering::Relaxed) + more;
        let reached = || (worker.is_finished() || done.load(Ordering::Relaxed) >= target).then_some(());
        process::wait_for("copies to go on", reached);
    };
    progress(5);
    for _ in 0..LEADER_KILLS {
        let leader = cluster.leader();
        cluster.kill(leader);
        progress(10);
        cluster.bring_back(&[leader]);
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = worker.join().expect("no copy failed");
    assert!(object_count(&bucket) > 0);
    for entry in fs::read_dir(&two.dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    process::wait_for("all objects to go", || (object_count(&bucket) == 0).then_some(()));
    process::wait_for("metadata to forget them", || is_empty(&cluster, &meta).then_some(()));
    process::report(&format!("{rounds} rounds of copies, nothing left behind"));
}
