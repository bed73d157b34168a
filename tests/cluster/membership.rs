//! Members come and go: growth and shrinking under load, what is refused, leaders that die meanwhile, and founding.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::Mount;
use holdfast_tests::oracle::Load;
use holdfast_tests::process::{self, Ended};

fn add(cluster: &Cluster, meta: &str, id: u64, more: &[&str]) -> Ended {
    let node = format!("{id}={}", cluster.node(id).addr());
    cluster.holdfast(&[&["cluster", "add", meta, &node], more].concat())
}

fn remove(cluster: &Cluster, meta: &str, id: u64) -> Ended {
    cluster.holdfast(&["cluster", "remove", meta, &id.to_string(), "--yes"])
}

fn voters(cluster: &Cluster) -> Option<Vec<u64>> {
    let status = cluster.status(cluster.leader_now()?).ok()?;
    Some(status.members.iter().filter(|member| member.voter).map(|member| member.id).collect())
}

fn wait_for_voters(cluster: &Cluster, wanted: &[u64]) {
    process::wait_for("the voters", || voters(cluster).filter(|voters| voters == wanted));
}

#[test]
fn a_cluster_grows_from_one_to_three_to_five_and_shrinks_to_others_under_load() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { node_count: 5, founders: Some(1), ..Shape::default() });
    cluster.format("grow");
    // The client is told of node 1 only, which will be gone at the end.
    let meta = format!("holdfast://{}/grow", cluster.node(1).addr());
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 3);
    load.wait_progress(20);
    for id in 2..=5 {
        cluster.start_node(id);
        let said = add(&cluster, &meta, id, &[]).ok("cluster add").stdout;
        assert!(said.contains(&format!("node {id} votes")), "{said}");
        load.wait_progress(20);
    }
    wait_for_voters(&cluster, &[1, 2, 3, 4, 5]);
    cluster.wait_ready();
    // The leader is among those that go.
    let status = cluster.holdfast(&["cluster", "status", &meta, "--json"]).ok("status").stdout;
    assert!(status.contains("\"member\": \"voter\""), "{status}");
    for id in [1, 2, 5, 4] {
        let meta = format!("holdfast://{}/grow", cluster.node(3).addr());
        let said = remove(&cluster, &meta, id).ok("cluster remove").stdout;
        assert!(said.contains(&format!("node {id} is removed")), "{said}");
        load.wait_progress(20);
        cluster.kill(id);
        load.wait_progress(20);
    }
    wait_for_voters(&cluster, &[3]);
    let evidence = load.stop();
    evidence.no_errors();
    evidence.verify(&mount.dir);
    let cold = Mount::start(&format!("holdfast://{}/grow", cluster.node(3).addr()));
    evidence.verify(&cold.dir);
}

#[test]
fn what_would_lose_the_quorum_or_is_no_node_is_refused() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { node_count: 4, founders: Some(3), no_sync: true, ..Shape::default() });
    let meta = cluster.meta("any");
    let leader = cluster.leader();
    let (dead, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    remove(&cluster, &meta, 9).refused(1, "no node 9");
    cluster.holdfast(&["cluster", "remove", &meta, &dead.to_string()]).refused(2, "--yes");
    cluster.holdfast(&["cluster", "add", &meta, "4"]).refused(2, "ID=HOST:PORT");
    cluster.holdfast(&["cluster", "add", &meta, &format!("2={}", cluster.node(4).addr())]).refused(1, "already");
    cluster.holdfast(&["cluster", "add", &meta, &format!("4={}", cluster.node(2).addr())]).refused(1, "node 2");
    cluster.kill(dead);
    process::wait_for("the leader to miss it", || {
        let status = cluster.status(leader).ok()?;
        status.members.iter().any(|member| member.id == dead && !member.answers).then_some(())
    });
    remove(&cluster, &meta, other).refused(1, "quorum");
    assert_eq!(voters(&cluster), Some(vec![1, 2, 3]));
    // The dead one may go, and come back on another disk.
    remove(&cluster, &meta, dead).ok("remove the dead one");
    cluster.wipe(dead);
    cluster.start_node(dead);
    add(&cluster, &meta, dead, &["--json"]).ok("add it again");
    wait_for_voters(&cluster, &[1, 2, 3]);
    cluster.wait_ready();
}

#[test]
fn the_next_leader_goes_on_with_a_growth_that_the_last_one_began() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(Shape { node_count: 5, founders: Some(3), ..Shape::default() });
    let meta = cluster.format("handed-on");
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 3);
    load.wait_progress(20);
    for id in [4, 5] {
        add(&cluster, &meta, id, &["--no-wait"]).ok("cluster add --no-wait");
    }
    cluster.start_node(4);
    let learns = |line: &str| line.contains("learns") && line.contains("node=4");
    let leader = cluster.leader();
    process::wait_for("the leader to begin", || cluster.node(leader).log().lines().any(learns).then_some(()));
    cluster.kill(leader);
    cluster.start_node(5);
    wait_for_voters(&cluster, &[1, 2, 3, 4, 5]);
    load.wait_progress(20);
    cluster.start_node(leader);
    cluster.wait_ready();
    let evidence = load.stop();
    evidence.no_errors();
    evidence.verify(&mount.dir);
}

#[test]
fn most_of_the_founders_must_be_there_before_a_cluster_is_founded() {
    let cluster = Cluster::prepare(Shape { no_sync: true, ..Shape::default() });
    cluster.start_node(1);
    process::wait_for("node 1 to say what it waits for", || {
        cluster.node(1).log().contains("waits for most of the nodes").then_some(())
    });
    let status = process::wait_for("node 1 to answer", || cluster.status(1).ok());
    assert_eq!((status.cluster.as_str(), status.leader, status.ready), ("", 0, false));
    cluster.start_node(2);
    process::wait_for("two to be enough", || cluster.status(1).ok().filter(|status| status.ready));
    wait_for_voters(&cluster, &[1, 2]);
    cluster.start_node(3);
    wait_for_voters(&cluster, &[1, 2, 3]);
    cluster.wait_ready();
}
