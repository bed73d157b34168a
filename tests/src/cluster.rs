//! A metadata cluster of real `metad` processes on loopback, and everything a test does to it: kill, stop, end, restart.
//! Called by tests. What is left when a test fails is cleaned by Drop and, for clusters in statics, at exit. Before, the state of every
//! node that runs is verified.

use crate::disk::Disk;
use crate::net::Net;
use crate::process::{self, Ended, Leftover};
use crate::{admin, ports, verify};
use holdfast_proto::crash_points::CRASH;
use holdfast_proto::pb;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;

/// How a cluster differs from the usual three nodes.
#[derive(Clone, Debug)]
pub struct Shape {
    pub node_count: u64,
    /// The cluster is founded with the first so many; the others are for the test to add. None: with all.
    pub founders: Option<u64>,
    /// Without fsync: for tests that do not kill, to spare the disk.
    pub no_sync: bool,
    /// Clients are sent through a `Proxy` in front of each node.
    pub advertise: Option<Vec<u16>>,
    /// Environment of the nodes; `{id}` in a value is the node's.
    pub env: Vec<(String, String)>,
    /// Each node's data directory is a disk of its own, of so many MiB (needs root).
    pub disk_mib: Option<u64>,
    /// And these disks tear when they lose power.
    pub torn: bool,
    /// Each node is in a network namespace of its own (needs root).
    pub partitions: bool,
    /// And so are so many clients.
    pub clients: u64,
    /// The states are not verified when the cluster goes: it is damaged on purpose, or admits the harness nowhere.
    pub unverified: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Shape {
            node_count: 3,
            founders: None,
            no_sync: false,
            advertise: None,
            env: Vec::new(),
            disk_mib: None,
            torn: false,
            partitions: false,
            clients: 0,
            unverified: false,
        }
    }
}

/// One node: a directory and, while it runs, a process.
#[derive(Debug)]
pub struct Node {
    pub id: u64,
    host: String,
    pub port: u16,
    pub admin_port: u16,
    /// Holds `data`, the node's data directory, and `log`.
    pub dir: PathBuf,
    process: Mutex<Option<Child>>,
    disk: Option<Disk>,
}

impl Node {
    /// The disk that its data directory is on, where the shape says so.
    pub fn disk(&self) -> &Disk {
        self.disk.as_ref().expect("a cluster with disks of its own")
    }

    pub fn addr(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// Where a node with faults on purpose finds the crash point that it dies at (`trap`).
    pub fn trap(&self) -> PathBuf {
        self.dir.join("crash")
    }

    pub fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The node's log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

/// Node processes, ordered by id: `nodes[0]` has id 1.
#[derive(Debug)]
pub struct Cluster {
    pub dir: PathBuf,
    pub nodes: Vec<Node>,
    shape: Shape,
    net: Option<Net>,
}

impl Cluster {
    /// Three nodes, serving.
    pub fn start() -> Cluster {
        Cluster::start_as(Shape::default())
    }

    pub fn start_as(shape: Shape) -> Cluster {
        let cluster = Cluster::prepare(shape);
        for id in 1..=cluster.founders() {
            cluster.start_node(id);
        }
        cluster.wait_ready();
        cluster
    }

    /// Directories and ports only; no process yet.
    pub fn prepare(shape: Shape) -> Cluster {
        let dir = process::scratch_dir("cluster");
        let net = shape.partitions.then(|| Net::new(shape.node_count, shape.clients));
        let nodes = (1..=shape.node_count).map(|id| {
            let node_dir = dir.join(format!("metad-{id}"));
            std::fs::create_dir_all(&node_dir).expect("node directory");
            let new = if shape.torn { Disk::that_tears } else { Disk::new };
            let disk = shape.disk_mib.map(|mib| new(&node_dir.join("data"), mib));
            let host = net.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |net| net.host(id));
            Node {
                id,
                host,
                port: ports::free_port(),
                admin_port: ports::free_port(),
                dir: node_dir,
                process: Mutex::new(None),
                disk,
            }
        });
        Cluster { nodes: nodes.collect(), dir, shape, net }
    }

    fn founders(&self) -> u64 {
        self.shape.founders.unwrap_or(self.shape.node_count)
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The process of a node, while it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        let process = self.node(id).process.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        process.as_ref().map(Child::id)
    }

    pub fn node(&self, id: u64) -> &Node {
        &self.nodes[(id - 1) as usize]
    }

    /// `1=host:port,2=...`, as --peers wants it: the advertised addresses, so peers go through the proxies too.
    pub fn peers(&self) -> String {
        self.peers_through(self.shape.node_count)
    }

    /// Those of nodes 1 to `last`.
    fn peers_through(&self, last: u64) -> String {
        let pairs = self.nodes.iter().zip(self.advertised()).take(last as usize);
        pairs.map(|(node, port)| format!("{}={}:{port}", node.id, node.host)).collect::<Vec<_>>().join(",")
    }

    fn advertised(&self) -> Vec<u16> {
        match &self.shape.advertise {
            Some(ports) => ports.clone(),
            None => self.nodes.iter().map(|node| node.port).collect(),
        }
    }

    /// META of a volume, by the addresses that clients are to use.
    pub fn meta(&self, volume: &str) -> String {
        let addrs = self.nodes.iter().zip(self.advertised()).map(|(node, port)| format!("{}:{port}", node.host));
        let addrs: Vec<_> = addrs.collect();
        format!("holdfast://{}/{volume}", addrs.join(","))
    }

    /// The command that starts node `id`.
    pub fn command(&self, id: u64) -> Command {
        let node = self.node(id);
        let mut command = process::command("metad");
        // A founder knows nothing of those that come later.
        let peers = self.peers_through(self.founders().max(id));
        command.args(["--id", &id.to_string(), "--listen", &node.addr(), "--peers", &peers]);
        command.env(CRASH, node.trap());
        command.arg("--data-dir").arg(node.data_dir());
        command.args(["--admin-listen", &format!("127.0.0.1:{}", node.admin_port)]);
        if let Some(ports) = &self.shape.advertise {
            command.args(["--advertise", &format!("127.0.0.1:{}", ports[(id - 1) as usize])]);
        }
        command.envs(self.shape.env.iter().map(|(key, value)| (key, value.replace("{id}", &id.to_string()))));
        if id == 1 {
            command.arg("--init");
        }
        if self.shape.no_sync {
            command.arg("--no-sync");
        }
        match &self.net {
            Some(net) => {
                command.arg("--insecure");
                net.inside(id, &command)
            }
            None => command,
        }
    }

    /// Who hears whom, where the shape says so.
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("a cluster with a network of its own")
    }

    /// Starts a node that is not running. Does not wait for it.
    pub fn start_node(&self, id: u64) {
        let (node, mut command) = (self.node(id), self.command(id));
        let mut slot = node.process.lock().unwrap();
        assert!(slot.is_none(), "node {id} is running");
        let log = OpenOptions::new().create(true).append(true).open(node.log_path()).expect("log file");
        command.stdout(log.try_clone().expect("dup")).stderr(log);
        let child = process::spawn(command).expect("start metad");
        process::register(Leftover::Process(child.id()));
        *slot = Some(child);
    }

    /// Removes all that a node that does not run has on its disk.
    pub fn wipe(&self, id: u64) {
        assert!(!self.is_running(id), "node {id} runs");
        std::fs::remove_dir_all(self.node(id).data_dir()).expect("remove the data directory");
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&self, id: u64) {
        self.end(id, libc::SIGKILL);
    }

    /// SIGTERM, and waits until the process is gone. Its exit code.
    pub fn terminate(&self, id: u64) -> Option<i32> {
        self.end(id, libc::SIGTERM)
    }

    fn end(&self, id: u64, signal: i32) -> Option<i32> {
        let mut child = self.node(id).process.lock().unwrap().take().expect("the node runs");
        process::signal(child.id(), signal);
        let status = process::wait_for("metad to exit", || child.try_wait().expect("wait for metad"));
        process::unregister(&Leftover::Process(child.id()));
        status.code()
    }

    /// Waits until the node has ended by itself. Its exit code.
    pub fn wait_ended(&self, id: u64) -> Option<i32> {
        let mut child = self.node(id).process.lock().unwrap().take().expect("the node runs");
        let status = process::wait_for("metad to end by itself", || child.try_wait().expect("wait for metad"));
        process::unregister(&Leftover::Process(child.id()));
        status.code()
    }

    /// Forgets the process of a node that has ended by itself, if there is one.
    pub fn reap(&self, id: u64) {
        if !self.is_running(id)
            && let Some(child) = self.node(id).process.lock().unwrap().take()
        {
            process::unregister(&Leftover::Process(child.id()));
        }
    }

    /// SIGSTOP: the node is silent but alive.
    pub fn pause(&self, id: u64) {
        self.signal(id, libc::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.signal(id, libc::SIGCONT);
    }

    fn signal(&self, id: u64, signal: i32) {
        let slot = self.node(id).process.lock().unwrap();
        let child = slot.as_ref().expect("the node runs");
        assert!(process::signal(child.id(), signal), "signal node {id}");
    }

    pub fn is_running(&self, id: u64) -> bool {
        let mut slot = self.node(id).process.lock().unwrap();
        slot.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What the node says of itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self, id: u64) -> Result<pb::NodeStatus, String> {
        admin::status(&self.node(id).addr())
    }

    /// The leader that a majority follows now; None while there is none.
    pub fn leader_now(&self) -> Option<u64> {
        let says: Vec<_> = self.ids().into_iter().filter_map(|id| self.status(id).ok()).collect();
        let newest = says.iter().filter(|status| status.role == "leader").max_by_key(|status| status.term)?;
        let follow = says.iter().filter(|s| s.leader == newest.id && s.term == newest.term).count();
        let voters = newest.members.iter().filter(|member| member.voter).count();
        (follow * 2 > voters).then_some(newest.id)
    }

    /// Waits for a leader.
    pub fn leader(&self) -> u64 {
        process::wait_for("a leader", || self.leader_now())
    }

    /// Waits until every running node is ready and follows one leader.
    pub fn wait_ready(&self) {
        let leader = self.leader();
        for id in self.ids() {
            let gone = || format!("metad {id} exited:\n{}", tail(&self.node(id).log_path(), 20));
            process::wait_for("every node to be ready", || {
                if self.node(id).process.lock().unwrap().is_none() {
                    return Some(());
                }
                assert!(self.is_running(id), "{}", gone());
                self.status(id).ok().filter(|status| status.ready && status.leader != 0).map(|_| ())
            });
        }
        assert!(leader <= self.shape.node_count);
    }

    /// Waits until all running nodes vote: one that comes back without its disk counts for nothing until it is a member again, and
    /// whoever took another's disk meanwhile would take a majority's.
    pub fn wait_voters(&self) {
        process::wait_for("every node to vote", || {
            let members = self.status(self.leader_now()?).ok()?.members;
            let running: BTreeSet<_> = self.ids().into_iter().filter(|&id| self.is_running(id)).collect();
            let voters: BTreeSet<_> = members.iter().filter(|m| m.state == "voter").map(|m| m.id).collect();
            (voters == running && members.len() == voters.len()).then_some(())
        });
    }

    /// Waits until all running nodes have applied what the leader has committed now.
    pub fn wait_caught_up(&self) {
        let leader = self.leader();
        let target = process::wait_for("the leader's status", || self.status(leader).ok()).committed;
        for id in self.ids().into_iter().filter(|&id| self.is_running(id)) {
            process::wait_for("a node to catch up", || self.status(id).ok().filter(|s| s.applied >= target));
        }
    }

    /// Starts these nodes again, and waits until they are as new as the others.
    pub fn bring_back(&self, ids: &[u64]) {
        ids.iter().for_each(|&id| self.start_node(id));
        self.wait_ready();
        self.wait_caught_up();
    }

    /// Verifies the state of every running node; they must be equal as far as a majority runs. Panics with what is wrong.
    pub fn verify(&self) -> Vec<pb::VerifyReply> {
        self.try_verify().unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    /// As `verify`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn try_verify(&self) -> Result<Vec<pb::VerifyReply>, String> {
        let running: Vec<_> = self.ids().into_iter().filter(|&id| self.is_running(id)).collect();
        let addrs: Vec<_> = running.iter().map(|&id| self.node(id).addr()).collect();
        verify::verify(&addrs, running.len() * 2 > self.nodes.len())
    }

    /// For Drop, which may run anywhere: on a thread of its own. Nodes that the test has paused run on.
    fn verify_at_end(&self) -> Result<(), String> {
        if std::thread::panicking() || self.shape.unverified {
            return Ok(());
        }
        self.ids().into_iter().filter(|&id| self.is_running(id)).for_each(|id| self.resume(id));
        let verified = std::thread::scope(|scope| scope.spawn(|| self.try_verify()).join());
        verified.unwrap_or_else(|_| Err("the verification panicked".to_owned())).map(drop)
    }

    /// Runs `holdfast` with these arguments.
    pub fn holdfast(&self, args: &[&str]) -> Ended {
        let mut command = process::command("holdfast");
        command.args(args);
        process::run(command)
    }

    /// Formats a volume on a directory of the cluster's own, without fsync of objects. Returns its META.
    pub fn format(&self, volume: &str) -> String {
        let meta = self.meta(volume);
        let bucket = self.bucket(volume);
        std::fs::create_dir_all(&bucket).expect("bucket directory");
        let bucket = bucket.to_string_lossy().into_owned();
        self.holdfast(&["format", &meta, "--storage", "file", "--bucket", &bucket, "--no-sync"]).ok("holdfast format");
        meta
    }

    /// The directory that is the object store of a volume made by `format`.
    pub fn bucket(&self, volume: &str) -> PathBuf {
        self.dir.join(format!("bucket-{volume}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let verified = self.verify_at_end();
        for node in &self.nodes {
            let slot = node.process.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            if let Some(mut child) = slot {
                process::signal(child.id(), libc::SIGCONT);
                let _ = child.kill();
                let _ = child.wait();
                process::unregister(&Leftover::Process(child.id()));
            }
            if std::thread::panicking() || verified.is_err() {
                eprintln!("--- the end of metad {}'s log\n{}", node.id, tail(&node.log_path(), 25));
            }
        }
        if let Err(wrong) = verified {
            panic!("at the end of the test:\n{wrong}");
        }
    }
}

/// The last lines of a file.
pub fn tail(path: &Path, line_count: usize) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(line_count)..].join("\n")
}
