//! Nodes of a cluster under load die at each point, one after the other and all at once, with and without the power of their disks.

use crate::load::Load;
use crate::ways::Way;
use holdfast_proto::crash_points::Point;
use holdfast_proto::pb;
use holdfast_tests::admin::{self, runtime};
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::{process, trap};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A node that is to die at a point does so within this time, or it does not come there.
const PATIENCE: Duration = Duration::from_secs(40);
/// Of all nodes, not each may come to a point when the others have died there.
const OTHERS: Duration = Duration::from_secs(3);
/// Operations that are acknowledged between two crashes.
const PROGRESS: u64 = 12;

struct World {
    cluster: Cluster,
    load: Load,
    /// With a node dies the power of its disk.
    power: bool,
}

/// Asks for a checkpoint, and does not wait for it.
fn ask_for_checkpoint(addr: &str) {
    let url = format!("http://{addr}");
    runtime().spawn(async move {
        let mut admin = pb::admin_client::AdminClient::connect(url).await.map_err(drop)?;
        // Whoever is asked may die of it.
        admin.checkpoint(pb::CheckpointRequest {}).await.map_err(drop)
    });
}

impl World {
    fn start(power: bool) -> World {
        process::use_faulty_binaries();
        let disk_mib = power.then_some(192);
        let env = vec![("HOLDFAST_METAD_RESERVE_MIB".to_owned(), "8".to_owned())];
        let cluster = Cluster::start_as(Shape { disk_mib, env, ..Shape::default() });
        let load = Load::start(&cluster.format("v"));
        World { cluster, load, power }
    }

    fn set(&self, id: u64, point: Point, nth: u64) {
        trap::set(&self.cluster.node(id).trap(), point, nth);
    }

    /// Waits until the trap has caught node `id`, and does `provoke` all the while.
    fn wait_dead(&self, id: u64, point: Point, mut provoke: impl FnMut()) {
        let start = Instant::now();
        while self.cluster.is_running(id) {
            assert!(start.elapsed() < PATIENCE, "node {id} does not come to {point:?}");
            provoke();
            std::thread::sleep(Duration::from_millis(20));
        }
        self.died(id, point);
    }

    fn died(&self, id: u64, point: Point) {
        self.cluster.reap(id);
        assert!(trap::has_caught(&self.cluster.node(id).trap()), "node {id} ended, but not at {point:?}");
        self.power_loss(id);
    }

    fn power_loss(&self, id: u64) {
        if self.power {
            self.cluster.node(id).disk().power_off();
            self.cluster.node(id).disk().power_on(0);
        }
    }

    /// The node, not running, in whose way it is to come to the point next.
    fn pick(&self, way: Way, number: usize) -> u64 {
        let leader = self.cluster.leader();
        match way {
            Way::Cut => leader,
            Way::Transfer => leader % 3 + 1,
            _ => number as u64 % 3 + 1,
        }
    }

    /// A node dies at `point`.
    fn crash(&self, id: u64, point: Point, nth: u64) {
        let cluster = &self.cluster;
        let others = || cluster.ids().into_iter().filter(move |other| *other != id);
        let addr = cluster.node(id).addr();
        match Way::to(point) {
            Way::Load => {
                self.set(id, point, nth);
                return self.wait_dead(id, point, || {});
            }
            Way::Election => {
                self.set(id, point, nth);
                return self.wait_dead(id, point, || self.elect(id));
            }
            Way::Checkpoint => {
                self.set(id, point, nth);
                return self.wait_dead(id, point, || ask_for_checkpoint(&addr));
            }
            Way::Redo => {
                self.set(id, Point::ImageWritten, 1);
                self.wait_dead(id, Point::ImageWritten, || ask_for_checkpoint(&addr));
            }
            Way::Cut => {
                self.lead_alone(id);
                cluster.kill(id);
                others().for_each(|other| cluster.kill(other));
                others().for_each(|other| cluster.start_node(other));
                self.load.wait_progress(PROGRESS);
            }
            Way::Transfer => {
                cluster.kill(id);
                self.outrun(others().collect());
            }
            Way::Start => cluster.kill(id),
            way => {
                cluster.kill(id);
                self.damage(id, way);
            }
        }
        self.set(id, point, nth);
        cluster.start_node(id);
        self.wait_dead(id, point, || {});
    }

    /// Until the leader has an entry that no other has seen. The others stand still then.
    fn lead_alone(&self, leader: u64) {
        let others = || self.cluster.ids().into_iter().filter(|id| *id != leader);
        let status = || process::wait_for("the leader's status", || self.cluster.status(leader).ok());
        process::wait_for("an entry of the leader alone, synced", || {
            let still = self.load.still();
            others().for_each(|id| self.cluster.pause(id));
            let (sent, start) = (status().last_log, Instant::now());
            self.load.one_more();
            // In vain where the client's own business was under way: one thing at a time is proposed.
            while start.elapsed() < Duration::from_secs(1) {
                if status().members.iter().any(|member| member.id == leader && member.matched > sent) {
                    return Some(());
                }
            }
            others().for_each(|id| self.cluster.resume(id));
            drop(still);
            self.load.wait_progress(PROGRESS);
            None
        });
    }

    /// These go on until what comes next for the other one is in no log of their leader.
    fn outrun(&self, others: Vec<u64>) {
        // What goes of a log is what comes before the last checkpoint but one.
        for _ in 0..2 {
            self.load.wait_progress(PROGRESS);
            for other in &others {
                assert!(admin::checkpoint(&self.cluster.node(*other).addr()).0.index > 0);
            }
        }
        // A leader keeps its log for a while for one who may be on his way back; a follower does not.
        let leader = self.cluster.leader();
        process::wait_for("another leader", || {
            self.elect(leader);
            self.cluster.leader_now().filter(|now| *now != leader)
        });
    }

    /// Has the node vote. One that leads hands over.
    fn elect(&self, id: u64) {
        let Some(leader) = self.cluster.leader_now() else { return };
        let to = if leader == id { 0 } else { id };
        // Whether it has led to an election is seen by the node's end.
        drop(admin::transfer_leader(&self.cluster.node(leader).addr(), to));
    }

    /// What a node that does not run must find when it starts.
    fn damage(&self, id: u64, way: Way) {
        let data = self.cluster.node(id).data_dir();
        match way {
            Way::SuspectImage => fs::write(data.join("image/SUSPECT"), "by a test").expect("writes"),
            Way::LostLog => fs::remove_dir_all(data.join("wal")).expect("removes"),
            Way::TornLog => {
                let files = fs::read_dir(data.join("wal")).expect("lists").map(|file| file.expect("lists").path());
                let last: PathBuf = files.max().expect("there is a log");
                let mut file = fs::File::options().append(true).open(last).expect("opens");
                file.write_all(&[0xff; 64]).expect("writes");
            }
            Way::Wiped if self.power => self.cluster.node(id).disk().wipe(),
            Way::Wiped => self.cluster.wipe(id),
            way => unreachable!("{way:?} needs no damage"),
        }
    }

    /// Starts nodes again, and waits until all is as before.
    fn bring_back(&self, ids: &[u64]) {
        self.cluster.bring_back(ids);
        process::wait_for("three voters", || {
            let members = self.cluster.status(self.cluster.leader_now()?).ok()?.members;
            (members.len() == 3 && members.iter().all(|member| member.state == "voter")).then_some(())
        });
        self.load.wait_progress(PROGRESS);
    }

    /// All nodes at once; a node that does not come there when the others are dead is killed.
    fn crash_all(&self, point: Point) {
        let cluster = &self.cluster;
        cluster.ids().into_iter().for_each(|id| self.set(id, point, 1));
        let (start, mut first) = (Instant::now(), None);
        let running = || cluster.ids().into_iter().filter(|id| cluster.is_running(*id)).collect::<Vec<_>>();
        while !running().is_empty() && first.is_none_or(|first: Instant| first.elapsed() < OTHERS) {
            assert!(start.elapsed() < PATIENCE, "no node comes to {point:?}");
            if running().len() < 3 {
                first.get_or_insert_with(Instant::now);
            }
            if Way::to(point) == Way::Checkpoint {
                running().into_iter().for_each(|id| ask_for_checkpoint(&cluster.node(id).addr()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for id in cluster.ids() {
            if trap::clear(&cluster.node(id).trap()) {
                cluster.kill(id);
            }
            self.died(id, point);
        }
        self.bring_back(&cluster.ids());
    }

    /// One node after the other.
    fn crash_everywhere(&self) {
        let points = Point::ALL.iter().copied().filter(|point| Way::to(*point).is_of_nodes());
        let crashes = points.flat_map(|point| Way::times(point).map(move |nth| (point, nth)));
        for (number, (point, nth)) in crashes.enumerate() {
            let started = Instant::now();
            let id = self.pick(Way::to(point), number);
            self.crash(id, point, nth);
            self.bring_back(&[id]);
            process::report(&format!("node {id} at {point:?}, time {nth}: {:.1?}", started.elapsed()));
        }
        self.cluster.verify();
    }

    fn finish(self) {
        let World { cluster, load, .. } = self;
        process::report(&format!("{} operations, nothing is lost", load.finish()));
        cluster.verify();
    }
}

#[test]
fn a_node_that_is_killed_at_any_step_comes_back_and_nothing_is_lost() {
    let world = World::start(false);
    world.crash_everywhere();
    world.finish();
}

#[test]
fn a_node_that_loses_power_at_any_step_comes_back_and_nothing_is_lost() {
    let world = World::start(true);
    world.crash_everywhere();
    world.finish();
}

#[test]
fn all_nodes_that_lose_power_at_once_at_any_step_come_back_and_nothing_is_lost() {
    use Point::*;
    let world = World::start(true);
    let points = [LogAppended, LogFlushed, LogAcknowledged, JournalNamed, ImageWritten, CheckpointNamed];
    for point in points.into_iter().chain([CheckpointRemoved, LogPurged]) {
        world.crash_all(point);
    }
    world.finish();
}
