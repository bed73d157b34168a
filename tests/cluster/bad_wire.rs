//! Bad frames: malformed, too large, of an unknown session, out of order. The node answers or cuts the stream, and serves others
//! as before.

use bytes::Bytes;
use holdfast_proto::{limits, pb};
use holdfast_tests::cluster::Cluster;
use holdfast_tests::grpc_raw::{self, Taken, hello, request};
use holdfast_tests::shared;
use pb::FailureCode;
use pb::request::Body;

fn leader() -> (&'static Cluster, String) {
    let cluster = shared::cluster();
    shared::meta();
    let addr = cluster.node(cluster.leader()).addr();
    (cluster, addr)
}

/// Sends, and checks that a new client is served as if nothing had happened.
fn send(messages: Vec<Bytes>) -> Taken {
    let (cluster, addr) = leader();
    let taken = grpc_raw::send(&addr, messages);
    cluster.holdfast(&["status", &shared::meta()]).ok("status after a bad frame");
    assert!(cluster.ids().iter().all(|&id| cluster.is_running(id)), "a node died of it");
    taken
}

fn mkdir(name: &[u8]) -> pb::mutation::Op {
    pb::mutation::Op::Mkdir(pb::MkdirOp { parent: 1, name: Bytes::copy_from_slice(name), mode: 0o755, umask: 0 })
}

fn mutation(session: u64, slot: u32, seq: u64, op: Option<pb::mutation::Op>) -> Body {
    let creds = Some(pb::Creds { uid: 0, gid: 0, groups: Vec::new() });
    Body::Mutation(pb::Mutation { session, slot, seq, creds, op })
}

/// Opens a session of the shared volume on a stream of its own; its number.
fn open_session() -> u64 {
    let uuid = Bytes::copy_from_slice(&rand::random::<[u8; 16]>());
    let open = pb::OpenSessionOp { uuid, volume: shared::VOLUME.into(), host: "raw".into(), ..Default::default() };
    let body = mutation(0, 0, 0, Some(pb::mutation::Op::OpenSession(open)));
    let taken = send(vec![hello(0), request(1, body)]);
    let Some(pb::response::Result::Reply(reply)) = taken.response(1).and_then(|response| response.result.clone())
    else {
        panic!("no session: {taken:?}");
    };
    <pb::OpenSessionReply as prost::Message>::decode(reply).unwrap().session
}

#[test]
fn bytes_that_are_no_message_cut_the_stream_only() {
    let taken = send(vec![Bytes::from_static(b"\xff\xff\xff\xff not protobuf")]);
    assert!(taken.was_cut(), "{taken:?}");
    let taken = send(vec![hello(0), Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff, 0x7f])]);
    assert!(taken.was_cut(), "{taken:?}");
}

#[test]
fn a_frame_over_the_limit_cuts_the_stream_only() {
    let taken = send(vec![hello(0), Bytes::from(vec![0; limits::FRAME_BYTES_MAX + 1])]);
    assert!(taken.was_cut(), "{taken:?}");
}

#[test]
fn a_stream_without_hello_is_refused() {
    let taken = send(vec![request(1, Body::Query(pb::Query::default()))]);
    assert!(taken.was_cut() || taken.failure(1).is_some(), "{taken:?}");
}

#[test]
fn a_protocol_that_nobody_speaks_is_refused() {
    let hello = pb::Hello { protocol: 9999, ..Default::default() };
    let taken = send(vec![grpc_raw::frame(pb::ClientFrame { hello: Some(hello), ..Default::default() })]);
    assert!(taken.was_cut(), "{taken:?}");
}

#[test]
fn an_unknown_session_is_told_so() {
    let taken = send(vec![hello(0), request(7, mutation(987_654, 0, 1, Some(mkdir(b"ghost"))))]);
    assert_eq!(taken.failure(7), Some(FailureCode::SessionLost), "{taken:?}");
    let ask = pb::query::Ask::Getattr(pb::GetattrQuery { ino: 1 });
    let query = pb::Query { session: 987_654, creds: None, ask: Some(ask) };
    let taken = send(vec![hello(0), request(8, Body::Query(query))]);
    assert_eq!(taken.failure(8), Some(FailureCode::SessionLost), "{taken:?}");
}

#[test]
fn requests_that_break_the_protocol_are_named() {
    let session = open_session();
    let empty = send(vec![hello(session), request(1, mutation(session, 0, 1, None))]);
    assert_eq!(empty.failure(1), Some(FailureCode::Malformed), "{empty:?}");
    let leaders_own = pb::mutation::Op::ExpireSessions(pb::ExpireSessionsOp { sessions: vec![1] });
    let taken = send(vec![hello(session), request(2, mutation(0, 0, 0, Some(leaders_own)))]);
    assert_eq!(taken.failure(2), Some(FailureCode::Malformed), "a client may not end sessions: {taken:?}");
    let slot =
        send(vec![hello(session), request(3, mutation(session, limits::SESSION_SLOTS_MAX, 1, Some(mkdir(b"x"))))]);
    assert!(slot.failure(3).is_some(), "{slot:?}");
    let nothing = send(vec![
        hello(session),
        grpc_raw::frame(pb::ClientFrame { requests: vec![pb::Request { id: 4, body: None }], ..Default::default() }),
    ]);
    assert!(nothing.failure(4) == Some(FailureCode::Malformed) || nothing.was_cut(), "{nothing:?}");
}

#[test]
fn a_request_over_the_limit_is_too_large() {
    let session = open_session();
    let target = Bytes::from(vec![b't'; limits::REQUEST_BYTES_MAX + 1]);
    let op = pb::mutation::Op::Symlink(pb::SymlinkOp { parent: 1, name: Bytes::from_static(b"l"), target });
    let taken = send(vec![hello(session), request(1, mutation(session, 0, 1, Some(op)))]);
    assert_eq!(taken.failure(1), Some(FailureCode::TooLarge), "{taken:?}");
}

#[test]
fn a_repetition_gets_the_first_answer_and_a_jump_is_refused() {
    let session = open_session();
    let name = format!("raw-{session}");
    let once = request(1, mutation(session, 5, 1, Some(mkdir(name.as_bytes()))));
    let first = send(vec![hello(session), once.clone()]);
    let again = send(vec![hello(session), once]);
    let (first, again) = (first.response(1).cloned().unwrap(), again.response(1).cloned().unwrap());
    assert!(matches!(first.result, Some(pb::response::Result::Reply(_))), "{first:?}");
    assert_eq!(again.result, first.result, "the repetition has the original result");
    let jump = send(vec![hello(session), request(2, mutation(session, 5, 9, Some(mkdir(b"jump"))))]);
    assert_eq!(jump.failure(2), Some(FailureCode::Sequence), "{jump:?}");
    // A new mutation on the slot is a new mutation: now the name is there.
    let other = send(vec![hello(session), request(3, mutation(session, 5, 2, Some(mkdir(name.as_bytes()))))]);
    assert_eq!(other.response(3).unwrap().result, Some(pb::response::Result::Errno(libc::EEXIST as u32)));
}

#[test]
fn names_and_targets_over_the_limits_are_refused_by_the_server_too() {
    let session = open_session();
    let errno = |taken: &Taken, id| match taken.response(id).and_then(|response| response.result.clone()) {
        Some(pb::response::Result::Errno(errno)) => errno as i32,
        other => panic!("no errno: {other:?}"),
    };
    let long = send(vec![hello(session), request(1, mutation(session, 0, 1, Some(mkdir(&[b'n'; 256]))))]);
    assert_eq!(errno(&long, 1), libc::ENAMETOOLONG);
    let slash = send(vec![hello(session), request(2, mutation(session, 0, 2, Some(mkdir(b"a/b"))))]);
    assert_eq!(errno(&slash, 2), libc::EINVAL);
    let target = Bytes::from(vec![b't'; 4096]);
    let op = pb::mutation::Op::Symlink(pb::SymlinkOp { parent: 1, name: Bytes::from_static(b"l"), target });
    let link = send(vec![hello(session), request(3, mutation(session, 0, 3, Some(op)))]);
    assert_eq!(errno(&link, 3), libc::ENAMETOOLONG);
}
