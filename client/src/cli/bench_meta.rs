//! `holdfast bench-meta`: what the metadata cluster does without FUSE: create, stat, readdir, rename, unlink, with so many operations in
//! flight. Works in a directory of its own in the volume, and removes it.

use super::{ClusterFlags, print_json, print_line};
use crate::error::ClientError;
use crate::meta::admin::cluster_status;
use crate::meta::client::explain_volume;
use crate::meta::{MetaApi, MetaClient};
use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use holdfast_proto::{ROOT_INO, pb};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use std::future::Future;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  holdfast bench-meta
  holdfast bench-meta holdfast://h1:9400,h2:9400,h3:9400/data --secs 10 --depths 1,64 --json

All files are made in one directory of the volume's root, which is removed afterwards. Operations a second depend on whether the
nodes sync their logs (they do, unless metad runs with --no-sync) and on how many replicas answer.";

/// Entries of the directory that readdir lists.
const LISTED_COUNT: u64 = 100;
const READDIR_BYTES: u32 = 64 << 10;
const DEPTH_MAX: usize = 1024;

/// Measure the metadata cluster, without a mount.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// JSON in place of a table
    #[arg(long)]
    pub json: bool,
    /// How long each operation is measured, seconds (unlink: until all is removed)
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub secs: u64,
    /// Operations in flight
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1,16,64,256")]
    pub depths: Vec<usize>,
}

/// # Errors
/// One line that names what to do.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let (url, config) = args.cluster.load()?;
    let volume = url.volume()?.to_owned();
    if let Some(depth) = args.depths.iter().find(|depth| !(1..=DEPTH_MAX).contains(depth)) {
        return Err(ClientError::Usage(format!("--depths {depth}: each must be from 1 to {DEPTH_MAX}")));
    }
    super::block_on(async {
        let views = cluster_status(&config).await;
        let replicas = Replicas { answering: views.iter().filter(|v| v.status.is_ok()).count(), known: views.len() };
        let meta = Arc::new(MetaClient::connect(config).await?);
        let opened = meta.open_session(&volume, &super::host(), "bench-meta").await;
        opened.map_err(|error| explain_volume(error, &volume))?;
        tokio::spawn(super::volume::answer_questions(meta.clone()));
        let rows = Bench::new(&meta, &args).run().await;
        let closed = meta.close_session().await;
        let rows = rows?;
        closed?;
        match args.json {
            true => print_json(&as_json(&rows, &replicas, args.secs)),
            false => print_line(&as_table(&rows, &replicas)),
        }
        Ok(ExitCode::SUCCESS)
    })
}

struct Replicas {
    answering: usize,
    known: usize,
}

/// One operation at one depth.
#[derive(Debug)]
struct Row {
    op: &'static str,
    depth: usize,
    count: u64,
    secs: f64,
    p50_us: u64,
    p99_us: u64,
    max_us: u64,
}

impl Row {
    fn per_sec(&self) -> f64 {
        self.count as f64 / self.secs.max(f64::MIN_POSITIVE)
    }
}

/// What the operations of one phase share.
#[derive(Debug)]
struct Phase {
    next: AtomicU64,
    /// The phase ends when this many were begun ...
    count_max: u64,
    /// ... or at this time.
    until: Option<Instant>,
    interrupted: Arc<AtomicBool>,
}

impl Phase {
    /// Number of the next operation; None at the end.
    fn take(&self) -> Option<u64> {
        let over = self.until.is_some_and(|until| self.interrupted.load(Ordering::Relaxed) || Instant::now() >= until);
        if over {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        (number < self.count_max).then_some(number)
    }

    fn begun(&self) -> u64 {
        self.next.load(Ordering::Relaxed).min(self.count_max)
    }
}

struct Bench<'a> {
    meta: &'a Arc<MetaClient>,
    args: &'a Args,
    bar: ProgressBar,
    rows: Vec<Row>,
    interrupted: Arc<AtomicBool>,
}

type Ino = u64;

impl<'a> Bench<'a> {
    fn new(meta: &'a Arc<MetaClient>, args: &'a Args) -> Bench<'a> {
        let bar = ProgressBar::new(args.depths.len() as u64 * 5);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Bench { meta, args, bar, rows: Vec::new(), interrupted: Arc::default() }
    }

    async fn run(mut self) -> Result<Vec<Row>, ClientError> {
        let interrupted = self.interrupted.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                interrupted.store(true, Ordering::Relaxed);
            }
        });
        let name = format!(".bench-meta-{}-{:08x}", std::process::id(), rand::random::<u32>());
        let root = mkdir(self.meta, ROOT_INO, &name).await?;
        let measured = self.measure_all(root).await;
        self.bar.set_message("removing what is left");
        let removed = remove_tree(self.meta, ROOT_INO, root, &name).await;
        self.bar.finish_and_clear();
        measured?;
        removed.map_err(|error| ClientError::Failed(format!("{error}; /{name} is left in the volume, remove it")))?;
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(ClientError::Failed("interrupted; its directory was removed".to_owned())),
            false => Ok(self.rows),
        }
    }

    async fn measure_all(&mut self, root: Ino) -> Result<(), ClientError> {
        let listed = mkdir(self.meta, root, "listed").await?;
        for number in 0..LISTED_COUNT {
            create(self.meta.clone(), listed, file(number)).await?;
        }
        for &depth in &self.args.depths {
            self.measure(root, listed, depth).await?;
        }
        Ok(())
    }

    async fn measure(&mut self, root: Ino, listed: Ino, depth: usize) -> Result<(), ClientError> {
        let dir_name = format!("d{depth}");
        let dir = mkdir(self.meta, root, &dir_name).await?;
        let made = self.phase("create", depth, u64::MAX, true, move |meta, n| create(meta, dir, file(n))).await?;
        self.phase("stat", depth, u64::MAX, true, move |meta, n| stat(meta, dir, file(n % made.max(1)))).await?;
        self.phase("readdir", depth, u64::MAX, true, move |meta, _| readdir(meta, listed)).await?;
        let moved = self.phase("rename", depth, made, true, move |meta, n| rename(meta, dir, n)).await?;
        let last_name = move |n| if n < moved { renamed(n) } else { file(n) };
        self.phase("unlink", depth, made, false, move |meta, n| unlink(meta, dir, last_name(n))).await?;
        rmdir(self.meta, root, &dir_name).await
    }

    /// Keeps `depth` operations in flight until the time is up or `count_max` are done. How many were done.
    async fn phase<F, Fut>(
        &mut self,
        op: &'static str,
        depth: usize,
        count_max: u64,
        timed: bool,
        call: F,
    ) -> Result<u64, ClientError>
    where
        F: Fn(Arc<MetaClient>, u64) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<(), ClientError>> + Send + 'static,
    {
        self.bar.set_message(format!("{op}, {depth} in flight"));
        let began = Instant::now();
        let until = timed.then(|| began + Duration::from_secs(self.args.secs));
        let interrupted = self.interrupted.clone();
        let phase = Arc::new(Phase { next: AtomicU64::new(0), count_max, until, interrupted });
        let workers: Vec<_> =
            (0..depth).map(|_| tokio::spawn(work(self.meta.clone(), phase.clone(), call.clone()))).collect();
        let mut latencies = new_histogram()?;
        for worker in workers {
            let done = worker.await.map_err(|error| ClientError::Failed(format!("a worker broke off: {error}")))??;
            latencies.add(done).map_err(|error| ClientError::Failed(error.to_string()))?;
        }
        self.rows.push(Row {
            op,
            depth,
            count: latencies.len(),
            secs: began.elapsed().as_secs_f64(),
            p50_us: latencies.value_at_quantile(0.50),
            p99_us: latencies.value_at_quantile(0.99),
            max_us: latencies.max(),
        });
        self.bar.inc(1);
        Ok(phase.begun())
    }
}

async fn work<F, Fut>(meta: Arc<MetaClient>, phase: Arc<Phase>, call: F) -> Result<Histogram<u64>, ClientError>
where
    F: Fn(Arc<MetaClient>, u64) -> Fut,
    Fut: Future<Output = Result<(), ClientError>>,
{
    let mut latencies = new_histogram()?;
    while let Some(number) = phase.take() {
        let began = Instant::now();
        call(meta.clone(), number).await?;
        latencies.saturating_record(began.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

/// Microseconds up to a minute, to one percent.
fn new_histogram() -> Result<Histogram<u64>, ClientError> {
    Histogram::new_with_max(60_000_000, 2).map_err(|error| ClientError::Failed(error.to_string()))
}

fn file(number: u64) -> String {
    format!("f{number}")
}

fn renamed(number: u64) -> String {
    format!("r{number}")
}

async fn mkdir(meta: &MetaClient, parent: Ino, name: &str) -> Result<Ino, ClientError> {
    let op = pb::MkdirOp { parent, name: name.to_owned().into(), mode: 0o700, umask: 0 };
    let answer = meta.mutate(&pb::Creds::default(), op).await?;
    Ok(answer.reply.attr.map_or(0, |attr| attr.ino))
}

async fn rmdir(meta: &MetaClient, parent: Ino, name: &str) -> Result<(), ClientError> {
    let op = pb::RmdirOp { parent, name: name.to_owned().into() };
    meta.mutate(&pb::Creds::default(), op).await.map(drop)
}

/// Removes a directory of ours, however far the measuring came.
async fn remove_tree(meta: &Arc<MetaClient>, parent: Ino, ino: Ino, name: &str) -> Result<(), ClientError> {
    loop {
        let ask = pb::ReaddirQuery { ino, after: 0, bytes_max: READDIR_BYTES, with_attrs: false };
        let entries = meta.query(&pb::Creds::default(), ask).await?.reply.entries;
        if entries.is_empty() {
            return rmdir(meta, parent, name).await;
        }
        for entry in entries {
            let entry_name = String::from_utf8_lossy(&entry.name).into_owned();
            if entry.kind() == pb::FileKind::Directory {
                Box::pin(remove_tree(meta, ino, entry.ino, &entry_name)).await?;
            } else {
                unlink(meta.clone(), ino, entry_name).await?;
            }
        }
    }
}

async fn create(meta: Arc<MetaClient>, parent: Ino, name: String) -> Result<(), ClientError> {
    let op = pb::CreateOp { parent, name: name.into(), mode: 0o600, exclusive: true, umask: 0 };
    meta.mutate(&pb::Creds::default(), op).await.map(drop)
}

async fn stat(meta: Arc<MetaClient>, parent: Ino, name: String) -> Result<(), ClientError> {
    meta.query(&pb::Creds::default(), pb::LookupQuery { parent, name: name.into() }).await.map(drop)
}

async fn readdir(meta: Arc<MetaClient>, ino: Ino) -> Result<(), ClientError> {
    let ask = pb::ReaddirQuery { ino, after: 0, bytes_max: READDIR_BYTES, with_attrs: true };
    let answer = meta.query(&pb::Creds::default(), ask).await?;
    if answer.reply.entries.len() as u64 != LISTED_COUNT {
        let count = answer.reply.entries.len();
        return Err(ClientError::Protocol(format!("readdir gave {count} of {LISTED_COUNT} entries")));
    }
    Ok(())
}

async fn rename(meta: Arc<MetaClient>, parent: Ino, number: u64) -> Result<(), ClientError> {
    let (name, new_name) = (file(number).into(), renamed(number).into());
    let op = pb::RenameOp { parent, name, new_parent: parent, new_name, flags: 0 };
    meta.mutate(&pb::Creds::default(), op).await.map(drop)
}

async fn unlink(meta: Arc<MetaClient>, parent: Ino, name: String) -> Result<(), ClientError> {
    let op = pb::UnlinkOp { parent, name: name.into() };
    meta.mutate(&pb::Creds::default(), op).await.map(drop)
}

const DURABILITY: &str = "as metad was started: logs are synced on a quorum before an answer, unless with --no-sync";

fn as_json(rows: &[Row], replicas: &Replicas, secs: u64) -> Value {
    let row = |row: &Row| {
        json!({
            "op": row.op,
            "in_flight": row.depth,
            "count": row.count,
            "ops_per_sec": row.per_sec().round(),
            "p50_us": row.p50_us,
            "p99_us": row.p99_us,
            "max_us": row.max_us,
        })
    };
    json!({
        "replicas_answering": replicas.answering,
        "replicas_known": replicas.known,
        "durability": DURABILITY,
        "secs": secs,
        "readdir_entries": LISTED_COUNT,
        "results": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn as_table(rows: &[Row], replicas: &Replicas) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["OPERATION", "IN FLIGHT", "OPS/S", "P50 us", "P99 us", "MAX us"]);
    for row in rows {
        let (depth, per_sec) = (row.depth.to_string(), format!("{:.0}", row.per_sec()));
        let times = [row.p50_us, row.p99_us, row.max_us].map(|us| us.to_string());
        table.add_row([row.op.to_owned(), depth, per_sec].into_iter().chain(times));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!(
        "{} of {} replicas answer; durability {DURABILITY}\nreaddir lists {LISTED_COUNT} entries with attributes\n\n{}",
        replicas.answering,
        replicas.known,
        table.trim_fmt()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(count_max: u64, until: Option<Instant>) -> Phase {
        Phase { next: AtomicU64::new(0), count_max, until, interrupted: Arc::default() }
    }

    #[test]
    fn a_phase_hands_out_each_number_once_up_to_its_bound() {
        let phase = phase(3, None);
        let taken: Vec<u64> = std::iter::from_fn(|| phase.take()).collect();
        assert_eq!(taken, [0, 1, 2]);
        assert_eq!(phase.take(), None);
        assert_eq!(phase.begun(), 3);
    }

    #[test]
    fn an_interrupt_ends_what_is_timed_and_lets_the_removal_finish() {
        let timed = phase(9, Some(Instant::now() + Duration::from_secs(3600)));
        timed.interrupted.store(true, Ordering::Relaxed);
        assert_eq!(timed.take(), None);
        let removal = phase(9, None);
        removal.interrupted.store(true, Ordering::Relaxed);
        assert_eq!(removal.take(), Some(0));
    }
}
