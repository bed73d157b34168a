//! Locks under faults: they are state of the cluster, so a leader that dies takes none along, and who waits is served by the next.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::locker::{Locker, flock};
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{apart, report, wait_for};
use holdfast_tests::shared;
use libc::{EAGAIN, EIO, F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_NB, LOCK_UN};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LEADER_KILLS: usize = 3;

#[test]
fn a_killed_leader_takes_no_lock_along_and_waiters_are_served_by_the_next() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("locks");
    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    std::fs::write(here.path("f"), b"x").unwrap();
    for round in 0..LEADER_KILLS {
        let (holder, waiter) = (Locker::new(&[&here.path("f")]), Locker::new(&[&there.path("f")]));
        let other = Locker::new(&[&there.path("f")]);
        assert_eq!((holder.flock(LOCK_EX), holder.set(F_WRLCK, (0, 10))), (Ok(()), Ok(())));
        let (of_file, of_bytes) = (waiter.start(|files| flock(&files[0], LOCK_EX)), other.wait(F_RDLCK, (5, 1)));
        waiter.wait_until_blocked();
        other.wait_until_blocked();
        let leader = cluster.leader();
        cluster.kill(leader);
        // What was held stays held.
        let third = Locker::new(&[&there.path("f")]);
        assert_eq!((third.flock(LOCK_EX | LOCK_NB), third.set(F_RDLCK, (0, 1))), (Err(EAGAIN), Err(EAGAIN)));
        assert!(of_file.try_recv().is_err() && of_bytes.try_recv().is_err(), "round {round}");
        assert_eq!((holder.flock(LOCK_UN), holder.set(F_UNLCK, (0, 0))), (Ok(()), Ok(())));
        assert_eq!((of_file.recv().unwrap(), of_bytes.recv().unwrap()), (Ok(()), Ok(())), "round {round}");
        cluster.bring_back(&[leader]);
    }
}

/// flock(2) gives up after a minute in which nobody answered; what it asked for stands in the leader's log all the same.
#[test]
fn a_lock_that_nobody_waits_for_any_more_goes_to_somebody_else() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("locks");
    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    std::fs::write(here.path("f"), b"x").unwrap();
    let (holder, waiter) = (Locker::new(&[&here.path("f")]), Locker::new(&[&there.path("f")]));
    assert_eq!(holder.flock(LOCK_EX), Ok(()));
    let leader = cluster.leader();
    let followers: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    followers.iter().for_each(|id| cluster.kill(*id));
    assert_eq!(waiter.flock(LOCK_EX), Err(EIO));
    drop(waiter);
    cluster.bring_back(&followers);
    assert_eq!(holder.flock(LOCK_UN), Ok(()));
    let next = Locker::new(&[&here.path("f")]);
    wait_for("the lock", || next.flock(LOCK_EX | LOCK_NB).ok());
}

#[test]
fn a_grant_reaches_the_other_mount_by_a_push() {
    let name = shared::fresh_name();
    let (here, there) = (shared::mount().path(&name).join("f"), shared::second_mount().path(&name).join("f"));
    std::fs::write(&here, b"x").unwrap();
    let (one, two) = (Locker::new(&[&here]), Locker::new(&[&there]));
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let (holder, waiter) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        holder.flock(LOCK_EX).unwrap();
        let wait = waiter.start(|files| (flock(&files[0], LOCK_EX), Instant::now()));
        waiter.wait_until_blocked();
        let began = Instant::now();
        holder.flock(LOCK_UN).unwrap();
        let (locked, at) = wait.recv().unwrap();
        assert_eq!(locked, Ok(()));
        longest = longest.max(at.saturating_duration_since(began));
        waiter.flock(LOCK_UN).unwrap();
    }
    report(&format!("from LOCK_UN on one mount to flock(2) on the other, at most {} ms", longest.as_millis()));
}

/// Adds `count` lines to a log under flock, by one descriptor or by a new one each time.
fn append(path: &Path, writer: usize, count: usize, keep_open: bool, done: &AtomicUsize) {
    let open = || File::options().append(true).create(true).open(path).unwrap();
    let kept = keep_open.then(open);
    for n in 0..count {
        let fresh = (!keep_open).then(open);
        let mut file = kept.as_ref().or(fresh.as_ref()).unwrap();
        flock(file, LOCK_EX).unwrap();
        file.write_all(format!("{writer} {n} {}\n", "x".repeat(n * 37 % 5000)).as_bytes()).unwrap();
        if keep_open {
            flock(file, LOCK_UN).unwrap();
        }
        drop(fresh);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// All lines are there, whole, and each writer's are in order.
fn verify(log: &Path, writers: usize, count: usize) {
    let text = std::fs::read_to_string(log).unwrap();
    let mut next = vec![0; writers];
    for line in text.lines() {
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<usize>().ok()).unwrap_or(usize::MAX);
        let (writer, n) = (number(), number());
        assert_eq!(next.get(writer), Some(&n), "{:?}", &line[..line.len().min(40)]);
        assert_eq!(words.next().map(str::len), Some(n * 37 % 5000), "a torn line of {writer}");
        next[writer] += 1;
    }
    assert_eq!(next, vec![count; writers]);
}

#[test]
fn two_mounts_append_to_one_log_under_flock_and_nothing_is_lost() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { no_sync: true, ..Shape::default() });
    let meta = cluster.format("log");
    let mounts = [Mount::start(&meta), Mount::start(&meta)];
    let done = Arc::new(AtomicUsize::new(0));
    let count = 30;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (path, done) = (mounts[writer % 2].path("log"), done.clone());
            apart(move || append(&path, writer, count, writer < 2, &done))
        })
        .collect();
    wait_for("half of the lines", || (done.load(Ordering::Relaxed) > 2 * count).then_some(()));
    let leader = cluster.leader();
    cluster.kill(leader);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    cluster.start_node(leader);
    mounts.iter().for_each(|mount| verify(&mount.path("log"), 4, count));
}

/// Adds one to a number in a file, by descriptors that stay open: who locks sees what the others wrote.
fn count_up(path: PathBuf, rounds: usize) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    for _ in 0..rounds {
        holdfast_tests::locker::set(&file, libc::F_SETLKW, F_WRLCK, (0, 8)).unwrap();
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut text).unwrap();
        let next = text.trim().parse::<u64>().unwrap() + 1;
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(format!("{next:08}").as_bytes()).unwrap();
        holdfast_tests::locker::set(&file, libc::F_SETLK, F_UNLCK, (0, 8)).unwrap();
    }
}

#[test]
fn who_locks_reads_what_others_wrote_under_the_lock() {
    let name = shared::fresh_name();
    let dirs = [shared::mount().path(&name), shared::second_mount().path(&name)];
    std::fs::write(dirs[0].join("n"), b"00000000").unwrap();
    let counters: Vec<_> = (0..4)
        .map(|n| {
            let path = dirs[n % 2].join("n");
            apart(move || count_up(path, 40))
        })
        .collect();
    counters.into_iter().for_each(|counter| counter.join().unwrap());
    assert_eq!(std::fs::read_to_string(dirs[0].join("n")).unwrap(), "00000160");
}
