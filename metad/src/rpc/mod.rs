//! rpc: what comes in over the wire, from clients, operators and peers. Knows frames, streams and batches; nothing of any one
//! operation but its bounds. Calls raft and query.

pub mod admin_http;
pub mod admin_service;
pub mod door;
pub mod listener;
pub mod meta_service;
pub mod outbox;
pub mod propose;
pub mod push;
pub mod raft_service;
pub mod read_gate;
pub mod shape;
pub mod snapshot_inbox;
pub mod standing;
pub mod status;
pub mod upkeep;
pub mod verify;
