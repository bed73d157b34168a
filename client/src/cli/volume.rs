//! A volume as fsck and gc work on it: a session, its object store, and the leader's upkeep; and what both have of it: the listing of all
//! objects, and all slices. Called by fsck and gc.
//!
//! Memory is bounded by the number of objects: 24 bytes each, and what the store's listing takes while it is made.

use super::{ClusterFlags, host};
use crate::error::ClientError;
use crate::meta::client::explain_volume;
use crate::meta::upkeep::Upkeep;
use crate::meta::verify::{Agreement, cluster_verify};
use crate::meta::{MetaApi, MetaClient, own_creds};
use crate::object::keys::{self, BLOCKS_PREFIX, BlockName};
use crate::object::{self, ObjectError, ObjectStore};
use holdfast_proto::pb;
use indicatif::{ProgressBar, ProgressStyle};
use std::sync::Arc;
use std::time::Duration;

/// Requests to the store at once: foreground work comes first.
pub const REQUESTS_MAX: usize = 16;
const PAGE_SLICES: u32 = 4096;
/// How long the nodes may take to be compared.
const COMPARE_MAX: Duration = Duration::from_secs(300);
/// How long a leader is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Volume {
    pub meta: Arc<MetaClient>,
    pub store: Arc<dyn ObjectStore>,
    pub upkeep: Upkeep,
    pub block_bytes: u32,
}

impl Volume {
    /// Opens a session that shows in `holdfast status` by the name of the command.
    ///
    /// # Errors
    /// The cluster does not answer, or has no such volume.
    pub async fn open(flags: &ClusterFlags, command: &str) -> Result<Volume, ClientError> {
        let (url, config) = flags.load()?;
        let name = url.volume()?.to_owned();
        let meta = Arc::new(MetaClient::connect(config.clone()).await?);
        let asked = meta.query_unbound(pb::VolumeQuery { name: name.clone() }).await;
        let answer = asked.map_err(|error| explain_volume(error, &name))?;
        let settings = answer.reply.settings.unwrap_or_default();
        let prefix = keys::volume_prefix(&settings.name, &settings.uuid);
        let store = object::open(&settings.storage.clone().unwrap_or_default(), &prefix)?;
        meta.open_session(&name, &host(), command).await.map_err(|error| explain_volume(error, &name))?;
        tokio::spawn(answer_questions(meta.clone()));
        let upkeep = Upkeep { config, volume: settings.id, patience: PATIENCE };
        Ok(Volume { meta, store, upkeep, block_bytes: settings.block_size.max(1) })
    }

    /// All objects. What is put or deleted meanwhile may be in it or not.
    ///
    /// # Errors
    /// The store does not list.
    pub async fn list(&self) -> Result<Listing, ClientError> {
        let bar = spinner("listing objects");
        let listed = self.store.list(BLOCKS_PREFIX).await.map_err(object_error)?;
        bar.finish_and_clear();
        Ok(Listing::new(listed))
    }

    /// Visits all slices, with their files, page by page.
    ///
    /// # Errors
    /// The cluster does not answer; or what `visit` says.
    pub async fn each_page(
        &self,
        mut visit: impl AsyncFnMut(Vec<pb::FileSlice>) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut after = None;
        loop {
            let ask = pb::ScanSlicesQuery { after, count_max: PAGE_SLICES };
            let reply = self.meta.query(&own_creds(), ask).await?.reply;
            after = reply.slices.last().and_then(|slice| slice.key);
            let is_end = reply.is_end || reply.slices.is_empty();
            visit(reply.slices).await?;
            if is_end {
                return Ok(());
            }
        }
    }

    /// What cannot be undone is done where all nodes say the same of the volume. How many problems they see.
    ///
    /// # Errors
    /// They differ, or could not be compared; the message says that nothing is `done`.
    pub async fn compare_nodes(&self, done: &str) -> Result<u64, ClientError> {
        let (nodes, agreement) = cluster_verify(&self.upkeep.config, COMPARE_MAX).await?;
        let replies = nodes.iter().filter_map(|node| node.answer.as_ref().ok());
        match agreement {
            Agreement::Equal { .. } => Ok(replies.map(|reply| reply.problem_count).max().unwrap_or(0)),
            Agreement::Differ { index } => Err(ClientError::Failed(format!(
                "nothing is {done}: the states of the nodes differ at log index {index}, so a node is damaged and not the \
                 volume; `holdfast cluster verify` shows which, and it can be built anew"
            ))),
            Agreement::Unknown => {
                let silent = nodes.iter().find_map(|node| node.answer.as_ref().err());
                let why = silent.map(|why| format!(" ({why})")).unwrap_or_default();
                Err(ClientError::Failed(format!("nothing is {done}: the nodes could not be compared{why}; try again")))
            }
        }
    }

    /// Ends the session.
    pub async fn close(&self) {
        if let Err(error) = self.meta.close_session().await {
            tracing::warn!(%error, "the session will end by its lease");
        }
    }
}

pub fn object_error(error: ObjectError) -> ClientError {
    ClientError::Object(error.to_string())
}

/// Shown on a terminal only.
pub fn spinner(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new_spinner().with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// Shown on a terminal only.
pub fn bar(what: &'static str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} {pos}/{len} {bar:30} {per_sec} eta {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Nothing that is removed by others is open here: without this answer its data would wait for the end of our session.
pub async fn answer_questions(meta: Arc<MetaClient>) {
    let Some(mut pushes) = meta.take_pushes() else { return };
    while let Some(push) = pushes.recv().await {
        if let Some(pb::push::Event::Orphaned(question)) = push.event {
            let op = pb::HoldOp { through_index: question.through_index, inos: Vec::new() };
            if meta.mutate(&pb::Creds::default(), op).await.is_err() {
                return;
            }
        }
    }
}

/// An object as it was listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub name: BlockName,
    /// In the store. The length that it should have is in its name.
    pub size: u32,
}

/// All objects of a volume, by slice.
#[derive(Debug, Default)]
pub struct Listing {
    pub blocks: Vec<Listed>,
    /// Names that no block of ours has.
    pub foreign: Vec<String>,
    pub bytes: u64,
}

impl Listing {
    pub fn new(listed: Vec<(String, u64)>) -> Listing {
        let mut listing = Listing::default();
        for (key, size) in listed {
            listing.bytes += size;
            match BlockName::parse(&key) {
                Some(name) => listing.blocks.push(Listed { name, size: u32::try_from(size).unwrap_or(u32::MAX) }),
                None => listing.foreign.push(key),
            }
        }
        listing.blocks.sort_unstable();
        listing
    }

    /// Whether a block was listed with the length that it should have.
    pub fn has(&self, name: BlockName) -> bool {
        self.blocks.binary_search(&Listed { name, size: name.len }).is_ok()
    }

    /// The slices that have objects, each once, in order.
    pub fn slice_ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.blocks.iter().map(|block| block.name.slice_id).collect();
        ids.dedup();
        ids
    }

    /// The objects of a slice.
    pub fn of(&self, slice_id: u64) -> &[Listed] {
        let start = self.blocks.partition_point(|block| block.name.slice_id < slice_id);
        let end = self.blocks.partition_point(|block| block.name.slice_id <= slice_id);
        &self.blocks[start..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_knows_blocks_by_slice_and_what_is_not_ours() {
        let key = |slice_id, index, len| (keys::block_key(slice_id, index, len), u64::from(len));
        let cut = (keys::block_key(9, 0, 50), 7);
        let other = ("chunks/0/0/notes.txt".to_owned(), 3);
        let listing = Listing::new(vec![key(9, 1, 20), key(8, 0, 10), cut, other.clone()]);
        assert_eq!((listing.slice_ids(), listing.foreign.clone()), (vec![8, 9], vec![other.0]));
        assert_eq!((listing.of(9).len(), listing.of(10).len(), listing.bytes), (2, 0, 40));
        let has = |slice_id, index, len| listing.has(BlockName { slice_id, index, len });
        assert!(has(8, 0, 10) && has(9, 1, 20));
        assert!(!has(9, 0, 50) && !has(9, 1, 21) && !has(7, 0, 10));
    }
}
