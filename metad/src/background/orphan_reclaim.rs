//! OrphanReclaim: on the leader, asks sessions which orphans they hold, proposes the reclaim of those that nobody does, and asks
//! a client to delete the objects of deleted slices. Started by server.
//!
//! Every question comes from the state and names all orphans above the session's watermark; one is outstanding for a stream at a
//! time. So an answer that is lost, late or doubled can never make an orphan look answered for that was not asked about.

use crate::query::background;
use crate::raft::node::RaftNode;
use crate::rpc::propose::Proposer;
use crate::rpc::push::{Attached, Hub};
use crate::store::{KvCommit, StoreError, read};
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb::{self, mutation};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Questions of so long a time go out together.
const GATHER: Duration = Duration::from_millis(25);
/// Without any sign of orphans the state is looked at this often.
const IDLE_INTERVAL: Duration = Duration::from_secs(1);
/// A volume's clients are asked to delete objects no more often than this.
const WORK_INTERVAL: Duration = Duration::from_secs(2);
/// Most entries of reclaims one round proposes for a volume: requests come first.
const RECLAIMS_A_ROUND: usize = 4;

pub struct OrphanReclaim {
    pub node: Arc<RaftNode>,
    pub hub: Arc<Hub>,
    pub proposer: Arc<Proposer>,
}

/// When a volume's clients were last asked to delete objects, and which of them.
type Work = BTreeMap<u32, (Instant, u64)>;

impl OrphanReclaim {
    /// Runs until the process ends.
    pub async fn run(self) {
        let mut work = Work::new();
        loop {
            let rung = tokio::time::timeout(IDLE_INTERVAL, self.hub.orphans.notified()).await.is_ok();
            if rung {
                tokio::time::sleep(GATHER).await;
            }
            if self.node.leadership().is_self
                && let Err(error) = self.round(&mut work).await
            {
                tracing::warn!(%error, "look for orphans");
            }
        }
    }

    async fn round(&self, work: &mut Work) -> Result<(), StoreError> {
        let attached = self.hub.attached();
        for volume in self.node.store().view(background::volumes)?.into_iter().map(|settings| settings.id) {
            self.ask(volume, &attached)?;
            self.reclaim(volume).await?;
            if self.node.store().view(|view| background::pending_deleted(view, volume))? {
                self.hand_out(volume, &attached, work);
            }
        }
        Ok(())
    }

    fn ask(&self, volume: u32, attached: &[Attached]) -> Result<(), StoreError> {
        for ask in self.node.store().view(|view| background::orphans_to_ask(view, volume))? {
            let Some(stream) = attached.iter().find(|stream| stream.session == ask.session) else { continue };
            if ask.inos.len() >= BACKGROUND_BATCH_MAX {
                // More wait than one question holds.
                self.hub.orphans.notify_one();
            }
            let session = self.node.store().view(|view| read::session(view, ask.session))?;
            if session.is_some_and(|session| session.watermark >= stream.asked_through) {
                let question = pb::OrphanQuestion { through_index: ask.through_index, inos: ask.inos };
                self.hub.ask(ask.session, question);
            }
        }
        Ok(())
    }

    async fn reclaim(&self, volume: u32) -> Result<(), StoreError> {
        for _ in 0..RECLAIMS_A_ROUND {
            let inos = self.node.store().view(|view| background::reclaimable(view, volume, BACKGROUND_BATCH_MAX))?;
            if inos.is_empty() {
                return Ok(());
            }
            let count = inos.len();
            let op = mutation::Op::Reclaim(pb::ReclaimOp { volume, inos });
            if let Err(failure) = self.proposer.propose_local(op).await {
                tracing::debug!(volume, message = failure.message, "reclaim orphans");
                return Ok(());
            }
            metrics::counter!(crate::metrics::ORPHANS_RECLAIMED).increment(count as u64);
        }
        self.hub.orphans.notify_one();
        Ok(())
    }

    /// Asks one client of the volume, a different one each time.
    fn hand_out(&self, volume: u32, attached: &[Attached], work: &mut Work) {
        let now = Instant::now();
        let (asked_at, last) = work.get(&volume).copied().map_or((None, 0), |(at, session)| (Some(at), session));
        if asked_at.is_some_and(|at| now.duration_since(at) < WORK_INTERVAL) {
            return;
        }
        let mut sessions = attached.iter().filter(|stream| stream.volume == volume).map(|stream| stream.session);
        let next = sessions.clone().find(|session| *session > last).or_else(|| sessions.next());
        if let Some(session) = next {
            work.insert(volume, (now, session));
            self.hub.ask_to_reclaim(session);
        }
    }
}
