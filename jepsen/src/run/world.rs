//! World: the cluster under test: each node in a network namespace of its own with a disk of its own, and clients in others. Goes with all
//! that belongs to it, also when the run ends by a signal or a panic. Called by `run`, workloads and nemeses.

use super::recorder::Done;
use holdfast::config::MetaConfig;
use holdfast::error::ClientError;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{Answer, MetaApi, MetaClient};
use holdfast_proto::{Ask, FsErrno, Op, pb};
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::{Mount, detach};
use holdfast_tests::net::Net;
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::Value;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

pub const VOLUME: &str = "jepsen";
/// Sparse; each node keeps 256 MiB of it in reserve.
const DISK_MIB: u64 = 1024;
/// Of every volume.
pub const ROOT: u64 = 1;
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// A mount that processes work on.
pub struct Mounted {
    mount: Mount,
    /// Held for the time of a call, and by whoever mounts again.
    gate: RwLock<()>,
}

impl Mounted {
    /// To be held while anything is done on it.
    pub fn there(&self) -> RwLockReadGuard<'_, ()> {
        self.gate.read()
    }
}

impl Deref for Mounted {
    type Target = Mount;

    fn deref(&self) -> &Mount {
        &self.mount
    }
}

pub struct World {
    // Before the cluster: a mount is undone while there are nodes to say so to.
    pub mounts: Vec<Mounted>,
    pub cluster: Cluster,
    pub meta: String,
    pub client_count: u64,
}

impl World {
    /// A cluster that serves, with a volume, and a mount in each of up to `mount_count` of the clients' namespaces.
    pub fn start(node_count: u64, client_count: u64, mount_count: u64) -> World {
        let disk_mib = Some(DISK_MIB);
        let shape = Shape {
            node_count,
            partitions: true,
            clients: client_count,
            disk_mib,
            unverified: true,
            ..Shape::default()
        };
        let cluster = Cluster::start_as(shape);
        let meta = cluster.format(VOLUME);
        let mut world = World { mounts: Vec::new(), cluster, meta, client_count };
        for number in 0..mount_count.min(client_count) {
            world.mounts.push(Mounted { mount: world.mount(number), gate: RwLock::new(()) });
        }
        world
    }

    /// One more mount, in the namespace of a client.
    pub fn mount(&self, client: u64) -> Mount {
        let member = Net::client(client % self.client_count.max(1));
        Mount::start_as(&self.meta, &[], |command| self.cluster.net().inside(member, &command))
    }

    /// Mounts again on the directory of a mount whose process is gone. Nobody is to see what is below it meanwhile.
    pub fn remount(&self, number: usize) {
        let member = Net::client(number as u64 % self.client_count.max(1));
        let mounted = &self.mounts[number];
        let _alone = mounted.gate.write();
        detach(&mounted.dir);
        mounted.again_as(&self.meta, &[], |command| self.cluster.net().inside(member, &command));
    }

    /// Waits until every node runs, is ready and has all that was committed, and says whether their states are sound and equal.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn settle(&self) -> Result<(), String> {
        self.cluster.wait_ready();
        self.cluster.wait_caught_up();
        self.cluster.try_verify().map(drop)
    }

    /// Runs `work` on this thread with a client of the cluster whose sockets are in the namespace of client `number`.
    pub fn with_client<F: Future<Output = ()>>(&self, number: u64, work: impl FnOnce(Arc<MetaClient>) -> F) {
        self.cluster.net().enter(Net::client(number % self.client_count.max(1)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let client = Arc::new(self.connect().await);
            let answers = tokio::spawn(holdfast_tests::crowd::answer(client.clone()));
            work(client.clone()).await;
            answers.abort();
            // The lease ends it otherwise.
            let _ = client.close_session().await;
        });
    }

    async fn connect(&self) -> MetaClient {
        let url = MetaUrl::from_arg_or_env(Some(&self.meta)).expect("META");
        loop {
            if let Ok(client) = MetaClient::connect(MetaConfig::new(&url, None)).await
                && client.open_session(VOLUME, "jepsen", "none").await.is_ok()
            {
                return client;
            }
            tokio::time::sleep(CONNECT_PAUSE).await;
        }
    }
}

/// Errnos by which a filesystem says that it cannot just now: nothing happened.
fn is_shortage(errno: FsErrno) -> bool {
    matches!(errno.name(), "ENOSPC" | "EDQUOT")
}

/// What an error of a client without a mount says of what it did.
pub fn ending(error: ClientError) -> Done {
    match error {
        ClientError::Refused(errno) if is_shortage(errno) => Done::Fail(errno.name().to_owned()),
        ClientError::Refused(errno) => Done::Refused(errno.name().to_owned()),
        // A mutation may have been done before its session was lost, or before nobody answered any more.
        other => Done::Info(other.to_string()),
    }
}

/// What an error of a call on a mount says of what it did.
pub fn ending_of_call(error: &std::io::Error) -> Done {
    let Some(number) = error.raw_os_error() else { return Done::Info(error.to_string()) };
    let name = format!("{:?}", nix::errno::Errno::from_raw(number));
    match name.as_str() {
        "ENOSPC" | "EDQUOT" => Done::Fail(name),
        "EIO" | "EINTR" | "ETIMEDOUT" | "ENOTCONN" | "ECONNABORTED" | "ENODEV" => Done::Info(name),
        _ => Done::Refused(name),
    }
}

/// A directory in the root, made where there is none; None while nobody answers.
pub async fn dir(client: &MetaClient, name: &str) -> Option<u64> {
    dir_in(client, ROOT, name).await
}

/// The same in another directory.
pub async fn dir_in(client: &MetaClient, parent: u64, name: &str) -> Option<u64> {
    let (creds, name) = (pb::Creds::default(), bytes::Bytes::copy_from_slice(name.as_bytes()));
    // Who comes second is refused, and finds it.
    let _ = client.mutate(&creds, pb::MkdirOp { parent, name: name.clone(), mode: 0o777, umask: 0 }).await;
    let found = client.query(&creds, pb::LookupQuery { parent, name }).await.ok()?;
    Some(found.reply.attr?.ino)
}

/// A mutation's end and the index that its reply has.
pub async fn mutate<O: Op>(client: &MetaClient, op: O, see: impl FnOnce(O::Reply) -> Value) -> (Done, Option<u64>) {
    judged(client.mutate(&pb::Creds::default(), op).await, see)
}

/// The same for a query.
pub async fn query<Q: Ask>(client: &MetaClient, ask: Q, see: impl FnOnce(Q::Reply) -> Value) -> (Done, Option<u64>) {
    judged(client.query(&pb::Creds::default(), ask).await, see)
}

fn judged<R>(answer: Result<Answer<R>, ClientError>, see: impl FnOnce(R) -> Value) -> (Done, Option<u64>) {
    match answer {
        Ok(answer) => (Done::Ok(see(answer.reply)), Some(answer.log_index)),
        Err(error) => (ending(error), None),
    }
}
