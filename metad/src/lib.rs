//! metad: one node of the metadata cluster. Calls go one way: rpc -> raft -> apply -> store; query -> store.

pub mod apply;
pub mod background;
pub mod blocking;
pub mod clock;
pub mod config;
pub mod disk_room;
pub mod error;
pub mod identity;
pub mod metrics;
pub mod priority;
pub mod query;
pub mod raft;
pub mod rpc;
pub mod seldom;
pub mod server;
pub mod store;
