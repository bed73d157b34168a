//! Raw gRPC: sends any bytes as the messages of the client's stream, as a broken or hostile client might. Called by the
//! bad-input tests.

use crate::admin::runtime;
use bytes::{Buf, BufMut, Bytes};
use holdfast_proto::pb;
use prost::Message;
use std::time::Duration;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Status, client::Grpc};

/// Messages go out as they are and come in as they are.
#[derive(Clone, Copy, Debug, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let len = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(len)))
    }
}

/// How the server took what was sent.
#[derive(Debug)]
pub struct Taken {
    pub frames: Vec<pb::ServerFrame>,
    /// How the stream ended; None: still open after two seconds of silence.
    pub end: Option<Result<(), Status>>,
}

impl Taken {
    /// The response to a request, if one came.
    pub fn response(&self, id: u64) -> Option<&pb::Response> {
        self.frames.iter().flat_map(|frame| &frame.responses).find(|response| response.id == id)
    }

    /// The failure code in the response to a request.
    pub fn failure(&self, id: u64) -> Option<pb::FailureCode> {
        match self.response(id)?.result.as_ref()? {
            pb::response::Result::Failure(failure) => Some(failure.code()),
            _ => None,
        }
    }

    pub fn was_cut(&self) -> bool {
        matches!(self.end, Some(Err(_)))
    }
}

/// Sends `messages` on one stream to `addr`, and gathers what comes back until it is silent.
pub fn send(addr: &str, messages: Vec<Bytes>) -> Taken {
    send_until(addr, messages, |_| false)
}

/// The same, no longer than until `enough` has come.
pub fn send_until(addr: &str, messages: Vec<Bytes>, enough: impl Fn(&Taken) -> bool) -> Taken {
    let url = format!("http://{addr}");
    runtime().block_on(async move {
        let channel = Channel::from_shared(url).expect("url").connect().await.expect("connect");
        let mut grpc = Grpc::new(channel);
        grpc.ready().await.expect("ready");
        // The stream stays open after the last message, as a live client's does.
        let requests = futures::StreamExt::chain(futures::stream::iter(messages), futures::stream::pending());
        let path = PathAndQuery::from_static("/holdfast.v1.Meta/Attach");
        let mut taken = Taken { frames: Vec::new(), end: None };
        let mut answers = match grpc.streaming(tonic::Request::new(requests), path, Plain).await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                taken.end = Some(Err(status));
                return taken;
            }
        };
        while let Ok(next) = tokio::time::timeout(Duration::from_secs(2), answers.message()).await {
            match next {
                Ok(Some(bytes)) => taken.frames.push(pb::ServerFrame::decode(bytes).expect("the server's own frame")),
                Ok(None) => taken.end = Some(Ok(())),
                Err(status) => taken.end = Some(Err(status)),
            }
            if taken.end.is_some() || enough(&taken) {
                break;
            }
        }
        taken
    })
}

/// A hello, as the first message of a stream.
pub fn hello(session: u64) -> Bytes {
    let hello = pb::Hello { protocol: holdfast_proto::version::PROTOCOL, session, quiet: true };
    frame(pb::ClientFrame { hello: Some(hello), ..Default::default() })
}

pub fn frame(frame: pb::ClientFrame) -> Bytes {
    Bytes::from(frame.encode_to_vec())
}

/// One request in a frame of its own.
pub fn request(id: u64, body: pb::request::Body) -> Bytes {
    frame(pb::ClientFrame { requests: vec![pb::Request { id, body: Some(body) }], ..Default::default() })
}
