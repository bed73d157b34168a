//! World: the cluster under test: each node in a network namespace of its own with a disk of its own, and clients in others. Goes with all
//! that belongs to it, also when the run ends by a signal or a panic. Called by `run`, workloads and nemeses.

use super::recorder::Done;
use crate::nemesis::Family;
use crate::nemesis::clock::Clocks;
use crate::nemesis::store::Store;
use holdfast::config::MetaConfig;
use holdfast::error::ClientError;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{Answer, MetaApi, MetaClient};
use holdfast_proto::{Ask, FsErrno, Op, pb};
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::mount::{Mount, detach};
use holdfast_tests::net::Net;
use holdfast_tests::process;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use parking_lot::{RwLock, RwLockReadGuard};
use serde_json::{Value, json};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const VOLUME: &str = "jepsen";
/// Sparse; each node keeps 256 MiB of it in reserve.
const DISK_MIB: u64 = 1024;
/// Short, so that clients that are stopped or cut off lose their sessions.
pub const SESSION_LEASE_S: u64 = 3;
/// Of every volume.
pub const ROOT: u64 = 1;
const CONNECT_PAUSE: Duration = Duration::from_millis(200);

/// Formats the volume on a store that can be spoilt. Its META.
fn format(cluster: &Cluster, store: &Store) -> String {
    let meta = cluster.meta(VOLUME);
    let mut command = process::command("holdfast");
    command.args(["format", &meta, "--storage", "s3", "--bucket", &store.bucket_url()]).envs(Store::env());
    process::run(command).ok("holdfast format");
    meta
}

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
    store: Option<Store>,
    clocks: Option<Clocks>,
}

impl World {
    /// A cluster that serves, with a volume, and a mount in each of up to `mount_count` of the clients' namespaces; with what faults of these
    /// families need.
    pub fn start(node_count: u64, client_count: u64, mount_count: u64, families: &[Family]) -> World {
        let mut env = vec![("HOLDFAST_METAD_SESSION_LEASE_S".to_owned(), SESSION_LEASE_S.to_string())];
        let spare = u64::from(families.contains(&Family::Members));
        let clocks = families.contains(&Family::Clock).then(|| {
            let dir = process::scratch_dir("clocks");
            let ids: Vec<_> = (1..=node_count + spare).collect();
            env.extend(Clocks::env(&dir));
            Clocks::new(&dir, &ids)
        });
        let shape = Shape {
            node_count: node_count + spare,
            founders: Some(node_count),
            partitions: true,
            clients: client_count,
            disk_mib: Some(DISK_MIB),
            torn: families.contains(&Family::Torn),
            unverified: true,
            env,
            ..Shape::default()
        };
        let cluster = Cluster::start_as(shape);
        let store = families.contains(&Family::Store).then(|| Store::start(&cluster.net().outside()));
        let meta = match &store {
            Some(store) => format(&cluster, store),
            None => cluster.format(VOLUME),
        };
        let mut world = World { mounts: Vec::new(), cluster, meta, client_count, store, clocks };
        for number in 0..mount_count.min(client_count) {
            world.mounts.push(Mounted { mount: world.mount(number), gate: RwLock::new(()) });
        }
        // What power takes away is what clients did, and not the volume: they would have nothing to tell.
        world.cluster.nodes.iter().for_each(|node| node.disk().sync());
        world
    }

    /// Where the plan has faults of the store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("a world with a store that can be spoilt")
    }

    /// Where the plan has faults of clocks.
    pub fn clocks(&self) -> &Clocks {
        self.clocks.as_ref().expect("a world with clocks that can be spoilt")
    }

    /// Where the plan has changes of membership: the node that is no member.
    pub fn spare(&self) -> u64 {
        self.cluster.nodes.len() as u64
    }

    /// Nodes that run now.
    pub fn members(&self) -> Vec<u64> {
        self.cluster.ids().into_iter().filter(|&id| self.cluster.is_running(id)).collect()
    }

    /// META by the addresses of the nodes that run now.
    pub fn meta_of_members(&self) -> String {
        let addrs: Vec<_> = self.members().into_iter().map(|id| self.cluster.node(id).addr()).collect();
        format!("holdfast://{}/{VOLUME}", addrs.join(","))
    }

    /// What `holdfast fsck --deep` says of the volume.
    ///
    /// # Errors
    /// Its words, where it is not sound.
    pub fn fsck(&self) -> Result<(), String> {
        let ended = self.cluster.holdfast(&["fsck", &self.meta, "--deep"]);
        if ended.code == Some(0) { Ok(()) } else { Err(format!("{}{}", ended.stdout, ended.stderr)) }
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
        // `holdfast mount` gives up after a while: there may be no leader yet, so soon after other faults.
        process::wait_for("a mount in place of the one whose process is gone", || {
            detach(&mounted.dir);
            let inside = |command| self.cluster.net().inside(member, &command);
            (mounted.try_again_as(&self.meta, &[], inside).code == Some(0)).then_some(())
        });
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

/// What a call on a mount says, as an errno's name.
pub fn errno_name(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}

/// What an error of a call on a mount says of what it did.
pub fn ending_of_call(error: &std::io::Error) -> Done {
    let name = errno_name(error);
    if error.raw_os_error().is_none() {
        return Done::Info(name);
    }
    match name.as_str() {
        "ENOSPC" | "EDQUOT" => Done::Fail(name),
        "EIO" | "EINTR" | "ETIMEDOUT" | "ENOTCONN" | "ECONNABORTED" | "ENODEV" => Done::Info(name),
        _ => Done::Refused(name),
    }
}

/// The kernel looks both names up, one after the other, before it asks the filesystem: what it refuses then was perhaps never so at one time.
/// And where both looked like one file, because somebody else moved it from here to there meanwhile, it says that all is done: so only
/// a rename that replaces nothing is one step.
pub fn rename_apart(from: &Path, to: &Path) -> Done {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Done::Ok(json!({})),
        Err(Errno::EISDIR | Errno::ENOTDIR | Errno::EEXIST) => Done::Fail("the kernel compared two looks".into()),
        Err(errno) => ending_of_call(&std::io::Error::from_raw_os_error(errno as i32)),
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
