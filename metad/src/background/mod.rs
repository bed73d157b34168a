//! background: what the leader does unasked: end silent sessions, ask about orphans and reclaim them, empty the trash, bring nodes in and out of the
//! cluster; and how a node asks to be let in. Reads the state, then
//! proposes through rpc::propose like anybody else; apply decides again. Started by server.

pub mod checkpointer;
pub mod join;
pub mod leader_watch;
pub mod membership;
pub mod orphan_reclaim;
pub mod session_reaper;
pub mod trash;
