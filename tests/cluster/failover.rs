//! kill -9 under a running load of writes through a mount. What holds: nothing acknowledged is missing or different, no error
//! reaches the application, and the load goes on by itself while two of three live. Pauses are reported, not asserted.

use crate::one_at_a_time;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::mount::Mount;
use holdfast_tests::oracle::Load;
use holdfast_tests::process::report;
use std::time::{Duration, Instant};

const LEADER_KILLS: usize = 6;

/// A cluster that syncs, a mount of it, and a load on that. The mount is dropped first: without its cluster, an unmount waits
/// a minute for answers.
struct Scene {
    mount: Mount,
    meta: String,
    cluster: Cluster,
}

impl Scene {
    fn new() -> Scene {
        let cluster = Cluster::start();
        let meta = cluster.format("load");
        let mount = Mount::start(&meta);
        Scene { mount, meta, cluster }
    }

    fn load(&self) -> Load {
        let load = Load::start(&self.mount.dir, 4);
        load.wait_progress(40);
        load
    }

    /// Nothing acknowledged is lost: seen by the mount that wrote it, and by one that never saw it.
    fn verify(&self, load: Load) {
        let evidence = load.stop();
        evidence.no_errors();
        evidence.verify(&self.mount.dir);
        let cold = Mount::start(&self.meta);
        evidence.verify(&cold.dir);
        report(&format!("{} acknowledged operations, none lost", evidence.acked_count()));
    }
}

fn print_pauses(what: &str, pauses: &mut [Duration]) {
    pauses.sort_unstable();
    let all: Vec<_> = pauses.iter().map(|pause| format!("{}", pause.as_millis())).collect();
    let median = pauses[pauses.len() / 2].as_millis();
    report(&format!("longest pause of the application, {what}: {} ms (median {median} ms)", all.join(", ")));
}

#[test]
fn killing_the_leader_loses_nothing_and_the_load_goes_on() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..LEADER_KILLS {
        let leader = scene.cluster.leader();
        let since = Instant::now();
        scene.cluster.kill(leader);
        load.wait_progress(40);
        pauses.push(load.longest_pause(since));
        scene.cluster.start_node(leader);
        scene.cluster.wait_ready();
        scene.cluster.wait_caught_up();
        load.wait_progress(20);
    }
    print_pauses("leader killed", &mut pauses);
    scene.verify(load);
}

#[test]
fn killing_a_follower_loses_nothing_and_the_load_goes_on() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let leader = scene.cluster.leader();
        let follower = scene.cluster.ids().into_iter().find(|&id| id != leader).unwrap();
        let since = Instant::now();
        scene.cluster.kill(follower);
        load.wait_progress(60);
        pauses.push(load.longest_pause(since));
        scene.cluster.start_node(follower);
        scene.cluster.wait_ready();
        scene.cluster.wait_caught_up();
    }
    print_pauses("follower killed", &mut pauses);
    scene.verify(load);
}

#[test]
fn killing_all_three_loses_nothing() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let since = Instant::now();
        for id in scene.cluster.ids() {
            scene.cluster.kill(id);
        }
        for id in scene.cluster.ids() {
            scene.cluster.start_node(id);
        }
        scene.cluster.wait_ready();
        load.wait_progress(40);
        pauses.push(load.longest_pause(since));
    }
    print_pauses("all three killed and started again", &mut pauses);
    scene.verify(load);
}

#[test]
fn a_stopped_leader_is_replaced_and_comes_back_as_a_follower() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..2 {
        let leader = scene.cluster.leader();
        let since = Instant::now();
        scene.cluster.pause(leader);
        load.wait_progress(40);
        pauses.push(load.longest_pause(since));
        scene.cluster.resume(leader);
        scene.cluster.wait_ready();
        scene.cluster.wait_caught_up();
        load.wait_progress(20);
    }
    print_pauses("leader stopped (SIGSTOP)", &mut pauses);
    scene.verify(load);
}

#[test]
fn sigterm_hands_leadership_over_first() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..3 {
        let leader = scene.cluster.leader();
        let since = Instant::now();
        assert_eq!(scene.cluster.terminate(leader), Some(0), "metad ends with 0 on SIGTERM");
        load.wait_progress(40);
        pauses.push(load.longest_pause(since));
        scene.cluster.start_node(leader);
        scene.cluster.wait_ready();
    }
    print_pauses("leader ended by SIGTERM", &mut pauses);
    scene.verify(load);
}

#[test]
fn leadership_is_transferred_on_demand_without_an_error() {
    let _turn = one_at_a_time();
    let scene = Scene::new();
    let load = scene.load();
    for _ in 0..3 {
        let leader = scene.cluster.leader();
        let next = leader % 3 + 1;
        scene.cluster.holdfast(&["cluster", "transfer-leader", &scene.meta, "--to", &next.to_string()]).ok("transfer");
        holdfast_tests::process::wait_for("the chosen leader", || {
            scene.cluster.leader_now().filter(|&leader| leader == next)
        });
        load.wait_progress(20);
    }
    scene.verify(load);
}
