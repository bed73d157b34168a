//! A fake metadata cluster for the tests of the transport: real gRPC on loopback, a state machine that knows only sessions and slots, and
//! faults on demand. What the operations mean is metad's, and tested there. Called by client_test.

use holdfast_proto::pb;
use holdfast_proto::pb::meta_server::{Meta, MetaServer};
use parking_lot::Mutex;
use pb::mutation::Op;
use pb::request::Body;
use pb::response::Result as Wire;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Request, Response, Status, Streaming};

/// What happens to one request of the session, in place of the usual.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Done, and the answer is lost on a stream that lives.
    LoseReply,
    /// Done, and the stream ends before the answer.
    EndStream,
    /// Not done.
    Fail(pb::FailureCode),
    /// Done, and answered by this.
    Answer(Option<Wire>),
    /// Not done: the session is gone.
    LoseSession,
}

/// The replicated state and what was seen of it.
#[derive(Debug, Default)]
pub struct World {
    pub leader: usize,
    pub protocol: u32,
    pub addrs: Vec<String>,
    /// What every node names as the voters.
    pub members: Vec<String>,
    /// Nodes that read and say nothing.
    pub stalled: Vec<usize>,
    pub faults: VecDeque<Fault>,
    /// (session, slot, seq) of every mutation as it came in, repeated ones too, and the node that it came to.
    pub seen: Vec<(usize, u64, u32, u64)>,
    /// The same of each that was applied.
    pub applied: Vec<(u64, u32, u64)>,
    pub queries: usize,
    pub keep_alives: Vec<u64>,
    sessions: BTreeMap<u64, BTreeMap<u32, (u64, Wire)>>,
    uuids: BTreeMap<Vec<u8>, u64>,
}

pub type Shared = Arc<Mutex<World>>;

/// One node; ends when dropped.
#[derive(Debug)]
pub struct Node(tokio::task::JoinHandle<()>);

impl Drop for Node {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `count` nodes; node 0 leads.
pub async fn start(count: usize) -> (Shared, Vec<Node>) {
    let world = Arc::new(Mutex::new(World { protocol: 1, ..Default::default() }));
    let mut nodes = Vec::new();
    for node in 0..count {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        world.lock().addrs.push(listener.local_addr().unwrap().to_string());
        let server = MetaServer::new(Fake { world: world.clone(), node });
        let serve = tonic::transport::Server::builder()
            .add_service(server)
            .serve_with_incoming(TcpListenerStream::new(listener));
        nodes.push(Node(tokio::spawn(async move { serve.await.unwrap() })));
    }
    (world, nodes)
}

struct Fake {
    world: Shared,
    node: usize,
}

type Frames = mpsc::UnboundedSender<Result<pb::ServerFrame, Status>>;

#[tonic::async_trait]
impl Meta for Fake {
    type AttachStream = UnboundedReceiverStream<Result<pb::ServerFrame, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<pb::ClientFrame>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (frames, outbound) = mpsc::unbounded_channel();
        let (world, node) = (self.world.clone(), self.node);
        tokio::spawn(async move {
            let mut inbound = request.into_inner();
            while let Some(Ok(frame)) = inbound.next().await {
                if !world.lock().take(node, frame, &frames) {
                    return;
                }
            }
        });
        Ok(Response::new(UnboundedReceiverStream::new(outbound)))
    }
}

impl World {
    /// Whether the stream lives on.
    fn take(&mut self, node: usize, frame: pb::ClientFrame, frames: &Frames) -> bool {
        if self.stalled.contains(&node) {
            return true;
        }
        let leads = self.leader == node;
        let leader = self.addrs.get(self.leader).cloned().unwrap_or_default();
        let mut out = pb::ServerFrame::default();
        if frame.hello.is_some() {
            let (protocol, cluster) = (self.protocol, "c1".to_owned());
            out.welcome = Some(pb::Welcome {
                protocol,
                node: node as u64,
                is_leader: leads,
                leader: leader.clone(),
                cluster,
                lease_ms: 0,
                members: self.members.clone(),
            });
        }
        if frame.keep_alive != 0 {
            self.keep_alives.push(frame.keep_alive);
        }
        for request in frame.requests {
            if !leads {
                let failure = pb::Failure {
                    code: pb::FailureCode::NotLeader.into(),
                    leader: leader.clone(),
                    message: String::new(),
                };
                out.responses.push(response(request.id, Some(Wire::Failure(failure))));
                continue;
            }
            match self.answer(node, request) {
                Some(Some(answer)) => out.responses.push(answer),
                Some(None) => {}
                None => return false,
            }
        }
        let _ = frames.send(Ok(out));
        true
    }

    /// Some(None): no answer. None: the stream ends.
    fn answer(&mut self, node: usize, request: pb::Request) -> Option<Option<pb::Response>> {
        let id = request.id;
        let session = match &request.body {
            Some(Body::Mutation(mutation)) => mutation.session,
            Some(Body::Query(query)) => query.session,
            None => 0,
        };
        if let Some(Body::Mutation(m)) = &request.body {
            self.seen.push((node, m.session, m.slot, m.seq));
        }
        let fault = if session == 0 { None } else { self.faults.pop_front() };
        match &fault {
            Some(Fault::Fail(code)) => return Some(Some(response(id, Some(failure(*code))))),
            Some(Fault::LoseSession) => drop(self.sessions.remove(&session)),
            _ => {}
        }
        let usual = match request.body {
            Some(Body::Mutation(mutation)) => self.mutate(&mutation),
            Some(Body::Query(query)) => self.query(&query),
            None => failure(pb::FailureCode::Malformed),
        };
        match fault {
            Some(Fault::LoseReply) => Some(None),
            Some(Fault::EndStream) => None,
            Some(Fault::Answer(answer)) => Some(Some(response(id, answer))),
            Some(Fault::Fail(_) | Fault::LoseSession) | None => Some(Some(response(id, Some(usual)))),
        }
    }

    fn mutate(&mut self, mutation: &pb::Mutation) -> Wire {
        if let Some(Op::OpenSession(open)) = &mutation.op {
            let next = self.uuids.len() as u64 + 1;
            let session = *self.uuids.entry(open.uuid.to_vec()).or_insert(next);
            self.sessions.entry(session).or_default();
            return Wire::Reply(pb::OpenSessionReply { session, volume: 1 }.encode_to_vec().into());
        }
        let Some(slots) = self.sessions.get_mut(&mutation.session) else {
            return failure(pb::FailureCode::SessionLost);
        };
        let (last, stored) = slots.get(&mutation.slot).cloned().unwrap_or((0, Wire::Errno(0)));
        if mutation.seq == last {
            return stored;
        }
        if mutation.seq != last + 1 {
            return failure(pb::FailureCode::Sequence);
        }
        let result = match &mutation.op {
            // The second mkdir of a name would be refused: the first one is not.
            Some(Op::Mkdir(mkdir)) if &mkdir.name[..] == b"taken" => Wire::Errno(libc::EEXIST as u32),
            _ => {
                let attr = pb::Attr { ino: self.applied.len() as u64 + 2, ..Default::default() };
                Wire::Reply(pb::EntryReply { attr: Some(attr), created: true }.encode_to_vec().into())
            }
        };
        self.applied.push((mutation.session, mutation.slot, mutation.seq));
        slots.insert(mutation.slot, (mutation.seq, result.clone()));
        if let Some(Op::CloseSession(_)) = &mutation.op {
            self.sessions.remove(&mutation.session);
        }
        result
    }

    fn query(&mut self, query: &pb::Query) -> Wire {
        self.queries += 1;
        if query.session != 0 && !self.sessions.contains_key(&query.session) {
            return failure(pb::FailureCode::SessionLost);
        }
        Wire::Reply(
            pb::EntryReply { attr: Some(pb::Attr { ino: 1, ..Default::default() }), created: false }
                .encode_to_vec()
                .into(),
        )
    }
}

fn failure(code: pb::FailureCode) -> Wire {
    Wire::Failure(pb::Failure { code: code.into(), leader: String::new(), message: "fake".to_owned() })
}

fn response(id: u64, result: Option<Wire>) -> pb::Response {
    pb::Response { id, log_index: 7, result }
}
