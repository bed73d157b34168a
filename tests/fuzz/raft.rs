//! What nodes say to each other: votes, entries, answers, the head of a snapshot. Made byte by byte as raft/convert documents it.

use crate::records::{number, some_bytes};
use bytes::{BufMut, Bytes};
use holdfast_tests::fuzz::{Decoder, Law};
use metad::raft::convert;
use metad::raft::snapshot;
use metad::store::checkpoint::Head;
use rand::Rng;
use rand::rngs::StdRng;

const MEMBERSHIP: &[u8] = br#"{"log_id":{"leader_id":{"term":2,"node_id":1},"index":7},"membership":{"configs":[[1,2]],"nodes":{"1":{"addr":"a:1"},"2":{"addr":"b:2"}}}}"#;

fn log_id(random: &mut StdRng, out: &mut Vec<u8>) {
    (0..3).for_each(|_| out.put_u64_le(number(random)));
}

fn option(random: &mut StdRng, out: &mut Vec<u8>) {
    let there = random.random();
    out.put_u8(u8::from(there));
    if there {
        log_id(random, out);
    }
}

fn vote(random: &mut StdRng, out: &mut Vec<u8>) {
    (0..2).for_each(|_| out.put_u64_le(number(random)));
    out.put_u8(random.random_range(0..2));
}

fn entries(random: &mut StdRng, out: &mut Vec<u8>) {
    let count = random.random_range(0..5_u32);
    out.put_u32_le(count);
    for _ in 0..count {
        log_id(random, out);
        let data = if random.random() { some_bytes(random) } else { Bytes::new() };
        out.put_u8(u8::from(!data.is_empty()));
        out.put_u32_le(data.len() as u32);
        out.put_slice(&data);
    }
}

fn check<T, E: ToString>(
    name: &'static str,
    law: Law,
    make: impl Fn(&mut StdRng, &mut Vec<u8>),
    decode: impl Fn(Bytes) -> Result<T, E>,
    encode: impl Fn(T) -> Bytes,
) {
    let valid = |random: &mut StdRng| {
        let mut out = Vec::new();
        make(random, &mut out);
        out
    };
    let read = |bytes: &[u8]| {
        let read = decode(Bytes::copy_from_slice(bytes)).map_err(|error| error.to_string())?;
        Ok(encode(read).to_vec())
    };
    Decoder { name, law, cases: 3000, valid: &valid, read: &read }.run();
}

#[test]
fn entries_and_their_answers() {
    let append = |random: &mut StdRng, out: &mut Vec<u8>| {
        vote(random, out);
        option(random, out);
        option(random, out);
        entries(random, out);
    };
    // A membership among them is JSON.
    check("raft-append", Law::Normal, append, convert::decode_append, |request| convert::encode_append(&request));
    let result = |random: &mut StdRng, out: &mut Vec<u8>| {
        let tag = random.random_range(0..3);
        out.put_u8(tag);
        [option, log_id, vote][usize::from(tag)](random, out);
    };
    check("raft-append-result", Law::Canonical, result, convert::decode_append_result, |result| {
        convert::encode_append_result(&result)
    });
}

#[test]
fn votes() {
    let request = |random: &mut StdRng, out: &mut Vec<u8>| {
        vote(random, out);
        option(random, out);
        out.put_u8(random.random_range(0..2));
    };
    check("raft-vote-request", Law::Canonical, request, convert::decode_vote_request, |request| {
        convert::encode_vote_request(&request)
    });
    let response = |random: &mut StdRng, out: &mut Vec<u8>| {
        vote(random, out);
        out.put_u8(random.random_range(0..2));
        option(random, out);
    };
    check("raft-vote-response", Law::Canonical, response, convert::decode_vote_response, |response| {
        convert::encode_vote_response(&response)
    });
}

#[test]
fn the_leaders_office() {
    let request = |random: &mut StdRng, out: &mut Vec<u8>| {
        vote(random, out);
        out.put_u64_le(number(random));
        option(random, out);
    };
    check("raft-transfer-request", Law::Canonical, request, convert::decode_transfer_request, |request| {
        convert::encode_transfer_request(&request)
    });
    let response = |random: &mut StdRng, out: &mut Vec<u8>| {
        let tag = random.random_range(0..3);
        out.put_u8(tag);
        for _ in 0..2 {
            match tag {
                0 => {}
                1 => vote(random, out),
                _ => option(random, out),
            }
        }
    };
    check("raft-transfer-response", Law::Canonical, response, convert::decode_transfer_response, |response| {
        convert::encode_transfer_response(&response)
    });
}

#[test]
fn snapshots() {
    let head = |random: &mut StdRng, out: &mut Vec<u8>| {
        vote(random, out);
        option(random, out);
        out.put_u64_le(number(random));
        out.put_slice(MEMBERSHIP);
    };
    check("raft-snapshot-head", Law::Normal, head, convert::decode_snapshot_head, |(vote, meta, bytes)| {
        convert::encode_snapshot_head(&vote, &meta, bytes)
    });
    // Index and meta of a checkpoint, which must fit each other.
    let meta = |random: &mut StdRng, out: &mut Vec<u8>| {
        option(random, out);
        out.put_slice(MEMBERSHIP);
    };
    let index = |meta: &[u8]| match meta {
        [1, rest @ ..] if rest.len() >= 24 => u64::from_le_bytes(rest[16..24].try_into().expect("8 bytes")),
        _ => 0,
    };
    let decode = |meta: Bytes| snapshot::decode_meta(Head { index: index(&meta), meta });
    check("raft-snapshot-meta", Law::Normal, meta, decode, |meta| snapshot::encode_meta(&meta));
    let offset = |random: &mut StdRng, out: &mut Vec<u8>| out.put_u64_le(number(random));
    check("raft-offset", Law::Canonical, offset, convert::decode_offset, convert::encode_offset);
}
