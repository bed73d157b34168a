//! kill -9 under a running load of writes through a mount. What holds: nothing acknowledged is missing or different, no error
//! reaches the application, and the load goes on by itself while two of three live. Pauses are reported, not asserted.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
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
    fn new(shape: Shape) -> Scene {
        let cluster = Cluster::start_as(shape);
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

/// HOLDFAST_ROUNDS=50 for figures; CI needs fewer.
fn rounds(usual: usize) -> usize {
    std::env::var("HOLDFAST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn print_pauses(what: &str, pauses: &mut [Duration]) {
    pauses.sort_unstable();
    let at = |percent: usize| pauses[(pauses.len() * percent).div_ceil(100).max(1) - 1].as_millis();
    let (p50, p99, max, count) = (at(50), at(99), at(100), pauses.len());
    report(&format!(
        "longest pause of the application, {what}, {count} times: p50 {p50} ms, p99 {p99} ms, max {max} ms"
    ));
}

/// Hurts the cluster under a load so many times, waits until the load has gone on by itself, and mends it again.
fn under_load(
    what: &str,
    shape: Shape,
    usual_rounds: usize,
    hurt: impl Fn(&Cluster) -> Vec<u64>,
    mend: impl Fn(&Cluster, u64),
    goes_on: GoesOn,
) {
    let _turn = one_at_a_time();
    let scene = Scene::new(shape);
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..rounds(usual_rounds) {
        let since = Instant::now();
        let victims = hurt(&scene.cluster);
        if goes_on == GoesOn::Hurt {
            load.wait_progress(40);
            pauses.push(load.longest_pause(since));
        }
        victims.into_iter().for_each(|id| mend(&scene.cluster, id));
        scene.cluster.wait_ready();
        if goes_on == GoesOn::Mended {
            load.wait_progress(40);
            pauses.push(load.longest_pause(since));
        }
        scene.cluster.wait_caught_up();
        load.wait_progress(20);
    }
    print_pauses(what, &mut pauses);
    scene.verify(load);
}

/// When the load must go on by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GoesOn {
    /// While two of three live.
    Hurt,
    /// When they are back.
    Mended,
}

#[test]
fn killing_the_leader_loses_nothing_and_the_load_goes_on() {
    let hurt = |cluster: &Cluster| {
        let leader = cluster.leader();
        cluster.kill(leader);
        vec![leader]
    };
    under_load("leader killed", Shape::default(), LEADER_KILLS, hurt, Cluster::start_node, GoesOn::Hurt);
}

#[test]
fn killing_a_follower_loses_nothing_and_the_load_goes_on() {
    let hurt = |cluster: &Cluster| {
        let follower = cluster.leader() % 3 + 1;
        cluster.kill(follower);
        vec![follower]
    };
    under_load("follower killed", Shape::default(), 3, hurt, Cluster::start_node, GoesOn::Hurt);
}

#[test]
fn killing_all_three_loses_nothing() {
    let hurt = |cluster: &Cluster| {
        cluster.ids().into_iter().for_each(|id| cluster.kill(id));
        cluster.ids()
    };
    under_load("all three killed and started again", Shape::default(), 3, hurt, Cluster::start_node, GoesOn::Mended);
}

#[test]
fn a_stopped_leader_is_replaced_and_comes_back_as_a_follower() {
    let hurt = |cluster: &Cluster| {
        let leader = cluster.leader();
        cluster.pause(leader);
        vec![leader]
    };
    under_load("leader stopped (SIGSTOP)", Shape::default(), 2, hurt, Cluster::resume, GoesOn::Hurt);
}

#[test]
fn a_leader_that_only_clients_hear_is_replaced_and_comes_back_as_a_follower() {
    let hurt = |cluster: &Cluster| {
        let leader = cluster.leader();
        cluster.net().cut_from_peers(leader);
        vec![leader]
    };
    let shape = Shape { partitions: true, ..Shape::default() };
    under_load("leader cut off from its peers", shape, 2, hurt, |cluster, id| cluster.net().heal(id), GoesOn::Hurt);
}

#[test]
fn sigterm_hands_leadership_over_first() {
    let hurt = |cluster: &Cluster| {
        let leader = cluster.leader();
        assert_eq!(cluster.terminate(leader), Some(0), "metad ends with 0 on SIGTERM");
        vec![leader]
    };
    under_load("leader ended by SIGTERM", Shape::default(), 3, hurt, Cluster::start_node, GoesOn::Hurt);
}

#[test]
fn a_rolling_restart_of_all_nodes_is_no_error_to_anybody() {
    let _turn = one_at_a_time();
    let scene = Scene::new(Shape::default());
    let load = scene.load();
    let mut pauses = Vec::new();
    for _ in 0..rounds(1) {
        let since = Instant::now();
        for id in scene.cluster.ids() {
            assert_eq!(scene.cluster.terminate(id), Some(0));
            scene.cluster.bring_back(&[id]);
        }
        load.wait_progress(20);
        pauses.push(load.longest_pause(since));
    }
    print_pauses("rolling restart", &mut pauses);
    scene.verify(load);
}

#[test]
fn leadership_is_transferred_on_demand_without_an_error() {
    let _turn = one_at_a_time();
    let scene = Scene::new(Shape::default());
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
