//! The client's stream: frames in, frames out. Splits a frame into mutations for the Proposer and queries for the ReadGate, and
//! answers what is misshapen. No operation is known here. Called by tonic.

use super::outbox::{Frames, Outbox};
use super::propose::{Proposer, ReplyTo};
use super::push::Hub;
use super::read_gate::{Ask, ReadGate};
use super::{shape, status};
use crate::raft::channel::ClusterCell;
use crate::raft::node::RaftNode;
use crate::store::{KvCommit, read};
use holdfast_proto::limits::FRAME_REQUESTS_MAX;
use holdfast_proto::pb::meta_server::Meta;
use holdfast_proto::pb::{self, ClientFrame, Welcome, mutation, request};
use holdfast_proto::version::PROTOCOL;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// What a stream needs of the node.
pub struct MetaService {
    pub node: Arc<RaftNode>,
    pub cluster: ClusterCell,
    pub proposer: Arc<Proposer>,
    pub gate: Arc<ReadGate>,
    pub hub: Arc<Hub>,
}

#[derive(Clone)]
pub struct MetaServer(pub Arc<MetaService>);

#[tonic::async_trait]
impl Meta for MetaServer {
    type AttachStream = Frames;

    async fn attach(&self, request: Request<Streaming<ClientFrame>>) -> Result<Response<Frames>, Status> {
        let outbox = Arc::new(Outbox::default());
        let frames = Frames(outbox.clone());
        let service = self.0.clone();
        tokio::spawn(async move { service.serve(request.into_inner(), outbox).await });
        Ok(Response::new(frames))
    }
}

impl MetaService {
    async fn serve(&self, mut inbound: Streaming<ClientFrame>, outbox: Arc<Outbox>) {
        metrics::gauge!(crate::metrics::STREAMS).increment(1);
        let end = match self.read_frames(&mut inbound, &outbox).await {
            Ok(()) => Status::ok(""),
            Err(status) => status,
        };
        outbox.close(end);
        self.hub.detach(&outbox);
        metrics::gauge!(crate::metrics::STREAMS).decrement(1);
    }

    async fn read_frames(&self, inbound: &mut Streaming<ClientFrame>, outbox: &Arc<Outbox>) -> Result<(), Status> {
        let mut greeted = false;
        while let Some(frame) = inbound.message().await? {
            if outbox.is_closed() {
                return Ok(());
            }
            if let Some(hello) = &frame.hello {
                self.greet(hello, outbox)?;
                greeted = true;
            }
            if !greeted {
                return Err(Status::invalid_argument("the first frame of a stream says hello"));
            }
            self.take_frame(frame, outbox).await?;
            outbox.wait_for_room().await;
        }
        Ok(())
    }

    fn greet(&self, hello: &pb::Hello, outbox: &Arc<Outbox>) -> Result<(), Status> {
        if hello.protocol != PROTOCOL {
            let theirs = hello.protocol;
            return Err(Status::failed_precondition(format!("client speaks protocol {theirs}, this node {PROTOCOL}")));
        }
        if hello.quiet {
            outbox.set_quiet();
        }
        if hello.session != 0 {
            self.attach_known(hello.session, outbox);
        }
        let leadership = self.node.leadership();
        outbox.welcome(Welcome {
            protocol: PROTOCOL,
            node: self.node.id,
            is_leader: leadership.is_self,
            leader: self.node.leader_addr(),
            cluster: self.cluster.get().map(|cluster| cluster.to_string()).unwrap_or_default(),
            lease_ms: self.hub.lease.as_millis() as u32,
            members: self.node.members().into_iter().filter(|(.., votes)| *votes).map(|(_, addr, _)| addr).collect(),
        });
        Ok(())
    }

    /// Attaches a stream to a session that the state knows, on the leader only: leases are kept there.
    fn attach_known(&self, session: u64, outbox: &Arc<Outbox>) {
        if !self.node.leadership().is_self {
            return;
        }
        match self.node.store().view(|view| read::session(view, session)) {
            Ok(Some(known)) => self.hub.attach(session, known.volume, outbox),
            // A leader that has not caught up may not know it yet: its requests will tell.
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, session, "look up a session"),
        }
    }

    async fn take_frame(&self, frame: ClientFrame, outbox: &Arc<Outbox>) -> Result<(), Status> {
        if frame.requests.len() > FRAME_REQUESTS_MAX {
            return Err(Status::resource_exhausted(format!("a frame carries at most {FRAME_REQUESTS_MAX} requests")));
        }
        self.renew_leases(&frame, outbox);
        if frame.requests.is_empty() {
            return Ok(());
        }
        outbox.take_in(frame.requests.len());
        let mut mutations = Vec::new();
        let mut asks = Vec::new();
        let mut refused = Vec::new();
        for pb::Request { id, body } in frame.requests {
            match sort(body) {
                Ok(request::Body::Mutation(mutation)) => {
                    let opens = matches!(mutation.op, Some(mutation::Op::OpenSession(_)));
                    mutations.push((ReplyTo::Stream { outbox: outbox.clone(), request: id, opens }, mutation));
                }
                Ok(request::Body::Query(query)) => asks.push(Ask { outbox: outbox.clone(), request: id, query }),
                Err((code, why)) => refused.push(status::failed(id, status::failure(code, String::new(), why))),
            }
        }
        if !refused.is_empty() {
            outbox.respond(refused);
        }
        self.submit(mutations, outbox);
        self.gate.ask(asks).await;
        Ok(())
    }

    fn submit(&self, mutations: Vec<(ReplyTo, pb::Mutation)>, outbox: &Arc<Outbox>) {
        if mutations.is_empty() {
            return;
        }
        let leadership = self.node.leadership();
        // While it is being founded, what is acknowledged would be on fewer disks than were asked for.
        if leadership.is_self && self.node.is_founded() {
            return self.proposer.submit(mutations);
        }
        let failure = || match leadership.is_self {
            true => status::founding(&self.node),
            false => status::not_leader(&self.node),
        };
        let refusals = mutations.into_iter().filter_map(|(reply_to, _)| match reply_to {
            ReplyTo::Stream { request, .. } => Some(status::failed(request, failure())),
            ReplyTo::Local(_) => None,
        });
        outbox.respond(refusals);
    }

    /// Any frame that names a session renews its lease.
    fn renew_leases(&self, frame: &ClientFrame, outbox: &Arc<Outbox>) {
        let mut last = 0;
        let named = frame.requests.iter().map(session_of).chain([frame.keep_alive]);
        for session in named.filter(|session| *session != 0) {
            // A frame nearly always speaks for one session.
            if session != last {
                last = session;
                self.hub.renew(session);
                if outbox.session() == 0 {
                    self.attach_known(session, outbox);
                }
            }
        }
    }
}

fn session_of(request: &pb::Request) -> u64 {
    match &request.body {
        Some(request::Body::Mutation(mutation)) => mutation.session,
        Some(request::Body::Query(query)) => query.session,
        None => 0,
    }
}

fn sort(body: Option<request::Body>) -> Result<request::Body, shape::Misshapen> {
    match body {
        Some(request::Body::Mutation(mutation)) => {
            shape::check_mutation(&mutation).map(|()| request::Body::Mutation(mutation))
        }
        Some(request::Body::Query(query)) => shape::check_query(&query).map(|()| request::Body::Query(query)),
        None => Err((pb::FailureCode::Malformed, "request without a body")),
    }
}
