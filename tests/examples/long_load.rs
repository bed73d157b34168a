//! A long load: whether an election happens that nobody needs, and whether what a node keeps on its disk stays bounded.
//!
//!   cargo build --release -p holdfast-metad -p holdfast-client --bins
//!   HOLDFAST_BIN_DIR=$PWD/target/release cargo run -p holdfast-tests --example long_load -- 60
//!
//! Three nodes on this machine that sync their logs, and as much load as they take, for so many minutes: files made, changed and removed, so
//! that the state stays small while the log grows. A second number is a pause between the rounds of a worker, ms: for a machine whose
//! processors something else is to keep busy. A third one stops a follower after the first minute, for so many minutes, and says
//! how it came level again: `long_load 12 300 10`. Prints a line a minute, and the result; the states are verified at the end.

use futures::StreamExt;
use holdfast::config::MetaConfig;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{MetaApi, MetaClient};
use holdfast_proto::pb;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::{admin, crowd, process};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests at once.
const IN_FLIGHT: usize = 128;
/// Files that each of them has at a time.
const FILES: u64 = 200;
const SAMPLE: Duration = Duration::from_secs(2);

/// What was seen so far.
#[derive(Default)]
struct Seen {
    terms: BTreeSet<u64>,
    log_bytes_max: u64,
    disk_bytes_max: u64,
    checkpoints: BTreeSet<u64>,
}

/// What one worker does in its round: a file is made, changed, and an old one removed.
async fn round(client: &MetaClient, worker: usize, round: u64) {
    let creds = pb::Creds::default();
    let name = |round: u64| format!("w{worker}-{round}").into_bytes();
    let create = pb::CreateOp { parent: 1, name: name(round).into(), mode: 0o644, exclusive: true, umask: 0 };
    let made = client.mutate(&creds, create).await.expect("creates").reply;
    let ino = made.attr.map_or(0, |attr| attr.ino);
    client.mutate(&creds, pb::SetattrOp { ino, mode: Some(0o600), ..Default::default() }).await.expect("changes");
    if let Some(old) = round.checked_sub(FILES) {
        client.mutate(&creds, pb::UnlinkOp { parent: 1, name: name(old).into() }).await.expect("removes");
    }
}

fn load(meta: &str, pause: Duration, stop: &AtomicBool, done: &AtomicU64) {
    let url = MetaUrl::from_arg_or_env(Some(meta)).expect("META");
    admin::runtime().block_on(async {
        let client = MetaClient::connect(MetaConfig::new(&url, None)).await.expect("connects");
        client.open_session(url.volume().expect("volume"), "load", "none").await.expect("opens");
        let client = Arc::new(client);
        let answers = tokio::spawn(crowd::answer(client.clone()));
        let client = &*client;
        let work = |worker: usize| async move {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                round(client, worker, number).await;
                tokio::time::sleep(pause).await;
                done.fetch_add(3, Ordering::Relaxed);
            }
        };
        futures::stream::iter((0..IN_FLIGHT).map(work)).buffer_unordered(IN_FLIGHT).for_each(|()| async {}).await;
        answers.abort();
        client.close_session().await.expect("closes");
    });
}

fn disk_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_bytes(&entry.path()),
        Ok(meta) => meta.len(),
        // It went meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

fn look(cluster: &Cluster, seen: &mut Seen) {
    for id in cluster.ids() {
        seen.disk_bytes_max = seen.disk_bytes_max.max(disk_bytes(&cluster.node(id).data_dir()));
        if let Ok(status) = cluster.status(id) {
            seen.terms.insert(status.term);
            seen.log_bytes_max = seen.log_bytes_max.max(status.log_bytes);
            seen.checkpoints.insert(status.checkpoint);
        }
    }
}

/// A follower is stopped for a while; how it is fed afterwards.
fn lag(cluster: &Cluster, minutes: u64) {
    std::thread::sleep(Duration::from_secs(60));
    let leader = cluster.leader();
    let id = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let said_before = cluster.node(id).log().len();
    let applied = cluster.status(id).expect("status").applied;
    cluster.pause(id);
    std::thread::sleep(Duration::from_secs(minutes * 60));
    let target = process::wait_for("the leader", || cluster.status(cluster.leader()).ok()).committed;
    let since = Instant::now();
    cluster.resume(id);
    while cluster.status(id).map_or(0, |status| status.applied) < target {
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = since.elapsed().as_secs_f64();
    let log = cluster.node(id).log();
    let way = if log[said_before..].contains("receives a checkpoint") { "a checkpoint" } else { "the log" };
    println!(
        "node {id} was away for {minutes} minutes and {} entries: level after {took:.1} s, from {way}",
        target - applied
    );
}

fn main() {
    let number = |at: usize| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let away = number(3).unwrap_or(0);
    let (minutes, pause) = (number(1).unwrap_or(60), Duration::from_millis(number(2).unwrap_or(0)));
    let cluster = Cluster::start();
    let meta = cluster.format("v");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let worker = {
        let (stop, done) = (stop.clone(), done.clone());
        std::thread::spawn(move || load(&meta, pause, &stop, &done))
    };
    let mut seen = Seen::default();
    look(&cluster, &mut seen);
    std::thread::scope(|scope| {
        if away > 0 {
            scope.spawn(|| lag(&cluster, away));
        }
        watch(&cluster, &worker, Duration::from_secs(minutes * 60), &done, &mut seen);
    });
    stop.store(true, Ordering::Relaxed);
    worker.join().expect("the load");
    let elections = seen.terms.last().unwrap_or(&0) - seen.terms.first().unwrap_or(&0);
    println!("{elections} elections after the first; {} mutations acknowledged", done.load(Ordering::Relaxed));
}

/// A line a minute.
fn watch(cluster: &Cluster, worker: &JoinHandle<()>, time: Duration, done: &AtomicU64, seen: &mut Seen) {
    let (start, mut said) = (Instant::now(), 0);
    while start.elapsed() < time {
        std::thread::sleep(SAMPLE);
        look(cluster, seen);
        assert!(!worker.is_finished(), "the load ended");
        if start.elapsed().as_secs() / 60 > said {
            said += 1;
            let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let load = load.split(' ').next().unwrap_or_default();
            let (log, disk) = (seen.log_bytes_max >> 20, seen.disk_bytes_max >> 20);
            println!(
                "minute {said}: {} mutations, terms {:?}, {} checkpoints, log at most {log} MiB, node at most {disk} MiB, load average {load}",
                done.load(Ordering::Relaxed),
                seen.terms,
                seen.checkpoints.len(),
            );
        }
    }
}
