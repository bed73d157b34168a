//! Unit tests of Vfs over a scripted MetaApi: what is asked, in which order, and what is not asked at all.

use super::test_meta::{Call, FakeMeta, Said, file_attr, say, say_attr, vfs};
use super::*;
use holdfast_proto::pb::{DirEntry, mutation::Op as WireOp, query::Ask as WireAsk};
use std::collections::VecDeque;

fn refuse(errno: FsErrno) -> Said {
    Err(errno.into())
}

/// A directory, ino 1, with these entries.
fn directory(entries: Vec<DirEntry>) -> Arc<FakeMeta> {
    FakeMeta::new(move |call| match call {
        Call::Ask(WireAsk::Getattr(_)) => {
            say_attr(pb::Attr { ino: 1, parent: 99, kind: pb::FileKind::Directory as i32, ..pb::Attr::default() })
        }
        Call::Ask(WireAsk::Readdir(ask)) => {
            // Four at a time, and never a part of a group.
            let rest: Vec<_> = entries.iter().filter(|entry| entry.cookie > ask.after).collect();
            let mut count = rest.len().min(4);
            while count < rest.len() && rest[count].cookie == rest[count - 1].cookie {
                count += 1;
            }
            let page = rest[..count].iter().map(|entry| (*entry).clone()).collect();
            say(&pb::ReaddirReply { entries: page, end: count == rest.len() })
        }
        other => unreachable!("{other:?}"),
    })
}

fn entries(cookies: &[u64]) -> Vec<DirEntry> {
    let entry = |(index, cookie): (usize, &u64)| DirEntry {
        name: Bytes::from(format!("n{index}")),
        ino: 100 + index as u64,
        cookie: *cookie,
        ..DirEntry::default()
    };
    cookies.iter().enumerate().map(entry).collect()
}

/// Lists as a kernel does whose buffer takes `room` entries.
async fn list(vfs: &Vfs<FakeMeta>, fh: Fh, mut offset: u64, room: usize) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let (from, mut taken) = (offset, 0);
        let mut fill = |item: &DirItem| {
            if taken == room {
                return true;
            }
            taken += 1;
            offset = item.next;
            names.push(String::from_utf8_lossy(&item.name).into_owned());
            false
        };
        vfs.readdir(Caller::ROOT, fh, from, &mut fill).await.expect("lists");
        if taken == 0 {
            return names;
        }
    }
}

#[tokio::test]
async fn every_entry_is_listed_once_whatever_the_buffer_takes() {
    let cookies = [10, 20, 30, 30, 30, 40, 50, 50, 60, 70, 80];
    let vfs = vfs(&directory(entries(&cookies)), VfsConfig::default());
    for room in 1..15 {
        let names = list(&vfs, vfs.opendir(Caller::ROOT, 1).await.expect("opens"), 0, room).await;
        let expected: Vec<String> =
            [".", ".."].map(String::from).into_iter().chain((0..cookies.len()).map(|n| format!("n{n}"))).collect();
        assert_eq!(names, expected, "room {room}");
    }
}

#[tokio::test]
async fn a_listing_goes_on_from_any_offset_it_ever_gave() {
    let vfs = vfs(&directory(entries(&[10, 20, 30, 40, 50])), VfsConfig::default());
    let fh = vfs.opendir(Caller::ROOT, 1).await.expect("opens");
    assert_eq!(list(&vfs, fh, 0, 3).await.len(), 7);
    assert_eq!(list(&vfs, fh, 30, 3).await, ["n3", "n4"]);
    assert_eq!(list(&vfs, fh, 2, 9).await, ["n0", "n1", "n2", "n3", "n4"]);
    assert_eq!(list(&vfs, fh, 1, 9).await.len(), 6);
    assert_eq!(list(&vfs, fh, 50, 9).await, [""; 0]);
}

#[tokio::test]
async fn a_rewind_asks_the_server_again() {
    let meta = directory(entries(&[10, 20]));
    let vfs = vfs(&meta, VfsConfig::default());
    let fh = vfs.opendir(Caller::ROOT, 1).await.expect("opens");
    list(&vfs, fh, 0, 1).await;
    let first = meta.take_calls().len();
    list(&vfs, fh, 0, 1).await;
    assert_eq!(meta.take_calls().len(), first);
}

#[tokio::test]
async fn dot_dot_of_the_mounts_root_is_the_root_itself() {
    for (root, expected) in [(1, 1), (5, 99)] {
        let vfs = vfs(&directory(Vec::new()), VfsConfig { root, ..VfsConfig::default() });
        let mut inos = Vec::new();
        let mut fill = |item: &DirItem| {
            inos.push(item.ino);
            false
        };
        vfs.readdir(Caller::ROOT, vfs.opendir(Caller::ROOT, 1).await.expect("opens"), 0, &mut fill)
            .await
            .expect("lists");
        assert_eq!(inos, [1, expected]);
    }
}

#[tokio::test]
async fn attributes_that_waited_are_not_given_out() {
    let cookies = entries(&[10, 20, 30]);
    let meta = FakeMeta::new(move |call| match call {
        Call::Ask(WireAsk::Getattr(_)) => say_attr(file_attr(1, 0, 1)),
        Call::Ask(WireAsk::Readdir(ask)) => {
            let with_attr = |entry: &DirEntry| DirEntry { attr: Some(file_attr(entry.ino, 0, 1)), ..entry.clone() };
            let page = cookies.iter().filter(|entry| entry.cookie > ask.after).map(with_attr).collect();
            say(&pb::ReaddirReply { entries: page, end: true })
        }
        other => unreachable!("{other:?}"),
    });
    let vfs = vfs(&meta, VfsConfig { kernel_caches: true, ..VfsConfig::default() });
    assert_eq!(
        list(&vfs, vfs.opendir(Caller::ROOT, 1).await.expect("opens"), 0, 3).await,
        [".", "..", "n0", "n1", "n2"]
    );
    let pages = meta.take_calls().iter().filter(|call| matches!(call, Call::Ask(WireAsk::Readdir(_)))).count();
    assert_eq!(pages, 2, "what did not fit was asked for again");
}

#[tokio::test]
async fn an_open_that_is_refused_is_not_counted() {
    let meta = FakeMeta::new(|_| refuse(FsErrno::Stale));
    let vfs = vfs(&meta, VfsConfig::default());
    assert_eq!(vfs.open(Caller::ROOT, 7, Access::of_flags(libc::O_RDONLY)).await, Err(FsErrno::Stale.into()));
    assert!(!vfs.handles.is_open(7));
}

#[tokio::test]
async fn pages_are_kept_while_nobody_commits() {
    let versions = Mutex::new(VecDeque::from([3, 3, 4]));
    let meta = FakeMeta::new(move |_| say_attr(file_attr(7, 0, versions.lock().pop_front().unwrap_or_default())));
    let vfs = vfs(&meta, VfsConfig::default());
    let mut kept = Vec::new();
    for _ in 0..3 {
        let opened = vfs.open(Caller::ROOT, 7, Access::of_flags(libc::O_RDONLY)).await.expect("opens");
        kept.push(opened.keep_cache);
        vfs.release(opened.fh).await.expect("releases");
    }
    assert_eq!(kept, [false, true, false]);
}

#[tokio::test]
async fn pages_are_not_kept_for_an_open_while_the_kernel_has_yet_to_drop_them_for_another() {
    let meta = FakeMeta::new(|_| say_attr(file_attr(7, 0, 3)));
    let vfs = vfs(&meta, VfsConfig::default());
    let open = || async { vfs.open(Caller::ROOT, 7, Access::of_flags(libc::O_RDONLY)).await.expect("opens") };
    let (first, second) = (open().await, open().await);
    assert!(!first.keep_cache && !second.keep_cache);
    vfs.read(first.fh, 0, 10).await.expect("reads: so the kernel has heard of its open");
    assert!(open().await.keep_cache);
    // What was lost with the session counts no more, though an open from before is used for the first time.
    vfs.handles.forget_session();
    vfs.read(second.fh, 0, 10).await.expect("reads");
    assert!(!open().await.keep_cache);
}

#[tokio::test]
async fn an_orphan_question_is_answered_with_what_is_open_and_the_last_close_releases_it() {
    let meta = FakeMeta::new(|call| match call {
        Call::Op(_) => say(&pb::Empty {}),
        Call::Ask(_) => say_attr(file_attr(7, 0, 1)),
    });
    let vfs = vfs(&meta, VfsConfig::default());
    let pushes = tokio::spawn(pushes::run(vfs.clone()));
    let opened = vfs.open(Caller::ROOT, 7, Access::of_flags(libc::O_RDONLY)).await.expect("opens");
    let ask = |through_index, inos| pb::Push {
        event: Some(pb::push::Event::Orphaned(pb::OrphanQuestion { through_index, inos })),
    };
    meta.push.send(ask(10, vec![6, 7])).expect("pushes");
    meta.push.send(ask(11, vec![8])).expect("pushes");
    settle(&meta, 2).await;
    let hold = pb::HoldOp { through_index: 11, inos: vec![7] };
    assert_eq!(meta.take_calls()[1..], [Call::Op(WireOp::Hold(hold))], "two questions, one answer");
    vfs.release(opened.fh).await.expect("releases");
    settle(&meta, 1).await;
    assert_eq!(meta.take_calls(), [Call::Op(WireOp::Release(pb::ReleaseOp { inos: vec![7] }))]);
    pushes.abort();
}

#[tokio::test]
async fn an_orphan_question_waits_for_creates_under_way() {
    let meta = FakeMeta::new(|call| match call {
        Call::Op(WireOp::Create(_)) => say_attr(file_attr(9, 0, 1)),
        _ => say(&pb::Empty {}),
    });
    let vfs = vfs(&meta, VfsConfig::default());
    let pushes = tokio::spawn(pushes::run(vfs.clone()));
    let question = pb::OrphanQuestion { through_index: 5, inos: vec![9] };
    let create = vfs.create(Caller::ROOT, 1, Bytes::from_static(b"f"), 0o644.into(), libc::O_RDWR);
    let question = pb::Push { event: Some(pb::push::Event::Orphaned(question)) };
    // The question arrives while the reply of the create, which made inode 9, is on its way.
    let (created, ()) = tokio::join!(create, async { meta.push.send(question).expect("pushes") });
    created.expect("creates");
    settle(&meta, 2).await;
    assert_eq!(meta.take_calls()[1], Call::Op(WireOp::Hold(pb::HoldOp { through_index: 5, inos: vec![9] })));
    pushes.abort();
}

/// Lets other tasks run until `count` calls were made.
async fn settle(meta: &FakeMeta, count: usize) {
    for _ in 0..1000 {
        if meta.call_count() >= count {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("{count} calls were expected: {:?}", meta.take_calls());
}

#[tokio::test]
async fn attributes_older_than_our_own_commit_are_asked_for_again() {
    let sizes = Mutex::new(VecDeque::from([(0, 3), (0, 3), (100, 4)]));
    let meta = FakeMeta::new(move |_| {
        let (size, version) = sizes.lock().pop_front().unwrap_or((100, 4));
        say_attr(file_attr(7, size, version))
    });
    let vfs = vfs(&meta, VfsConfig::default());
    vfs.handles.committed(7, 4);
    let attr = vfs.lookup(Caller::ROOT, 1, Bytes::from_static(b"f")).await.expect("finds");
    assert_eq!((attr.size, meta.take_calls().len()), (100, 3));
}

#[tokio::test]
async fn a_read_only_mount_asks_nobody_before_it_refuses() {
    let meta = FakeMeta::new(|_| refuse(FsErrno::Io));
    let vfs = vfs(&meta, VfsConfig { read_only: true, ..VfsConfig::default() });
    let (root, name) = (Caller::ROOT, || Bytes::from_static(b"f"));
    let place = || Place { parent: 1, name: name() };
    let refused = Err(ClientError::Refused(FsErrno::ROFs));
    assert_eq!(vfs.mkdir(root, 1, name(), 0.into()).await.map(drop), refused);
    assert_eq!(vfs.create(root, 1, name(), 0.into(), 0).await.map(drop), refused);
    assert_eq!(vfs.mknod(root, 1, name(), 0.into(), 0).await.map(drop), refused);
    assert_eq!(vfs.symlink(root, 1, name(), name()).await.map(drop), refused);
    assert_eq!(vfs.link(root, 1, 1, name()).await.map(drop), refused);
    assert_eq!(vfs.unlink(root, 1, name()).await, refused);
    assert_eq!(vfs.rmdir(root, 1, name()).await, refused);
    assert_eq!(vfs.rename(root, place(), place(), 0).await, refused);
    assert_eq!(vfs.setattr(root, 1, SetattrRequest::default()).await.map(drop), refused);
    assert_eq!(vfs.open(root, 1, Access::of_flags(libc::O_RDWR)).await.map(drop), refused);
    assert_eq!(meta.take_calls(), []);
}

#[tokio::test]
async fn bounds_are_checked_before_anybody_is_asked() {
    let meta = FakeMeta::new(|_| refuse(FsErrno::Io));
    let vfs = vfs(&meta, VfsConfig::default());
    let (root, long) = (Caller::ROOT, || Bytes::from(vec![b'n'; 256]));
    let too_long = Err(ClientError::Refused(FsErrno::NameTooLong));
    assert_eq!(vfs.lookup(root, 1, long()).await.map(drop), too_long);
    assert_eq!(vfs.create(root, 1, long(), 0.into(), 0).await.map(drop), too_long);
    assert_eq!(vfs.symlink(root, 1, Bytes::from_static(b"l"), Bytes::from(vec![b't'; 4096])).await.map(drop), too_long);
    let huge = SetattrRequest { size: Some(u64::MAX), ..SetattrRequest::default() };
    assert_eq!(vfs.setattr(root, 1, huge).await.map(drop), Err(FsErrno::FBig.into()));
    let place = || Place { parent: 1, name: Bytes::from_static(b"f") };
    for flags in [3, 6, 8] {
        assert_eq!(vfs.rename(root, place(), place(), flags).await, Err(FsErrno::Inval.into()));
    }
    assert_eq!(meta.take_calls(), []);
}

#[tokio::test]
async fn a_create_that_found_a_file_checks_what_the_kernel_could_not() {
    let existing =
        pb::EntryReply { attr: Some(pb::Attr { uid: 5, mode: 0o600, ..file_attr(7, 0, 1) }), created: false };
    let meta = FakeMeta::new(move |_| say(&existing));
    let vfs = vfs(&meta, VfsConfig::default());
    let stranger = Caller { uid: 6, gid: 6, ..Caller::ROOT };
    let refused = vfs.create(stranger, 1, Bytes::from_static(b"f"), 0o644.into(), libc::O_WRONLY).await;
    assert_eq!(refused.map(drop), Err(FsErrno::Access.into()));
    assert!(!vfs.handles.is_open(7), "a refused open is not counted");
    let owner = Caller { uid: 5, gid: 5, ..Caller::ROOT };
    assert!(vfs.create(owner, 1, Bytes::from_static(b"f"), 0o644.into(), libc::O_WRONLY).await.is_ok());
}

#[tokio::test]
async fn with_an_open_cache_the_second_open_asks_nobody_until_the_file_changes() {
    let meta = FakeMeta::new(|call| match call {
        Call::Ask(WireAsk::Open(_)) => say_attr(file_attr(7, 0, 1)),
        _ => refuse(FsErrno::NoEnt),
    });
    let vfs = vfs(&meta, VfsConfig { open_cache: Duration::from_secs(60), ..VfsConfig::default() });
    let reading = Access::of_flags(libc::O_RDONLY);
    for _ in 0..3 {
        vfs.open(Caller::ROOT, 7, reading).await.expect("opens");
    }
    assert_eq!(meta.call_count(), 1);
    vfs.open_cache.forget(7);
    vfs.open(Caller::ROOT, 7, reading).await.expect("opens");
    assert_eq!(meta.call_count(), 2);
}

/// A volume on which a copy takes `step` bytes an operation, until `fails_at`.
fn copying(step: u64, fails_at: u64) -> Arc<FakeMeta> {
    FakeMeta::new(move |call| match call {
        Call::Ask(WireAsk::Open(ask)) => say_attr(file_attr(ask.ino, 100, 1)),
        Call::Op(WireOp::CopyFileRange(op)) if op.offset_in >= fails_at => refuse(FsErrno::NoSpc),
        Call::Op(WireOp::CopyFileRange(op)) => {
            let attr = Some(file_attr(op.ino_out, 100, 2 + op.offset_in));
            say(&pb::RangeReply { attr, done: step.min(op.len).min(100_u64.saturating_sub(op.offset_in)) })
        }
        other => unreachable!("{other:?}"),
    })
}

#[tokio::test]
async fn a_copy_goes_on_in_steps_and_says_how_far_it_came() {
    for (fails_at, asked, copied) in [(1000, 70, Ok(70)), (1000, 500, Ok(100)), (60, 500, Ok(60)), (0, 5, Err(()))] {
        let vfs = vfs(&copying(30, fails_at), VfsConfig::default());
        let source = vfs.open(Caller::ROOT, 7, Access::of_flags(libc::O_RDONLY)).await.expect("opens").fh;
        let target = vfs.open(Caller::ROOT, 8, Access::of_flags(libc::O_WRONLY)).await.expect("opens").fh;
        let (from, to) = (Spot { fh: source, offset: 0 }, Spot { fh: target, offset: 5 });
        let found = vfs.copy_file_range(Caller::ROOT, from, to, asked).await;
        assert_eq!(found.map_err(drop), copied, "{asked} bytes, refused at {fails_at}");
        let other_way = vfs.copy_file_range(Caller::ROOT, to, from, 1).await;
        assert_eq!(other_way, Err(FsErrno::BadF.into()), "the target is open for reading only");
    }
}
