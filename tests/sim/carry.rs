//! How calls get into the simulated network and out of it: what gRPC's client gives it as a connection, and how a node's services answer.

use crate::net::{Incoming, Net, Packet, Toward, id_of};
use metad::raft::dial::Carrier;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::mpsc::UnboundedReceiver;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, StdError};

/// The network as one machine has it.
pub struct Port {
    pub net: Arc<Net>,
    pub id: u64,
}

impl Carrier for Port {
    fn carry(&self, addr: &str, request: Request<Body>) -> BoxFuture<Response<Body>, StdError> {
        let Some(server) = id_of(addr) else { return Box::pin(async { Err("no such host".into()) }) };
        let (parts, body) = request.into_parts();
        let (call, mut packets) = self.net.call(self.id, server, Packet::Open(parts.uri, parts.headers));
        let held = Hold { net: self.net.clone(), call, end: Toward::Client, done: false };
        tokio::spawn(pump(self.net.clone(), call, Toward::Server, body));
        Box::pin(async move {
            match packets.recv().await {
                Some(Packet::Head(status, headers)) => {
                    let mut response = Response::new(Body::new(Arriving { packets, held: Some(held) }));
                    *response.status_mut() = status;
                    *response.headers_mut() = headers;
                    Ok(response)
                }
                Some(Packet::Broken(why)) => Err(Status::unavailable(why).into()),
                _ => Err(Status::unavailable("the connection is gone").into()),
            }
        })
    }
}

/// Sends a body's frames as they come.
async fn pump(net: Arc<Net>, call: u64, toward: Toward, body: Body) {
    let mut body = std::pin::pin!(body);
    loop {
        let packet = match std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Packet::Data(data),
                Err(frame) => frame.into_trailers().map_or(Packet::Broken("an odd frame"), Packet::Trailers),
            },
            Some(Err(_)) => Packet::Broken("the body broke off"),
            None => Packet::End,
        };
        let is_last = matches!(packet, Packet::End | Packet::Broken(_));
        net.send(call, toward, packet);
        if is_last {
            return net.is_sent(call, toward);
        }
    }
}

/// One end of a call: hangs up when it is dropped before the end.
struct Hold {
    net: Arc<Net>,
    call: u64,
    end: Toward,
    done: bool,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.done {
            self.net.hang_up(self.call, self.end);
        }
    }
}

/// A body that comes from the network.
struct Arriving {
    packets: UnboundedReceiver<Packet>,
    /// Who calls hangs up by dropping it.
    held: Option<Hold>,
}

impl Arriving {
    fn done(&mut self) {
        if let Some(held) = &mut self.held {
            held.done = true;
        }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Status>>> {
        self.packets.poll_recv(cx).map(|packet| match packet {
            Some(Packet::Data(data)) => Some(Ok(http_body::Frame::data(data))),
            Some(Packet::Trailers(trailers)) => Some(Ok(http_body::Frame::trailers(trailers))),
            Some(Packet::End) => {
                self.done();
                None
            }
            Some(Packet::Broken(why)) => {
                self.done();
                Some(Err(Status::unavailable(why)))
            }
            Some(_) | None => Some(Err(Status::unavailable("the connection is gone"))),
        })
    }
}

/// Answers one call by a service, on the runtime of the node that it came to.
pub async fn answer<S>(net: Arc<Net>, mut service: S, incoming: Incoming)
where
    S: tonic::codegen::Service<Request<Body>, Response = Response<Body>, Error = std::convert::Infallible>,
{
    let Incoming { call, uri, headers, body: packets } = incoming;
    let mut held = Hold { net: net.clone(), call, end: Toward::Server, done: false };
    let mut request = Request::new(Body::new(Arriving { packets, held: None }));
    *request.method_mut() = tonic::codegen::http::Method::POST;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    let Ok(response) = service.call(request).await;
    let (parts, body) = response.into_parts();
    net.send(call, Toward::Client, Packet::Head(parts.status, parts.headers));
    pump(net, call, Toward::Client, body).await;
    held.done = true;
}
