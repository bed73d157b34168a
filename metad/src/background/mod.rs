//! background: what the leader does unasked: end silent sessions, ask about orphans and reclaim them. Reads the state, then
//! proposes through rpc::propose like anybody else; apply decides again. Started by server.

pub mod checkpointer;
pub mod leader_watch;
pub mod orphan_reclaim;
pub mod session_reaper;
