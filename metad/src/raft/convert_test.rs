//! Tests of raft/convert: what is encoded is decoded, and no prefix or mutation of it panics.

use super::*;
use openraft::{BasicNode, Membership};
use std::collections::{BTreeMap, BTreeSet};

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id }, index }
}

fn vote() -> Vote {
    Vote { leader_id: LeaderId { term: 7, node_id: 2 }, committed: true }
}

fn membership() -> Membership<u64, BasicNode> {
    let nodes: BTreeMap<u64, BasicNode> = [(1, BasicNode::new("a:1")), (2, BasicNode::new("b:2"))].into();
    Membership::new(vec![BTreeSet::from([1, 2])], nodes).expect("both voters are nodes")
}

fn append() -> AppendEntriesRequest<TypeConfig> {
    let payloads =
        [Payload::Blank, Payload::Normal(Command(Bytes::from_static(b"mkdir"))), Payload::Membership(membership())];
    let entries = payloads.into_iter().zip(4..).map(|(payload, index)| Entry { log_id: log_id(7, 2, index), payload });
    AppendEntriesRequest {
        vote: vote(),
        prev_log_id: Some(log_id(6, 1, 3)),
        leader_commit: None,
        entries: entries.collect(),
    }
}

#[test]
fn append_survives_the_wire() {
    let request = append();
    let decoded = decode_append(encode_append(&request)).expect("own encoding");
    assert_eq!(decoded.vote, request.vote);
    assert_eq!(decoded.prev_log_id, request.prev_log_id);
    assert_eq!(decoded.leader_commit, request.leader_commit);
    assert_eq!(decoded.entries, request.entries);
}

#[test]
fn every_prefix_of_an_append_is_an_error_and_no_panic() {
    let whole = encode_append(&append());
    for len in 0..whole.len() {
        assert!(decode_append(whole.slice(..len)).is_err(), "prefix of {len} bytes");
    }
}

#[test]
fn no_flipped_byte_of_an_append_panics() {
    let whole = encode_append(&append());
    for at in 0..whole.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= flip;
            let _ = decode_append(Bytes::from(damaged));
        }
    }
}

#[test]
fn append_results_survive_the_wire() {
    let results = [
        Ok(None),
        Ok(Some(log_id(1, 2, 3))),
        Err(StreamAppendError::Conflict(log_id(4, 5, 6))),
        Err(StreamAppendError::HigherVote(vote())),
    ];
    for result in results {
        let encoded = encode_append_result(&result);
        assert_eq!(decode_append_result(encoded.clone()), Ok(result));
        for len in 0..encoded.len() {
            assert!(decode_append_result(encoded.slice(..len)).is_err());
        }
    }
}

#[test]
fn votes_and_transfers_survive_the_wire() {
    let request = VoteRequest { vote: vote(), last_log_id: Some(log_id(1, 1, 9)), leadership_transfer: true };
    assert_eq!(decode_vote_request(encode_vote_request(&request)), Ok(request));
    let response = VoteResponse { vote: vote(), vote_granted: false, last_log_id: None };
    assert_eq!(decode_vote_response(encode_vote_response(&response)), Ok(response));
    let transfer = TransferLeaderRequest::new(vote(), 3, Some(log_id(1, 1, 9)));
    assert_eq!(decode_transfer_request(encode_transfer_request(&transfer)), Ok(transfer));
    let refused: TransferLeaderResponse<TypeConfig> =
        Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 1, 9)), actual: None });
    assert_eq!(decode_transfer_response(encode_transfer_response(&refused)), Ok(refused));
}

#[test]
fn snapshot_heads_survive_the_wire() {
    let last_membership = StoredMembership::new(Some(log_id(1, 1, 1)), membership());
    let meta = SnapshotMeta { last_log_id: Some(log_id(3, 1, 44)), last_membership };
    let decoded = decode_snapshot_head(encode_snapshot_head(&vote(), &meta, 99));
    assert_eq!(decoded, Ok((vote(), meta, 99)));
    assert!(decode_snapshot_head(Bytes::from_static(b"short")).is_err());
}
