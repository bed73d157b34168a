//! A small load of names by a client without a mount: made, some renamed to another directory, some removed. What was acknowledged is
//! noted, and looked for at the end. Called by nodes.

use holdfast::config::MetaConfig;
use holdfast::meta::url::MetaUrl;
use holdfast::meta::{MetaApi, MetaClient};
use holdfast_proto::{ROOT_INO, pb};
use holdfast_tests::admin::runtime;
use holdfast_tests::{crowd, process};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{RwLock, RwLockWriteGuard};
use tokio::task::JoinHandle;

const WORKERS: usize = 6;
/// Between two operations of a worker: the machine has other work.
const PAUSE: Duration = Duration::from_millis(2);
/// A restart on a loaded machine takes its time, and no answer would prove nothing.
const DEADLINE: Duration = Duration::from_secs(180);

/// Where a name must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Old,
    New,
    Gone,
}

struct Shared {
    client: Arc<MetaClient>,
    old: u64,
    new: u64,
    /// Shared by the workers for a round each.
    turn: RwLock<()>,
    end: AtomicBool,
    acked: AtomicU64,
    places: Mutex<BTreeMap<String, Place>>,
}

pub struct Load {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    answers: JoinHandle<()>,
}

async fn mkdir(client: &MetaClient, name: &str) -> u64 {
    let op = pb::MkdirOp { parent: ROOT_INO, name: name.to_owned().into(), mode: 0o755, umask: 0 };
    let made = client.mutate(&pb::Creds::default(), op).await.expect("makes a directory").reply;
    made.attr.expect("attributes").ino
}

impl Shared {
    async fn mutate<O: holdfast_proto::Op>(&self, op: O) {
        let done = self.client.mutate(&pb::Creds::default(), op).await;
        done.expect("whatever dies, operations are done in the end");
        self.acked.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }

    fn note(&self, name: &str, place: Place) {
        self.places.lock().unwrap().insert(name.to_owned(), place);
    }

    async fn create(&self, name: &str) {
        let (parent, bytes) = (self.old, name.to_owned().into());
        self.mutate(pb::CreateOp { parent, name: bytes, mode: 0o644, exclusive: true, umask: 0 }).await;
        self.note(name, Place::Old);
    }

    async fn work(&self, worker: usize) {
        for number in (worker..).step_by(WORKERS) {
            let _turn = self.turn.read().await;
            if self.end.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("name-{number:06}");
            let bytes = || name.clone().into();
            self.create(&name).await;
            if number % 3 == 0 {
                let (parent, new_parent) = (self.old, self.new);
                self.mutate(pb::RenameOp { parent, name: bytes(), new_parent, new_name: bytes(), flags: 1 }).await;
                self.note(&name, Place::New);
            }
            if number % 4 == 0 {
                let parent = if number % 3 == 0 { self.new } else { self.old };
                self.mutate(pb::UnlinkOp { parent, name: bytes() }).await;
                self.note(&name, Place::Gone);
            }
        }
    }

    /// Names of a directory, and how often each is there.
    async fn list(&self, ino: u64) -> BTreeMap<String, usize> {
        let (mut found, mut after) = (BTreeMap::new(), 0);
        loop {
            let ask = pb::ReaddirQuery { ino, after, bytes_max: 1 << 16, with_attrs: false };
            let page = self.client.query(&pb::Creds::default(), ask).await.expect("lists").reply;
            for entry in &page.entries {
                *found.entry(String::from_utf8_lossy(&entry.name).into_owned()).or_default() += 1;
            }
            match page.entries.last() {
                Some(last) if !page.end => after = last.cookie,
                _ => return found,
            }
        }
    }
}

impl Load {
    pub fn start(meta: &str) -> Load {
        let url = MetaUrl::from_arg_or_env(Some(meta)).expect("META");
        let shared = runtime().block_on(async {
            let config = MetaConfig { op_deadline: DEADLINE, ..MetaConfig::new(&url, None) };
            let client = Arc::new(MetaClient::connect(config).await.expect("connects"));
            client.open_session(url.volume().expect("volume"), "test", "none").await.expect("opens");
            let (old, new) = (mkdir(&client, "old").await, mkdir(&client, "new").await);
            let (end, acked, places) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::default());
            Arc::new(Shared { client, old, new, turn: RwLock::default(), end, acked, places })
        });
        let workers = (0..WORKERS).map(|worker| {
            let shared = shared.clone();
            runtime().spawn(async move { shared.work(worker).await })
        });
        let workers = Mutex::new(workers.collect());
        let answers = runtime().spawn(crowd::answer(shared.client.clone()));
        Load { shared, workers, answers }
    }

    /// Waits until so many more operations were acknowledged.
    pub fn wait_progress(&self, more: u64) {
        let until = self.shared.acked.load(Ordering::Relaxed) + more;
        process::wait_for("the load to go on", || (self.shared.acked.load(Ordering::Relaxed) >= until).then_some(()));
    }

    /// Nothing is under way until the guard is dropped.
    pub fn still(&self) -> RwLockWriteGuard<'_, ()> {
        runtime().block_on(self.shared.turn.write())
    }

    /// Asks for one name, also while the workers stand still. Does not wait for it.
    pub fn one_more(&self) {
        let mut workers = self.workers.lock().unwrap();
        let (shared, name) = (self.shared.clone(), format!("extra-{}", workers.len()));
        workers.push(runtime().spawn(async move { shared.create(&name).await }));
    }

    /// Ends it, and looks for each name where it must be, once, and nowhere else. How many operations there were.
    pub fn finish(self) -> u64 {
        self.shared.end.store(true, Ordering::Relaxed);
        let Load { shared, workers, answers } = self;
        runtime().block_on(async {
            for worker in workers.into_inner().unwrap() {
                worker.await.expect("a worker of the load");
            }
            answers.abort();
            let (old, new) = (shared.list(shared.old).await, shared.list(shared.new).await);
            let places = std::mem::take(&mut *shared.places.lock().unwrap());
            let count = |listed: &BTreeMap<String, usize>, name: &str| listed.get(name).copied().unwrap_or(0);
            for (name, place) in &places {
                let found = (count(&old, name), count(&new, name));
                let wanted = (usize::from(*place == Place::Old), usize::from(*place == Place::New));
                assert_eq!(found, wanted, "{name}: how often it is in the old and in the new directory");
            }
            let stray = old.keys().chain(new.keys()).find(|name| !places.contains_key(*name));
            assert_eq!(stray, None, "nobody made it");
        });
        shared.acked.load(Ordering::Relaxed)
    }
}
