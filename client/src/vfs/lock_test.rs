//! Unit tests of locks in Vfs over a scripted MetaApi: what they ask of the cluster, and what they do not.

use super::locks::LockKind;
use super::ops::set_lock::LockRequest;
use super::test_meta::{Call, FakeMeta, Said, file_attr, say, say_attr, vfs};
use super::*;
use holdfast_proto::limits::LOCK_LAST_BYTE;
use holdfast_proto::pb::{mutation::Op as WireOp, push::Event, query::Ask as WireAsk};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

const INO: u64 = 7;
const OWNER: u64 = 99;

/// Locks are granted, waits go on for as long as `waiting` says.
fn answer(call: &Call, waiting: bool) -> Said {
    match call {
        Call::Op(WireOp::SetLock(op)) if op.wait != 0 => say(&pb::SetLockReply { granted: false, attr: None }),
        Call::Op(WireOp::SetLock(_)) => say(&pb::SetLockReply { granted: true, attr: Some(file_attr(INO, 0, 1)) }),
        Call::Op(WireOp::DropLocks(_)) => say(&pb::Empty {}),
        Call::Ask(WireAsk::LockWait(_)) => say(&pb::LockWaitReply { waiting }),
        Call::Ask(WireAsk::Open(_) | WireAsk::Getattr(_)) => say_attr(file_attr(INO, 0, 1)),
        other => unreachable!("{other:?}"),
    }
}

/// An open file, and nothing asked so far.
async fn opened(meta: &Arc<FakeMeta>) -> (Arc<Vfs<FakeMeta>>, Fh) {
    let vfs = vfs(meta, VfsConfig::default());
    let fh = vfs.open(Caller::ROOT, INO, Access::of_flags(libc::O_RDWR)).await.expect("opens").fh;
    meta.take_calls();
    (vfs, fh)
}

fn request(fh: Fh, mode: pb::LockMode) -> LockRequest {
    LockRequest { fh, owner: OWNER, kind: LockKind::Range, mode, first: 0, last: LOCK_LAST_BYTE, pid: 1 }
}

fn names(calls: &[Call]) -> Vec<&'static str> {
    let name = |call: &Call| match call {
        Call::Op(op) => holdfast_proto::op::op_name(op),
        Call::Ask(ask) => holdfast_proto::op::ask_name(ask),
    };
    calls.iter().map(name).collect()
}

#[tokio::test]
async fn a_close_asks_only_where_something_may_be_locked() {
    let meta = FakeMeta::new(|call| answer(call, true));
    let (vfs, fh) = opened(&meta).await;
    vfs.close(fh, OWNER).await.expect("closes");
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Unlock), false).await.expect("nothing to unlock");
    assert_eq!(meta.call_count(), 0);
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Shared), false).await.expect("locks");
    vfs.close(fh, OWNER + 1).await.expect("closes");
    assert_eq!(names(&meta.take_calls()), ["set_lock"]);
    vfs.close(fh, OWNER).await.expect("closes");
    vfs.close(fh, OWNER).await.expect("closes");
    vfs.release(fh).await.expect("releases");
    assert_eq!(names(&meta.take_calls()), ["drop_locks"]);
}

#[tokio::test]
async fn a_lock_that_is_unlocked_costs_two_commits_and_its_close_none() {
    let meta = FakeMeta::new(|call| answer(call, true));
    let (vfs, fh) = opened(&meta).await;
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Exclusive), false).await.expect("locks");
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Unlock), false).await.expect("unlocks");
    vfs.release(fh).await.expect("releases");
    assert_eq!(names(&meta.take_calls()), ["set_lock", "set_lock"]);
}

#[tokio::test]
async fn a_refused_lock_leaves_nothing_to_give_up() {
    let meta = FakeMeta::new(|call| match call {
        Call::Op(WireOp::SetLock(_)) => Err(FsErrno::Again.into()),
        other => answer(other, true),
    });
    let (vfs, fh) = opened(&meta).await;
    let refused = vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Shared), false).await;
    assert_eq!(refused, Err(FsErrno::Again.into()));
    vfs.close(fh, OWNER).await.expect("closes");
    vfs.release(fh).await.expect("releases");
    assert_eq!(names(&meta.take_calls()), ["set_lock"]);
}

#[tokio::test]
async fn a_wait_ends_by_a_push_and_without_a_question() {
    let meta = FakeMeta::new(|call| answer(call, true));
    let (vfs, fh) = opened(&meta).await;
    tokio::spawn(pushes::run(vfs.clone()));
    let waiter = vfs.clone();
    let wait =
        tokio::spawn(async move { waiter.set_lock(Caller::ROOT, request(fh, pb::LockMode::Shared), true).await });
    while meta.call_count() == 0 {
        tokio::task::yield_now().await;
    }
    let Some(Call::Op(WireOp::SetLock(op))) = meta.take_calls().pop() else { unreachable!() };
    meta.push.send(pb::Push { event: Some(Event::LockGranted(pb::LockGranted { waits: vec![op.wait] })) }).unwrap();
    wait.await.expect("ends").expect("is granted");
    assert_eq!(names(&meta.take_calls()), ["getattr"]);
}

#[tokio::test]
async fn a_new_stream_makes_a_wait_ask_whether_it_goes_on() {
    let meta = FakeMeta::new(|call| answer(call, false));
    let (vfs, fh) = opened(&meta).await;
    tokio::spawn(pushes::run(vfs.clone()));
    let waiter = vfs.clone();
    let wait =
        tokio::spawn(async move { waiter.set_lock(Caller::ROOT, request(fh, pb::LockMode::Shared), true).await });
    while meta.call_count() == 0 {
        tokio::task::yield_now().await;
    }
    meta.push.send(pb::Push { event: Some(Event::LockGranted(pb::LockGranted::default())) }).unwrap();
    wait.await.expect("ends").expect("was granted unheard");
    assert_eq!(names(&meta.take_calls()), ["set_lock", "lock_wait", "getattr"]);
}

#[tokio::test]
async fn a_lock_that_was_lost_with_its_session_keeps_its_descriptor_from_writing() {
    let meta = FakeMeta::new(|call| answer(call, true));
    let (vfs, fh) = opened(&meta).await;
    tokio::spawn(pushes::run(vfs.clone()));
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Exclusive), false).await.expect("locks");
    let other = vfs.open(Caller::ROOT, INO, Access::of_flags(libc::O_RDWR)).await.expect("opens").fh;
    let waiter = vfs.clone();
    let another = LockRequest { owner: OWNER + 1, ..request(other, pb::LockMode::Shared) };
    let wait = tokio::spawn(async move { waiter.set_lock(Caller::ROOT, another, true).await });
    while names(&meta.take_calls()).last() != Some(&"set_lock") {
        tokio::task::yield_now().await;
    }
    meta.session.store(2, std::sync::atomic::Ordering::Relaxed);
    meta.push.send(pb::Push { event: Some(Event::SessionLost(pb::SessionLost { session: 1 })) }).unwrap();
    assert_eq!(wait.await.expect("ends"), Err(ClientError::SessionLost));
    let eio = Err(FsErrno::Io.into());
    assert_eq!(vfs.write(fh, 0, Bytes::from_static(b"x"), false).await.map(drop), eio);
    assert_eq!(vfs.fsync(fh).await, eio);
    assert_eq!(vfs.fsync(other).await, Ok(()));
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Unlock), false).await.expect("it knows now");
    assert_eq!(vfs.fsync(fh).await, Ok(()));
}

/// The cluster is away for the first of these calls; who waited has closed the file when it is back.
#[tokio::test(start_paused = true)]
async fn a_wait_that_nobody_answered_is_cancelled_by_the_close_however_late() {
    let away = Arc::new(AtomicUsize::new(4));
    let left = away.clone();
    let meta = FakeMeta::new(move |call| match call {
        Call::Op(_) if left.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok() => {
            Err(ClientError::Unavailable("nobody leads".to_owned()))
        }
        Call::Op(WireOp::CancelLock(_)) => say(&pb::CancelLockReply { cancelled: false }),
        other => answer(other, true),
    });
    let (vfs, fh) = opened(&meta).await;
    let asked = vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Exclusive), true).await;
    assert!(matches!(asked, Err(ClientError::Unavailable(_))), "{asked:?}");
    vfs.close(fh, OWNER).await.expect("closes");
    vfs.release(fh).await.expect("releases");
    // The next to lock the file waits until that is done.
    let next = vfs.open(Caller::ROOT, INO, Access::of_flags(libc::O_RDWR)).await.expect("opens").fh;
    vfs.set_lock(Caller::ROOT, request(next, pb::LockMode::Exclusive), false).await.expect("locks");
    let told = names(&meta.take_calls());
    let told: Vec<_> = told.into_iter().filter(|name| name.contains("lock")).collect();
    let tries = ["set_lock", "cancel_lock", "cancel_lock", "cancel_lock"];
    assert_eq!(told, [&tries[..], &["cancel_lock", "drop_locks", "set_lock"]].concat());
    assert_eq!(away.load(Relaxed), 0);
}

#[tokio::test]
async fn an_unlock_cancels_what_nobody_answered_about() {
    let meta = FakeMeta::new(|call| match call {
        Call::Op(WireOp::SetLock(op)) if op.wait != 0 => Err(ClientError::Unavailable("nobody leads".to_owned())),
        Call::Op(WireOp::CancelLock(_)) => say(&pb::CancelLockReply { cancelled: true }),
        other => answer(other, true),
    });
    let (vfs, fh) = opened(&meta).await;
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Exclusive), true).await.expect_err("nobody answers");
    vfs.set_lock(Caller::ROOT, request(fh, pb::LockMode::Unlock), false).await.expect("unlocks");
    vfs.close(fh, OWNER).await.expect("closes");
    assert_eq!(names(&meta.take_calls()), ["set_lock", "cancel_lock", "set_lock"]);
}
