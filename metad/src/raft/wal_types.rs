//! What the WAL (crate raft-log) stores of ours: log ids, payloads and votes, byte by byte. Called by raft/log_store only.
//!
//! ```text
//! log id   term u64 LE | node u64 LE | index u64 LE
//! payload  tag u8 (see raft/convert) | len u32 LE | bytes
//! vote     term u64 LE | node u64 LE | committed u8
//! ```

use super::convert::{payload_from_parts, payload_parts};
use super::log_flush::FlushCallback;
use super::types::{Entry, LeaderId, LogId, Vote};
use bytes::Bytes;
use raft_log::codeq::{Decode, Encode};
use std::io::{self, Read, Write};

/// Largest payload the WAL will read back, bytes: a damaged length must not become an allocation.
const PAYLOAD_BYTES_MAX: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct WalLogId {
    pub term: u64,
    pub node: u64,
    pub index: u64,
}

impl From<&LogId> for WalLogId {
    fn from(id: &LogId) -> WalLogId {
        WalLogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
    }
}

impl From<&WalLogId> for LogId {
    fn from(id: &WalLogId) -> LogId {
        LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct WalPayload {
    pub tag: u8,
    pub data: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct WalVote {
    pub term: u64,
    pub node: u64,
    pub committed: bool,
}

impl From<&Vote> for WalVote {
    fn from(vote: &Vote) -> WalVote {
        WalVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
    }
}

impl From<&WalVote> for Vote {
    fn from(vote: &WalVote) -> Vote {
        Vote { leader_id: LeaderId { term: vote.term, node_id: vote.node }, committed: vote.committed }
    }
}

pub fn entry_to_wal(entry: &Entry) -> (WalLogId, WalPayload) {
    let (tag, data) = payload_parts(&entry.payload);
    ((&entry.log_id).into(), WalPayload { tag, data })
}

pub fn entry_from_wal(id: &WalLogId, payload: WalPayload) -> io::Result<Entry> {
    let payload = payload_from_parts(payload.tag, payload.data)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("log entry {}: {error}", id.index)))?;
    Ok(Entry { log_id: id.into(), payload })
}

fn read_u64(reader: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    reader.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

impl Encode for WalLogId {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let mut bytes = [0u8; 24];
        bytes[..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.node.to_le_bytes());
        bytes[16..].copy_from_slice(&self.index.to_le_bytes());
        writer.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

impl Decode for WalLogId {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        Ok(WalLogId { term: read_u64(&mut reader)?, node: read_u64(&mut reader)?, index: read_u64(&mut reader)? })
    }
}

impl Encode for WalPayload {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let mut head = [0u8; 5];
        head[0] = self.tag;
        head[1..].copy_from_slice(&(self.data.len() as u32).to_le_bytes());
        writer.write_all(&head)?;
        writer.write_all(&self.data)?;
        Ok(head.len() + self.data.len())
    }
}

impl Decode for WalPayload {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let mut head = [0u8; 5];
        reader.read_exact(&mut head)?;
        let len = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if len > PAYLOAD_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("log payload claims {len} bytes")));
        }
        // Grows with what is there: the length is only a claim so far.
        let mut data = Vec::new();
        reader.take(len as u64).read_to_end(&mut data)?;
        if data.len() < len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "log payload is cut"));
        }
        Ok(WalPayload { tag: head[0], data: data.into() })
    }
}

impl Encode for WalVote {
    fn encode<W: Write>(&self, mut writer: W) -> io::Result<usize> {
        let mut bytes = [0u8; 17];
        bytes[..8].copy_from_slice(&self.term.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.node.to_le_bytes());
        bytes[16] = self.committed as u8;
        writer.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

impl Decode for WalVote {
    fn decode<R: Read>(mut reader: R) -> io::Result<Self> {
        let (term, node) = (read_u64(&mut reader)?, read_u64(&mut reader)?);
        let mut committed = [0u8; 1];
        reader.read_exact(&mut committed)?;
        Ok(WalVote { term, node, committed: committed[0] == 1 })
    }
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct WalTypes;

impl raft_log::Types for WalTypes {
    type LogId = WalLogId;
    type LogPayload = WalPayload;
    type Vote = WalVote;
    type Callback = FlushCallback;
    type UserData = u64;

    fn log_index(id: &WalLogId) -> u64 {
        id.index
    }

    fn payload_size(payload: &WalPayload) -> u64 {
        payload.data.len() as u64 + 64
    }
}
