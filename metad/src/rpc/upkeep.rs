//! Upkeep: what `holdfast fsck` and `holdfast gc` ask of the leader. Each call reads a state that is held still, on a thread of its own,
//! one at a time; a repair is then proposed like anything else. Called by tonic.

use super::propose::Proposer;
use super::verify::{Turn, Verifier};
use crate::apply::Verdict;
use crate::apply::repair::{By, Told};
use crate::query::upkeep;
use crate::raft::node::RaftNode;
use crate::raft::state_machine::applied_index;
use crate::store::{KvRead, StoreError};
use holdfast_proto::pb;
use holdfast_proto::pb::upkeep_server::Upkeep;
use prost::Message;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub struct UpkeepService {
    pub node: Arc<RaftNode>,
    pub proposer: Arc<Proposer>,
    pub verifier: Arc<Verifier>,
}

#[derive(Clone)]
pub struct UpkeepServer(pub Arc<UpkeepService>);

impl UpkeepService {
    /// The newest state, shown to `look` with its log index while this node's turn lasts.
    async fn newest<R: Send + 'static>(
        &self,
        look: impl FnOnce(&dyn KvRead, u64) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<(R, Turn), Status> {
        let turn = self.verifier.turn()?;
        self.node.read_index().await.map_err(|error| {
            Status::failed_precondition(format!("this node does not lead: {error}; {}", self.node.leader_addr()))
        })?;
        let at = self.node.facts().applied;
        self.verifier.still(at, turn, |view| look(view, applied_index(view)?)).await
    }

    async fn check(&self, volume: u32) -> Result<pb::CheckReply, Status> {
        let look = move |view: &dyn KvRead, index| Ok((index, upkeep::check(view, volume, index)?));
        let ((index, (count, plan)), _turn) = self.newest(look).await?;
        Ok(pb::CheckReply {
            index,
            count: count as u64,
            findings: plan.told.iter().map(finding).collect(),
            needs_lost_found: plan.needs_lost_found,
        })
    }

    /// One round. The turn is kept until the outcome is known.
    async fn repair(&self, volume: u32) -> Result<pb::RepairReply, Status> {
        let look = move |view: &dyn KvRead, index| upkeep::check(view, volume, index);
        let ((_, plan), _turn) = self.newest(look).await?;
        let refused_count = plan.told.iter().filter(|told| told.remedy.is_err()).count() as u64;
        let mut reply =
            pb::RepairReply { refused_count, needs_lost_found: plan.needs_lost_found, ..Default::default() };
        let (fixes_count, has_usage) = (plan.op.fixes.len(), plan.op.usage.is_some());
        if fixes_count == 0 && !has_usage {
            return Ok(reply);
        }
        let outcome = self.proposer.propose_local(pb::mutation::Op::Repair(plan.op)).await;
        let outcome = outcome.map_err(|failure| {
            Status::unavailable(format!("whether the repair was done is not known: {}; run it again", failure.message))
        })?;
        let Verdict::Reply(bytes) = outcome.verdict else {
            return Err(Status::internal(format!("the repair was refused: {:?}", outcome.verdict)));
        };
        let done = pb::RepairOpReply::decode(bytes).map_err(|error| Status::internal(error.to_string()))?;
        reply.changed_count = done.done.iter().filter(|done| !**done).count() as u64;
        let is_done = |told: &&Told| match told.by {
            By::Fix(at) => done.done.get(at) == Some(&true),
            By::Usage => done.usage_done,
            By::None => false,
        };
        reply.done = plan.told.iter().filter(is_done).map(finding).collect();
        for finding in &reply.done {
            tracing::warn!(volume, problem = finding.problem, repair = finding.repair, "repaired");
        }
        Ok(reply)
    }
}

fn finding(told: &Told) -> pb::Finding {
    let (repair, advice) = match told.remedy {
        Ok(repair) => (repair, ""),
        Err(advice) => ("", advice),
    };
    pb::Finding {
        volume: told.problem.volume,
        problem: told.problem.to_string(),
        repair: repair.to_owned(),
        advice: advice.to_owned(),
    }
}

#[tonic::async_trait]
impl Upkeep for UpkeepServer {
    async fn check(&self, request: Request<pb::CheckRequest>) -> Result<Response<pb::CheckReply>, Status> {
        self.0.check(request.into_inner().volume).await.map(Response::new)
    }

    async fn repair(&self, request: Request<pb::RepairRequest>) -> Result<Response<pb::RepairReply>, Status> {
        self.0.repair(request.into_inner().volume).await.map(Response::new)
    }

    async fn garbage(&self, request: Request<pb::GarbageRequest>) -> Result<Response<pb::GarbageReply>, Status> {
        let pb::GarbageRequest { volume, slice_ids } = request.into_inner();
        let look = move |view: &dyn KvRead, _| upkeep::garbage(view, volume, &slice_ids);
        let (slice_ids, _turn) = self.0.newest(look).await?;
        Ok(Response::new(pb::GarbageReply { slice_ids }))
    }

    async fn paths(&self, request: Request<pb::PathsRequest>) -> Result<Response<pb::PathsReply>, Status> {
        let pb::PathsRequest { volume, inos } = request.into_inner();
        let look = move |view: &dyn KvRead, _| upkeep::paths(view, volume, &inos);
        let (paths, _turn) = self.0.newest(look).await?;
        Ok(Response::new(pb::PathsReply { paths }))
    }
}
