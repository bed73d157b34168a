//! openraft's messages as bytes, by hand. Whatever a peer sends, decoding ends in a value or in a DecodeError, never in a panic.
//! Called by raft/network and rpc/raft_service; the membership encoding also by raft/state_machine and raft/wal_types.
//!
//! ```text
//! log id     term u64 LE | node u64 LE | index u64 LE
//! option     0, or 1 and the value
//! vote       term u64 LE | node u64 LE | committed u8
//! append     vote | option(prev log id) | option(commit log id) | count u32 LE | entries
//! entry      log id | tag u8 (0 blank, 1 normal, 2 membership) | len u32 LE | payload
//! ```

use super::types::{Command, Entry, LeaderId, LogId, Payload, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecodeError {
    #[error("message ends early")]
    Short,
    #[error("unknown tag {tag} of a {what}")]
    Tag { what: &'static str, tag: u8 },
    #[error("{0} bytes left over")]
    LeftOver(usize),
    #[error("membership is not valid: {0}")]
    Membership(String),
}

type Decoded<T> = Result<T, DecodeError>;

fn need(buf: &Bytes, len: usize) -> Decoded<()> {
    if buf.remaining() < len { Err(DecodeError::Short) } else { Ok(()) }
}

fn get_u8(buf: &mut Bytes) -> Decoded<u8> {
    need(buf, 1)?;
    Ok(buf.get_u8())
}

fn get_u32(buf: &mut Bytes) -> Decoded<u32> {
    need(buf, 4)?;
    Ok(buf.get_u32_le())
}

fn get_u64(buf: &mut Bytes) -> Decoded<u64> {
    need(buf, 8)?;
    Ok(buf.get_u64_le())
}

fn get_bool(buf: &mut Bytes, what: &'static str) -> Decoded<bool> {
    match get_u8(buf)? {
        0 => Ok(false),
        1 => Ok(true),
        tag => Err(DecodeError::Tag { what, tag }),
    }
}

fn get_bytes(buf: &mut Bytes) -> Decoded<Bytes> {
    let len = get_u32(buf)? as usize;
    need(buf, len)?;
    Ok(buf.split_to(len))
}

fn end<T>(buf: &Bytes, value: T) -> Decoded<T> {
    if buf.is_empty() { Ok(value) } else { Err(DecodeError::LeftOver(buf.len())) }
}

pub fn put_log_id(buf: &mut impl BufMut, id: &LogId) {
    buf.put_u64_le(id.leader_id.term);
    buf.put_u64_le(id.leader_id.node_id);
    buf.put_u64_le(id.index);
}

pub fn get_log_id(buf: &mut Bytes) -> Decoded<LogId> {
    let leader_id = LeaderId { term: get_u64(buf)?, node_id: get_u64(buf)? };
    Ok(LogId { leader_id, index: get_u64(buf)? })
}

pub fn put_option(buf: &mut impl BufMut, id: &Option<LogId>) {
    buf.put_u8(id.is_some() as u8);
    if let Some(id) = id {
        put_log_id(buf, id);
    }
}

pub fn get_option(buf: &mut Bytes) -> Decoded<Option<LogId>> {
    Ok(if get_bool(buf, "option")? { Some(get_log_id(buf)?) } else { None })
}

pub fn put_vote(buf: &mut impl BufMut, vote: &Vote) {
    buf.put_u64_le(vote.leader_id.term);
    buf.put_u64_le(vote.leader_id.node_id);
    buf.put_u8(vote.committed as u8);
}

pub fn get_vote(buf: &mut Bytes) -> Decoded<Vote> {
    let leader_id = LeaderId { term: get_u64(buf)?, node_id: get_u64(buf)? };
    Ok(Vote { leader_id, committed: get_bool(buf, "vote")? })
}

/// A log payload as its tag and bytes. Memberships are rare and small: JSON, which openraft keeps readable across its versions.
pub fn payload_parts(payload: &Payload) -> (u8, Bytes) {
    match payload {
        Payload::Blank => (0, Bytes::new()),
        Payload::Normal(command) => (1, command.0.clone()),
        Payload::Membership(membership) => {
            (2, Bytes::from(serde_json::to_vec(membership).expect("a membership has only string keys and integers")))
        }
    }
}

pub fn payload_from_parts(tag: u8, data: Bytes) -> Decoded<Payload> {
    match tag {
        0 if data.is_empty() => Ok(Payload::Blank),
        0 => Err(DecodeError::LeftOver(data.len())),
        1 => Ok(Payload::Normal(Command(data))),
        2 => serde_json::from_slice(&data)
            .map(Payload::Membership)
            .map_err(|error| DecodeError::Membership(error.to_string())),
        tag => Err(DecodeError::Tag { what: "log payload", tag }),
    }
}

pub fn encode_stored_membership(membership: &StoredMembership) -> Bytes {
    Bytes::from(serde_json::to_vec(membership).expect("a membership has only string keys and integers"))
}

pub fn decode_stored_membership(data: &[u8]) -> Decoded<StoredMembership> {
    serde_json::from_slice(data).map_err(|error| DecodeError::Membership(error.to_string()))
}

pub fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Bytes {
    let payload_bytes = |entry: &Entry| match &entry.payload {
        Payload::Normal(command) => command.0.len() + 32,
        _ => 512,
    };
    let mut buf = BytesMut::with_capacity(96 + request.entries.iter().map(payload_bytes).sum::<usize>());
    put_vote(&mut buf, &request.vote);
    put_option(&mut buf, &request.prev_log_id);
    put_option(&mut buf, &request.leader_commit);
    buf.put_u32_le(request.entries.len() as u32);
    for entry in &request.entries {
        put_log_id(&mut buf, &entry.log_id);
        let (tag, data) = payload_parts(&entry.payload);
        buf.put_u8(tag);
        buf.put_u32_le(data.len() as u32);
        buf.put_slice(&data);
    }
    buf.freeze()
}

pub fn decode_append(mut buf: Bytes) -> Decoded<AppendEntriesRequest<TypeConfig>> {
    let vote = get_vote(&mut buf)?;
    let prev_log_id = get_option(&mut buf)?;
    let leader_commit = get_option(&mut buf)?;
    let count = get_u32(&mut buf)? as usize;
    // A count is a claim: reserve no more than the bytes at hand can hold.
    let mut entries = Vec::with_capacity(count.min(buf.remaining() / 29));
    for _ in 0..count {
        let log_id = get_log_id(&mut buf)?;
        let tag = get_u8(&mut buf)?;
        let data = get_bytes(&mut buf)?;
        entries.push(Entry { log_id, payload: payload_from_parts(tag, data)? });
    }
    end(&buf, AppendEntriesRequest { vote, prev_log_id, entries, leader_commit })
}

pub fn encode_append_result(result: &StreamAppendResult<TypeConfig>) -> Bytes {
    let mut buf = BytesMut::with_capacity(32);
    match result {
        Ok(log_id) => {
            buf.put_u8(0);
            put_option(&mut buf, log_id);
        }
        Err(StreamAppendError::Conflict(log_id)) => {
            buf.put_u8(1);
            put_log_id(&mut buf, log_id);
        }
        Err(StreamAppendError::HigherVote(vote)) => {
            buf.put_u8(2);
            put_vote(&mut buf, vote);
        }
    }
    buf.freeze()
}

pub fn decode_append_result(mut buf: Bytes) -> Decoded<StreamAppendResult<TypeConfig>> {
    let result = match get_u8(&mut buf)? {
        0 => Ok(get_option(&mut buf)?),
        1 => Err(StreamAppendError::Conflict(get_log_id(&mut buf)?)),
        2 => Err(StreamAppendError::HigherVote(get_vote(&mut buf)?)),
        tag => return Err(DecodeError::Tag { what: "append result", tag }),
    };
    end(&buf, result)
}

pub fn encode_vote_request(request: &VoteRequest<TypeConfig>) -> Bytes {
    let mut buf = BytesMut::with_capacity(48);
    put_vote(&mut buf, &request.vote);
    put_option(&mut buf, &request.last_log_id);
    buf.put_u8(request.leadership_transfer as u8);
    buf.freeze()
}

pub fn decode_vote_request(mut buf: Bytes) -> Decoded<VoteRequest<TypeConfig>> {
    let vote = get_vote(&mut buf)?;
    let last_log_id = get_option(&mut buf)?;
    let leadership_transfer = get_bool(&mut buf, "vote request")?;
    end(&buf, VoteRequest { vote, last_log_id, leadership_transfer })
}

pub fn encode_vote_response(response: &VoteResponse<TypeConfig>) -> Bytes {
    let mut buf = BytesMut::with_capacity(48);
    put_vote(&mut buf, &response.vote);
    buf.put_u8(response.vote_granted as u8);
    put_option(&mut buf, &response.last_log_id);
    buf.freeze()
}

pub fn decode_vote_response(mut buf: Bytes) -> Decoded<VoteResponse<TypeConfig>> {
    let vote = get_vote(&mut buf)?;
    let vote_granted = get_bool(&mut buf, "vote response")?;
    let last_log_id = get_option(&mut buf)?;
    end(&buf, VoteResponse { vote, vote_granted, last_log_id })
}

pub fn encode_transfer_request(request: &TransferLeaderRequest<TypeConfig>) -> Bytes {
    let mut buf = BytesMut::with_capacity(64);
    put_vote(&mut buf, request.from_leader());
    buf.put_u64_le(*request.to_node_id());
    put_option(&mut buf, &request.last_log_id().cloned());
    buf.freeze()
}

pub fn decode_transfer_request(mut buf: Bytes) -> Decoded<TransferLeaderRequest<TypeConfig>> {
    let vote = get_vote(&mut buf)?;
    let to = get_u64(&mut buf)?;
    let last_log_id = get_option(&mut buf)?;
    end(&buf, TransferLeaderRequest::new(vote, to, last_log_id))
}

pub fn encode_transfer_response(response: &TransferLeaderResponse<TypeConfig>) -> Bytes {
    let mut buf = BytesMut::with_capacity(64);
    match response {
        Ok(()) => buf.put_u8(0),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            buf.put_u8(1);
            put_vote(&mut buf, expected);
            put_vote(&mut buf, actual);
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            buf.put_u8(2);
            put_option(&mut buf, expected);
            put_option(&mut buf, actual);
        }
    }
    buf.freeze()
}

pub fn decode_transfer_response(mut buf: Bytes) -> Decoded<TransferLeaderResponse<TypeConfig>> {
    let response = match get_u8(&mut buf)? {
        0 => Ok(()),
        1 => Err(TransferLeaderError::VoteChanged { expected: get_vote(&mut buf)?, actual: get_vote(&mut buf)? }),
        2 => Err(TransferLeaderError::LogNotFlushed { expected: get_option(&mut buf)?, actual: get_option(&mut buf)? }),
        tag => return Err(DecodeError::Tag { what: "transfer response", tag }),
    };
    end(&buf, response)
}

/// First frame of a snapshot: the leader's vote, what the snapshot covers, and how long its body is.
pub fn encode_snapshot_head(vote: &Vote, meta: &SnapshotMeta, body_bytes: u64) -> Bytes {
    let mut buf = BytesMut::new();
    put_vote(&mut buf, vote);
    put_option(&mut buf, &meta.last_log_id);
    buf.put_u64_le(body_bytes);
    buf.put_slice(&encode_stored_membership(&meta.last_membership));
    buf.freeze()
}

pub fn decode_snapshot_head(mut buf: Bytes) -> Decoded<(Vote, SnapshotMeta, u64)> {
    let vote = get_vote(&mut buf)?;
    let last_log_id = get_option(&mut buf)?;
    let body_bytes = get_u64(&mut buf)?;
    let last_membership = decode_stored_membership(&buf)?;
    Ok((vote, SnapshotMeta { last_log_id, last_membership }, body_bytes))
}

/// Answer to the offer of a snapshot: the bytes of it that are there.
pub fn encode_offset(offset: u64) -> Bytes {
    Bytes::copy_from_slice(&offset.to_le_bytes())
}

pub fn decode_offset(mut buf: Bytes) -> Decoded<u64> {
    let offset = get_u64(&mut buf)?;
    end(&buf, offset)
}

#[cfg(test)]
#[path = "convert_test.rs"]
mod tests;
