//! meta: the client's side of the metadata cluster. `MetaApi` is all that vfs and data know of it; `client` is the real one, and the
//! tests have another over metad's own state machine.

pub mod admin;
pub mod channel;
pub mod client;
#[cfg(test)]
mod client_test;
pub mod codec;
pub mod flight;
pub mod leader;
pub mod link;
mod reopen;
pub mod retry;
pub mod session;
pub mod slots;
pub mod stream;
#[cfg(test)]
mod test_fake;
pub mod upkeep;
pub mod url;
pub mod verify;

pub use client::MetaClient;

use crate::error::ClientError;
use holdfast_proto::{Ask, Op, pb};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A reply, and the log index it was applied or read at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<R> {
    pub reply: R,
    pub log_index: u64,
}

/// Metadata, linearizable. Implementations retry until their deadline; what comes back as an error is final.
pub trait MetaApi: Send + Sync + 'static {
    /// Does `op` exactly once.
    fn mutate<O: Op>(
        &self,
        creds: &pb::Creds,
        op: O,
    ) -> impl Future<Output = Result<Answer<O::Reply>, ClientError>> + Send;

    fn query<Q: Ask>(
        &self,
        creds: &pb::Creds,
        ask: Q,
    ) -> impl Future<Output = Result<Answer<Q::Reply>, ClientError>> + Send;

    /// The live session, below 2^32. It changes when a lost session was replaced: what was begun under an older one is fenced
    /// off and must fail (promise 5).
    fn session(&self) -> u64;

    /// What the server says unasked (orphan questions, invalidations, work, session loss). Can be taken once.
    fn take_pushes(&self) -> Option<mpsc::UnboundedReceiver<pb::Push>>;
}

/// Credentials of the client itself, for its own housekeeping.
pub fn own_creds() -> Arc<pb::Creds> {
    Arc::new(pb::Creds { uid: 0, gid: 0, groups: Vec::new() })
}
