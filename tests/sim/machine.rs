//! One machine: a node as metad's server starts it, but for its sockets and threads, on a runtime of its own whose clock stands still
//! between steps. Dropping the runtime is the end of the process, wherever each of its tasks was.

use crate::carry::{Port, answer};
use crate::disk::{Crash, Disk, Lengths};
use crate::net::{Net, address};
use crate::os;
use crate::planted::Planted;
use holdfast_proto::limits::FRAME_BYTES_MAX;
use holdfast_proto::pb::admin_server::AdminServer as AdminRpc;
use holdfast_proto::pb::meta_server::MetaServer as MetaRpc;
use holdfast_proto::pb::raft_server::RaftServer as RaftRpc;
use metad::config::{Config, LogFormat};
use metad::disk_room::DiskRoom;
use metad::error::Fatal;
use metad::identity::{ClusterId, Identity};
use metad::raft::channel::{Caller, ClusterCell, PEER_MESSAGE_BYTES_MAX};
use metad::raft::dial::Dial;
use metad::raft::log_store::LogStore;
use metad::raft::node::{RaftNode, RaftOptions, Timing, build};
use metad::raft::state_machine::NodeStore;
use metad::rpc::door::Door;
use metad::rpc::raft_service::{PeerServer, RaftService};
use metad::rpc::snapshot_inbox::SnapshotInbox;
use metad::rpc::standing::Standing;
use metad::seldom::Seldom;
use metad::server::Parts;
use metad::store::durable::DurableOptions;
use metad::store::node_record::StoreId;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;

const TIMING: Timing = Timing { heartbeat_ms: 50, election_min_ms: 150, election_max_ms: 250 };
const LOG_CHUNK_BYTES: u64 = 64 << 10;
/// States are small here, and a transfer is to take several frames.
const SNAPSHOT_FRAME_BYTES: usize = 1 << 10;

/// What a node is once it has started.
#[derive(Default)]
struct Booted {
    node: Option<Arc<RaftNode>>,
    store: Weak<NodeStore>,
    life: Option<StoreId>,
    standing: Option<Arc<Standing>>,
    failed: Option<String>,
}

struct Process {
    runtime: Runtime,
    booted: Arc<Mutex<Booted>>,
    fatal: Fatal,
    disk: Arc<Disk>,
    started: Instant,
    /// Milliseconds of its own clock at start.
    local_start: u64,
}

pub struct Machine {
    pub id: u64,
    dir: PathBuf,
    lives: u32,
    process: Option<Process>,
    /// Milliseconds that its clock has counted, and how fast it goes, out of 1000.
    local: u64,
    pub rate: u64,
    fraction: u64,
    /// Stopped (as by SIGSTOP) until then.
    pub stopped_until: u64,
    pub slow_disk: bool,
    planted: Planted,
    /// Of the log that a killed process left.
    durable: Option<Lengths>,
    /// It is one of those that found the cluster.
    init: bool,
}

pub fn paused_runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime")
}

impl Machine {
    pub fn new(root: &Path, id: u64, init: bool, planted: Planted) -> Machine {
        let dir = root.join(format!("n{id}"));
        Machine {
            id,
            dir,
            lives: 0,
            process: None,
            local: 0,
            rate: 1000,
            fraction: 0,
            stopped_until: 0,
            slow_disk: false,
            planted,
            durable: None,
            init,
        }
    }

    /// Planted bug: a node whose log is gone goes on as if nothing had happened.
    fn forgets(&self) -> bool {
        self.planted == Planted::ForgottenDisk
    }

    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The node, once it has started.
    pub fn node(&self) -> Option<Arc<RaftNode>> {
        self.process.as_ref()?.booted.lock().node.clone()
    }

    /// Which life of its disk the node has, while it runs.
    pub fn life(&self) -> Option<StoreId> {
        self.process.as_ref()?.booted.lock().life
    }

    /// Whether the node runs, and refuses to vote because it does not know yet that it was let in.
    pub fn learns(&self) -> bool {
        let standing = self.process.as_ref().and_then(|process| process.booted.lock().standing.clone());
        standing.is_some_and(|standing| standing.learns())
    }

    /// Why it could not start, or does not go on.
    pub fn failure(&self) -> Option<String> {
        let process = self.process.as_ref()?;
        let failed = process.booted.lock().failed.clone();
        failed.or_else(|| process.fatal.why())
    }

    pub fn start(&mut self, net: &Arc<Net>, peers: &BTreeMap<u64, String>) {
        os::set_clock(self.local * 1_000_000);
        self.lives += 1;
        let runtime = paused_runtime();
        let wal = self.dir.join("wal");
        let disk = Arc::new(Disk::new(&wal, self.planted, self.durable.take()));
        let (booted, fatal) = (Arc::<Mutex<Booted>>::default(), Fatal::default());
        let port = Arc::new(Port { net: net.clone(), id: self.id });
        let boot = Boot {
            config: self.config(peers),
            port,
            disk: disk.clone(),
            fatal: fatal.clone(),
            forgets: self.forgets(),
        };
        let (outcome, started) = (booted.clone(), runtime.block_on(async { Instant::now() }));
        runtime.spawn(async move {
            if let Err(why) = boot.run(&outcome).await {
                outcome.lock().failed = Some(why);
            }
        });
        self.process = Some(Process { runtime, booted, fatal, disk, started, local_start: self.local });
    }

    fn config(&self, peers: &BTreeMap<u64, String>) -> Config {
        Config {
            id: self.id,
            listen: address(self.id),
            advertise: address(self.id),
            peers: peers.clone(),
            data_dir: self.dir.clone(),
            admin_listen: None,
            log_format: LogFormat::Human,
            rpc_threads: 1,
            checkpoint_log_bytes: LOG_CHUNK_BYTES,
            reserve_bytes: 0,
            session_lease: Duration::from_secs(60),
            init: self.init,
            sync: true,
            tls: None,
            timing: TIMING,
        }
    }

    /// Lets its clock go on, and all happen that is due.
    pub fn step(&mut self, now: u64, tick: u64, rng: &mut StdRng) {
        self.fraction += tick * self.rate;
        self.local += self.fraction / 1000;
        self.fraction %= 1000;
        let Some(process) = &self.process else { return };
        if self.stopped_until > now {
            return;
        }
        os::set_clock(self.local * 1_000_000);
        process.disk.complete(now);
        let target = process.started + Duration::from_millis(self.local - process.local_start);
        process.runtime.block_on(async {
            let behind = target.saturating_duration_since(Instant::now());
            if behind > Duration::from_millis(20) {
                // It was stopped: all of the time has passed at once.
                tokio::time::advance(behind).await;
            }
            tokio::time::sleep_until(target).await;
        });
        let slow = self.slow_disk;
        let latency = || {
            use rand::Rng;
            if slow { rng.random_range(20..300) } else { rng.random_range(1..6) }
        };
        process.disk.settle(latency, now);
    }

    /// Ends the process. Says what became of the log.
    pub fn crash(&mut self, crash: Crash, rng: &mut StdRng) -> String {
        let Some(process) = self.process.take() else { return String::new() };
        os::set_clock(self.local * 1_000_000);
        let wal = self.dir.join("wal");
        // It may have been killed before it made anything.
        std::fs::create_dir_all(&wal).expect("a log's directory");
        let left = self.dir.join("wal.left");
        let story = process.disk.crash(&left, crash, rng).expect("a copy of the log");
        let store = process.booted.lock().store.clone();
        self.durable = (crash == Crash::Kill).then(|| process.disk.durable());
        process.disk.abandon();
        drop(process);
        // Threads of the old life may hold the state for a moment yet.
        while store.strong_count() > 0 {
            std::thread::yield_now();
        }
        std::fs::rename(&wal, self.dir.join(format!("wal.{}", self.lives))).expect("the old log is moved");
        std::fs::rename(&left, &wal).expect("the log that is left");
        story
    }

    /// All is gone. Planted bug: all but its identity.
    pub fn wipe(&self) {
        let identity = self.dir.join("IDENTITY");
        let bytes = std::fs::read(&identity).ok().filter(|_| self.forgets());
        std::fs::remove_dir_all(&self.dir).expect("a disk is lost");
        std::fs::create_dir(&self.dir).expect("an empty disk");
        if let Some(bytes) = bytes {
            std::fs::write(identity, bytes).expect("an identity that was kept");
        }
    }

    /// Runs something on the node's runtime.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(process) = &self.process {
            process.runtime.spawn(work);
        }
    }
}

struct Boot {
    config: Config,
    port: Arc<Port>,
    disk: Arc<Disk>,
    fatal: Fatal,
    forgets: bool,
}

impl Boot {
    /// Opens the state and begins Raft on it. Where the log is gone and there was one, it begins a new life, as the server does.
    async fn build(
        &self,
        identity: &mut Identity,
        cluster: &ClusterCell,
        dial: &Dial,
        booted: &Mutex<Booted>,
    ) -> Result<(RaftNode, LogStore), String> {
        for renewed in [false, true] {
            let state = DurableOptions { cache_bytes: 4 << 20, ..DurableOptions::default() };
            let store =
                NodeStore::open(&self.config.data_dir.join("image"), state).map_err(|error| error.to_string())?;
            let store = Arc::new(store);
            booted.lock().store = Arc::downgrade(&store);
            let (node, log) =
                build(&self.options(identity, cluster, dial), store).await.map_err(|error| error.one_line())?;
            if !node.blank || identity.cluster().is_none() || self.forgets || renewed {
                return Ok((node, log));
            }
            drop(node.raft().shutdown().await);
            drop((node, log));
            while booted.lock().store.strong_count() > 0 {
                tokio::task::yield_now().await;
            }
            identity.renew_store().map_err(|error| error.to_string())?;
        }
        Err("unreachable: a renewed life is taken as it is".to_owned())
    }

    fn options(&self, identity: &Identity, cluster: &ClusterCell, dial: &Dial) -> RaftOptions {
        let config = &self.config;
        RaftOptions {
            id: config.id,
            dir: config.data_dir.clone(),
            addrs: config.peers.clone(),
            caller: Caller { node: config.id, cluster: cluster.clone(), store: identity.store(), target: None },
            dial: dial.clone(),
            timing: config.timing,
            sync: config.sync,
            flush_watch: Some(self.disk.clone()),
            log_chunk_bytes: config.checkpoint_log_bytes,
            snapshot_frame_bytes: SNAPSHOT_FRAME_BYTES,
            learns: identity.learns(),
            fatal: self.fatal.clone(),
        }
    }

    /// As server::run does it.
    async fn run(self, booted: &Arc<Mutex<Booted>>) -> Result<(), String> {
        let mut identity = Identity::open(&self.config.data_dir, self.config.id).map_err(|error| error.to_string())?;
        let cluster = ClusterCell::new(identity.cluster());
        let dial = Dial { tls: None, carrier: Some(self.port.clone()) };
        let (node, log) = self.build(&mut identity, &cluster, &dial, booted).await?;
        let (node, learns) = (Arc::new(node), identity.learns());
        let Boot { config, port, fatal, .. } = self;
        booted.lock().life = Some(identity.store());
        let standing = Standing::new(config.id, identity, cluster.clone(), !node.blank);
        if standing.serves() && cluster.get().is_none() {
            standing.begin(ClusterId::random(), false).map_err(|error| error.to_string())?;
        }
        let room = DiskRoom::new(&config.data_dir, 0).map_err(|error| error.to_string())?;
        let parts = Parts::new(&config, node.clone(), standing.clone(), room, &fatal);
        let door = Door { node: node.clone(), standing: standing.clone(), proposer: parts.proposer.clone() };
        let inbox = SnapshotInbox::new(node.store().checkpoints().path());
        let peers = RaftService { node: node.clone(), door, inbox, strangers: Seldom::default() };
        let mut tasks = JoinSet::new();
        parts.start_background(&mut tasks);
        parts.start_membership(&config, standing.clone(), dial, fatal, &mut tasks);
        let voter = node.clone();
        tasks.spawn(async move { voter.take_part(learns).await });
        tasks.spawn(async move { log.keep_mark().await });
        {
            let mut booted = booted.lock();
            (booted.node, booted.standing) = (Some(node), Some(standing.clone()));
        }
        serve(port.net.clone(), config.id, peers, parts).await;
        Ok(())
    }
}

async fn serve(net: Arc<Net>, id: u64, peers: RaftService, parts: Parts) {
    let raft = RaftRpc::new(PeerServer(Arc::new(peers)))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    let meta = MetaRpc::new(parts.meta).max_decoding_message_size(FRAME_BYTES_MAX);
    let admin = AdminRpc::new(parts.admin);
    let mut door = net.open_door(id);
    while let Some(incoming) = door.recv().await {
        let net = net.clone();
        if incoming.uri.path().contains("Raft/") {
            tokio::spawn(answer(net, raft.clone(), incoming));
        } else if incoming.uri.path().contains("Admin/") {
            tokio::spawn(answer(net, admin.clone(), incoming));
        } else {
            tokio::spawn(answer(net, meta.clone(), incoming));
        }
    }
}
