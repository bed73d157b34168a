//! Frames between clients and nodes, and log entries: protobuf, and the shape that a request must have.

use crate::hostile;
use holdfast_proto::pb;
use holdfast_tests::fuzz::{Decoder, Law};
use metad::rpc::shape;
use prost::Message;
use rand::Rng;
use rand::rngs::StdRng;

fn check<M: Message + Default + PartialEq>(name: &'static str, make: impl Fn(&mut StdRng) -> M, look: impl Fn(&M)) {
    let valid = |random: &mut StdRng| {
        let message = make(random);
        let bytes = message.encode_to_vec();
        assert!(M::decode(&bytes[..]).expect("its own encoding") == message);
        bytes
    };
    let read = |bytes: &[u8]| {
        let message = M::decode(bytes).map_err(|error| error.to_string())?;
        look(&message);
        Ok(message.encode_to_vec())
    };
    Decoder { name, law: Law::Normal, cases: 3000, valid: &valid, read: &read }.run();
}

fn mutation(random: &mut StdRng) -> pb::Mutation {
    let (session, slot) = (random.random_range(0..4), random.random_range(0..3));
    let (creds, op) = (Some(hostile::creds(random)), Some(hostile::op(random, session)));
    pb::Mutation { session, slot, seq: random.random_range(0..4), creds, op }
}

fn request(random: &mut StdRng) -> pb::Request {
    use pb::request::Body;
    let body = if random.random() {
        Body::Mutation(mutation(random))
    } else {
        let query = pb::Query { session: 1, creds: Some(hostile::creds(random)), ask: Some(hostile::ask(random)) };
        Body::Query(query)
    };
    pb::Request { id: random.random(), body: Some(body) }
}

#[test]
fn what_clients_send() {
    let frame = |random: &mut StdRng| pb::ClientFrame {
        hello: random.random::<bool>().then(|| pb::Hello { protocol: 1, session: random.random(), quiet: true }),
        requests: (0..random.random_range(0..4)).map(|_| request(random)).collect(),
        keep_alive: random.random_range(0..3),
    };
    check("client-frame", frame, |frame| {
        for body in frame.requests.iter().filter_map(|request| request.body.as_ref()) {
            let wrong = match body {
                pb::request::Body::Mutation(mutation) => shape::check_mutation(mutation),
                pb::request::Body::Query(query) => shape::check_query(query),
            };
            assert!(wrong.is_ok() || wrong.is_err_and(|(_, why)| !why.is_empty()));
        }
    });
}

#[test]
fn what_nodes_answer() {
    use pb::response::Result::{Errno, Failure, Reply};
    let response = |random: &mut StdRng| {
        let failure = pb::Failure { code: random.random_range(0..9), leader: "a:1".into(), message: "why".into() };
        let results = [Reply(crate::records::some_bytes(random)), Errno(random.random()), Failure(failure)];
        let result = results[random.random_range(0..3)].clone();
        pb::Response { id: random.random(), log_index: random.random(), result: Some(result) }
    };
    let frame = |random: &mut StdRng| pb::ServerFrame {
        responses: (0..random.random_range(0..4)).map(|_| response(random)).collect(),
        ..Default::default()
    };
    check("server-frame", frame, |_| {});
}

#[test]
fn log_entries() {
    let entry = |random: &mut StdRng| pb::LogEntry {
        time: Some(pb::TimeSpec { sec: random.random(), nsec: random.random() }),
        mutations: (0..random.random_range(0..4)).map(|_| mutation(random)).collect(),
        tight: random.random(),
    };
    check("log-entry", entry, |_| {});
}
