//! Disk trouble, by faults of real disks and real system calls: full disks, failing fsync, power loss. The node stops or refuses and says
//! why, the cluster goes on, and nothing acknowledged is lost.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::Mount;
use holdfast_tests::oracle::Load;
use holdfast_tests::process;
use holdfast_tests::tracer::Tracer;
use std::fs;

const MIB: u64 = 1 << 20;

fn with_disks(reserve_mib: u64) -> Shape {
    let env = vec![("HOLDFAST_METAD_RESERVE_MIB".to_owned(), reserve_mib.to_string())];
    Shape { disk_mib: Some(160), env, ..Shape::default() }
}

fn follower(cluster: &Cluster) -> u64 {
    let leader = cluster.leader();
    cluster.ids().into_iter().find(|id| *id != leader).expect("three nodes")
}

fn nothing_is_lost(load: Load, mount: &Mount) {
    let evidence = load.stop();
    evidence.no_errors();
    evidence.verify(&mount.dir);
}

#[test]
fn with_a_nearly_full_disk_files_can_still_be_removed_and_nothing_else_can_be_made() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(with_disks(32));
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    fs::write(mount.path("old"), b"content").unwrap();
    let tight = |wanted: bool| {
        let all = || cluster.ids().into_iter().all(|id| cluster.status(id).is_ok_and(|status| status.tight == wanted));
        process::wait_for("the nodes to look at their disks", || all().then_some(()));
    };
    cluster.ids().into_iter().for_each(|id| cluster.node(id).disk().fill(16 * MIB));
    tight(true);
    let refused =
        |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error()) == Some(libc::ENOSPC);
    assert!(refused(fs::write(mount.path("new"), b"")));
    assert!(refused(fs::create_dir(mount.path("dir"))));
    assert!(refused(std::os::unix::fs::symlink("target", mount.path("link"))));
    assert_eq!(fs::read(mount.path("old")).unwrap(), b"content");
    fs::rename(mount.path("old"), mount.path("renamed")).unwrap();
    fs::remove_file(mount.path("renamed")).unwrap();
    cluster.ids().into_iter().for_each(|id| cluster.node(id).disk().empty());
    tight(false);
    fs::write(mount.path("new"), b"room again").unwrap();
}

#[test]
fn a_node_whose_disk_is_full_stops_and_says_so_and_comes_back_when_there_is_room() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(with_disks(0));
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    let victim = follower(&cluster);
    let load = Load::start(&mount.dir, 2);
    load.wait_progress(20);
    cluster.node(victim).disk().fill(0);
    assert_eq!(cluster.wait_ended(victim), Some(1));
    let log = cluster.node(victim).log();
    assert!(log.contains("No space left on device") && log.contains("stops"), "{log}");
    load.wait_progress(40);
    cluster.node(victim).disk().empty();
    cluster.bring_back(&[victim]);
    nothing_is_lost(load, &mount);
}

#[test]
fn a_failing_fsync_stops_the_leader_and_nothing_acknowledged_is_lost() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    let victim = cluster.leader();
    let load = Load::start(&mount.dir, 2);
    let tracer = Tracer::attach(cluster.pid(victim).expect("the leader runs"), "fdatasync,fsync:error=EIO");
    assert_eq!(cluster.wait_ended(victim), Some(1));
    drop(tracer);
    let log = cluster.node(victim).log();
    assert!(log.contains("Input/output error") && log.contains("this node stops"), "{log}");
    load.wait_progress(40);
    cluster.bring_back(&[victim]);
    nothing_is_lost(load, &mount);
}

#[test]
fn power_loss_of_one_node_and_of_all_at_once_loses_nothing_acknowledged() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(with_disks(16));
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    let load = Load::start(&mount.dir, 2);
    for victims in [vec![cluster.leader()], cluster.ids()] {
        load.wait_progress(40);
        victims.iter().for_each(|&id| cluster.node(id).disk().power_off());
        for &id in &victims {
            cluster.kill(id);
            cluster.node(id).disk().power_on(0);
        }
        cluster.bring_back(&victims);
        cluster.verify();
    }
    load.wait_progress(40);
    nothing_is_lost(load, &mount);
}
