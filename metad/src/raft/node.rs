//! RaftNode: one member of the Raft group, on a thread and runtime of its own. Started by server; used by rpc and background, which
//! see no openraft type but those of raft/types.

use super::channel::Caller;
use super::checkpointing::{Checkpointing, unreadable};
use super::dial::Dial;
use super::log_flush::FlushWatch;
use super::log_store::{LogStore, LogStoreError, LogStoreOptions};
use super::network::PeerNetwork;
use super::state_machine::{FreshCheckpoint, NodeStore, StateMachine};
use super::types::{Command, EntryResponder, LogId, Raft, TypeConfig};
use crate::error::{Fatal, MetadError};
use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::ReadPolicy;
use openraft::{Config, RaftMetrics, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Part of the lease that is trusted for local reads: the rest is for clocks that run at different rates.
const LEASE_TRUST: f64 = 0.8;
/// Beyond the largest election timeout, how long a restarted voter holds its vote back.
const VOTE_DRIFT: Duration = Duration::from_millis(100);
const READ_INDEX_DEADLINE: Duration = Duration::from_secs(2);
/// Silence after which a node is not ready: many heartbeats, so that no load makes a monitor flap.
const READY_SILENCE_MAX: Duration = Duration::from_secs(2);
const TRANSFER_POLL: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub heartbeat_ms: u64,
    pub election_min_ms: u64,
    pub election_max_ms: u64,
}

pub struct RaftOptions {
    pub id: u64,
    pub dir: PathBuf,
    pub addrs: BTreeMap<u64, String>,
    pub caller: Caller,
    pub dial: Dial,
    pub timing: Timing,
    pub sync: bool,
    pub flush_watch: Option<Arc<dyn FlushWatch>>,
    /// The log goes file by file: of about this size.
    pub log_chunk_bytes: u64,
    /// A checkpoint goes to a peer in pieces of this size.
    pub snapshot_frame_bytes: usize,
    /// It must not stand for election before it is told to.
    pub learns: bool,
    pub fatal: Fatal,
}

/// Who leads, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leadership {
    pub term: u64,
    pub leader: Option<u64>,
    pub is_self: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("another node leads")]
    NotLeader,
    #[error("no quorum answered")]
    NoQuorum,
}

type Metrics = openraft::alias::WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>;

/// Wakes with every change of Raft's state.
pub struct Changes(Metrics);

impl Changes {
    /// False: Raft has stopped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

/// One look at Raft's state.
pub struct Facts {
    pub role: &'static str,
    pub leader: Option<u64>,
    pub term: u64,
    pub last_log: u64,
    pub committed: u64,
    pub applied: u64,
}

fn role(state: ServerState) -> &'static str {
    match state {
        ServerState::Leader => "leader",
        ServerState::Follower => "follower",
        ServerState::Candidate => "candidate",
        ServerState::Learner => "learner",
        ServerState::Shutdown => "shutdown",
    }
}

pub struct RaftNode {
    pub id: u64,
    /// At start there was neither vote nor log: this node knows nothing of what it may have promised before.
    pub blank: bool,
    pub(super) raft: Raft,
    pub(super) store: Arc<NodeStore>,
    pub(super) metrics: Metrics,
    /// The cluster has been founded. Once true, always true.
    pub(super) founded: AtomicBool,
    addrs: BTreeMap<u64, String>,
    lease_trusted: Duration,
    /// From then on this node may vote: until then a lease that it granted before a restart may still hold.
    votes_from: Instant,
    /// Newest term in which this node began to hand over leadership: from then on its lease says nothing.
    transferred_term: AtomicU64,
    /// When a peer last sent this node entries or a heartbeat.
    heard: Mutex<Option<Instant>>,
    pub(super) checkpoints: Checkpointing,
    /// Received checkpoints that are on their way into the state.
    rebuilds: Arc<AtomicU64>,
    pub(super) fatal: Fatal,
}

/// While one of these lives, the state of this node is being replaced.
pub struct Rebuilding(Arc<AtomicU64>);

impl Drop for Rebuilding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The thread that Raft runs on.
pub struct RaftThread {
    pub node: Arc<RaftNode>,
    /// For what must run beside Raft: the peer server.
    pub handle: tokio::runtime::Handle,
    stop: watch::Sender<bool>,
    thread: std::thread::JoinHandle<()>,
}

fn raft_config(timing: &Timing) -> Result<Config, MetadError> {
    let config = Config {
        cluster_name: "holdfast".to_owned(),
        heartbeat_interval: timing.heartbeat_ms,
        election_timeout_min: timing.election_min_ms,
        election_timeout_max: timing.election_max_ms,
        install_snapshot_timeout: 600_000,
        // When checkpoints are made, and what of the log goes then, is decided in raft/checkpointing. What is left of the log is always the
        // cheaper way to feed a follower.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: 1 << 40,
        replication_lag_threshold: 1 << 41,
        max_payload_entries: 1024,
        enable_elect: false,
        enable_pre_vote: Some(true),
        // A leader that restarts within its term may have lost entries that it had sent out and not synced: leading on, it would give
        // their log ids to others.
        enable_leader_restore: Some(false),
        // A follower may have lost its last second, which its mark does not tell (raft/log_mark): it is fed again. Without this the leader
        // would stop, or never feed it.
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    config.validate().map_err(|error| MetadError::Config(format!("raft timing: {error}")))
}

fn has_state(store: &NodeStore) -> Result<bool, MetadError> {
    Ok(store.image_index() > 0 || !store.checkpoints().stored().map_err(unreadable(store))?.is_empty())
}

/// An image that was lost, or is older than the log reaches back, is built anew from a checkpoint before Raft begins.
fn recover_state(store: &NodeStore, log: &LogStore) -> Result<(), MetadError> {
    let purged = log.purged_index();
    if store.recover(purged).map_err(unreadable(store))? { Ok(()) } else { Err(MetadError::StateLost { purged }) }
}

/// Raft on the runtime of the caller, who has to poll `RaftNode::take_part`. Returns when the committed log has been applied.
///
/// # Errors
/// The log or the state cannot be opened.
pub async fn build(options: &RaftOptions, store: Arc<NodeStore>) -> Result<(RaftNode, LogStore), MetadError> {
    let (sync, chunk_bytes, watch) = (options.sync, options.log_chunk_bytes, options.flush_watch.clone());
    let log_options = LogStoreOptions { sync, chunk_bytes, watch };
    let log = LogStore::open(&options.dir.join("wal"), log_options, options.fatal.clone())?;
    let voted = log.has_vote();
    let blank = !voted && log.last_log_id().is_none();
    if blank && has_state(&store)? {
        return Err(LogStoreError::Lost { path: options.dir.join("wal"), applied: store.image_index() }.into());
    }
    recover_state(&store, &log)?;
    let fresh = FreshCheckpoint::default();
    let machine = StateMachine::new(store.clone(), fresh.clone(), options.fatal.clone());
    let election_max = Duration::from_millis(options.timing.election_max_ms);
    let votes_from = Instant::now() + if voted { election_max + VOTE_DRIFT } else { Duration::ZERO };
    let (caller, addrs, dial) = (options.caller.clone(), options.addrs.clone(), options.dial.clone());
    let network =
        PeerNetwork { caller, state: store.clone(), addrs, dial, snapshot_frame_bytes: options.snapshot_frame_bytes };
    let config = Arc::new(raft_config(&options.timing)?);
    let raft = Raft::new(options.id, config, network, log.clone(), machine)
        .await
        .map_err(|error| MetadError::Raft(error.to_string()))?;
    let node = RaftNode {
        id: options.id,
        blank,
        founded: AtomicBool::new(false),
        metrics: raft.metrics(),
        raft,
        store,
        addrs: options.addrs.clone(),
        lease_trusted: election_max.mul_f64(LEASE_TRUST),
        votes_from,
        transferred_term: AtomicU64::new(0),
        heard: Mutex::new(None),
        checkpoints: Checkpointing::new(log.clone(), fresh),
        rebuilds: Arc::default(),
        fatal: options.fatal.clone(),
    };
    Ok((node, log))
}

/// Starts Raft on its own thread and returns when the committed log has been applied.
///
/// # Errors
/// The log or the state cannot be opened.
pub async fn start(options: RaftOptions, store: Arc<NodeStore>) -> Result<RaftThread, MetadError> {
    let (stop, stopped) = watch::channel(false);
    let (ready, started) = oneshot::channel();
    let body = move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(source) => return drop(ready.send(Err(MetadError::Start { what: "raft runtime", source }))),
        };
        runtime.block_on(run(options, store, ready, stopped));
    };
    let thread = std::thread::Builder::new()
        .name("raft".to_owned())
        .spawn(body)
        .map_err(|source| MetadError::Start { what: "raft thread", source })?;
    let (node, handle) = started.await.map_err(|_| MetadError::Raft("its thread ended at start".to_owned()))??;
    Ok(RaftThread { node, handle, stop, thread })
}

type Ready = oneshot::Sender<Result<(Arc<RaftNode>, tokio::runtime::Handle), MetadError>>;

async fn run(options: RaftOptions, store: Arc<NodeStore>, ready: Ready, mut stopped: watch::Receiver<bool>) {
    let (node, log) = match build(&options, store).await {
        Ok((node, log)) => (Arc::new(node), log),
        Err(error) => return drop(ready.send(Err(error))),
    };
    if ready.send(Ok((node.clone(), tokio::runtime::Handle::current()))).is_err() {
        return;
    }
    tokio::select! {
        _ = stopped.wait_for(|stop| *stop) => {}
        () = node.take_part(options.learns) => {}
        // A failure poisons the log, which ends the node.
        () = log.keep_mark() => {}
    }
    if let Err(error) = node.raft.shutdown().await {
        tracing::warn!(%error, "raft core did not stop in order");
    }
    if let Err(error) = log.flush().await {
        tracing::warn!(%error, "last flush of the raft log");
    }
}

impl RaftThread {
    /// Stops Raft, flushes the log and ends the thread.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let thread = self.thread;
        if tokio::task::spawn_blocking(move || thread.join()).await.is_err() {
            tracing::warn!("the raft thread could not be joined");
        }
    }
}

impl RaftNode {
    pub fn store(&self) -> &NodeStore {
        &self.store
    }

    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Follows every change of Raft's state from now on.
    pub fn watch(&self) -> Changes {
        Changes(self.metrics.clone())
    }

    /// What an operator wants to know.
    pub fn facts(&self) -> Facts {
        self.metrics(|metrics| Facts {
            role: role(metrics.state),
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
        })
    }

    /// The newest entry known to be committed. Where a checkpoint that is yet to be installed stands for it, the log does not hold it.
    pub fn committed(&self) -> Option<LogId> {
        self.metrics(|metrics| metrics.local_committed)
    }

    pub(super) fn metrics<R>(&self, look: impl FnOnce(&RaftMetrics<TypeConfig>) -> R) -> R {
        look(&self.metrics.borrow_watched())
    }

    pub fn may_vote(&self) -> bool {
        Instant::now() >= self.votes_from
    }

    /// From now on this node may become the leader.
    pub async fn stand_for_election(&self) {
        tokio::time::sleep_until(self.votes_from).await;
        self.raft.runtime_config().elect(true);
    }

    pub fn leadership(&self) -> Leadership {
        self.metrics(|metrics| Leadership {
            term: metrics.current_term,
            leader: metrics.current_leader,
            is_self: metrics.state == ServerState::Leader && metrics.current_leader == Some(self.id),
        })
    }

    /// Advertised address of the leader, empty where unknown.
    pub fn leader_addr(&self) -> String {
        self.metrics(|metrics| metrics.current_leader.map(|leader| self.addr_in(metrics, leader)).unwrap_or_default())
    }

    pub(super) fn addr_in(&self, metrics: &RaftMetrics<TypeConfig>, id: u64) -> String {
        let stored = || metrics.membership_config.membership().get_node(&id).map(|node| node.addr.clone());
        self.addrs.get(&id).cloned().or_else(stored).unwrap_or_default()
    }

    /// Log index that the durable image is of.
    pub fn image_index(&self) -> u64 {
        self.store.image_index()
    }

    /// Called when a checkpoint begins to arrive.
    pub fn rebuilding(&self) -> Rebuilding {
        self.rebuilds.fetch_add(1, Ordering::SeqCst);
        Rebuilding(self.rebuilds.clone())
    }

    /// Called with each append of a peer that was let in.
    pub fn hear_peer(&self) {
        *self.heard.lock() = Some(Instant::now());
    }

    /// Whether this node can serve: it leads, and a quorum has lately answered it; or it follows, and has lately heard its leader. What
    /// it remembers of a leader from before a restart proves neither. One that does not vote yet is not counted on.
    pub fn is_ready(&self) -> bool {
        let heard = *self.heard.lock();
        self.metrics(|metrics| {
            let serves = match metrics.state {
                ServerState::Leader => self.has_quorum(metrics, READY_SILENCE_MAX),
                _ => heard.is_some_and(|at| at.elapsed() < READY_SILENCE_MAX),
            };
            let votes = metrics.membership_config.membership().voter_ids().any(|id| id == self.id);
            let whole = self.rebuilds.load(Ordering::SeqCst) == 0;
            metrics.running_state.is_ok() && metrics.current_leader.is_some() && serves && votes && whole
        }) && self.is_founded()
    }

    /// Whether a quorum has answered this leader within the last `silence`; alone, it is one.
    fn has_quorum(&self, metrics: &RaftMetrics<TypeConfig>, silence: Duration) -> bool {
        let now = <openraft::alias::InstantOf<TypeConfig> as openraft::Instant>::now();
        let alone = metrics.membership_config.membership().voter_ids().eq([self.id]);
        alone || metrics.last_quorum_acked.is_some_and(|acked| now < *acked + silence)
    }

    /// Hands an entry to Raft without waiting. False: Raft did not take it, and will not answer.
    pub fn propose(&self, command: Command, responder: EntryResponder) -> bool {
        // The channel to the core holds thousands and we have two proposals outstanding, so this never has to wait. Unconstrained:
        // tokio's cooperative budget must not be mistaken for a full channel.
        let submit = self.raft.client_write_ff(command, Some(responder));
        matches!(tokio::task::unconstrained(submit).now_or_never(), Some(Ok(())))
    }

    /// Whether this node leads for certain at this instant, and has applied all that earlier leaders acknowledged. Then its own
    /// state answers linearizably: only this node acknowledges writes while the lease holds, and only after applying them.
    pub fn lease_is_sure(&self) -> bool {
        self.metrics(|metrics| {
            let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(self.id);
            let term = metrics.current_term;
            let lease = self.has_quorum(metrics, self.lease_trusted);
            let holds = leads && lease && self.transferred_term.load(Ordering::SeqCst) < term;
            holds && self.has_applied_own(metrics)
        })
    }

    /// Asks a quorum whether this node leads, and waits until the state is as new as the question.
    ///
    /// # Errors
    /// It does not lead, or no quorum answered in time.
    pub async fn read_index(&self) -> Result<(), ReadError> {
        let round = async {
            let linearizer =
                self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(|error| match error {
                    RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => ReadError::NotLeader,
                    _ => ReadError::NoQuorum,
                })?;
            match linearizer.try_await_ready(&self.raft, Some(READ_INDEX_DEADLINE)).await {
                Ok(Ok(_)) => Ok(()),
                _ => Err(ReadError::NoQuorum),
            }
        };
        tokio::time::timeout(READ_INDEX_DEADLINE, round).await.unwrap_or(Err(ReadError::NoQuorum))
    }

    /// The voter, other than this node, whose log is longest.
    fn best_successor(&self) -> Option<u64> {
        self.metrics(|metrics| {
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            let replication = metrics.replication.as_ref()?;
            let others = replication.iter().filter(|(id, _)| **id != self.id && voters.contains(id));
            others.max_by_key(|(_, matched)| matched.map(|id| id.index)).map(|(id, _)| *id)
        })
    }

    /// Hands leadership to `to` (or the best successor), and waits until another node leads. Returns the leader then.
    ///
    /// # Errors
    /// This node does not lead, there is nobody to lead instead, or it took longer than `deadline`.
    pub async fn transfer_leader(&self, to: Option<u64>, deadline: Duration) -> Result<u64, MetadError> {
        let before = self.leadership();
        if !before.is_self {
            return Err(MetadError::Raft("this node does not lead".to_owned()));
        }
        let to = to.or_else(|| self.best_successor()).filter(|to| *to != self.id);
        let to = to.filter(|to| self.votes(*to)).ok_or_else(|| MetadError::Raft("no such other voter".to_owned()))?;
        self.transferred_term.fetch_max(before.term, Ordering::SeqCst);
        self.raft.trigger().transfer_leader(to).await.map_err(|error| MetadError::Raft(error.to_string()))?;
        let moved = async {
            loop {
                match self.leadership() {
                    Leadership { leader: Some(leader), .. } if leader != self.id => return leader,
                    _ => tokio::time::sleep(TRANSFER_POLL).await,
                }
            }
        };
        tokio::time::timeout(deadline, moved)
            .await
            .map_err(|_| MetadError::Raft(format!("node {to} did not take over in {deadline:?}")))
    }

    /// Whether the core still answers. Used by the watchdog.
    pub async fn core_answers(&self, within: Duration) -> bool {
        matches!(tokio::time::timeout(within, self.raft.with_raft_state(|_| ())).await, Ok(Ok(())))
    }

    /// Runs until Raft has stopped. `learns`: it must not stand for election before it is told to.
    pub async fn take_part(&self, learns: bool) {
        if !self.blank && !learns {
            self.stand_for_election().await;
        }
        self.watch_core().await;
    }

    /// Raises Fatal when the core has died (openraft issue 2116: the process would live on without it).
    async fn watch_core(&self) {
        let mut metrics = self.metrics.clone();
        loop {
            let running = metrics.borrow_watched().running_state.clone();
            if let Err(error) = running
                && !matches!(error, openraft::errors::Fatal::Stopped)
            {
                tracing::error!(%error, "raft core has died");
                self.fatal.raise(format!("raft core has died: {error}"));
            }
            if metrics.changed().await.is_err() {
                self.fatal.raise("raft core has gone");
                return;
            }
        }
    }
}
