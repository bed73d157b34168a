//! Checkpoints of real nodes: the log stays bounded by them, and what a node lost comes back from them.

use crate::one_at_a_time;
use holdfast_proto::pb;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::locker::Locker;
use holdfast_tests::mount::Mount;
use holdfast_tests::{crowd, process};
use libc::{EAGAIN, LOCK_EX, LOCK_NB, LOCK_UN};
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;
/// Files a step makes and removes again.
const STEP: usize = 3_000;

fn cluster() -> Cluster {
    // As often as the settings allow.
    let env = vec![("HOLDFAST_METAD_CHECKPOINT_LOG_MIB".to_owned(), "1".to_owned())];
    Cluster::start_as(Shape { no_sync: true, env, ..Shape::default() })
}

fn status(cluster: &Cluster, id: u64) -> pb::NodeStatus {
    process::wait_for("the node's status", || cluster.status(id).ok())
}

/// Loads the cluster until the checkpoint of node `id` is of `index` or later. Leaves no file of its own.
fn load_until(cluster: &Cluster, meta: &str, id: u64, index: u64) {
    while status(cluster, id).checkpoint < index {
        crowd::make(meta, 1, 0..STEP);
        crowd::remove(meta, 1, 0..STEP);
    }
}

fn checkpoint_files(cluster: &Cluster, id: u64) -> Vec<PathBuf> {
    let files = fs::read_dir(cluster.node(id).data_dir().join("checkpoint")).expect("lists");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("lists").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "ckpt"));
    files.sort();
    files
}

fn cut(path: &Path) {
    let bytes = fs::read(path).expect("reads");
    fs::write(path, &bytes[..bytes.len() / 2]).expect("cuts");
}

/// Ends node `id`, does what it must endure, starts it and waits until it is as new as the others. What it said since.
fn endure(cluster: &Cluster, id: u64, meanwhile: impl FnOnce()) -> String {
    cluster.kill(id);
    let before = cluster.node(id).log().len();
    meanwhile();
    cluster.bring_back(&[id]);
    cluster.verify();
    cluster.node(id).log()[before..].to_owned()
}

#[test]
fn they_bound_the_log_and_bring_back_what_a_node_lost() {
    let _turn = one_at_a_time();
    let cluster = cluster();
    let meta = cluster.format("v");
    crowd::make(&meta, 1, 10_000..11_500);
    let leader = cluster.leader();
    let node = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");

    load_until(&cluster, &meta, node, 1);
    let first = status(&cluster, node).checkpoint;
    load_until(&cluster, &meta, node, first + 1);
    let second = status(&cluster, node).checkpoint;
    load_until(&cluster, &meta, node, second + 1);
    for id in cluster.ids() {
        process::wait_for("the log to be let go", || {
            let status = cluster.status(id).ok()?;
            // Two intervals of the log, of 1 MiB or as much as the state takes, and a file that is not full.
            (status.checkpoint > 0 && status.log_bytes < 3 * (MIB + status.checkpoint_bytes)).then_some(())
        });
        assert!(checkpoint_files(&cluster, id).len() <= 2);
    }

    let said = cluster.holdfast(&["cluster", "checkpoint", &meta]).ok("cluster checkpoint").stdout;
    assert!(
        cluster.ids().into_iter().all(|id| said.contains(&format!("node {id}: checkpoint at log index"))),
        "{said}"
    );

    // The image is gone: the log does not reach back, the checkpoint does.
    let said =
        endure(&cluster, node, || fs::remove_dir_all(cluster.node(node).data_dir().join("image")).expect("removes"));
    assert!(said.contains("loaded the state from a checkpoint"), "{said}");

    // So is the newest checkpoint.
    let said = endure(&cluster, node, || {
        fs::remove_dir_all(cluster.node(node).data_dir().join("image")).expect("removes");
        cut(checkpoint_files(&cluster, node).last().expect("is there"));
    });
    assert!(said.contains("a checkpoint is damaged") && said.contains("loaded the state from a checkpoint"), "{said}");

    // So are both: what is left of the log leads nowhere, and the node begins anew.
    let said = endure(&cluster, node, || {
        fs::remove_dir_all(cluster.node(node).data_dir().join("image")).expect("removes");
        checkpoint_files(&cluster, node).iter().for_each(|path| fs::remove_file(path).expect("removes"));
    });
    assert!(said.contains("the state is lost") && said.contains("joins again as new"), "{said}");
    assert_eq!(crowd::count(&meta, 1), 1_500);
}

#[test]
fn a_node_that_was_away_for_long_gets_the_leaders_and_takes_up_a_transfer_that_broke_off() {
    let _turn = one_at_a_time();
    let cluster = cluster();
    let meta = cluster.format("v");
    crowd::make(&meta, 1, 10_000..11_500);
    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    let (locked, unlinked) = (here.path("locked"), here.path("unlinked"));
    [&locked, &unlinked].into_iter().for_each(|path| fs::write(path, b"").expect("makes"));
    let holder = Locker::new(&[&locked]);
    assert_eq!(holder.flock(LOCK_EX), Ok(()));
    let orphan = Locker::new(&[&unlinked]);
    orphan.run(|files| files[0].write_all(b"still here").expect("writes"));
    fs::remove_file(&unlinked).expect("unlinks");
    let leader = cluster.leader();
    let node = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let said = endure(&cluster, node, || {
        // So far that the leader lets go of what this node would need next.
        let away_at = status(&cluster, leader).last_log;
        load_until(&cluster, &meta, leader, away_at + 1);
        let once = status(&cluster, leader).checkpoint;
        load_until(&cluster, &meta, leader, once + 1);
        process::wait_for("the leader's log to go", || {
            cluster.node(leader).log().contains("made a checkpoint").then_some(())
        });
        // The first part of what the leader will send is there already.
        let newest = checkpoint_files(&cluster, leader).pop().expect("is there");
        let (index, bytes) =
            (newest.file_stem().expect("name").to_string_lossy().into_owned(), fs::read(&newest).expect("reads"));
        let part = cluster.node(node).data_dir().join(format!("checkpoint/receive-{index}-{}.part", bytes.len()));
        fs::write(part, &bytes[..bytes.len() - 100]).expect("writes");
    });
    let taken_up = said.lines().find(|line| line.contains("receives a checkpoint")).unwrap_or_else(|| panic!("{said}"));
    assert!(!taken_up.contains("bytes=0 "), "it began anew: {taken_up}");
    assert!(said.contains("loaded the state from a checkpoint"), "{said}");
    let left = fs::read_dir(cluster.node(node).data_dir().join("checkpoint")).expect("lists");
    let parts = left.filter(|file| file.as_ref().expect("lists").file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(parts.count(), 0);
    // With that state it can lead: locks, open files without a name, and what clients are in the middle of are all in it.
    cluster.holdfast(&["cluster", "transfer-leader", &meta, "--to", &node.to_string()]).ok("transfer");
    let other = Locker::new(&[&there.path("locked")]);
    assert_eq!(other.flock(LOCK_EX | LOCK_NB), Err(EAGAIN));
    orphan.run(|files| {
        let mut content = String::new();
        files[0].seek(SeekFrom::Start(0)).and_then(|_| files[0].read_to_string(&mut content)).expect("reads");
        assert_eq!(content, "still here");
    });
    assert_eq!((holder.flock(LOCK_UN), other.flock(LOCK_EX | LOCK_NB)), (Ok(()), Ok(())));
    assert_eq!(crowd::count(&meta, 1), 1_501);
}
