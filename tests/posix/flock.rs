//! flock(2), among processes of one mount and of two. Each party is a thread with descriptors of its own.

use holdfast_tests::locker::{Holder, Kind, Locker, file, flock, open, three};
use libc::{LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN};

const TRY_EX: i32 = LOCK_EX | LOCK_NB;
const TRY_SH: i32 = LOCK_SH | LOCK_NB;
const HELD: Result<(), i32> = Err(libc::EWOULDBLOCK);

#[test]
fn an_exclusive_lock_keeps_everybody_else_out() {
    let [one, near, far] = three();
    assert_eq!(one.flock(LOCK_EX), Ok(()));
    for other in [&near, &far] {
        assert_eq!((other.flock(TRY_EX), other.flock(TRY_SH)), (HELD, HELD));
    }
    assert_eq!(one.flock(LOCK_UN), Ok(()));
    assert_eq!(far.flock(TRY_EX), Ok(()));
    assert_eq!((one.flock(TRY_SH), near.flock(TRY_SH)), (HELD, HELD));
}

#[test]
fn shared_locks_go_together() {
    let parties = three();
    for party in &parties {
        assert_eq!(party.flock(TRY_SH), Ok(()));
    }
    let [one, near, far] = parties;
    assert_eq!(far.flock(TRY_EX), HELD);
    // The failed conversion has cost it its share, as on Linux.
    assert_eq!((one.flock(LOCK_UN), near.flock(TRY_EX)), (Ok(()), Ok(())));
    assert_eq!(far.flock(TRY_SH), HELD);
    assert_eq!((near.flock(LOCK_SH), far.flock(TRY_SH)), (Ok(()), Ok(())));
}

#[test]
fn a_lock_belongs_to_the_open_file_and_ends_with_its_last_descriptor() {
    let [one, near, far] = three();
    let (path, _) = file();
    one.run(move |files| {
        flock(&files[0], LOCK_EX).unwrap();
        // The same process, another open of another file, and a duplicate of the first.
        files.push(open(&path));
        files.push(files[0].try_clone().unwrap());
        assert_eq!(flock(&files[2], TRY_EX), Ok(()), "a duplicate has the lock already");
        drop(files.remove(0));
    });
    assert_eq!((near.flock(TRY_SH), far.flock(TRY_SH)), (HELD, HELD), "a duplicate is left");
    one.run(Vec::clear);
    // On the same mount at once, as on a local filesystem.
    assert_eq!(near.flock(TRY_EX), Ok(()));
    near.run(Vec::clear);
    assert_eq!(far.flock(LOCK_EX), Ok(()));
}

#[test]
fn two_opens_of_one_process_exclude_each_other() {
    let (path, _) = file();
    let one = Locker::new(&[&path, &path]);
    one.run(|files| {
        assert_eq!(flock(&files[0], LOCK_EX), Ok(()));
        assert_eq!(flock(&files[1], TRY_SH), HELD);
        drop(files.remove(0));
        assert_eq!(flock(&files[0], TRY_EX), Ok(()), "a close is over when close(2) is");
    });
}

#[test]
fn who_waits_gets_it_when_it_is_free() {
    let [one, near, far] = three();
    one.flock(LOCK_EX).unwrap();
    let first = far.start(|files| flock(&files[0], LOCK_SH));
    far.wait_until_blocked();
    let second = near.start(|files| flock(&files[0], LOCK_EX));
    near.wait_until_blocked();
    assert!(first.try_recv().is_err() && second.try_recv().is_err());
    one.flock(LOCK_UN).unwrap();
    assert_eq!(first.recv().unwrap(), Ok(()));
    assert!(second.try_recv().is_err());
    far.run(Vec::clear);
    assert_eq!(second.recv().unwrap(), Ok(()));
}

#[test]
fn a_signal_ends_a_wait_and_leaves_nothing_behind() {
    let [one, near, far] = three();
    one.flock(LOCK_EX).unwrap();
    for waiter in [&near, &far] {
        let wait = waiter.start(|files| flock(&files[0], LOCK_EX));
        waiter.wait_until_blocked();
        waiter.interrupt();
        assert_eq!(wait.recv().unwrap(), Err(libc::EINTR));
    }
    one.flock(LOCK_UN).unwrap();
    assert_eq!(far.flock(TRY_EX), Ok(()));
}

#[test]
fn processes_are_killed_while_they_hold_and_while_they_wait() {
    let (here, there) = file();
    for kind in [Kind::Flock, Kind::Posix] {
        let mut holder = Holder::start(&here, kind);
        holder.wait_until_locked();
        let waiter = Holder::start(&there, kind);
        waiter.wait_until_blocked();
        assert_eq!(waiter.end(libc::SIGKILL), Some(libc::SIGKILL), "{kind:?}");
        let waiter = Holder::start(&here, kind);
        waiter.wait_until_blocked();
        assert_eq!(waiter.end(libc::SIGINT), Some(libc::SIGINT), "{kind:?}");
        let mut next = Holder::start(&there, kind);
        next.wait_until_blocked();
        assert_eq!(holder.end(libc::SIGKILL), Some(libc::SIGKILL), "{kind:?}");
        next.wait_until_locked();
        assert_eq!(next.end(libc::SIGTERM), Some(libc::SIGTERM), "{kind:?}");
    }
}

#[test]
fn a_file_that_is_open_for_reading_or_removed_can_be_locked() {
    let (here, there) = file();
    let [one, other] = [&here, &there].map(|path| Locker::new(&[path]));
    let path = here.clone();
    one.run(move |files| files.insert(0, std::fs::File::open(path).unwrap()));
    assert_eq!((one.flock(LOCK_EX), other.flock(TRY_EX)), (Ok(()), HELD));
    std::fs::remove_file(&there).unwrap();
    assert_eq!((other.flock(TRY_EX), one.flock(LOCK_UN), other.flock(TRY_EX)), (HELD, Ok(()), Ok(())));
}

#[test]
fn it_does_not_see_locks_of_fcntl() {
    let [one, near, far] = three();
    one.flock(LOCK_EX).unwrap();
    for other in [&near, &far] {
        assert_eq!(other.set(libc::F_WRLCK, (0, 0)), Ok(()), "all bytes, as flock");
        assert_eq!((one.set(libc::F_RDLCK, (5, 1)), other.flock(TRY_SH)), (Err(libc::EAGAIN), HELD));
        assert_eq!(other.set(libc::F_UNLCK, (0, 0)), Ok(()));
    }
    assert_eq!(far.flock(TRY_SH), HELD, "unlocking bytes is no LOCK_UN");
}
