//! What a large state costs: checkpoints, restarts, and a node that has lost everything, each under load.
//!
//!   cargo build --release -p holdfast-metad -p holdfast-client --bins
//!   HOLDFAST_BIN_DIR=$PWD/target/release cargo run -p holdfast-tests --example large_state -- 1000000
//!
//! Three nodes on this machine that sync their logs. Prints one line a measurement.

use holdfast::config::MetaConfig;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{MetaApi, MetaClient};
use holdfast_proto::pb;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::{admin, crowd, process};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

/// p50, p99 and the longest, in ms.
fn spread(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(0.5), at(0.99), at(1.0))
}

/// The time of day, as the nodes' logs have it.
fn now() -> String {
    let ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    format!("{:02}:{:02}:{:02}.{:03}Z", ms / 3_600_000 % 24, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000)
}

/// One mutation after the other until told to stop: how long each took, and when the longest ended.
fn mutate(meta: &str, stop: &AtomicBool) -> (Vec<Duration>, String) {
    let url = MetaUrl::from_arg_or_env(Some(meta)).expect("META");
    admin::runtime().block_on(async move {
        let client = MetaClient::connect(MetaConfig::new(&url, None)).await.expect("connects");
        client.open_session(url.volume().expect("volume"), "probe", "none").await.expect("opens");
        let (mut took, mut longest, mut at) = (Vec::new(), Duration::ZERO, String::new());
        while !stop.load(Ordering::Relaxed) {
            let since = Instant::now();
            let op = pb::SetattrOp { ino: 1, mode: Some(0o755), ..Default::default() };
            client.mutate(&pb::Creds::default(), op).await.expect("goes on");
            let one = since.elapsed();
            took.push(one);
            if one > longest {
                (longest, at) = (one, now());
            }
        }
        client.close_session().await.expect("closes");
        (took, at)
    })
}

/// What the machine does to a process that has nothing to do with us: how long a sync of 4 KiB takes on the disk that the nodes have, and
/// how much too late it wakes.
fn machine(dir: &Path, stop: &AtomicBool) -> (Vec<Duration>, Vec<Duration>) {
    const PERIOD: Duration = Duration::from_millis(10);
    let path = dir.join("beside");
    let mut file = std::fs::File::create(&path).expect("a file beside the nodes");
    let (mut syncs, mut late) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        std::thread::sleep(PERIOD);
        late.push(since.elapsed().saturating_sub(PERIOD));
        let since = Instant::now();
        file.write_all(&[7; 4096]).and_then(|()| file.sync_data()).expect("syncs");
        syncs.push(since.elapsed());
    }
    std::fs::remove_file(path).expect("removes");
    (syncs, late)
}

/// Single mutations, and beside them what the machine does to anybody.
struct Probe {
    stop: Arc<AtomicBool>,
    mutations: JoinHandle<(Vec<Duration>, String)>,
    machine: JoinHandle<(Vec<Duration>, Vec<Duration>)>,
}

impl Probe {
    fn start(meta: &str, dir: &Path) -> Probe {
        let stop = Arc::new(AtomicBool::new(false));
        let (meta, stopped) = (meta.to_owned(), stop.clone());
        let mutations = std::thread::spawn(move || mutate(&meta, &stopped));
        let (dir, stopped) = (dir.to_owned(), stop.clone());
        let machine = std::thread::spawn(move || machine(&dir, &stopped));
        Probe { stop, mutations, machine }
    }

    fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let (took, at) = self.mutations.join().expect("the mutations");
        let (syncs, late) = self.machine.join().expect("the machine");
        format!(
            "{} mutations one by one: {} (at {at}); beside them a sync of the same disk: {}; a process woken late: {}",
            took.len(),
            spread(took),
            spread(syncs),
            spread(late)
        )
    }
}

fn rss_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) / 1024
}

fn memory(cluster: &Cluster) -> String {
    format!("{:?} MiB", cluster.ids().iter().filter_map(|&id| cluster.pid(id)).map(rss_mib).collect::<Vec<_>>())
}

/// Starts a node that is down; how long until it is as new as the leader was when it began.
fn timed_start(cluster: &Cluster, id: u64) -> (Duration, Duration) {
    let leader = cluster.leader();
    let target = process::wait_for("the leader", || cluster.status(leader).ok()).committed;
    let since = Instant::now();
    cluster.start_node(id);
    let mut answers = None;
    loop {
        if let Ok(status) = cluster.status(id) {
            answers.get_or_insert(since.elapsed());
            if status.applied >= target && status.ready {
                return (answers.unwrap_or_default(), since.elapsed());
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let cluster = Cluster::start_as(Shape { unverified: true, ..Shape::default() });
    let meta = cluster.format("v");
    let data_dir = cluster.node(1).data_dir();
    let dir = data_dir.parent().expect("it is below the cluster's");
    let since = Instant::now();
    crowd::make(&meta, 1, 0..count);
    println!("{count} files made in {:.1} s; memory of the nodes {}", since.elapsed().as_secs_f64(), memory(&cluster));

    let idle = Probe::start(&meta, dir);
    // As long as the checkpoint of a large state takes: what this machine does by itself is in it, too.
    std::thread::sleep(Duration::from_secs(30));
    println!("beside nothing: {}", idle.stop());

    let leader = cluster.leader();
    let probe = Probe::start(&meta, dir);
    let (made, took) = admin::checkpoint(&cluster.node(leader).addr());
    println!(
        "checkpoint on the leader, from the one before: {:.1} s, {} MiB; {}",
        took.as_secs_f64(),
        made.bytes >> 20,
        probe.stop()
    );
    println!(
        "memory of the nodes {}; log {} MiB",
        memory(&cluster),
        cluster.status(leader).map_or(0, |s| s.log_bytes >> 20)
    );

    let node = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.kill(node);
    let (answers, level) = timed_start(&cluster, node);
    println!(
        "restart after kill -9: answers after {:.2} s, level after {:.2} s",
        answers.as_secs_f64(),
        level.as_secs_f64()
    );

    cluster.kill(node);
    std::fs::remove_dir_all(cluster.node(node).data_dir().join("image")).expect("removes");
    let (_, level) = timed_start(&cluster, node);
    println!("image lost, rebuilt from checkpoint and log: level after {:.1} s", level.as_secs_f64());

    cluster.kill(node);
    std::fs::remove_dir_all(cluster.node(node).data_dir()).expect("removes");
    let probe = Probe::start(&meta, dir);
    let (_, level) = timed_start(&cluster, node);
    println!("all lost, fed by the leader: level after {:.1} s; meanwhile {}", level.as_secs_f64(), probe.stop());
    for id in cluster.ids() {
        let log = cluster.node(id).log();
        let tells = |line: &&str| ["took long to sync", "leader", "leads"].iter().any(|word| line.contains(word));
        log.lines().filter(tells).for_each(|line| println!("node {id}: {line}"));
    }
}
