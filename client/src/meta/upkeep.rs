//! Upkeep: what fsck and gc ask of the leader about its whole state. Plain unary gRPC; a leader that changes meanwhile, or is busy with
//! another such question, is asked again. Called by the command line.

use super::admin::{NodeView, cluster_status, leader_of, no_leader};
use super::channel::{self, describe};
use crate::config::MetaConfig;
use crate::error::ClientError;
use holdfast_proto::limits::{GARBAGE_SLICES_MAX, UPKEEP_MESSAGE_BYTES_MAX};
use holdfast_proto::pb;
use holdfast_proto::pb::upkeep_client::UpkeepClient;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

const PAUSE: Duration = Duration::from_millis(200);
/// Most inodes one question about paths names.
const PATHS_INOS_MAX: usize = 100_000;

/// One volume, as the leader knows it.
#[derive(Debug)]
pub struct Upkeep {
    pub config: MetaConfig,
    pub volume: u32,
    /// For how long a question is asked again.
    pub patience: Duration,
}

impl Upkeep {
    /// Everything that is wrong with the metadata of the volume.
    ///
    /// # Errors
    /// No leader answers, or its state cannot be read.
    pub async fn check(&self) -> Result<pb::CheckReply, ClientError> {
        let request = pb::CheckRequest { volume: self.volume };
        self.ask(async |mut client: UpkeepClient<Channel>| client.check(request).await).await
    }

    /// One round of repairs. Asked twice, it looks twice.
    ///
    /// # Errors
    /// No leader answers, its state cannot be read, or nobody knows whether it was done.
    pub async fn repair(&self) -> Result<pb::RepairReply, ClientError> {
        let request = pb::RepairRequest { volume: self.volume };
        self.ask(async |mut client: UpkeepClient<Channel>| client.repair(request).await).await
    }

    /// Which of these slices nothing names, now and for ever.
    ///
    /// # Errors
    /// No leader answers, or its state cannot be read.
    pub async fn garbage(&self, slice_ids: &[u64]) -> Result<Vec<u64>, ClientError> {
        let mut garbage = Vec::new();
        for part in slice_ids.chunks(GARBAGE_SLICES_MAX) {
            let request = pb::GarbageRequest { volume: self.volume, slice_ids: part.to_vec() };
            let ask = async |mut client: UpkeepClient<Channel>| client.garbage(request.clone()).await;
            garbage.extend(self.ask(ask).await?.slice_ids);
        }
        Ok(garbage)
    }

    /// The names of inodes.
    ///
    /// # Errors
    /// No leader answers, or its state cannot be read.
    pub async fn paths(&self, inos: &[u64]) -> Result<Vec<pb::InoPath>, ClientError> {
        let mut paths = Vec::new();
        for part in inos.chunks(PATHS_INOS_MAX) {
            let request = pb::PathsRequest { volume: self.volume, inos: part.to_vec() };
            let ask = async |mut client: UpkeepClient<Channel>| client.paths(request.clone()).await;
            paths.extend(self.ask(ask).await?.paths);
        }
        Ok(paths)
    }

    async fn ask<R>(
        &self,
        call: impl AsyncFn(UpkeepClient<Channel>) -> Result<Response<R>, Status>,
    ) -> Result<R, ClientError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let views = cluster_status(&self.config).await;
            let why = match self.connect(&views).await {
                Ok(client) => match call(client).await {
                    Ok(answer) => return Ok(answer.into_inner()),
                    Err(status) if is_final(status.code()) => {
                        return Err(ClientError::Failed(format!("metadata: {}", describe(&status))));
                    }
                    Err(status) => describe(&status),
                },
                Err(why) => why,
            };
            if Instant::now() + PAUSE >= deadline {
                return Err(ClientError::Unavailable(why));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connect(&self, views: &[NodeView]) -> Result<UpkeepClient<Channel>, String> {
        let is_leader = |view: &&NodeView| {
            leader_of(views).is_some_and(|leader| view.status.as_ref().is_ok_and(|status| status.id == leader.id))
        };
        let Some(view) = views.iter().find(is_leader) else { return Err(no_leader(views)) };
        let channel =
            channel::connect(&view.addr, self.config.tls.as_ref()).await.map_err(|error| error.to_string())?;
        Ok(UpkeepClient::new(channel)
            .max_decoding_message_size(UPKEEP_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(UPKEEP_MESSAGE_BYTES_MAX))
    }
}

/// The node has answered, and another time it would say the same.
fn is_final(code: Code) -> bool {
    matches!(code, Code::Internal | Code::Unimplemented | Code::InvalidArgument | Code::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_not_change_is_final() {
        assert!(is_final(Code::Internal) && is_final(Code::Unimplemented));
        assert!(![Code::FailedPrecondition, Code::ResourceExhausted, Code::Unavailable].into_iter().any(is_final));
    }
}
