//! Nodes that lose their disk, or part of it: each comes back as new, fed by the leader, while clients go on; and what it may have
//! promised before counts for nothing.

use crate::one_at_a_time;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::files::files_below;
use holdfast_tests::mount::Mount;
use holdfast_tests::oracle::Load;
use holdfast_tests::process;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Verified by the mount that wrote it, and by one that never saw it; and all nodes have the same state.
fn verify(cluster: &Cluster, meta: &str, mount: &Mount, load: Load) {
    let evidence = load.stop();
    evidence.no_errors();
    evidence.verify(&mount.dir);
    evidence.verify(&Mount::start(meta).dir);
    cluster.wait_ready();
    cluster.wait_caught_up();
    cluster.verify();
}

#[test]
fn each_node_in_turn_loses_its_disk_and_comes_back_under_load() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("wiped");
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 3);
    load.wait_progress(40);
    let founded = cluster.status(1).expect("status").cluster;
    for id in cluster.ids() {
        cluster.kill(id);
        cluster.wipe(id);
        load.wait_progress(20);
        cluster.bring_back(&[id]);
        load.wait_progress(20);
        assert_eq!(cluster.status(id).expect("status").cluster, founded, "node {id}");
    }
    // Its unit says --init for ever.
    assert!(cluster.node(1).log().contains("there is a cluster already"), "{}", cluster.node(1).log());
    verify(&cluster, &meta, &mount, load);
}

/// A follower's log is damaged while it is down: it says this, and joins as new.
fn damages_a_log(damage: fn(&Path), says: &str) {
    let cluster = Cluster::start();
    let meta = cluster.format("damage");
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 3);
    load.wait_progress(80);
    let victim = cluster.leader() % 3 + 1;
    let wal = cluster.node(victim).data_dir().join("wal");
    wait_marked(&wal);
    cluster.kill(victim);
    damage(&largest_file(&wal));
    cluster.start_node(victim);
    cluster.wait_ready();
    load.wait_progress(20);
    let log = cluster.node(victim).log();
    assert!(log.lines().any(|line| line.contains("ERROR") && line.contains(says)), "{log}");
    assert!(cluster.node(victim).data_dir().join("damaged-1/wal").is_dir(), "the damaged log is kept");
    // It is as good as any other.
    cluster.wait_caught_up();
    cluster.holdfast(&["cluster", "transfer-leader", &meta, "--to", &victim.to_string()]).ok("transfer-leader");
    verify(&cluster, &meta, &mount, load);
}

#[test]
fn a_node_whose_log_is_damaged_in_the_middle_says_so_and_rejoins_as_new() {
    let _turn = one_at_a_time();
    damages_a_log(flip_in_the_middle, "is damaged");
}

#[test]
fn a_node_whose_log_lost_its_durable_end_says_so_and_rejoins_as_new() {
    let _turn = one_at_a_time();
    damages_a_log(cut_in_the_middle, "the end of the raft log");
}

#[test]
fn a_follower_that_lost_its_last_entries_unnoticed_is_fed_again_by_the_same_leader() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("reverted");
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 3);
    load.wait_progress(80);
    let leader = cluster.leader();
    let victim = leader % 3 + 1;
    cluster.kill(victim);
    let wal = cluster.node(victim).data_dir().join("wal");
    cut_in_the_middle(&largest_file(&wal));
    // As if it were older than what was lost.
    std::fs::remove_file(wal.with_extension("mark")).unwrap();
    cluster.bring_back(&[victim]);
    load.wait_progress(20);
    assert!(cluster.is_running(leader), "{}", cluster.node(leader).log());
    verify(&cluster, &meta, &mount, load);
}

#[test]
fn a_log_or_an_identity_that_is_gone_while_the_rest_is_there_counts_as_lost() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    cluster.format("gone");
    let victim = cluster.leader() % 3 + 1;
    let data = cluster.node(victim).data_dir();
    for (lost, said) in [("wal", "joins again as new"), ("IDENTITY", "a log without an identity")] {
        cluster.terminate(victim);
        std::fs::rename(data.join(lost), data.with_extension(lost)).unwrap();
        cluster.bring_back(&[victim]);
        let log = cluster.node(victim).log();
        assert!(log.contains(said), "{said}: {log}");
    }
}

#[test]
fn an_old_disk_put_back_after_the_node_came_back_on_another_is_refused() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("old-disk");
    let mount = Mount::start(&meta);
    std::fs::write(mount.path("before"), b"x").unwrap();
    let victim = cluster.leader() % 3 + 1;
    cluster.kill(victim);
    let data = cluster.node(victim).data_dir();
    let old = data.with_extension("old");
    std::fs::rename(&data, &old).unwrap();
    cluster.start_node(victim);
    cluster.wait_ready();
    std::fs::write(mount.path("after"), b"y").unwrap();
    cluster.kill(victim);
    cluster.wipe(victim);
    let copied = Command::new("cp").arg("-a").arg(&old).arg(&data).status().unwrap();
    assert!(copied.success());
    cluster.start_node(victim);
    process::wait_for("the old disk to be refused", || (!cluster.is_running(victim)).then_some(()));
    let log = cluster.node(victim).log();
    assert!(log.lines().last().is_some_and(|line| line.contains("former life")), "{log}");
    // The others never counted on it.
    std::fs::write(mount.path("later"), b"z").unwrap();
    assert_eq!(cluster.terminate(victim), Some(1));
}

fn largest_file(dir: &Path) -> PathBuf {
    let size = |path: &PathBuf| std::fs::metadata(path).map(|found| found.len()).unwrap_or_default();
    files_below(dir).into_iter().max_by_key(size).expect("the log has a file")
}

/// Waits until the node has noted that all its log so far is durable: the mark was written twice.
fn wait_marked(wal: &Path) {
    let mark = || std::fs::read(wal.with_extension("mark")).unwrap_or_default();
    for _ in 0..2 {
        let before = mark();
        process::wait_for("the mark to move", || (mark() != before).then_some(()));
    }
}

/// Its middle, by what was written: a preallocated tail is zeros.
fn middle_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).expect("a file with content") / 2
}

fn flip_in_the_middle(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = middle_of(&bytes);
    bytes[middle] ^= 0x40;
    std::fs::write(path, bytes).unwrap();
}

/// As a filesystem may that lost the file's newest size.
fn cut_in_the_middle(path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..middle_of(&bytes)]).unwrap();
}
