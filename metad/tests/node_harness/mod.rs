//! Starts metad processes on free loopback ports and speaks to them as a tiny client. Used by tests/node_*.rs.

use holdfast_proto::pb::admin_client::AdminClient;
use holdfast_proto::pb::meta_client::MetaClient;
use holdfast_proto::pb::{self, ClientFrame, ServerFrame, mutation, request, response};
use prost::Message;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything in these tests may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// What a node logs once it serves.
const READY: &str = " ready ";
pub const PAUSE: Duration = Duration::from_millis(20);

/// Ports that were free a moment ago.
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    listeners.iter().map(|listener| listener.local_addr().expect("bound").port()).collect()
}

pub struct Output {
    pub code: i32,
    pub stderr: String,
}

/// Runs a metad that is expected to refuse to start.
pub fn metad_output(args: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("temp dir");
    let mut process = metad(args, &dir.path().join("log"));
    let start = Instant::now();
    let status = loop {
        match process.child.try_wait().expect("wait") {
            Some(status) => break status,
            None => assert!(start.elapsed() < PATIENCE, "it runs:\n{}", process.log()),
        }
        std::thread::sleep(PAUSE);
    };
    Output { code: status.code().unwrap_or(-1), stderr: process.log() }
}

/// A running metad, killed when dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

pub fn metad(args: &[&str], log: &Path) -> Process {
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("log file");
    let child = Command::new(env!("CARGO_BIN_EXE_metad"))
        .args(args)
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("metad starts");
    Process { child, log: log.to_owned() }
}

impl Process {
    /// Returns once its log has `count` of these.
    pub fn wait_for(&self, text: &str, count: usize) {
        let start = Instant::now();
        while self.log().matches(text).count() < count {
            assert!(start.elapsed() < PATIENCE, "no \"{text}\" in:\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nodes 1 to N with their directories.
pub struct Cluster {
    dir: TempDir,
    addrs: Vec<String>,
    nodes: Vec<Option<Process>>,
    tls: bool,
}

impl Cluster {
    pub fn start(count: usize) -> Cluster {
        Cluster::start_as(count, false)
    }

    pub fn start_tls(count: usize) -> Cluster {
        Cluster::start_as(count, true)
    }

    fn start_as(count: usize, tls: bool) -> Cluster {
        let addrs = free_ports(count).into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let dir = tempfile::tempdir().expect("temp dir");
        let mut cluster = Cluster { dir, addrs, nodes: (0..count).map(|_| None).collect(), tls };
        (1..=count as u64).for_each(|id| cluster.restart(id));
        cluster
    }

    pub fn peers(&self) -> String {
        let peer = |(at, addr): (usize, &String)| format!("{}={addr}", at + 1);
        self.addrs.iter().enumerate().map(peer).collect::<Vec<_>>().join(",")
    }

    pub fn addr(&self, id: u64) -> &str {
        &self.addrs[id as usize - 1]
    }

    pub fn dir(&self, id: u64) -> String {
        self.dir.path().join(id.to_string()).display().to_string()
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("{id}.log"))
    }

    pub fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    pub fn restart(&mut self, id: u64) {
        // Node 1 founds; on a restart that is harmless.
        self.spawn(id, if id == 1 { &["--init"] } else { &[] });
    }

    pub fn restart_without_init(&mut self, id: u64) {
        self.spawn(id, &[]);
    }

    fn spawn(&mut self, id: u64, more: &[&str]) {
        let (number, peers, dir) = (id.to_string(), self.peers(), self.dir(id));
        let mut args = vec!["--id", &number, "--peers", &peers, "--data-dir", &dir, "--admin-listen", "off"];
        args.extend_from_slice(more);
        let [ca, cert, key] = ["ca.pem", "node.pem", "node.key"].map(tls_path);
        if self.tls {
            args.extend(["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key]);
        }
        let before = self.log(id).matches(READY).count();
        let process = metad(&args, &self.log_path(id));
        process.wait_for(READY, before + 1);
        self.nodes[id as usize - 1] = Some(process);
    }

    /// kill -9.
    pub fn kill(&mut self, id: u64) {
        self.nodes[id as usize - 1] = None;
    }

    pub fn wipe(&self, id: u64) {
        std::fs::remove_dir_all(self.dir(id)).expect("remove data");
    }

    /// SIGTERM, and how the process ended.
    pub fn terminate(&mut self, id: u64) -> ExitStatus {
        let mut process = self.nodes[id as usize - 1].take().expect("running");
        let pid = nix::unistd::Pid::from_raw(process.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signal");
        process.child.wait().expect("ends")
    }

    fn running(&self) -> impl Iterator<Item = u64> + '_ {
        (1..).zip(&self.nodes).filter(|(_, node)| node.is_some()).map(|(id, _)| id)
    }

    pub async fn admin(&self, id: u64) -> Admin {
        Admin(AdminClient::new(connect(self.addr(id)).await))
    }

    /// The node that leads, once all that run are ready and a majority agrees.
    pub async fn leader(&self) -> u64 {
        let start = Instant::now();
        loop {
            let (mut said, mut ready) = (Vec::new(), true);
            for id in self.running() {
                let status = self.admin(id).await.status().await;
                said.push(status.leader);
                ready &= status.ready;
            }
            let agreed = said.iter().filter(|leader| **leader == said[0]).count();
            if ready && said[0] != 0 && agreed * 2 > self.nodes.len() && self.running().any(|id| id == said[0]) {
                return said[0];
            }
            let logs: Vec<String> = self.running().map(|id| self.log(id)).collect();
            assert!(start.elapsed() < PATIENCE, "no leader: {said:?}\n{}", logs.join("\n---\n"));
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub async fn client_of_leader(&self) -> Client {
        self.leader().await;
        Client::connect_to_leader(&self.addrs).await
    }

    /// Returns when this node has applied as much as the leader has now.
    pub async fn wait_until_applied(&self, id: u64) {
        let target = self.admin(self.leader().await).await.status().await.applied;
        let start = Instant::now();
        while self.admin(id).await.status().await.applied < target {
            assert!(start.elapsed() < PATIENCE, "node {id} does not catch up:\n{}", self.log(id));
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn connect(addr: &str) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}")).expect("address");
    let start = Instant::now();
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(error) => assert!(start.elapsed() < PATIENCE, "connect {addr}: {error}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Certificates made for these tests alone: a CA, what it signed, and what another CA signed.
fn tls_path(name: &str) -> String {
    format!("{}/tests/node_harness/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Asks a node with TLS for its status, with this certificate.
pub async fn tls_status(addr: &str, who: Option<&str>) -> Result<pb::NodeStatus, String> {
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
    let read = |name: String| std::fs::read(tls_path(&name)).expect("a file of this test");
    // Another test may have installed it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read("ca.pem".into())));
    if let Some(who) = who {
        tls = tls.identity(Identity::from_pem(read(format!("{who}.pem")), read(format!("{who}.key"))));
    }
    let endpoint = Endpoint::from_shared(format!("https://{addr}")).and_then(|endpoint| endpoint.tls_config(tls));
    let channel = endpoint.map_err(|error| error.to_string())?.connect().await.map_err(|error| error.to_string())?;
    let status = AdminClient::new(channel).status(pb::NodeStatusQuery {}).await;
    status.map(tonic::Response::into_inner).map_err(|status| status.to_string())
}

pub struct Admin(AdminClient<Channel>);

impl Admin {
    pub async fn status(&mut self) -> pb::NodeStatus {
        self.0.status(pb::NodeStatusQuery {}).await.expect("status").into_inner()
    }

    pub async fn transfer(&mut self, to: u64) -> u64 {
        self.0.transfer_leader(pb::TransferLeaderRequest { to }).await.expect("transfer").into_inner().leader
    }
}

/// One stream.
pub struct Client {
    frames: mpsc::Sender<ClientFrame>,
    inbound: Streaming<ServerFrame>,
    requests: u64,
    /// Where to look for the leader when the stream is lost.
    addrs: Vec<String>,
    pub welcome: pb::Welcome,
}

impl Client {
    async fn connect_to_leader(addrs: &[String]) -> Client {
        let start = Instant::now();
        loop {
            for addr in addrs {
                match Client::try_connect(addr, 0).await {
                    Ok(client) if client.welcome.is_leader => return Client { addrs: addrs.to_vec(), ..client },
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
            assert!(start.elapsed() < PATIENCE, "no leader at {addrs:?}");
        }
    }

    pub async fn connect(addr: &str, session: u64) -> Client {
        drop(connect(addr).await);
        Client::try_connect(addr, session).await.expect("connects")
    }

    async fn try_connect(addr: &str, session: u64) -> Result<Client, Box<dyn std::error::Error>> {
        let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{addr}"))?;
        let mut client = MetaClient::new(endpoint.connect().await?).max_decoding_message_size(8 << 20);
        let (frames, body) = mpsc::channel(16);
        let hello = pb::Hello { protocol: 1, session, quiet: true };
        frames.send(ClientFrame { hello: Some(hello), ..Default::default() }).await?;
        let body = tokio_stream::wrappers::ReceiverStream::new(body);
        let mut inbound = client.attach(body).await?.into_inner();
        let welcome = loop {
            let frame = inbound.message().await?.ok_or("stream ended")?;
            if let Some(welcome) = frame.welcome {
                break welcome;
            }
        };
        Ok(Client { frames, inbound, requests: 0, addrs: vec![addr.to_owned()], welcome })
    }

    /// Sends frames as they are, and returns how the stream ended.
    pub async fn raw_stream(addr: &str, frames: Vec<ClientFrame>) -> Status {
        let mut client = MetaClient::new(connect(addr).await).max_encoding_message_size(64 << 20);
        let frames = tokio_stream::iter(frames);
        let forever = futures::stream::pending();
        let mut inbound = match client.attach(futures::StreamExt::chain(frames, forever)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return status,
        };
        loop {
            match inbound.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }

    /// Sends all bodies in one frame; the responses, in the order of the requests.
    pub async fn ask_all(&mut self, bodies: Vec<Option<request::Body>>) -> Vec<pb::Response> {
        self.try_ask_all(bodies).await.expect("the stream lives")
    }

    async fn try_ask_all(
        &mut self,
        bodies: Vec<Option<request::Body>>,
    ) -> Result<Vec<pb::Response>, Box<dyn std::error::Error>> {
        let first = self.requests + 1;
        self.requests += bodies.len() as u64;
        let requests = bodies.into_iter().zip(first..).map(|(body, id)| pb::Request { id, body }).collect();
        self.frames.send(ClientFrame { requests, ..Default::default() }).await?;
        let mut responses = Vec::new();
        while responses.len() as u64 + first <= self.requests {
            responses.extend(self.inbound.message().await?.ok_or("stream ended")?.responses);
        }
        responses.sort_by_key(|response| response.id);
        Ok(responses)
    }

    /// One answer; asks the next leader where this one is lost.
    async fn ask(&mut self, body: request::Body) -> response::Result {
        let start = Instant::now();
        loop {
            match self.try_ask_all(vec![Some(body.clone())]).await {
                Ok(mut responses) => return responses.remove(0).result.expect("a result"),
                Err(error) => assert!(start.elapsed() < PATIENCE, "{body:?}: {error}"),
            }
            *self = Client::connect_to_leader(&self.addrs.clone()).await;
        }
    }

    /// The encoded reply, asking again for as long as the answer is not known.
    pub async fn expect_reply(&mut self, mutation: pb::Mutation) -> bytes::Bytes {
        let start = Instant::now();
        loop {
            match self.ask(request::Body::Mutation(mutation.clone())).await {
                response::Result::Reply(reply) => return reply,
                response::Result::Failure(failure) if start.elapsed() < PATIENCE => {
                    use pb::FailureCode::{NotLeader, Unavailable, Unknown};
                    assert!(matches!(failure.code(), NotLeader | Unavailable | Unknown), "{failure:?}");
                    *self = Client::connect_to_leader(&self.addrs.clone()).await;
                }
                other => panic!("{mutation:?}: {other:?}"),
            }
        }
    }

    pub async fn expect_failure(&mut self, mutation: pb::Mutation) -> pb::Failure {
        match self.ask(request::Body::Mutation(mutation)).await {
            response::Result::Failure(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    pub async fn expect_found(&mut self, query: pb::Query) {
        let start = Instant::now();
        loop {
            match self.ask(request::Body::Query(query.clone())).await {
                response::Result::Reply(_) => return,
                response::Result::Failure(_) if start.elapsed() < PATIENCE => {
                    *self = Client::connect_to_leader(&self.addrs.clone()).await;
                }
                other => panic!("{query:?}: {other:?}"),
            }
        }
    }

    pub async fn open_session(&mut self, volume: &str) -> u64 {
        let reply = self.expect_reply(open_session(volume, rand::random())).await;
        pb::OpenSessionReply::decode(reply).expect("own reply").session
    }
}

/// Bytes that are neither HTTP/2, TLS nor a peer; then a peer that speaks nonsense.
pub async fn send_garbage(addr: &str) {
    use tokio::io::AsyncWriteExt;
    for garbage in [&[0xffu8; 256][..], b"HFPEER1\n\0\0garbage garbage garbage garbage", b"H"] {
        let mut stream = tokio::net::TcpStream::connect(addr).await.expect("connect");
        stream.write_all(garbage).await.expect("write");
    }
}

pub fn format(volume: &str) -> pb::Mutation {
    let storage = pb::Storage { kind: "file".into(), url: "/tmp/none".into(), ..Default::default() };
    let settings = pb::VolumeSettings {
        name: volume.into(),
        uuid: vec![7; 16].into(),
        storage: Some(storage),
        block_size: holdfast_proto::limits::BLOCK_BYTES_DEFAULT,
        ..Default::default()
    };
    let op = mutation::Op::FormatVolume(pb::FormatVolumeOp { settings: Some(settings) });
    pb::Mutation { op: Some(op), creds: Some(pb::Creds::default()), ..Default::default() }
}

pub fn open_session(volume: &str, uuid: u128) -> pb::Mutation {
    let op =
        pb::OpenSessionOp { uuid: uuid.to_be_bytes().to_vec().into(), volume: volume.into(), ..Default::default() };
    pb::Mutation { op: Some(mutation::Op::OpenSession(op)), ..Default::default() }
}

pub fn mkdir(session: u64, slot: u32, seq: u64, name: &str) -> pb::Mutation {
    let op = pb::MkdirOp { parent: 1, name: name.as_bytes().to_vec().into(), mode: 0o755, umask: 0 };
    pb::Mutation {
        session,
        slot,
        seq,
        creds: Some(pb::Creds { uid: 0, gid: 0, groups: vec![] }),
        op: Some(mutation::Op::Mkdir(op)),
    }
}
