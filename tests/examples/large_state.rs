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
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One mutation after the other, and the longest that one took.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Probe {
    fn start(meta: &str) -> Probe {
        let (stop, meta) = (Arc::new(AtomicBool::new(false)), meta.to_owned());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let url = MetaUrl::from_arg_or_env(Some(&meta)).expect("META");
            admin::runtime().block_on(async move {
                let client = MetaClient::connect(MetaConfig::new(&url, None)).await.expect("connects");
                client.open_session(url.volume().expect("volume"), "probe", "none").await.expect("opens");
                let mut took = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    let since = Instant::now();
                    let op = pb::SetattrOp { ino: 1, mode: Some(0o755), ..Default::default() };
                    client.mutate(&pb::Creds::default(), op).await.expect("goes on");
                    took.push(since.elapsed());
                }
                client.close_session().await.expect("closes");
                took
            })
        });
        Probe { stop, thread }
    }

    fn stop(self) -> String {
        self.stop.store(true, Ordering::Relaxed);
        let mut took = self.thread.join().expect("the probe");
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        format!(
            "{} mutations one by one: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            took.len(),
            at(0.5),
            at(0.99),
            at(1.0)
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
    let since = Instant::now();
    crowd::make(&meta, 1, 0..count);
    println!("{count} files made in {:.1} s; memory of the nodes {}", since.elapsed().as_secs_f64(), memory(&cluster));

    let idle = Probe::start(&meta);
    std::thread::sleep(Duration::from_secs(5));
    println!("beside nothing: {}", idle.stop());

    let leader = cluster.leader();
    let probe = Probe::start(&meta);
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
    let probe = Probe::start(&meta);
    let (_, level) = timed_start(&cluster, node);
    println!("all lost, fed by the leader: level after {:.1} s; meanwhile {}", level.as_secs_f64(), probe.stop());
}
