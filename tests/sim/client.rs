//! Simulated clients: each has a session and does one operation after the other in a small tree, and repeats it under the same
//! (session, slot, seq) until it is answered. What was asked and answered goes into the history.

use crate::carry::Port;
use crate::net::address;
use crate::planted::Planted;
use bytes::Bytes;
use holdfast_proto::pb::meta_client::MetaClient;
use holdfast_proto::pb::{self, ClientFrame, FailureCode, mutation, query, request, response};
use metad::raft::dial::PeerChannel;
use metad::raft::node::RaftNode;
use metad::raft::state_machine::applied_index;
use metad::store::KvCommit;
use parking_lot::Mutex;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio_stream::wrappers::UnboundedReceiverStream;

const PATIENCE: Duration = Duration::from_millis(900);
const ROOT: u64 = 1;
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
pub const VOLUME: &str = "sim";

/// What a mutation or query was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Bytes),
    Errno(u32),
}

/// (session, slot, seq).
pub type Key = (u64, u32, u64);

#[derive(Clone, Debug)]
pub struct Mutated {
    /// Client and number of the operation: what it was meant to do once.
    pub meant: (u64, u64),
    /// The last one, where a planted bug gave it several.
    pub keys: Vec<Key>,
    pub answered: Option<Answered>,
}

#[derive(Clone, Debug)]
pub struct Answered {
    pub at: u64,
    pub index: u64,
    pub answer: Answer,
}

#[derive(Clone, Debug)]
pub struct ReadBack {
    pub client: u64,
    /// When the request that was answered was sent.
    pub asked: u64,
    pub query: pb::Query,
    pub answered: Answered,
}

#[derive(Default)]
pub struct History {
    pub mutated: Vec<Mutated>,
    pub reads: Vec<ReadBack>,
    pub wrong: Vec<String>,
}

/// What all clients share.
pub struct Crowd {
    pub now: AtomicU64,
    pub stop: AtomicBool,
    pub done: AtomicU64,
    pub history: Mutex<History>,
    pub planted: Planted,
    /// For the planted bug that reads without asking who leads.
    pub nodes: Mutex<BTreeMap<u64, Arc<RaftNode>>>,
}

struct Line {
    frames: UnboundedSender<ClientFrame>,
    inbound: tonic::Streaming<pb::ServerFrame>,
}

pub struct Client {
    id: u64,
    port: Arc<Port>,
    servers: Vec<u64>,
    crowd: Arc<Crowd>,
    rng: StdRng,
    target: u64,
    line: Option<Line>,
    requests: u64,
    session: u64,
    seq: u64,
    number: u64,
    /// Inodes that this client has seen: directories, and others.
    dirs: Vec<u64>,
    files: Vec<u64>,
}

impl Client {
    pub fn new(id: u64, port: Arc<Port>, servers: Vec<u64>, crowd: Arc<Crowd>, rng: StdRng) -> Client {
        let target = servers[id as usize % servers.len()];
        Client {
            id,
            port,
            servers,
            crowd,
            rng,
            target,
            line: None,
            requests: 0,
            session: 0,
            seq: 0,
            number: 0,
            dirs: vec![ROOT],
            files: Vec::new(),
        }
    }

    pub async fn run(mut self) {
        if self.begin().await.is_some() {
            while !self.crowd.stop.load(Ordering::SeqCst) {
                match self.rng.random_bool(0.3) {
                    true => self.read().await,
                    false => self.mutate().await,
                }
                let pause = self.rng.random_range(0..30);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
        self.crowd.done.fetch_add(1, Ordering::SeqCst);
    }

    fn now(&self) -> u64 {
        self.crowd.now.load(Ordering::SeqCst)
    }

    /// Formats the volume, which all may do, and opens a session. None: told to stop before.
    async fn begin(&mut self) -> Option<()> {
        let storage = pb::Storage { kind: "file".into(), url: "/none".into(), ..Default::default() };
        let settings = pb::VolumeSettings {
            name: VOLUME.into(),
            uuid: vec![7; 16].into(),
            storage: Some(storage),
            block_size: holdfast_proto::limits::BLOCK_BYTES_DEFAULT,
            ..Default::default()
        };
        let format = mutation::Op::FormatVolume(pb::FormatVolumeOp { settings: Some(settings) });
        self.ask(|_| request::Body::Mutation(pb::Mutation { op: Some(format.clone()), ..Default::default() })).await;
        let uuid = u128::from(self.id + 1).to_be_bytes().to_vec();
        let open = pb::OpenSessionOp { uuid: uuid.into(), volume: VOLUME.into(), ..Default::default() };
        let open = mutation::Op::OpenSession(open);
        let opened =
            self.ask(|_| request::Body::Mutation(pb::Mutation { op: Some(open.clone()), ..Default::default() })).await;
        match opened.1.answer {
            Answer::Reply(reply) => self.session = pb::OpenSessionReply::decode(reply).ok()?.session,
            Answer::Errno(errno) => {
                self.crowd.history.lock().wrong.push(format!("client {}: no session: errno {errno}", self.id));
                return None;
            }
        }
        Some(())
    }

    async fn mutate(&mut self) {
        let op = self.some_op();
        self.number += 1;
        self.seq += 1;
        let at = {
            let mut history = self.crowd.history.lock();
            let meant = (self.id, self.number);
            history.mutated.push(Mutated { meant, keys: vec![(self.session, 0, self.seq)], answered: None });
            history.mutated.len() - 1
        };
        let (_, answered) = self
            .ask(|this| {
                let key = (this.session, 0, this.seq);
                let keys = &mut this.crowd.history.lock().mutated[at].keys;
                if !keys.contains(&key) {
                    keys.push(key);
                }
                let creds = Some(pb::Creds::default());
                let (session, seq, op) = (this.session, this.seq, Some(op.clone()));
                request::Body::Mutation(pb::Mutation { session, slot: 0, seq, creds, op })
            })
            .await;
        self.learn(&op, &answered.answer);
        self.crowd.history.lock().mutated[at].answered = Some(answered);
    }

    fn learn(&mut self, op: &mutation::Op, answer: &Answer) {
        let Answer::Reply(reply) = answer else { return };
        let Ok(pb::EntryReply { attr: Some(attr), .. }) = pb::EntryReply::decode(reply.clone()) else { return };
        match op {
            mutation::Op::Mkdir(_) => self.dirs.push(attr.ino),
            mutation::Op::Create(_) => self.files.push(attr.ino),
            _ => {}
        }
    }

    fn some_name(&mut self) -> Bytes {
        Bytes::from_static(NAMES[self.rng.random_range(0..NAMES.len())].as_bytes())
    }

    fn some_dir(&mut self) -> u64 {
        // Often the root, where clients meet.
        if self.rng.random_bool(0.6) { ROOT } else { self.dirs[self.rng.random_range(0..self.dirs.len())] }
    }

    fn some_ino(&mut self) -> u64 {
        match self.files.len() {
            0 => ROOT,
            count => self.files[self.rng.random_range(0..count)],
        }
    }

    fn some_op(&mut self) -> mutation::Op {
        let (parent, name) = (self.some_dir(), self.some_name());
        match self.rng.random_range(0..10) {
            0..3 => mutation::Op::Create(pb::CreateOp { parent, name, mode: 0o644, exclusive: true, umask: 0 }),
            3 => mutation::Op::Mkdir(pb::MkdirOp { parent, name, mode: 0o755, umask: 0 }),
            4..6 => mutation::Op::Unlink(pb::UnlinkOp { parent, name }),
            6 => mutation::Op::Rmdir(pb::RmdirOp { parent, name }),
            7 => {
                let (new_parent, new_name) = (self.some_dir(), self.some_name());
                mutation::Op::Rename(pb::RenameOp { parent, name, new_parent, new_name, ..Default::default() })
            }
            8 => mutation::Op::Link(pb::LinkOp { ino: self.some_ino(), new_parent: parent, new_name: name }),
            _ => {
                let mode = Some(self.rng.random_range(0..0o1000));
                mutation::Op::Setattr(pb::SetattrOp { ino: self.some_ino(), mode, ..Default::default() })
            }
        }
    }

    async fn read(&mut self) {
        let (parent, name) = (self.some_dir(), self.some_name());
        let ask = match self.rng.random_range(0..3) {
            0 => query::Ask::Getattr(pb::GetattrQuery { ino: self.some_ino() }),
            1 => query::Ask::Getattr(pb::GetattrQuery { ino: parent }),
            _ => query::Ask::Lookup(pb::LookupQuery { parent, name }),
        };
        let query = pb::Query { session: self.session, creds: Some(pb::Creds::default()), ask: Some(ask) };
        let (asked, answered) = match self.crowd.planted == Planted::StaleReads {
            true => match self.read_anywhere(&query) {
                Some(read) => read,
                None => return,
            },
            false => self.ask(|_| request::Body::Query(query.clone())).await,
        };
        self.crowd.history.lock().reads.push(ReadBack { client: self.id, asked, query, answered });
    }

    /// Planted bug: any node answers from its own state.
    fn read_anywhere(&mut self, query: &pb::Query) -> Option<(u64, Answered)> {
        let nodes: Vec<Arc<RaftNode>> = self.crowd.nodes.lock().values().cloned().collect();
        let node = nodes.get(self.rng.random_range(0..nodes.len().max(1)))?;
        let (index, verdict) =
            node.store().view(|view| Some((applied_index(view).ok()?, metad::query::answer(view, query).ok()?)))?;
        let answer = crate::oracle::answer_of(&verdict)?;
        Some((self.now(), Answered { at: self.now(), index, answer }))
    }

    /// Asks until there is an answer. Returns when the request that was answered was sent, too.
    async fn ask(&mut self, body: impl Fn(&mut Client) -> request::Body) -> (u64, Answered) {
        loop {
            let asked = self.now();
            let body = body(self);
            let is_mutation = matches!(&body, request::Body::Mutation(mutation) if mutation.session != 0);
            let mut unknown = false;
            match tokio::time::timeout(PATIENCE, self.try_ask(body)).await {
                Ok(Some(pb::Response { log_index: index, result: Some(result), .. })) => {
                    let answer = match result {
                        response::Result::Reply(reply) => Ok(Answer::Reply(reply)),
                        response::Result::Errno(errno) => Ok(Answer::Errno(errno)),
                        response::Result::Failure(failure) => Err(failure),
                    };
                    match answer {
                        Ok(answer) => return (asked, Answered { at: self.now(), index, answer }),
                        Err(failure) => self.redirect(&failure),
                    }
                }
                _ => {
                    // It may have been sent.
                    unknown = self.line.is_some();
                    self.leave();
                }
            }
            if unknown && is_mutation && self.crowd.planted == Planted::NoDedup {
                self.seq += 1;
            }
            let pause = self.rng.random_range(5..60);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn leave(&mut self) {
        self.line = None;
        self.target = self.servers[self.rng.random_range(0..self.servers.len())];
    }

    fn redirect(&mut self, failure: &pb::Failure) {
        match failure.code() {
            FailureCode::NotLeader | FailureCode::Unavailable | FailureCode::Unknown => {}
            // A planted bug may skip numbers that were never used, or fall behind those that came late.
            FailureCode::Sequence if self.crowd.planted == Planted::NoDedup => {
                self.seq = if self.rng.random_ratio(1, 8) { self.seq + 4 } else { self.seq.saturating_sub(1) };
            }
            code => self.crowd.history.lock().wrong.push(format!("client {} was told {code:?}", self.id)),
        }
        let leader = self.servers.iter().copied().find(|id| address(*id) == failure.leader);
        self.leave();
        self.target = leader.unwrap_or(self.target);
    }

    async fn try_ask(&mut self, body: request::Body) -> Option<pb::Response> {
        if self.line.is_none() {
            self.line = Some(self.attach().await?);
        }
        self.requests += 1;
        let id = self.requests;
        let line = self.line.as_mut()?;
        let request = pb::Request { id, body: Some(body) };
        line.frames.send(ClientFrame { requests: vec![request], ..Default::default() }).ok()?;
        loop {
            let frame = line.inbound.message().await.ok()??;
            if let Some(response) = frame.responses.into_iter().find(|response| response.id == id) {
                return Some(response);
            }
        }
    }

    async fn attach(&mut self) -> Option<Line> {
        let channel = PeerChannel::Carried { carrier: self.port.clone(), addr: address(self.target).into() };
        let (frames, body) = tokio::sync::mpsc::unbounded_channel();
        let hello = pb::Hello { protocol: holdfast_proto::version::PROTOCOL, session: self.session, quiet: false };
        frames.send(ClientFrame { hello: Some(hello), ..Default::default() }).ok()?;
        let inbound = MetaClient::new(channel).attach(UnboundedReceiverStream::new(body)).await.ok()?.into_inner();
        Some(Line { frames, inbound })
    }
}
