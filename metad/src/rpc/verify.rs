//! Verification of this node's state on an operator's request: on a thread of its own and on a state that is held still, so that neither
//! Raft nor any commit waits for it. One at a time. Called by admin_service; upkeep looks at states in the same way.

use crate::query;
use crate::raft::node::RaftNode;
use crate::raft::state_machine::applied_index;
use crate::store::{KvRead, StoreError, Visit};
use bytes::Bytes;
use holdfast_proto::pb;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// How long the log index that is asked for may take to come. Draining stands still meanwhile.
const AT_WAIT: Duration = Duration::from_secs(2);

pub struct Verifier {
    node: Arc<RaftNode>,
    turn: Arc<Semaphore>,
}

impl Verifier {
    pub fn new(node: Arc<RaftNode>) -> Verifier {
        Verifier { node, turn: Arc::new(Semaphore::new(1)) }
    }

    /// Reads and checks the whole state. It is broken off when nobody waits for the reply any more.
    ///
    /// # Errors
    /// ResourceExhausted while another one is under way; Internal where the store has failed.
    pub async fn verify(&self, at: u64) -> Result<pb::VerifyReply, Status> {
        let started = Instant::now();
        let verify = |view: &dyn KvRead| {
            let applied = applied_index(view)?;
            Ok(pb::VerifyReply { applied, ..query::verify::verify(view) })
        };
        let (mut reply, _turn) = self.still(at, self.turn()?, verify).await?;
        reply.id = self.node.id;
        reply.version = holdfast_proto::version::BUILD.to_owned();
        log(&reply, started.elapsed());
        Ok(reply)
    }

    /// Whoever reads a whole state waits for nobody: one at a time.
    ///
    /// # Errors
    /// ResourceExhausted while another one has the turn.
    pub fn turn(&self) -> Result<Turn, Status> {
        let busy = |_| Status::resource_exhausted("a verification is under way on this node; try again later");
        self.turn.clone().try_acquire_owned().map_err(busy)
    }

    /// Shows `look` the state at log index `at`, or as it is where that does not come soon. It is broken off when nobody waits for it any
    /// more. The turn comes back.
    ///
    /// # Errors
    /// Internal where the store has failed.
    pub async fn still<R: Send + 'static>(
        &self,
        at: u64,
        turn: Turn,
        look: impl FnOnce(&dyn KvRead) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<(R, Turn), Status> {
        let gone = Gone::default();
        let (node, flag) = (self.node.clone(), gone.0.clone());
        let work = crate::blocking::spawn(move || {
            let seen = node.store().still(at, AT_WAIT, |view| look(&Abandonable { view, gone: &flag }))?;
            if flag.load(Ordering::Relaxed) {
                tracing::info!("a verification was broken off");
            }
            seen.map(|seen| (seen, turn))
        });
        let done = work.await.map_err(|error| Status::internal(format!("the verification ended: {error}")))?;
        done.map_err(|error| Status::internal(query::verify::describe(&error)))
    }
}

/// Kept while a whole state is read.
pub type Turn = OwnedSemaphorePermit;

fn log(reply: &pb::VerifyReply, took: Duration) {
    let (applied, keys, problems, seconds) = (reply.applied, reply.keys, reply.problem_count, took.as_secs_f64());
    if let Some(first) = reply.problems.first() {
        tracing::error!(applied, keys, problems, seconds, first, "this node's state has problems");
    } else {
        tracing::info!(applied, keys, seconds, "verified this node's state");
    }
}

/// Set when whoever asked has gone: with a connection, or with this node's end.
#[derive(Default)]
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A view whose scans end early once nobody wants to know.
struct Abandonable<'a> {
    view: &'a dyn KvRead,
    gone: &'a AtomicBool,
}

impl KvRead for Abandonable<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.view.get(key)
    }

    fn scan(&self, start: &[u8], end: &[u8], visit: &mut Visit<'_>) -> Result<(), StoreError> {
        self.view.scan(start, end, &mut |key, value| match self.gone.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => visit(key, value),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::mem_store::MemStore;
    use crate::store::{Batch, KvCommit};

    #[test]
    fn a_scan_ends_where_whoever_asked_has_gone() {
        let store = MemStore::default();
        let pair = |n: u8| (Bytes::from(vec![n]), Some(Bytes::from_static(b"x")));
        store.commit(1, Batch((0..10).map(pair).collect())).expect("commits");
        let asked = Gone::default();
        let flag = asked.0.clone();
        let (mut asked, mut seen_count) = (Some(asked), 0);
        store.view(|view| {
            let view = Abandonable { view, gone: &flag };
            let visit = &mut |_: &[u8], _: &[u8]| {
                seen_count += 1;
                if seen_count == 3 {
                    asked.take();
                }
                ControlFlow::Continue(())
            };
            view.scan(&[], &[0xff], visit).expect("scans");
        });
        assert_eq!(seen_count, 3);
    }
}
