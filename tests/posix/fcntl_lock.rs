//! Byte ranges of fcntl(2), of processes and of open file descriptions, on one mount and on two. A party is a thread with descriptors of
//! its own, which the kernel takes for a process.

use holdfast_tests::locker::{Locker, file, get, open, set, three};
use libc::{F_GETLK, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_RDLCK, F_SETLK, F_UNLCK, F_WRLCK};
use std::path::Path;

const HELD: Result<(), i32> = Err(libc::EAGAIN);

#[test]
fn ranges_exclude_others_where_they_overlap() {
    let [one, near, far] = three();
    assert_eq!(one.set(F_WRLCK, (10, 10)), Ok(()));
    for other in [&near, &far] {
        assert_eq!((other.set(F_RDLCK, (0, 11)), other.set(F_RDLCK, (19, 1))), (HELD, HELD));
        assert_eq!((other.set(F_WRLCK, (0, 10)), other.set(F_WRLCK, (20, 0))), (Ok(()), Ok(())));
        assert_eq!(other.set(F_UNLCK, (0, 0)), Ok(()));
    }
}

#[test]
fn ranges_are_split_joined_and_changed() {
    let [one, near, far] = three();
    assert_eq!((one.set(F_WRLCK, (0, 0)), one.set(F_UNLCK, (100, 50))), (Ok(()), Ok(())));
    assert_eq!(
        (far.set(F_WRLCK, (100, 50)), far.set(F_RDLCK, (99, 1)), far.set(F_RDLCK, (150, 1))),
        (Ok(()), HELD, HELD)
    );
    // The lower part is given to readers, which keep it from becoming exclusive again.
    assert_eq!((one.set(F_RDLCK, (0, 100)), near.set(F_RDLCK, (50, 50))), (Ok(()), Ok(())));
    assert_eq!((one.set(F_WRLCK, (0, 50)), one.set(F_WRLCK, (0, 51))), (Ok(()), HELD));
    assert_eq!(far.set(F_RDLCK, (49, 1)), HELD);
}

#[test]
fn getlk_says_who_is_in_the_way() {
    let [one, near, far] = three();
    one.set(F_RDLCK, (10, 10)).unwrap();
    let ask = |party: &Locker, mode, bytes| party.run(move |files| get(&files[0], F_GETLK, mode, bytes));
    let own = std::process::id() as i32;
    assert_eq!(ask(&near, F_WRLCK, (0, 0)), Some((F_RDLCK, (10, 10), own)));
    // A process of another client has no number here.
    assert_eq!(ask(&far, F_WRLCK, (19, 100)), Some((F_RDLCK, (10, 10), 0)));
    assert_eq!(
        (ask(&near, F_RDLCK, (0, 0)), ask(&far, F_WRLCK, (20, 0)), ask(&one, F_WRLCK, (0, 0))),
        (None, None, None)
    );
    one.set(F_WRLCK, (0, 0)).unwrap();
    assert_eq!(ask(&far, F_RDLCK, (7, 1)), Some((F_WRLCK, (0, 0), 0)));
}

#[test]
fn any_close_of_the_file_ends_all_ranges_of_the_process() {
    let (here, there) = file();
    let (one, far) = (Locker::new(&[&here, &here]), Locker::new(&[&there]));
    one.run(|files| set(&files[0], F_SETLK, F_WRLCK, (0, 10)).and(set(&files[1], F_SETLK, F_WRLCK, (20, 10)))).unwrap();
    let (path, other) = (here.clone(), here.with_file_name("g"));
    std::fs::write(&other, b"").unwrap();
    one.run(move |files| {
        files.push(open(&other));
        set(&files[2], F_SETLK, F_WRLCK, (0, 0)).unwrap();
        drop(std::fs::File::open(path).unwrap());
    });
    assert_eq!(far.set(F_WRLCK, (0, 0)), Ok(()), "a descriptor for reading, which had locked nothing");
    let other = there.with_file_name("g");
    let far = Locker::new(&[&other]);
    assert_eq!(far.set(F_RDLCK, (0, 1)), HELD, "another file's locks stay");
}

#[test]
fn locks_of_an_open_file_description_end_with_its_last_descriptor() {
    let (here, there) = file();
    let (one, far) = (Locker::new(&[&here, &here]), Locker::new(&[&there]));
    let try_far = |far: &Locker| far.run(|files| set(&files[0], F_OFD_SETLK, F_WRLCK, (5, 1)));
    let path = here.clone();
    one.run(move |files| {
        assert_eq!(set(&files[0], F_OFD_SETLK, F_WRLCK, (0, 10)), Ok(()));
        assert_eq!(set(&files[1], F_OFD_SETLK, F_RDLCK, (9, 1)), HELD, "the same process, another description");
        assert_eq!(set(&files[0], F_SETLK, F_WRLCK, (5, 1)), HELD, "nor by the process itself");
        let held = get(&files[1], F_OFD_GETLK, F_WRLCK, (0, 0)).map(|(mode, bytes, _)| (mode, bytes));
        assert_eq!(held, Some((F_WRLCK, (0, 10))));
        drop(open(&path));
        files.push(files[0].try_clone().unwrap());
        drop(files.remove(0));
    });
    assert_eq!(try_far(&far), HELD, "a duplicate is left");
    one.run(|files| {
        drop(files.pop());
        assert_eq!(set(&files[0], F_OFD_SETLK, F_WRLCK, (0, 10)), Ok(()), "free when close(2) returns");
        assert_eq!(set(&files[0], F_OFD_SETLK, F_UNLCK, (0, 0)), Ok(()));
    });
    assert_eq!(try_far(&far), Ok(()));
}

#[test]
fn a_waiting_process_is_given_what_it_asked_for() {
    let [one, near, far] = three();
    one.set(F_WRLCK, (0, 100)).unwrap();
    let (first, second) = (near.wait(F_WRLCK, (0, 10)), far.wait(F_RDLCK, (50, 100)));
    near.wait_until_blocked();
    far.wait_until_blocked();
    one.set(F_UNLCK, (0, 50)).unwrap();
    assert_eq!(first.recv().unwrap(), Ok(()));
    assert!(second.try_recv().is_err());
    // A downgrade is enough for a reader.
    one.set(F_RDLCK, (50, 50)).unwrap();
    assert_eq!(second.recv().unwrap(), Ok(()));
}

#[test]
fn a_signal_ends_a_wait() {
    let [one, near, far] = three();
    one.set(F_WRLCK, (0, 0)).unwrap();
    for waiter in [&near, &far] {
        let wait = waiter.wait(F_WRLCK, (3, 1));
        waiter.wait_until_blocked();
        waiter.interrupt();
        assert_eq!(wait.recv().unwrap(), Err(libc::EINTR));
    }
    one.set(F_UNLCK, (0, 0)).unwrap();
    assert_eq!(far.set(F_WRLCK, (0, 0)), Ok(()));
}

/// Each party holds a byte and waits for the next one's; the last would close the circle.
fn circle(parties: &[Locker]) -> Result<(), i32> {
    for (at, party) in parties.iter().enumerate() {
        party.set(F_WRLCK, (at as i64, 1)).unwrap();
    }
    let (last, others) = parties.split_last().unwrap();
    let waits: Vec<_> = (1..).zip(others).map(|(next, party)| party.wait(F_WRLCK, (next, 1))).collect();
    others.iter().for_each(Locker::wait_until_blocked);
    let refused = last.wait(F_WRLCK, (0, 1)).recv().unwrap();
    // Who was refused goes away, and so do the others, one after the other.
    last.set(F_UNLCK, (0, 0)).unwrap();
    for (party, wait) in others.iter().zip(waits).rev() {
        assert_eq!(wait.recv().unwrap(), Ok(()));
        party.set(F_UNLCK, (0, 0)).unwrap();
    }
    refused
}

#[test]
fn a_circle_of_waits_is_edeadlk_on_one_mount_and_on_two() {
    let (here, there) = file();
    let parties = |paths: &[&Path]| paths.iter().map(|path| Locker::new(&[path])).collect::<Vec<_>>();
    for paths in [vec![&*here, &here], vec![&*here, &there], vec![&*there, &here, &there, &here]] {
        assert_eq!(circle(&parties(&paths)), Err(libc::EDEADLK), "{paths:?}");
    }
}

#[test]
fn open_file_descriptions_wait_in_circles_until_they_are_interrupted() {
    let (here, there) = file();
    let (one, two) = (Locker::new(&[&here]), Locker::new(&[&there]));
    let wait = |party: &Locker, byte| party.start(move |files| set(&files[0], F_OFD_SETLKW, F_WRLCK, (byte, 1)));
    assert_eq!((wait(&one, 0).recv().unwrap(), wait(&two, 1).recv().unwrap()), (Ok(()), Ok(())));
    let (first, second) = (wait(&one, 1), wait(&two, 0));
    one.wait_until_blocked();
    two.wait_until_blocked();
    assert!(first.try_recv().is_err() && second.try_recv().is_err(), "Linux looks for no deadlock here");
    one.interrupt();
    assert_eq!(first.recv().unwrap(), Err(libc::EINTR));
    one.run(Vec::clear);
    assert_eq!(second.recv().unwrap(), Ok(()));
}
