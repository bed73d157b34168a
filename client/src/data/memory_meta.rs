//! A MetaApi in memory that knows the operations of data only, for one volume and one session at a time: what the data path's own
//! tests and examples/data_bench run on. The product never makes one.

use crate::error::ClientError;
use crate::meta::{Answer, MetaApi};
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::{Ask, FsErrno, Op, pb};
use parking_lot::Mutex;
use pb::mutation::Op as WireOp;
use pb::query::Ask as WireAsk;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

#[derive(Default)]
struct File {
    size: u64,
    version: u64,
    slices: Vec<pb::Slice>,
}

#[derive(Default)]
struct State {
    log_index: u64,
    session: u64,
    files: BTreeMap<u64, File>,
    deleted: BTreeMap<u64, u32>,
    commits: u64,
    fail_next: Vec<(ClientError, bool)>,
    slice_ids: BTreeSet<u64>,
}

#[derive(Default)]
pub struct MemoryMeta {
    state: Mutex<State>,
}

impl MemoryMeta {
    pub fn new() -> Self {
        let meta = MemoryMeta::default();
        meta.state.lock().session = 1;
        meta
    }

    /// A new, empty file.
    pub fn create(&self, ino: u64) -> pb::Attr {
        let mut state = self.state.lock();
        state.log_index += 1;
        let version = state.log_index;
        state.files.insert(ino, File { version, ..File::default() });
        attr(ino, &state.files[&ino])
    }

    pub fn attr(&self, ino: u64) -> Option<pb::Attr> {
        self.state.lock().files.get(&ino).map(|file| attr(ino, file))
    }

    /// The last name and the last hold are gone.
    pub fn remove(&self, ino: u64) {
        let mut state = self.state.lock();
        if let Some(file) = state.files.remove(&ino) {
            state.deleted.extend(file.slices.iter().map(|slice| (slice.slice_id, slice.slice_len)));
        }
    }

    /// As the state machine does it: slices beyond the new end go, and a hole hides the rest of the one that straddles it.
    pub fn truncate(&self, ino: u64, size: u64) -> Option<pb::Attr> {
        let mut state = self.state.lock();
        state.log_index += 1;
        let index = state.log_index;
        let mut gone = Vec::new();
        let file = state.files.get_mut(&ino)?;
        if size < file.size {
            file.slices.retain(|slice| {
                let keep = u64::from(slice.chunk) * u64::from(CHUNK_BYTES) + u64::from(slice.chunk_offset) < size;
                if !keep && slice.slice_id != 0 {
                    gone.push((slice.slice_id, slice.slice_len));
                }
                keep
            });
            let chunk_offset = (size % u64::from(CHUNK_BYTES)) as u32;
            if chunk_offset > 0 {
                let chunk = (size / u64::from(CHUNK_BYTES)) as u32;
                file.slices.push(pb::Slice {
                    chunk,
                    chunk_offset,
                    len: CHUNK_BYTES - chunk_offset,
                    ..Default::default()
                });
            }
        }
        file.size = size;
        file.version = index;
        let attr = attr(ino, file);
        state.deleted.extend(gone);
        Some(attr)
    }

    pub fn set_session(&self, session: u64) {
        self.state.lock().session = session;
    }

    /// The next commit fails like this; `applied`: but happens all the same.
    pub fn fail_next_commit(&self, error: ClientError, applied: bool) {
        self.state.lock().fail_next.push((error, applied));
    }

    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }

    /// Slices that are to be deleted.
    pub fn deleted_count(&self) -> usize {
        self.state.lock().deleted.len()
    }
}

fn attr(ino: u64, file: &File) -> pb::Attr {
    pb::Attr { ino, size: file.size, data_version: file.version, nlink: 1, mode: 0o644, ..Default::default() }
}

impl State {
    fn commit(&mut self, op: pb::CommitWriteOp) -> Result<Vec<u8>, ClientError> {
        let failure = self.fail_next.pop();
        if let Some((error, false)) = failure {
            return Err(error);
        }
        self.log_index += 1;
        self.commits += 1;
        let file = self.files.get_mut(&op.ino).ok_or(FsErrno::Stale)?;
        for slice in op.slices {
            if slice.slice_id >> 32 != self.session || !self.slice_ids.insert(slice.slice_id) {
                return Err(ClientError::Protocol(format!("slice {} is foreign or was named before", slice.slice_id)));
            }
            let end = u64::from(slice.chunk) * u64::from(CHUNK_BYTES) + u64::from(slice.chunk_offset + slice.len);
            file.size = file.size.max(end);
            file.slices.push(slice);
        }
        file.version = self.log_index;
        let reply = pb::EntryReply { attr: Some(attr(op.ino, file)), created: false };
        failure.map_or(Ok(reply.encode_to_vec()), |(error, _)| Err(error))
    }

    fn read_slices(&self, ask: &pb::ReadSlicesQuery) -> Result<Vec<u8>, ClientError> {
        let file = self.files.get(&ask.ino).ok_or(FsErrno::Stale)?;
        let chunks = ask.first_chunk..ask.first_chunk + ask.chunk_count;
        let slices = file.slices.iter().filter(|slice| chunks.contains(&slice.chunk)).cloned().collect();
        Ok(pb::ReadSlicesReply { attr: Some(attr(ask.ino, file)), slices }.encode_to_vec())
    }
}

fn decode<R: Message + Default>(bytes: &[u8], log_index: u64) -> Result<Answer<R>, ClientError> {
    let reply = R::decode(bytes).map_err(|error| ClientError::Protocol(error.to_string()))?;
    Ok(Answer { reply, log_index })
}

impl MetaApi for MemoryMeta {
    async fn mutate<O: Op>(&self, _creds: &pb::Creds, op: O) -> Result<Answer<O::Reply>, ClientError> {
        let mut state = self.state.lock();
        let bytes = match op.into_wire() {
            WireOp::CommitWrite(op) => state.commit(op)?,
            WireOp::PurgeSlices(op) => {
                state.deleted.retain(|slice_id, _| !op.slice_ids.contains(slice_id));
                Vec::new()
            }
            _ => return Err(FsErrno::NoSys.into()),
        };
        decode(&bytes, state.log_index)
    }

    async fn query<Q: Ask>(&self, _creds: &pb::Creds, ask: Q) -> Result<Answer<Q::Reply>, ClientError> {
        let state = self.state.lock();
        let bytes = match ask.into_wire() {
            WireAsk::ReadSlices(ask) => state.read_slices(&ask)?,
            WireAsk::DeletedSlices(ask) => {
                let slices = state.deleted.iter().take(ask.count_max as usize);
                let slices = slices.map(|(&slice_id, &slice_len)| pb::DeletedSlice { slice_id, slice_len }).collect();
                pb::DeletedSlicesReply { slices }.encode_to_vec()
            }
            _ => return Err(FsErrno::NoSys.into()),
        };
        decode(&bytes, state.log_index)
    }

    fn session(&self) -> u64 {
        self.state.lock().session
    }

    fn take_pushes(&self) -> Option<mpsc::UnboundedReceiver<pb::Push>> {
        None
    }
}
