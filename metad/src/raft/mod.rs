//! raft: consensus behind a module of our own. openraft's types stay below this line; rpc sees `node::RaftNode`, `types::Command`
//! and `types::WriteResult`. Calls go rpc -> raft -> apply -> store.

pub mod channel;
pub mod checkpointing;
pub mod convert;
pub mod dial;
pub mod log_flush;
pub mod log_mark;
pub mod log_store;
pub mod members;
pub mod network;
pub mod node;
pub mod pump;
pub mod snapshot;
pub mod state_machine;
pub mod tail_ring;
mod torn_tail;
pub mod types;
pub mod wal_types;
