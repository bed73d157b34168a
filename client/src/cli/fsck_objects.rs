//! The objects of a volume against its metadata: every block of every slice is there with its length and, with `--deep`, with its checksum.
//! Called by fsck.
//!
//! Writers go on meanwhile, and the listing, the pages of slices and the objects are all of different moments. A block may be missing from
//! the listing because it was put later: so the store is asked for it by name. It may be gone because its slice was dropped since: so
//! then metadata is asked for the slice again. An object is put before its slice is named, and deleted only after nothing names it; and a
//! slice that has lost its place in a file does not come back there. So what is not in the store, and is named there still when asked
//! after that, is missing. What was copied to a place that has been passed is looked at by the next fsck.

use super::volume::{Listing, REQUESTS_MAX, Volume, bar, object_error};
use crate::data::blocks::crc32c;
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::object::ObjectError;
use crate::object::keys::{BlockName, slice_blocks};
use futures::{StreamExt, TryStreamExt};
use holdfast_proto::limits::CHUNK_BYTES;
use holdfast_proto::pb;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::RangeInclusive;

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    pub slices_count: u64,
    pub objects_count: u64,
    /// Read and compared with their checksums.
    pub read_bytes: u64,
}

/// An object that is not as it should be, and what shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    pub why: String,
    /// Bytes of files; none where a file has the slice, but not this part of it.
    pub shown: BTreeMap<u64, Vec<Option<RangeInclusive<u64>>>>,
}

/// By object.
pub type Damages = BTreeMap<String, Damage>;

pub struct ObjectCheck<'a> {
    volume: &'a Volume,
    listing: Listing,
    deep: bool,
    /// Slices that were read and are good: a copy is not read again.
    good: HashSet<u64>,
    pub looked: Looked,
    pub damages: Damages,
}

/// One slice of one file with blocks to look at.
struct Job {
    slice: pb::FileSlice,
    block: BlockName,
    crc32c: u32,
}

impl<'a> ObjectCheck<'a> {
    pub fn new(volume: &'a Volume, listing: Listing, deep: bool) -> ObjectCheck<'a> {
        let (looked, damages) = (Looked::default(), Damages::new());
        ObjectCheck { volume, listing, deep, good: HashSet::new(), looked, damages }
    }

    /// # Errors
    /// The store or the cluster does not answer: nothing is known.
    pub async fn run(&mut self) -> Result<(), ClientError> {
        let progress = bar("checking objects", self.listing.blocks.len() as u64);
        let volume = self.volume;
        let done = volume
            .each_page(async |page| {
                let before = self.looked.objects_count;
                self.check_page(page).await?;
                progress.inc(self.looked.objects_count - before);
                Ok(())
            })
            .await;
        progress.finish_and_clear();
        done
    }

    async fn check_page(&mut self, page: Vec<pb::FileSlice>) -> Result<(), ClientError> {
        let mut jobs = Vec::new();
        for found in page {
            let Some(slice) = found.slice.as_ref().filter(|slice| slice.slice_id != 0) else { continue };
            self.looked.slices_count += 1;
            for name in slice_blocks(slice.slice_id, slice.slice_len, self.volume.block_bytes) {
                self.looked.objects_count += 1;
                let needs_look = match self.deep {
                    true => !self.good.contains(&slice.slice_id),
                    false => !self.listing.has(name),
                };
                if needs_look {
                    let crc32c = slice.block_crc32c.get(name.index as usize).copied().unwrap_or_default();
                    jobs.push(Job { slice: found.clone(), block: name, crc32c });
                }
            }
        }
        let this = &*self;
        let looks = futures::stream::iter(jobs).map(|job| async move {
            let wrong = this.look(&job).await?;
            Ok::<_, ClientError>((job, wrong))
        });
        let seen: Vec<(Job, Option<String>)> = looks.buffer_unordered(REQUESTS_MAX).try_collect().await?;
        self.take(seen);
        Ok(())
    }

    fn take(&mut self, seen: Vec<(Job, Option<String>)>) {
        let bad: BTreeSet<u64> =
            seen.iter().filter(|(_, why)| why.is_some()).map(|(job, _)| job.block.slice_id).collect();
        for (job, why) in seen {
            if self.deep {
                self.looked.read_bytes += u64::from(job.block.len);
                if !bad.contains(&job.block.slice_id) {
                    self.good.insert(job.block.slice_id);
                }
            }
            if let Some(why) = why {
                let damage = self.damages.entry(job.block.key()).or_default();
                damage.why = why;
                let (ino, shown) = shown(&job, self.volume.block_bytes);
                damage.shown.entry(ino).or_default().push(shown);
            }
        }
    }

    /// What is wrong with a block that is still needed.
    async fn look(&self, job: &Job) -> Result<Option<String>, ClientError> {
        let wrong = match self.deep {
            true => self.read(job).await?,
            false => self.head(job.block).await?,
        };
        match wrong {
            Some(wrong) if self.is_needed(job).await? => Ok(Some(wrong)),
            _ => Ok(None),
        }
    }

    async fn head(&self, block: BlockName) -> Result<Option<String>, ClientError> {
        match self.volume.store.head(&block.key()).await {
            Ok(size) => Ok(wrong_size(block, size)),
            Err(ObjectError::NotFound(_)) => Ok(Some(MISSING.to_owned())),
            Err(error) => Err(object_error(error)),
        }
    }

    /// Twice, if need be: what came may have been spoilt on its way, while the object itself is good.
    async fn read(&self, job: &Job) -> Result<Option<String>, ClientError> {
        match self.read_once(job).await? {
            Some(_) => self.read_once(job).await,
            None => Ok(None),
        }
    }

    async fn read_once(&self, job: &Job) -> Result<Option<String>, ClientError> {
        let bytes = match self.volume.store.get(&job.block.key()).await {
            Ok(bytes) => bytes,
            Err(ObjectError::NotFound(_)) => return Ok(Some(MISSING.to_owned())),
            Err(error) => return Err(object_error(error)),
        };
        let (found, wanted) = (crc32c(&bytes), job.crc32c);
        let garbled = || (found != wanted).then(|| format!("its checksum is {found:08x} instead of {wanted:08x}"));
        Ok(wrong_size(job.block, bytes.len() as u64).or_else(garbled))
    }

    /// Whether the slice is still in that place.
    async fn is_needed(&self, job: &Job) -> Result<bool, ClientError> {
        let key = job.slice.key.unwrap_or_default();
        let ask = pb::ReadSlicesQuery { ino: key.ino, first_chunk: key.chunk, chunk_count: 1 };
        match self.volume.meta.query(&own_creds(), ask).await {
            Ok(answer) => Ok(answer.reply.slices.iter().any(|slice| slice.slice_id == job.block.slice_id)),
            Err(ClientError::Refused(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

const MISSING: &str = "it is missing";

fn wrong_size(block: BlockName, size: u64) -> Option<String> {
    (size != u64::from(block.len)).then(|| format!("it has {size} bytes instead of {}", block.len))
}

/// (P) Which bytes of the file are in the block.
fn shown(job: &Job, block_bytes: u32) -> (u64, Option<RangeInclusive<u64>>) {
    let (key, slice) = (job.slice.key.unwrap_or_default(), job.slice.slice.clone().unwrap_or_default());
    let block_start = u64::from(job.block.index) * u64::from(block_bytes);
    let (start, end) = (u64::from(slice.slice_offset), u64::from(slice.slice_offset) + u64::from(slice.len));
    let (from, to) = (start.max(block_start), end.min(block_start + u64::from(job.block.len)));
    let at = u64::from(key.chunk) * u64::from(CHUNK_BYTES) + u64::from(slice.chunk_offset);
    (key.ino, (from < to).then(|| at + from - start..=at + to - start - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_file_that_a_block_has_are_those_that_the_piece_shows() {
        let shown_of = |index, len| {
            let key = pb::SliceKey { ino: 3, chunk: 1, order: 9 };
            let slice =
                pb::Slice { chunk_offset: 1000, len: 100, slice_offset: 50, slice_len: 250, ..Default::default() };
            let slice = pb::FileSlice { key: Some(key), slice: Some(slice) };
            let block = BlockName { slice_id: 7, index, len };
            shown(&Job { slice, block, crc32c: 0 }, 100).1
        };
        let at = u64::from(CHUNK_BYTES) + 1000;
        assert_eq!(shown_of(0, 100), Some(at..=at + 49));
        assert_eq!(shown_of(1, 100), Some(at + 50..=at + 99));
        assert_eq!(shown_of(2, 50), None);
    }
}
