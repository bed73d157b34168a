//! LocalMeta: `MetaApi` over metad's own state machine on a store in memory. The fake is the real thing without Raft and without
//! a network. With the client's data path and objects in memory it is the filesystem that the model test runs many seeds on.

use super::ops_fs::OpsFs;
use async_trait::async_trait;
use bytes::Bytes;
use holdfast::data::{Data, DataConfig};
use holdfast::error::ClientError;
use holdfast::meta::{Answer, MetaApi};
use holdfast::object::{ObjectError, ObjectStore};
use holdfast_proto::{Ask, Op, pb};
use metad::apply::{self, Verdict};
use metad::store::{KvCommit, mem_store::MemStore};
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// A volume of its own, empty, with nothing but the state machine below.
pub fn fresh_fs() -> OpsFs<LocalMeta> {
    let meta = Arc::new(LocalMeta::new());
    let config = DataConfig { cache_bytes_max: 64 << 20, ..DataConfig::default() };
    // The data path spawns its tasks on the runtime that makes it.
    let _inside = crate::admin::runtime().enter();
    let data = Data::new(meta.clone(), Arc::new(MemObjects::default()), config);
    OpsFs::new(meta, data)
}

/// One session on one volume.
#[derive(Debug)]
pub struct LocalMeta {
    state: Mutex<State>,
    session: u64,
}

#[derive(Default)]
struct State {
    store: MemStore,
    log_index: u64,
    /// All mutations go through slot 0, one after the other.
    seq: u64,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State at {}", self.log_index)
    }
}

impl State {
    /// Commits one log entry with one mutation.
    fn apply(&mut self, mutation: pb::Mutation) -> (Verdict, u64) {
        self.log_index += 1;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let time = Some(pb::TimeSpec { sec: since.as_secs() as i64, nsec: since.subsec_nanos() });
        let entry = pb::LogEntry { time, mutations: vec![mutation], tight: false };
        let applied = self.store.view(|view| apply::apply_entry(view, self.log_index, &entry)).expect("apply");
        self.store.commit(self.log_index, applied.batch).expect("commit");
        (applied.outcomes.into_iter().next().expect("one outcome").verdict, self.log_index)
    }

    fn unsessioned<O: Op>(&mut self, op: O) -> O::Reply {
        let mutation =
            pb::Mutation { op: Some(op.into_wire()), creds: Some(pb::Creds::default()), ..Default::default() };
        reply::<O::Reply>(self.apply(mutation)).expect("set-up of the local volume").reply
    }
}

fn reply<R: Message + Default>((verdict, log_index): (Verdict, u64)) -> Result<Answer<R>, ClientError> {
    match verdict {
        Verdict::Reply(bytes) => {
            let reply = R::decode(bytes).map_err(|error| ClientError::Protocol(error.to_string()))?;
            Ok(Answer { reply, log_index })
        }
        Verdict::Refused(errno) => Err(ClientError::Refused(errno)),
        Verdict::Failed(code) => Err(ClientError::Protocol(code.as_str_name().to_string())),
    }
}

impl Default for LocalMeta {
    fn default() -> Self {
        LocalMeta::new()
    }
}

impl LocalMeta {
    pub fn new() -> LocalMeta {
        let mut state = State::default();
        let uuid = Bytes::from_static(&[7; 16]);
        let storage = Some(pb::Storage { kind: "file".into(), url: "memory".into(), ..Default::default() });
        let block_size = holdfast_proto::limits::BLOCK_BYTES_DEFAULT;
        let settings =
            Some(pb::VolumeSettings { name: "local".into(), uuid, storage, block_size, ..Default::default() });
        state.unsessioned(pb::FormatVolumeOp { settings });
        let uuid = Bytes::from_static(&[9; 16]);
        let session =
            state.unsessioned(pb::OpenSessionOp { uuid, volume: "local".into(), ..Default::default() }).session;
        LocalMeta { state: Mutex::new(state), session }
    }

    /// Looks at the whole state.
    pub fn view<R>(&self, read: impl FnOnce(&dyn metad::store::KvRead) -> R) -> R {
        self.state.lock().store.view(read)
    }
}

impl MetaApi for LocalMeta {
    async fn mutate<O: Op>(&self, creds: &pb::Creds, op: O) -> Result<Answer<O::Reply>, ClientError> {
        let mut state = self.state.lock();
        state.seq += 1;
        let (session, seq) = (self.session, state.seq);
        let creds = Some(creds.clone());
        reply(state.apply(pb::Mutation { session, slot: 0, seq, creds, op: Some(op.into_wire()) }))
    }

    async fn query<Q: Ask>(&self, creds: &pb::Creds, ask: Q) -> Result<Answer<Q::Reply>, ClientError> {
        let state = self.state.lock();
        let query = pb::Query { session: self.session, creds: Some(creds.clone()), ask: Some(ask.into_wire()) };
        let verdict = state.store.view(|view| metad::query::answer(view, &query)).expect("query");
        reply((verdict, state.log_index))
    }

    fn session(&self) -> u64 {
        self.session
    }

    fn take_pushes(&self) -> Option<mpsc::UnboundedReceiver<pb::Push>> {
        None
    }
}

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemObjects(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl ObjectStore for MemObjects {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        self.0.lock().insert(key.to_string(), body);
        Ok(())
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        self.0.lock().get(key).cloned().ok_or_else(|| ObjectError::NotFound(key.to_string()))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let whole = self.get(key).await?;
        let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(whole.len());
        Ok(whole.slice((range.start as usize).min(end)..end))
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        self.get(key).await.map(|body| body.len() as u64)
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.0.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let objects = self.0.lock();
        let below = objects.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(below.map(|(key, body)| (key.clone(), body.len() as u64)).collect())
    }
}
