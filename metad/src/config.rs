//! Config: what this node was told, from flags over environment over file, checked once. There are no defaults elsewhere.
//! Called by main.

use crate::error::MetadError;
use crate::raft::node::Timing;
use clap::Parser;
use holdfast_proto::limits::SESSION_LEASE_MS;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ADMIN_LISTEN: &str = "127.0.0.1:9470";
const HEARTBEAT_MS: u64 = 50;
const ELECTION_MIN_MS: u64 = 150;
const ELECTION_MAX_MS: u64 = 250;
const RPC_THREADS_MAX: usize = 64;
const CHECKPOINT_LOG_MIB: u64 = 64;
const RESERVE_MIB: u64 = 256;
/// A new leader, and a busy machine, must not be longer silent than this.
const SESSION_LEASE_S: std::ops::RangeInclusive<u64> = 2..=3600;
const CHECKPOINT_LOG_MIB_MAX: u64 = 1 << 20;

/// One node of a Holdfast metadata cluster.
#[derive(Parser, Debug, Default)]
#[command(name = "metad", version, about)]
pub struct Flags {
    /// Settings as TOML; flags and environment win over it
    #[arg(long, env = "HOLDFAST_METAD_CONFIG")]
    pub config: Option<PathBuf>,
    /// Id of this node, 1 and up, the same for ever
    #[arg(long, env = "HOLDFAST_METAD_ID")]
    pub id: Option<u64>,
    /// Address to listen on, for clients and peers (default: this node's address among the peers)
    #[arg(long, env = "HOLDFAST_METAD_LISTEN")]
    pub listen: Option<String>,
    /// Address under which others reach this node (default: its address among the peers)
    #[arg(long, env = "HOLDFAST_METAD_ADVERTISE")]
    pub advertise: Option<String>,
    /// All members, this one included: 1=host:port,2=host:port,3=host:port
    #[arg(long, env = "HOLDFAST_METAD_PEERS")]
    pub peers: Option<String>,
    /// Directory of this node's data
    #[arg(long, env = "HOLDFAST_METAD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of /metrics, /ready and /health, or "off" (default: 127.0.0.1:9470)
    #[arg(long, env = "HOLDFAST_METAD_ADMIN_LISTEN")]
    pub admin_listen: Option<String>,
    /// human or json
    #[arg(long, env = "HOLDFAST_METAD_LOG_FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Threads that serve clients (default: half the cores, 1 to 4)
    #[arg(long, env = "HOLDFAST_METAD_RPC_THREADS")]
    pub rpc_threads: Option<usize>,
    /// A checkpoint is made when so much log has come since the last one, MiB, or as much as that one took (default: 64)
    #[arg(long, env = "HOLDFAST_METAD_CHECKPOINT_LOG_MIB")]
    pub checkpoint_log_mib: Option<u64>,
    /// Free space of the data directory's disk below which nothing may grow any more, MiB, so that files can still be removed (default: 256)
    #[arg(long, env = "HOLDFAST_METAD_RESERVE_MIB")]
    pub reserve_mib: Option<u64>,
    /// A client that is silent for so long loses its session, with its locks and open files; the same on all nodes, seconds (default: 60)
    #[arg(long, env = "HOLDFAST_METAD_SESSION_LEASE_S")]
    pub session_lease_s: Option<u64>,
    /// Found the cluster of all peers; harmless where it is founded already
    #[arg(long, env = "HOLDFAST_METAD_INIT")]
    pub init: bool,
    /// Listen without TLS on an address that others can reach
    #[arg(long, env = "HOLDFAST_METAD_INSECURE")]
    pub insecure: bool,
    /// Do not wait for the disk: tests only, loses data
    #[arg(long, env = "HOLDFAST_METAD_NO_SYNC")]
    pub no_sync: bool,
    /// CA that signed the certificates of peers and clients, PEM
    #[arg(long, env = "HOLDFAST_METAD_TLS_CA")]
    pub tls_ca: Option<PathBuf>,
    /// Certificate of this node, PEM
    #[arg(long, env = "HOLDFAST_METAD_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, env = "HOLDFAST_METAD_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

/// The file. Every key is optional; an unknown one is refused by name.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ConfigFile {
    id: Option<u64>,
    listen: Option<String>,
    advertise: Option<String>,
    peers: Option<BTreeMap<String, String>>,
    data_dir: Option<PathBuf>,
    admin_listen: Option<String>,
    log_format: Option<LogFormat>,
    rpc_threads: Option<usize>,
    checkpoint_log_mib: Option<u64>,
    reserve_mib: Option<u64>,
    session_lease_s: Option<u64>,
    init: Option<bool>,
    insecure: Option<bool>,
    tls: Option<TlsFile>,
    raft: Option<RaftFile>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct TlsFile {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RaftFile {
    heartbeat_ms: Option<u64>,
    election_min_ms: Option<u64>,
    election_max_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsPaths {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub id: u64,
    pub listen: String,
    pub advertise: String,
    pub peers: BTreeMap<u64, String>,
    pub data_dir: PathBuf,
    pub admin_listen: Option<String>,
    pub log_format: LogFormat,
    pub rpc_threads: usize,
    pub checkpoint_log_bytes: u64,
    pub reserve_bytes: u64,
    pub session_lease: Duration,
    pub init: bool,
    pub sync: bool,
    pub tls: Option<TlsPaths>,
    pub timing: Timing,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, MetadError> {
    Err(MetadError::Config(why.into()))
}

fn read_file(path: &Path) -> Result<ConfigFile, MetadError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| MetadError::Config(format!("read config file {}: {error}", path.display())))?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        let at = line.map(|line| format!(", line {line}")).unwrap_or_default();
        MetadError::Config(format!("config file {}{at}: {}", path.display(), error.message().replace('\n', " ")))
    })
}

fn parse_peers(text: &str) -> Result<BTreeMap<u64, String>, MetadError> {
    let pairs = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pairs = pairs.map(|part| match part.split_once('=') {
        Some((id, addr)) => Ok((id.to_owned(), addr.to_owned())),
        None => refuse(format!("--peers: \"{part}\" is not of the form ID=HOST:PORT")),
    });
    number_peers(pairs.collect::<Result<Vec<_>, _>>()?)
}

fn number_peers(pairs: impl IntoIterator<Item = (String, String)>) -> Result<BTreeMap<u64, String>, MetadError> {
    let mut peers = BTreeMap::new();
    for (id, addr) in pairs {
        let Some(number) = id.trim().parse().ok().filter(|id| *id > 0) else {
            return refuse(format!("peers: \"{id}\" is no node id: ids are numbers from 1"));
        };
        check_addr("peers", &addr)?;
        if peers.insert(number, addr).is_some() {
            return refuse(format!("peers: node {number} is named twice"));
        }
    }
    Ok(peers)
}

fn check_addr(setting: &str, addr: &str) -> Result<(), MetadError> {
    let parts = addr.rsplit_once(':').filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if parts.is_none() { refuse(format!("{setting}: \"{addr}\" is not of the form HOST:PORT")) } else { Ok(()) }
}

fn is_loopback(addr: &str) -> bool {
    addr.to_socket_addrs().is_ok_and(|mut addrs| addrs.all(|addr| addr.ip().is_loopback()))
}

fn tls_paths(flags: &Flags, file: Option<TlsFile>) -> Result<Option<TlsPaths>, MetadError> {
    let file = file.unwrap_or_default();
    let ca = flags.tls_ca.clone().or(file.ca);
    let cert = flags.tls_cert.clone().or(file.cert);
    let key = flags.tls_key.clone().or(file.key);
    match (ca, cert, key) {
        (Some(ca), Some(cert), Some(key)) => Ok(Some(TlsPaths { ca, cert, key })),
        (None, None, None) => Ok(None),
        _ => refuse("TLS needs all three of ca, cert and key"),
    }
}

fn timing(file: Option<RaftFile>) -> Result<Timing, MetadError> {
    let file = file.unwrap_or_default();
    let timing = Timing {
        heartbeat_ms: file.heartbeat_ms.unwrap_or(HEARTBEAT_MS),
        election_min_ms: file.election_min_ms.unwrap_or(ELECTION_MIN_MS),
        election_max_ms: file.election_max_ms.unwrap_or(ELECTION_MAX_MS),
    };
    if timing.heartbeat_ms == 0 || timing.heartbeat_ms * 2 > timing.election_min_ms {
        return refuse("raft.election-min-ms must be at least twice raft.heartbeat-ms, which must not be 0");
    }
    if timing.election_min_ms >= timing.election_max_ms || timing.election_max_ms > 60_000 {
        return refuse("raft.election-max-ms must be above raft.election-min-ms, and at most 60000");
    }
    Ok(timing)
}

impl Config {
    /// # Errors
    /// One line that names the setting.
    pub fn load(flags: Flags) -> Result<Config, MetadError> {
        let mut file = match &flags.config {
            Some(path) => read_file(path)?,
            None => ConfigFile::default(),
        };
        let Some(id) = flags.id.or(file.id).filter(|id| *id > 0) else {
            return refuse("--id is needed: the number of this node, from 1");
        };
        let Some(data_dir) = flags.data_dir.clone().or(file.data_dir.take()) else {
            return refuse("--data-dir is needed: where this node keeps its data");
        };
        let tls = tls_paths(&flags, file.tls.take())?;
        let timing = timing(file.raft.take())?;
        let listed = match (&flags.peers, file.peers.take()) {
            (Some(text), _) => parse_peers(text)?,
            (None, Some(peers)) => number_peers(peers)?,
            (None, None) => BTreeMap::new(),
        };
        let named = (flags.listen.or(file.listen), flags.advertise.or(file.advertise));
        let (listen, advertise, peers) = addresses(id, named, listed)?;
        let admin = flags.admin_listen.or(file.admin_listen).unwrap_or_else(|| ADMIN_LISTEN.to_owned());
        let admin_listen = Some(admin).filter(|admin| admin != "off");
        if let Some(admin) = &admin_listen {
            check_addr("admin-listen", admin)?;
        }
        let rpc_threads = flags.rpc_threads.or(file.rpc_threads).unwrap_or_else(default_rpc_threads);
        if !(1..=RPC_THREADS_MAX).contains(&rpc_threads) {
            return refuse(format!("rpc-threads must be 1 to {RPC_THREADS_MAX}"));
        }
        let insecure = flags.insecure || file.insecure.unwrap_or(false);
        if tls.is_none() && !insecure && !is_loopback(&listen) {
            return refuse(format!(
                "listen address {listen} can be reached by others: set up [tls] with ca, cert and key, or say --insecure"
            ));
        }
        let log_format = flags.log_format.or(file.log_format).unwrap_or_default();
        let init = flags.init || file.init.unwrap_or(false);
        let sync = !flags.no_sync;
        Ok(Config {
            id,
            listen,
            advertise,
            peers,
            data_dir,
            admin_listen,
            log_format,
            rpc_threads,
            reserve_bytes: flags.reserve_mib.or(file.reserve_mib).unwrap_or(RESERVE_MIB).saturating_mul(1 << 20),
            session_lease: session_lease(flags.session_lease_s.or(file.session_lease_s))?,
            checkpoint_log_bytes: checkpoint_log_bytes(flags.checkpoint_log_mib.or(file.checkpoint_log_mib))?,
            init,
            sync,
            tls,
            timing,
        })
    }
}

fn checkpoint_log_bytes(mib: Option<u64>) -> Result<u64, MetadError> {
    match mib.unwrap_or(CHECKPOINT_LOG_MIB) {
        mib @ 1..=CHECKPOINT_LOG_MIB_MAX => Ok(mib << 20),
        _ => refuse(format!("checkpoint-log-mib must be 1 to {CHECKPOINT_LOG_MIB_MAX}")),
    }
}

fn session_lease(seconds: Option<u64>) -> Result<Duration, MetadError> {
    match seconds {
        None => Ok(Duration::from_millis(SESSION_LEASE_MS)),
        Some(seconds) if SESSION_LEASE_S.contains(&seconds) => Ok(Duration::from_secs(seconds)),
        Some(_) => {
            let (least, most) = (SESSION_LEASE_S.start(), SESSION_LEASE_S.end());
            refuse(format!("session-lease-s must be {least} to {most}"))
        }
    }
}

fn default_rpc_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}

type Addresses = (String, String, BTreeMap<u64, String>);

/// Fills in what one of listen, advertise and peers says for the others.
fn addresses(
    id: u64,
    (listen, advertise): (Option<String>, Option<String>),
    mut peers: BTreeMap<u64, String>,
) -> Result<Addresses, MetadError> {
    if peers.is_empty() {
        let Some(own) = advertise.clone().or(listen.clone()) else {
            return refuse("--peers is needed: all members, as 1=HOST:PORT,2=HOST:PORT,3=HOST:PORT");
        };
        peers.insert(id, own);
    }
    let Some(own) = peers.get(&id).cloned() else {
        return refuse(format!("--peers must name this node too: there is no {id}=HOST:PORT among them"));
    };
    if let Some(advertise) = advertise.filter(|advertise| *advertise != own) {
        return refuse(format!("--advertise {advertise} differs from this node's address among the peers, {own}"));
    }
    let listen = listen.unwrap_or_else(|| own.clone());
    check_addr("listen", &listen)?;
    check_addr("advertise", &own)?;
    Ok((listen, own, peers))
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
