//! Info: what a file is made of (`holdfast info`): its slices and where they are stored, as JSON. Called by fuse/adapter's ioctl, in
//! pieces, because an ioctl carries little.

use crate::error::ClientError;
use crate::meta::MetaApi;
use crate::vfs::{Caller, Fh, Vfs};
use holdfast_proto::limits::{CHUNK_BYTES, READ_CHUNKS_MAX};
use holdfast_proto::pb;
use serde_json::json;
use std::sync::Arc;

impl<M: MetaApi> Vfs<M> {
    /// The report on an open file. Made at offset 0 and kept, so that its pieces fit together.
    ///
    /// # Errors
    /// EBADF; EIO where the cluster does not answer.
    pub async fn info(&self, caller: Caller, fh: Fh, offset: u64) -> Result<Arc<str>, ClientError> {
        let handle = self.handles.file(fh)?;
        if offset > 0
            && let Some(kept) = handle.info.lock().clone()
        {
            return Ok(kept);
        }
        let attr = self.fresh_attr(&caller, handle.ino).await?;
        let slices = self.slices(&caller, &attr).await?;
        let slices: Vec<_> = slices.iter().map(|slice| slice_report(slice, &self.data.object_keys(slice))).collect();
        let report: Arc<str> = report(&attr, &slices).to_string().into();
        *handle.info.lock() = Some(report.clone());
        Ok(report)
    }

    async fn slices(&self, caller: &Caller, attr: &pb::Attr) -> Result<Vec<pb::Slice>, ClientError> {
        let chunks = attr.size.div_ceil(u64::from(CHUNK_BYTES)) as u32;
        let mut slices = Vec::new();
        for first_chunk in (0..chunks).step_by(READ_CHUNKS_MAX as usize) {
            let chunk_count = READ_CHUNKS_MAX.min(chunks - first_chunk);
            let ask = pb::ReadSlicesQuery { ino: attr.ino, first_chunk, chunk_count };
            slices.extend(self.meta.query(&caller.creds(), ask).await?.reply.slices);
        }
        Ok(slices)
    }
}

fn report(attr: &pb::Attr, slices: &[serde_json::Value]) -> serde_json::Value {
    json!({
        "ino": attr.ino,
        "size": attr.size,
        "nlink": attr.nlink,
        "data_version": attr.data_version,
        "chunks": attr.size.div_ceil(u64::from(CHUNK_BYTES)),
        "slices": slices,
    })
}

fn slice_report(slice: &pb::Slice, objects: &[String]) -> serde_json::Value {
    json!({
        "chunk": slice.chunk,
        "chunk_offset": slice.chunk_offset,
        "len": slice.len,
        "slice_id": slice.slice_id,
        "slice_offset": slice.slice_offset,
        "slice_len": slice.slice_len,
        "objects": objects,
    })
}
