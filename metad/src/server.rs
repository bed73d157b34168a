//! The wiring of one node: what starts after what, and stops before what. Called by main.
//!
//! Start: identity, listener, store, Raft (which applies its committed log), peers, clients, background (which founds or joins).
//! Stop: hand over leadership, background, clients, peers, Raft (which flushes its log).

use crate::background::{
    checkpointer, join::Join, leader_watch, membership::Keeper, orphan_reclaim::OrphanReclaim, session_reaper,
    trash::TrashEmptier,
};
use crate::clock::SystemClock;
use crate::config::{Config, TlsPaths};
use crate::disk_room::DiskRoom;
use crate::error::{Fatal, MetadError};
use crate::identity::{ClusterId, Identity};
use crate::raft::channel::{CONNECTION_WINDOW_BYTES, Caller, ClusterCell, PEER_MESSAGE_BYTES_MAX, STREAM_WINDOW_BYTES};
use crate::raft::dial::Dial;
use crate::raft::network::SNAPSHOT_FRAME_BYTES;
use crate::raft::node::{RaftNode, RaftOptions, RaftThread};
use crate::raft::state_machine::NodeStore;
use crate::rpc::admin_service::{AdminServer, AdminService};
use crate::rpc::door::Door;
use crate::rpc::listener;
use crate::rpc::meta_service::{MetaServer, MetaService};
use crate::rpc::propose::Proposer;
use crate::rpc::push::Hub;
use crate::rpc::raft_service::{PeerServer, RaftService};
use crate::rpc::read_gate::ReadGate;
use crate::rpc::snapshot_inbox::SnapshotInbox;
use crate::rpc::standing::Standing;
use crate::rpc::upkeep::{UpkeepServer, UpkeepService};
use crate::rpc::verify::Verifier;
use crate::seldom::Seldom;
use crate::store::durable::DurableOptions;
use holdfast_proto::limits::{FRAME_BYTES_MAX, UPKEEP_MESSAGE_BYTES_MAX};
use holdfast_proto::pb::admin_server::AdminServer as AdminRpc;
use holdfast_proto::pb::meta_server::MetaServer as MetaRpc;
use holdfast_proto::pb::raft_server::RaftServer as RaftRpc;
use holdfast_proto::pb::upkeep_server::UpkeepServer as UpkeepRpc;
use sd_notify::NotifyState;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Identity as TlsIdentity, Server, ServerTlsConfig};

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const HANDOVER_DEADLINE: Duration = Duration::from_secs(1);
/// What waits on streams is sent within this time when the node stops.
const DRAIN: Duration = Duration::from_millis(100);
const WATCHDOG_CORE_DEADLINE: Duration = Duration::from_secs(2);

struct Tls {
    server: ServerTlsConfig,
    client: ClientTlsConfig,
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, MetadError> {
    std::fs::read(path).map_err(|source| MetadError::File { what, path: path.to_owned(), source })
}

/// Mutual TLS: the same CA vouches for peers and clients, and this node's certificate serves both ways.
fn load_tls(paths: &TlsPaths) -> Result<Tls, MetadError> {
    let ca = Certificate::from_pem(read("read TLS CA", &paths.ca)?);
    let own = TlsIdentity::from_pem(read("read TLS certificate", &paths.cert)?, read("read TLS key", &paths.key)?);
    Ok(Tls {
        server: ServerTlsConfig::new().identity(own.clone()).client_ca_root(ca.clone()),
        client: ClientTlsConfig::new().ca_certificate(ca).identity(own),
    })
}

fn server_builder(tls: Option<&Tls>) -> Result<Server, MetadError> {
    let builder = Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT));
    match tls {
        Some(tls) => builder.tls_config(tls.server.clone()).map_err(|error| MetadError::Tls(error.to_string())),
        None => Ok(builder),
    }
}

async fn bind(addr: &str) -> Result<TcpListener, MetadError> {
    TcpListener::bind(addr).await.map_err(|source| MetadError::Listen { addr: addr.to_owned(), source })
}

/// Opens the state and starts Raft on it. Where the log is damaged or gone, this node has lost what it promised: all of its old life is
/// set aside, and it begins a new one that knows nothing.
async fn start_raft(
    config: &Config,
    identity: &mut Identity,
    cluster: &ClusterCell,
    dial: &Dial,
    fatal: &Fatal,
) -> Result<RaftThread, MetadError> {
    let mut renewed = false;
    if identity.is_new() && config.data_dir.join("wal").exists() {
        let kept = identity.set_aside()?;
        tracing::error!(kept = %kept.display(), "there is a log without an identity: it is set aside, and this node joins as new");
    }
    loop {
        let image = config.data_dir.join("image");
        let store = NodeStore::open(&image, DurableOptions::default());
        let store = Arc::new(store.map_err(|source| MetadError::OpenState { path: image, source })?);
        let options = RaftOptions {
            id: config.id,
            dir: config.data_dir.clone(),
            addrs: config.peers.clone(),
            caller: Caller { node: config.id, cluster: cluster.clone(), store: identity.store(), target: None },
            dial: dial.clone(),
            timing: config.timing,
            sync: config.sync,
            flush_watch: None,
            log_chunk_bytes: config.checkpoint_log_bytes,
            snapshot_frame_bytes: SNAPSHOT_FRAME_BYTES,
            learns: identity.learns(),
            fatal: fatal.clone(),
        };
        match crate::raft::node::start(options, store).await {
            Err(lost) if lost.is_loss() => {
                let why = lost.one_line();
                let aside = identity.set_aside()?;
                tracing::error!(
                    why,
                    kept = %aside.display(),
                    store = %identity.store(),
                    "this node has lost what it promised: what is left is set aside; it never votes on it, and joins again as new"
                );
            }
            // Before it took part for the first time there was no cluster in its identity.
            Ok(raft) if raft.node.blank && identity.cluster().is_some() && !renewed => {
                raft.stop().await;
                identity.renew_store()?;
                tracing::error!(store = %identity.store(), "this node's log is gone: it joins again as new");
            }
            started => return started,
        }
        renewed = true;
    }
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// It cannot start, or must not go on.
pub async fn run(config: Config) -> Result<(), MetadError> {
    let fatal = Fatal::default();
    let prometheus = crate::metrics::install().map_err(|error| MetadError::Config(format!("metrics: {error}")))?;
    let mut identity = Identity::open(&config.data_dir, config.id)?;
    let cluster = ClusterCell::new(identity.cluster());
    let tls = config.tls.as_ref().map(load_tls).transpose()?;
    let listener = bind(&config.listen).await?;
    let admin = match &config.admin_listen {
        Some(addr) => Some(bind(addr).await?),
        None => None,
    };
    let dial = Dial { tls: tls.as_ref().map(|tls| tls.client.clone()), carrier: None };
    let raft = start_raft(&config, &mut identity, &cluster, &dial, &fatal).await?;
    let node = raft.node.clone();
    let standing = Standing::new(config.id, identity, cluster.clone(), !node.blank);
    if standing.serves() && cluster.get().is_none() {
        // Its founding was cut off before anybody else knew of it.
        standing.begin(ClusterId::random(), false)?;
    }
    let room = DiskRoom::new(&config.data_dir, config.reserve_bytes).map_err(|source| MetadError::File {
        what: "ask for free space",
        path: config.data_dir.clone(),
        source,
    })?;
    let parts = Parts::new(&config, node.clone(), standing.clone(), room.clone(), &fatal);
    let (split, accept) = listener::split(listener);
    let mut tasks = JoinSet::new();
    let peers = RaftService {
        node: node.clone(),
        door: Door { node: node.clone(), standing: standing.clone(), proposer: parts.proposer.clone() },
        inbox: SnapshotInbox::new(node.store().checkpoints().path()),
        strangers: Seldom::default(),
    };
    tasks.spawn_on(serve_peers(server_builder(tls.as_ref())?, peers, split.peers), &raft.handle);
    tasks.spawn(parts.clone().serve_clients(server_builder(tls.as_ref())?, split.clients));
    tasks.spawn(accept);
    if let Some(admin) = admin {
        tasks.spawn(crate::rpc::admin_http::serve(admin, node.clone(), prometheus));
    }
    parts.start_background(&mut tasks);
    tasks.spawn(room.clone().watch());
    tasks.spawn(checkpointer::run(node.clone(), room, config.checkpoint_log_bytes));
    parts.start_membership(&config, standing, dial, fatal.clone(), &mut tasks);
    tracing::info!(id = config.id, listen = config.listen, "ready");
    notify(&[NotifyState::Ready]);
    tasks.spawn(feed_watchdog(node));
    let end = wait_for_end(&fatal).await;
    notify(&[NotifyState::Stopping]);
    stop(raft, parts, tasks, end.is_ok()).await;
    end
}

/// The parts of a node that serve clients. The simulation runs them, too.
#[derive(Clone)]
pub struct Parts {
    pub node: Arc<RaftNode>,
    hub: Arc<Hub>,
    pub proposer: Arc<Proposer>,
    pub meta: MetaServer,
    pub admin: AdminServer,
    upkeep: UpkeepServer,
}

impl Parts {
    pub fn new(
        config: &Config,
        node: Arc<RaftNode>,
        standing: Arc<Standing>,
        room: Arc<DiskRoom>,
        fatal: &Fatal,
    ) -> Parts {
        let cluster = standing.cluster.clone();
        let hub = Arc::new(Hub::new(config.session_lease));
        let runtime = tokio::runtime::Handle::current();
        let proposer = Proposer::new(node.clone(), hub.clone(), Arc::new(SystemClock), room.clone(), runtime);
        let gate = ReadGate::new(node.clone(), fatal.clone());
        let meta = MetaService {
            node: node.clone(),
            cluster: cluster.clone(),
            proposer: proposer.clone(),
            gate,
            hub: hub.clone(),
        };
        let (addr, verifier) = (config.advertise.clone(), Arc::new(Verifier::new(node.clone())));
        let upkeep = UpkeepService { node: node.clone(), proposer: proposer.clone(), verifier: verifier.clone() };
        let admin = AdminService {
            node: node.clone(),
            cluster,
            hub: hub.clone(),
            addr,
            room,
            verifier,
            proposer: proposer.clone(),
            standing,
        };
        let (meta, admin) = (MetaServer(Arc::new(meta)), AdminServer(Arc::new(admin)));
        Parts { node, hub, proposer, meta, admin, upkeep: UpkeepServer(Arc::new(upkeep)) }
    }

    async fn serve_clients(self, mut builder: Server, streams: mpsc::Receiver<TcpStream>) {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<MetaRpc<MetaServer>>().await;
        let meta = MetaRpc::new(self.meta)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX);
        let upkeep = UpkeepRpc::new(self.upkeep)
            .max_decoding_message_size(UPKEEP_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(UPKEEP_MESSAGE_BYTES_MAX);
        let server = builder.add_service(health_service).add_service(AdminRpc::new(self.admin)).add_service(upkeep);
        let server = server.add_service(meta);
        if let Err(error) = server.serve_with_incoming(listener::incoming(streams)).await {
            tracing::error!(%error, "clients' server ended");
        }
    }

    /// What runs beside them: each ends with the node.
    pub fn start_background(&self, tasks: &mut JoinSet<()>) {
        let Parts { node, hub, proposer, .. } = self.clone();
        tasks.spawn(proposer.clone().sweep());
        tasks.spawn(leader_watch::run(node.clone(), hub.clone()));
        tasks.spawn(session_reaper::run(node.clone(), hub.clone(), proposer.clone()));
        let emptier = TrashEmptier { node: node.clone(), proposer: proposer.clone(), clock: Arc::new(SystemClock) };
        tasks.spawn(emptier.run());
        tasks.spawn(OrphanReclaim { node, hub, proposer }.run());
    }

    /// Founds or joins, and on the leader keeps the members.
    pub fn start_membership(
        &self,
        config: &Config,
        standing: Arc<Standing>,
        dial: Dial,
        fatal: Fatal,
        tasks: &mut JoinSet<()>,
    ) {
        let Parts { node, proposer, .. } = self.clone();
        let (peers, init) = (config.peers.clone(), config.init);
        let (dialled, kept) = (dial.clone(), standing.clone());
        let keeper = Keeper { node: node.clone(), standing: kept, proposer, dial: dialled, peers, init };
        tasks.spawn(keeper.run());
        tasks.spawn(Join::new(node, standing, config, dial, fatal).run());
    }
}

async fn serve_peers(mut builder: Server, service: RaftService, streams: mpsc::Receiver<TcpStream>) {
    let raft = RaftRpc::new(PeerServer(Arc::new(service)))
        .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX);
    if let Err(error) = builder.add_service(raft).serve_with_incoming(listener::incoming(streams)).await {
        tracing::error!(%error, "peers' server ended");
    }
}

/// Tells systemd that this process is alive for as long as its Raft core is.
async fn feed_watchdog(node: Arc<RaftNode>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut ticks = tokio::time::interval(limit / 3);
    loop {
        ticks.tick().await;
        if node.core_answers(WATCHDOG_CORE_DEADLINE).await {
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(state: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell.
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "notify systemd");
    }
}

async fn wait_for_end(fatal: &Fatal) -> Result<(), MetadError> {
    let listen = |kind| signal(kind).map_err(|source| MetadError::Start { what: "signal handler", source });
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => tracing::info!("stops: SIGTERM"),
        _ = interrupt.recv() => tracing::info!("stops: SIGINT"),
        why = fatal.wait() => return Err(MetadError::Fatal(why)),
    }
    Ok(())
}

async fn stop(raft: RaftThread, parts: Parts, mut tasks: JoinSet<()>, in_order: bool) {
    if in_order && parts.node.leadership().is_self {
        match parts.node.transfer_leader(None, HANDOVER_DEADLINE).await {
            Ok(leader) => tracing::info!(leader, "handed over leadership"),
            Err(error) => tracing::info!(%error, "stops without handing over leadership"),
        }
    }
    parts.hub.close_all("this node stops");
    tokio::time::sleep(DRAIN).await;
    tasks.abort_all();
    while tasks.join_next().await.is_some() {}
    raft.stop().await;
    tracing::info!("stopped");
}
