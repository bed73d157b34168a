//! Reclaim: deletes the objects of slices that no file names any more, then tells metadata to forget them. Called by vfs when the
//! leader asks. Deleting is idempotent and ids are never used again, so that two clients at it do no harm.

use super::Data;
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::object::keys;
use futures::StreamExt;
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb;

/// Deletions at once: a background job takes less than its share.
const DELETES_MAX: usize = 8;

impl<M: MetaApi> Data<M> {
    /// Works until nothing is left to delete; slices forgotten. A call while another works returns at once, with 0.
    ///
    /// # Errors
    /// Objects could not be deleted: their slices stay on the list.
    pub async fn reclaim(&self) -> Result<u64, ClientError> {
        let Ok(_turn) = self.reclaiming.try_lock() else { return Ok(0) };
        let mut purged = 0;
        loop {
            let ask = pb::DeletedSlicesQuery { count_max: BACKGROUND_BATCH_MAX as u32, after: 0 };
            let slices = self.meta.query(&own_creds(), ask).await?.reply.slices;
            if slices.is_empty() {
                return Ok(purged);
            }
            crash_point(Point::ReclaimBegin);
            let results: Vec<Result<u64, ClientError>> = futures::stream::iter(slices)
                .map(|slice| self.delete_slice(slice))
                .buffer_unordered(DELETES_MAX)
                .collect()
                .await;
            let (gone, failures): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
            let slice_ids: Vec<u64> = gone.into_iter().flatten().collect();
            if !slice_ids.is_empty() {
                purged += slice_ids.len() as u64;
                crash_point(Point::ReclaimDeleted);
                self.meta.mutate(&own_creds(), pb::PurgeSlicesOp { slice_ids }).await?;
                crash_point(Point::ReclaimDone);
            }
            if let Some(Err(error)) = failures.into_iter().next() {
                tracing::warn!(%error, "cannot delete objects of deleted slices; they stay listed");
                return Err(error);
            }
        }
    }

    async fn delete_slice(&self, slice: pb::DeletedSlice) -> Result<u64, ClientError> {
        for (index, key) in
            keys::slice_keys(slice.slice_id, slice.slice_len, self.config.block_bytes).iter().enumerate()
        {
            self.blocks.cache.remove(crate::cache::BlockId { slice_id: slice.slice_id, index: index as u32 });
            self.blocks.store.delete(key).await.map_err(|error| ClientError::Object(error.to_string()))?;
        }
        Ok(slice.slice_id)
    }
}
