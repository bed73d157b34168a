//! Exactly once: replies are lost after their requests were done, at random, and the client repeats them. No repetition may turn
//! into an error of its own: no EEXIST about its own mkdir, no ENOENT about its own unlink.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::Mount;
use holdfast_tests::process::report;
use holdfast_tests::proxy::Proxy;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A cluster whose clients all go through proxies.
fn behind_proxies(seed: u64) -> (Cluster, Vec<Proxy>) {
    let proxies: Vec<_> = (0..3).map(|index| Proxy::start(seed + index)).collect();
    let advertise = Some(proxies.iter().map(|proxy| proxy.port).collect());
    let cluster = Cluster::prepare(Shape { no_sync: true, advertise, ..Shape::default() });
    for (proxy, node) in proxies.iter().zip(&cluster.nodes) {
        proxy.aim(node.port);
    }
    for id in cluster.ids() {
        cluster.start_node(id);
    }
    cluster.wait_ready();
    (cluster, proxies)
}

/// One round of everything that a careless repetition would get wrong.
fn round(dir: &Path, number: usize) -> std::io::Result<()> {
    let (name, moved) = (dir.join(format!("n{number}")), dir.join(format!("m{number}")));
    fs::create_dir(&name)?;
    fs::rename(&name, &moved)?;
    fs::remove_dir(&moved)?;
    File::options().write(true).create_new(true).open(&name)?;
    fs::hard_link(&name, &moved)?;
    assert_eq!(fs::metadata(&name)?.nlink(), 2, "link happened once");
    fs::remove_file(&name)?;
    std::os::unix::fs::symlink("target", &name)?;
    fs::remove_file(&name)?;
    fs::write(&name, format!("data {number}"))?;
    fs::rename(&name, &moved)?;
    assert_eq!(fs::read_to_string(&moved)?, format!("data {number}"));
    fs::remove_file(&moved)
}

#[test]
fn no_lost_reply_becomes_an_error() {
    let _turn = one_at_a_time();
    let seed = std::process::id().into();
    let (cluster, proxies) = behind_proxies(seed);
    let mount = Mount::start(&cluster.format("once"));
    proxies.iter().for_each(|proxy| proxy.lose(150));
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let dir = mount.path(&format!("w{worker}"));
            scope.spawn(move || {
                fs::create_dir(&dir).unwrap();
                for number in 0..120 {
                    round(&dir, number).unwrap_or_else(|error| panic!("worker {worker}, round {number}: {error}"));
                }
            });
        }
    });
    let cuts: u64 = proxies.iter().map(Proxy::cut_count).sum();
    report(&format!("{cuts} replies lost (seed {seed}), no error seen"));
    assert!(cuts > 10, "the fault never bit: {cuts} cuts");
    proxies.iter().for_each(|proxy| proxy.lose(0));
    for worker in 0..3 {
        assert_eq!(fs::read_dir(mount.path(&format!("w{worker}"))).unwrap().count(), 0);
    }
}

#[test]
fn lost_replies_and_dying_leaders_together_become_no_error() {
    let _turn = one_at_a_time();
    let seed = u64::from(std::process::id()) + 77;
    let (cluster, proxies) = behind_proxies(seed);
    let mount = Mount::start(&cluster.format("once"));
    proxies.iter().for_each(|proxy| proxy.lose(60));
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut number = 0;
            while number < 400 {
                round(&mount.dir, number).unwrap_or_else(|error| panic!("round {number}, seed {seed}: {error}"));
                number += 1;
            }
        });
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(700));
            let leader = cluster.leader();
            cluster.kill(leader);
            cluster.leader();
            cluster.start_node(leader);
        }
        worker.join().unwrap();
    });
    report(&format!(
        "{} replies lost, 3 leaders killed, no error seen",
        proxies.iter().map(Proxy::cut_count).sum::<u64>()
    ));
}
