//! The stream's codec. A request is encoded once, by its caller, and sent (and sent again) as those bytes: on the wire an embedded message
//! is its length and its bytes, so a frame is put together without decoding anything. Called by meta::channel.

use bytes::{BufMut, Bytes};
use holdfast_proto::pb;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, message, uint64};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// A pb::ClientFrame whose requests are encoded already.
#[derive(Debug, Default)]
pub struct OutFrame {
    pub hello: Option<pb::Hello>,
    pub requests: Vec<Bytes>,
    /// 0: none.
    pub keep_alive: u64,
}

impl OutFrame {
    // The numbers are those of ClientFrame in proto/meta.proto.
    fn write(&self, buf: &mut impl BufMut) {
        if let Some(hello) = &self.hello {
            message::encode(1, hello, buf);
        }
        for request in &self.requests {
            encode_key(2, WireType::LengthDelimited, buf);
            encode_varint(request.len() as u64, buf);
            buf.put_slice(request);
        }
        if self.keep_alive != 0 {
            uint64::encode(3, &self.keep_alive, buf);
        }
    }
}

/// OutFrame out, pb::ServerFrame in.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = OutFrame;
    type Decode = pb::ServerFrame;
    type Encoder = FrameCodec;
    type Decoder = FrameCodec;

    fn encoder(&mut self) -> FrameCodec {
        FrameCodec
    }

    fn decoder(&mut self) -> FrameCodec {
        FrameCodec
    }
}

impl Encoder for FrameCodec {
    type Item = OutFrame;
    type Error = Status;

    fn encode(&mut self, frame: OutFrame, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.write(buf);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = pb::ServerFrame;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<pb::ServerFrame>, Status> {
        match pb::ServerFrame::decode(buf) {
            Ok(frame) => Ok(Some(frame)),
            Err(error) => Err(Status::internal(format!("a frame that does not decode: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_encoded_requests_is_a_client_frame() {
        let query = pb::Query { session: 7, ..Default::default() };
        let request = |id| pb::Request { id, body: Some(pb::request::Body::Query(query.clone())) };
        let wanted = pb::ClientFrame {
            hello: Some(pb::Hello { protocol: 1, session: 7, quiet: true }),
            requests: vec![request(1), request(300)],
            keep_alive: 7,
        };
        let frame = OutFrame {
            hello: wanted.hello,
            requests: wanted.requests.iter().map(|r| r.encode_to_vec().into()).collect(),
            keep_alive: 7,
        };
        let mut bytes = Vec::new();
        frame.write(&mut bytes);
        assert_eq!(bytes, wanted.encode_to_vec());
        assert_eq!(pb::ClientFrame::decode(&bytes[..]), Ok(wanted));
    }

    #[test]
    fn an_empty_frame_is_empty() {
        let mut bytes = Vec::new();
        OutFrame::default().write(&mut bytes);
        assert!(bytes.is_empty());
    }
}
