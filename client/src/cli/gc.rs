//! `holdfast gc`: objects that nothing needs: how many there are, and with `--delete` their end. Called by the command line's frame.
//!
//! Uploads leave them: a client that is killed, or loses its session, has put objects whose commit never came. An object is garbage when no
//! piece of any file names its slice, the slice is not listed as deleted (mounts see to those), and the session that numbered it has
//! ended, so that it can never be named any more. The leader decides that at one state, for slices that were seen before in the
//! listing and not in a scan of the metadata; so it does not matter what writers do meanwhile, nor how old the listing is: what is
//! garbage at any moment is garbage for ever (metad/src/query/upkeep.rs). Then the store is asked for each object: one whose file was
//! removed a moment ago has gone already, and is no leak. Deleting is idempotent; it may be interrupted and repeated. It is not begun
//! while the metadata has problems or the nodes differ: damage could make data look like garbage.

use super::volume::{Listed, Listing, REQUESTS_MAX, Volume, bar, object_error, spinner};
use super::{ClusterFlags, block_on, print_json, print_line, size};
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use crate::object::ObjectError;
use futures::{StreamExt, TryStreamExt};
use holdfast_proto::crash_points::{Point, crash_point};
use holdfast_proto::limits::BACKGROUND_BATCH_MAX;
use holdfast_proto::pb;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Lists all objects of the volume, and reads all its slices; it takes memory for all objects. Writers may go on. Without --delete nothing is
changed. Objects that are pending are those of removed files: mounts delete them by themselves. Those of live sessions that no file
names are uploads under way, or of a client that died less than a minute ago. Names that are not Holdfast's are never deleted. Nothing is
deleted while fsck finds problems in the metadata, or the nodes differ.

Examples:
  holdfast gc $HOLDFAST_META
  holdfast gc $HOLDFAST_META --delete

Exit codes: 0 done, whatever was found; 1 failed; 2 wrong usage.";

/// Foreign names that are shown.
const FOREIGN_SHOWN_MAX: usize = 10;

/// Find objects that nothing needs, and delete them.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Delete what nothing needs; without it, it is only counted
    #[arg(long)]
    pub delete: bool,
    /// JSON in place of a table
    #[arg(long)]
    pub json: bool,
}

/// So many objects, of so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    objects: u64,
    bytes: u64,
}

impl Tally {
    fn of<'a>(objects: impl IntoIterator<Item = &'a Listed>) -> Tally {
        objects.into_iter().fold(Tally::default(), |sum, object| Tally {
            objects: sum.objects + 1,
            bytes: sum.bytes + u64::from(object.size),
        })
    }
}

#[derive(Debug, Default)]
struct Report {
    all: Tally,
    pending: Tally,
    uncommitted: Tally,
    leaked: Tally,
    deleted: Tally,
    foreign: Vec<String>,
}

/// # Errors
/// One line that names what to do.
pub fn run(args: &Args) -> Result<ExitCode, ClientError> {
    let report = block_on(async {
        let volume = Volume::open(&args.cluster, "gc").await?;
        let report = collect(&volume, args.delete).await;
        volume.close().await;
        report
    })?;
    match args.json {
        true => print_json(&report.as_json()),
        false => print_line(&report.text(args.delete)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn collect(volume: &Volume, delete: bool) -> Result<Report, ClientError> {
    let listing = volume.list().await?;
    let (unnamed, pending) = unnamed(volume, &listing).await?;
    let waiting = spinner("asking the leader");
    let garbage = volume.upkeep.garbage(&unnamed).await;
    waiting.finish_and_clear();
    let garbage = garbage?;
    let is_garbage: BTreeSet<u64> = garbage.iter().copied().collect();
    let others = unnamed.iter().filter(|id| !is_garbage.contains(id)).flat_map(|id| listing.of(*id));
    let mut report = Report {
        all: Tally { objects: (listing.blocks.len() + listing.foreign.len()) as u64, bytes: listing.bytes },
        pending: Tally::of(pending.iter().flat_map(|id| listing.of(*id))),
        uncommitted: Tally::of(others),
        ..Report::default()
    };
    let listed: Vec<Listed> = garbage.iter().flat_map(|id| listing.of(*id)).copied().collect();
    report.foreign = listing.foreign;
    let leaked = each(volume, "looking at objects", listed, is_there).await?;
    report.leaked = Tally::of(&leaked);
    if delete && !leaked.is_empty() {
        // A lost slice would look like garbage.
        if volume.compare_nodes("deleted").await? > 0 {
            return Err(ClientError::Failed(
                "nothing is deleted: the metadata has problems; `holdfast fsck` first".to_owned(),
            ));
        }
        report.deleted = Tally::of(&each(volume, "deleting objects", leaked, remove).await?);
    }
    Ok(report)
}

/// Slices with objects that are neither named nor listed as deleted, as far as pages of different moments can tell; and those that are listed.
async fn unnamed(volume: &Volume, listing: &Listing) -> Result<(Vec<u64>, Vec<u64>), ClientError> {
    let mut ids = listing.slice_ids();
    let mut is_named = vec![false; ids.len()];
    let waiting = spinner("reading metadata");
    let scanned = volume.each_page(async |page| {
        for slice in page.iter().filter_map(|found| found.slice.as_ref()) {
            if let Ok(at) = ids.binary_search(&slice.slice_id) {
                is_named[at] = true;
            }
        }
        Ok(())
    });
    scanned.await?;
    let pending = deleted_slices(volume).await?;
    waiting.finish_and_clear();
    let mut named = is_named.into_iter();
    ids.retain(|id| !named.next().unwrap_or(true) && !pending.contains(id));
    Ok((ids, pending.into_iter().collect()))
}

async fn deleted_slices(volume: &Volume) -> Result<BTreeSet<u64>, ClientError> {
    let mut found = BTreeSet::new();
    loop {
        let after = found.last().copied().unwrap_or(0);
        let ask = pb::DeletedSlicesQuery { count_max: BACKGROUND_BATCH_MAX as u32, after };
        let slices = volume.meta.query(&own_creds(), ask).await?.reply.slices;
        if slices.is_empty() {
            return Ok(found);
        }
        found.extend(slices.iter().map(|slice| slice.slice_id));
    }
}

/// Does something to each object, many at once. Those for which it said yes.
async fn each(
    volume: &Volume,
    what: &'static str,
    objects: Vec<Listed>,
    act: impl AsyncFn(&Volume, &Listed) -> Result<bool, ObjectError>,
) -> Result<Vec<Listed>, ClientError> {
    let progress = bar(what, objects.len() as u64);
    let (progress, act) = (&progress, &act);
    let acts = futures::stream::iter(objects).map(|object| async move {
        let done = act(volume, &object).await;
        progress.inc(1);
        done.map(|done| done.then_some(object))
    });
    let done: Result<Vec<_>, ObjectError> = acts.buffer_unordered(REQUESTS_MAX).try_collect().await;
    progress.finish_and_clear();
    Ok(done.map_err(object_error)?.into_iter().flatten().collect())
}

async fn is_there(volume: &Volume, object: &Listed) -> Result<bool, ObjectError> {
    match volume.store.head(&object.name.key()).await {
        Ok(_) => Ok(true),
        Err(ObjectError::NotFound(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn remove(volume: &Volume, object: &Listed) -> Result<bool, ObjectError> {
    crash_point(Point::GcDelete);
    volume.store.delete(&object.name.key()).await?;
    crash_point(Point::GcDeleted);
    Ok(true)
}

impl Report {
    fn text(&self, delete: bool) -> String {
        let row = |name: &str, tally: Tally| format!("{name:<42} {:>9} {:>11}", tally.objects, size::show(tally.bytes));
        let mut lines = vec![
            row("objects", self.all),
            row("pending: of removed files", self.pending),
            row("not committed, of live sessions", self.uncommitted),
            row("leaked", self.leaked),
        ];
        if !self.foreign.is_empty() {
            lines.push(format!("{} names are not Holdfast's and stay:", self.foreign.len()));
            lines.extend(self.foreign.iter().take(FOREIGN_SHOWN_MAX).map(|name| format!("  {name}")));
        }
        lines.push(match (self.leaked.objects, delete) {
            (0, _) => "nothing is leaked".to_owned(),
            (_, true) => row("deleted", self.deleted),
            (_, false) => "nothing was changed; --delete deletes what is leaked".to_owned(),
        });
        lines.join("\n")
    }

    fn as_json(&self) -> Value {
        let tally = |tally: Tally| json!({ "objects": tally.objects, "bytes": tally.bytes });
        json!({
            "all": tally(self.all),
            "pending": tally(self.pending),
            "uncommitted": tally(self.uncommitted),
            "leaked": tally(self.leaked),
            "deleted": tally(self.deleted),
            "foreign": self.foreign,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_is_leaked_and_what_was_done() {
        let leaked = Tally { objects: 2, bytes: 5 << 20 };
        let found = Report { leaked, foreign: vec!["chunks/x".into()], ..Report::default() };
        let text = found.text(false);
        assert!(
            text.contains("--delete deletes") && text.contains("5.0 MiB") && text.contains("\n  chunks/x\n"),
            "{text}"
        );
        let done = Report { leaked, deleted: leaked, ..Report::default() }.text(true);
        assert!(done.lines().last().is_some_and(|line| line.starts_with("deleted ")), "{done}");
        assert!(Report::default().text(true).ends_with("nothing is leaked"));
        assert_eq!(found.as_json()["leaked"], json!({ "objects": 2, "bytes": 5 << 20 }));
    }
}
