//! Restarts: of one node, of all nodes by kill -9, and of a whole cluster that is stopped in good order.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::Mount;
use holdfast_tests::process;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Names and contents of a flat directory.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

fn fill(dir: &Path, label: &str) {
    for number in 0..60 {
        let content = format!("{label} {number} ").repeat(number * 20);
        std::fs::write(dir.join(format!("{label}-{number}")), content).unwrap();
    }
}

#[test]
fn everything_is_there_after_all_nodes_were_killed_and_remounted() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("keep");
    let mount = Mount::start(&meta);
    for round in 0..3 {
        fill(&mount.dir, &format!("round{round}"));
        let expected = contents(&mount.dir);
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.start_node(id);
        }
        cluster.wait_ready();
        assert!(contents(&mount.dir) == expected, "the mount that lived through it");
        let fresh = Mount::start(&meta);
        assert!(contents(&fresh.dir) == expected, "a mount that never saw it");
    }
}

#[test]
fn a_node_that_was_away_catches_up_and_can_lead() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("away");
    let mount = Mount::start(&meta);
    let leader = cluster.leader();
    let away = leader % 3 + 1;
    cluster.kill(away);
    fill(&mount.dir, "while-away");
    cluster.bring_back(&[away]);
    cluster.holdfast(&["cluster", "transfer-leader", &meta, "--to", &away.to_string()]).ok("transfer-leader");
    process::wait_for("the returned node to lead", || cluster.leader_now().filter(|&id| id == away));
    assert_eq!(contents(&mount.dir).len(), 60);
}

#[test]
fn one_node_alone_is_a_cluster_too() {
    let cluster = Cluster::start_as(Shape { node_count: 1, ..Shape::default() });
    let meta = cluster.format("alone");
    let mount = Mount::start(&meta);
    fill(&mount.dir, "alone");
    let expected = contents(&mount.dir);
    cluster.kill(1);
    cluster.start_node(1);
    cluster.wait_ready();
    assert!(contents(&mount.dir) == expected);
}

#[test]
fn five_nodes_survive_the_loss_of_two() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { node_count: 5, no_sync: true, ..Shape::default() });
    let meta = cluster.format("five");
    let mount = Mount::start(&meta);
    fill(&mount.dir, "before");
    let leader = cluster.leader();
    cluster.kill(leader);
    cluster.kill(leader % 5 + 1);
    fill(&mount.dir, "after");
    assert_eq!(contents(&mount.dir).len(), 120);
}

#[test]
fn two_volumes_of_one_cluster_do_not_see_each_other() {
    let cluster = Cluster::start_as(Shape { no_sync: true, ..Shape::default() });
    let (one, two) = (Mount::start(&cluster.format("one")), Mount::start(&cluster.format("two")));
    fill(&one.dir, "one");
    assert!(contents(&two.dir).is_empty());
    fill(&two.dir, "two");
    assert!(contents(&one.dir).keys().all(|name| name.starts_with("one-")));
}

#[test]
fn a_mount_waits_for_a_quorum_and_then_goes_on() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("quorum");
    let mount = Mount::start(&meta);
    std::fs::write(mount.path("before"), b"x").unwrap();
    let leader = cluster.leader();
    let other = leader % 3 + 1;
    cluster.kill(leader);
    cluster.kill(other);
    let path = mount.path("during");
    let writer = std::thread::spawn(move || std::fs::write(path, b"waited"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    cluster.start_node(other);
    writer.join().unwrap().expect("the write waits until two of three live");
    assert_eq!(std::fs::read(mount.path("during")).unwrap(), b"waited");
}

#[test]
fn cluster_status_names_the_leader_and_every_node() {
    let cluster = Cluster::start_as(Shape { no_sync: true, ..Shape::default() });
    let meta = cluster.meta("any");
    let text = cluster.holdfast(&["cluster", "status", &meta]).ok("cluster status").stdout;
    for node in &cluster.nodes {
        assert!(text.contains(&node.addr()), "{text}");
    }
    let json = cluster.holdfast(&["cluster", "status", &meta, "--json"]).ok("cluster status --json").stdout;
    let value: serde_json::Value = serde_json::from_str(&json).expect("one JSON value");
    assert!(value.to_string().contains("\"leader\""), "{value}");
    cluster.kill(cluster.leader() % 3 + 1);
    cluster.holdfast(&["cluster", "status", &meta]).ok("cluster status with a dead node");
}

/// A sync of the whole machine waits for whatever else is on it, and where that hangs, so does the node.
#[test]
fn a_node_syncs_nothing_but_its_own_files_when_it_starts() {
    let dir = process::scratch_dir("programs");
    let (called, sync) = (dir.join("called"), dir.join("sync"));
    std::fs::write(&sync, format!("#!/bin/sh\n: >{}\n", called.display())).unwrap();
    std::fs::set_permissions(&sync, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let env = vec![("PATH".to_owned(), path)];
    let cluster = Cluster::start_as(Shape { node_count: 1, env, ..Shape::default() });
    cluster.kill(1);
    cluster.bring_back(&[1]);
    assert!(!called.exists(), "the node started sync(1)");
}
