//! metad: one node of the metadata cluster. Calls go one way: rpc -> raft -> apply -> store; query -> store.

pub mod apply;
pub mod query;
pub mod store;
