//! FakeMeta: a MetaApi that a test scripts call by call, to see what vfs asks and in which order. What the operations mean is tested on
//! the state machine, in the tests crate. Called by vfs's unit tests only.

use crate::data::{Data, DataConfig};
use crate::error::ClientError;
use crate::meta::{Answer, MetaApi};
use crate::object::LocalStore;
use crate::vfs::{Vfs, VfsConfig};
use holdfast_proto::pb::{self, mutation::Op as WireOp, query::Ask as WireAsk};
use holdfast_proto::{Ask, Op};
use parking_lot::Mutex;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;

/// What vfs asked.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Op(WireOp),
    Ask(WireAsk),
}

/// The encoded reply message, or a refusal.
pub type Said = Result<Vec<u8>, ClientError>;

pub struct FakeMeta {
    answer: Box<dyn Fn(&Call) -> Said + Send + Sync>,
    calls: Mutex<Vec<Call>>,
    pushes: Mutex<Option<mpsc::UnboundedReceiver<pb::Push>>>,
    pub push: mpsc::UnboundedSender<pb::Push>,
    pub session: AtomicU64,
}

impl FakeMeta {
    pub fn new(answer: impl Fn(&Call) -> Said + Send + Sync + 'static) -> Arc<FakeMeta> {
        let (push, pushes) = mpsc::unbounded_channel();
        let pushes = Mutex::new(Some(pushes));
        Arc::new(FakeMeta {
            answer: Box::new(answer),
            calls: Mutex::default(),
            pushes,
            push,
            session: AtomicU64::new(1),
        })
    }

    /// What was asked since the last look.
    pub fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.calls.lock())
    }

    pub fn call_count(&self) -> usize {
        self.calls.lock().len()
    }

    async fn call<R: Message + Default>(&self, call: Call) -> Result<Answer<R>, ClientError> {
        // A real answer never comes without others having had their turn.
        tokio::task::yield_now().await;
        self.calls.lock().push(call.clone());
        let reply = R::decode(&(self.answer)(&call)?[..]).expect("the script's reply fits the call");
        Ok(Answer { reply, log_index: 1 })
    }
}

impl MetaApi for FakeMeta {
    async fn mutate<O: Op>(&self, _creds: &pb::Creds, op: O) -> Result<Answer<O::Reply>, ClientError> {
        self.call(Call::Op(op.into_wire())).await
    }

    async fn query<Q: Ask>(&self, _creds: &pb::Creds, ask: Q) -> Result<Answer<Q::Reply>, ClientError> {
        self.call(Call::Ask(ask.into_wire())).await
    }

    fn session(&self) -> u64 {
        self.session.load(Ordering::Relaxed)
    }

    fn take_pushes(&self) -> Option<mpsc::UnboundedReceiver<pb::Push>> {
        self.pushes.lock().take()
    }
}

pub fn say(reply: &impl Message) -> Said {
    Ok(reply.encode_to_vec())
}

pub fn say_attr(attr: pb::Attr) -> Said {
    say(&pb::EntryReply { attr: Some(attr), created: true })
}

pub fn file_attr(ino: u64, size: u64, data_version: u64) -> pb::Attr {
    pb::Attr { ino, size, data_version, kind: pb::FileKind::Regular as i32, mode: 0o644, ..pb::Attr::default() }
}

/// A Vfs over `meta`, with a store that no test of vfs writes to.
pub fn vfs(meta: &Arc<FakeMeta>, config: VfsConfig) -> Arc<Vfs<FakeMeta>> {
    let store = Arc::new(LocalStore::new("/nonexistent".into(), false));
    Vfs::new(meta.clone(), Data::new(meta.clone(), store, DataConfig::default()), config)
}
