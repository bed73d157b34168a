//! `holdfast fsck`: a volume's metadata against the invariants, and every object against metadata. With `--repair`, what can be repaired
//! without guessing is. Called by the command line's frame.

use super::fsck_objects::{Damage, Damages, Looked, ObjectCheck};
use super::volume::{Volume, spinner};
use super::{ClusterFlags, block_on, print_json, print_line, size};
use crate::error::ClientError;
use crate::meta::{MetaApi, own_creds};
use bytes::Bytes;
use holdfast_proto::{FsErrno, ROOT_INO, pb};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Holds the leader's metadata against the invariants (names, link counts, usage, slices, references, orphans, sessions, locks), and looks
for every object of every file. --deep also reads all objects and compares them with their checksums: it moves all data of the volume
once. Writers may go on, also during a repair. It lists all objects, and takes memory for all of them and, on the leader, for all
inodes; do it at a quiet hour.

Without --repair nothing is changed, and each problem says what --repair would do. What would be a guess is left to you, with advice. A
repair never drops what may be data: an inode that is lost is made anew from what is left of it, and what has no name gets one in
/lost+found. If the nodes differ, one of them is damaged and not the volume: --repair refuses, `holdfast cluster verify` names it.

Examples:
  holdfast fsck $HOLDFAST_META
  holdfast fsck $HOLDFAST_META --deep --json
  holdfast fsck $HOLDFAST_META --repair

Exit codes: 0 sound, or all repaired; 1 problems are left, or it could not be checked; 2 wrong usage.";

/// Most rounds of a repair: one finds what another has uncovered, or has not got to.
const ROUNDS_MAX: usize = 1000;
/// Rounds in a row that may repair nothing, as writers are faster.
const VAIN_ROUNDS_MAX: usize = 5;

/// Check a volume: metadata and objects; repair what can be repaired.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Read every object and compare it with its checksum
    #[arg(long)]
    pub deep: bool,
    /// Repair what can be repaired without guessing
    #[arg(long)]
    pub repair: bool,
    /// JSON in place of lines
    #[arg(long)]
    pub json: bool,
}

/// What was found, and what is left.
#[derive(Debug, Default)]
struct Report {
    index: u64,
    repaired: Vec<pb::Finding>,
    /// Of the metadata: all of them, and the first ones in words.
    left_count: u64,
    left: Vec<pb::Finding>,
    looked: Looked,
    damages: Damages,
    paths: BTreeMap<u64, Vec<String>>,
}

/// # Errors
/// One line that says what is left, or what to do.
pub fn run(args: &Args) -> Result<ExitCode, ClientError> {
    let report = block_on(async {
        let volume = Volume::open(&args.cluster, "fsck").await?;
        let report = examine(&volume, args).await;
        volume.close().await;
        report
    })?;
    match args.json {
        true => print_json(&report.as_json()),
        false => report.lines(args.repair).iter().for_each(|line| print_line(line)),
    }
    match report.verdict() {
        Ok(line) if !args.json => print_line(&line),
        Ok(_) => {}
        Err(line) => return Err(ClientError::Failed(line)),
    }
    Ok(ExitCode::SUCCESS)
}

async fn examine(volume: &Volume, args: &Args) -> Result<Report, ClientError> {
    let mut report = Report::default();
    if args.repair {
        repair(volume, &mut report).await?;
    }
    let waiting = spinner("checking metadata");
    let found = volume.upkeep.check().await;
    waiting.finish_and_clear();
    let found = found?;
    (report.index, report.left_count, report.left) = (found.index, found.count, found.findings);
    let listing = volume.list().await?;
    let mut check = ObjectCheck::new(volume, listing, args.deep);
    check.run().await?;
    (report.looked, report.damages) = (check.looked, check.damages);
    let inos: BTreeSet<u64> = report.damages.values().flat_map(|damage| damage.shown.keys().copied()).collect();
    if !inos.is_empty() {
        for path in volume.upkeep.paths(&inos.into_iter().collect::<Vec<_>>()).await? {
            report.paths.entry(path.ino).or_default().push(String::from_utf8_lossy(&path.path).into_owned());
        }
    }
    Ok(report)
}

/// Rounds until nothing is left that can be repaired.
async fn repair(volume: &Volume, report: &mut Report) -> Result<(), ClientError> {
    let found = volume.upkeep.check().await?;
    if found.findings.iter().all(|finding| finding.repair.is_empty()) {
        return Ok(());
    }
    volume.compare_nodes("repaired").await?;
    let mut vain_count = 0;
    for _ in 0..ROUNDS_MAX {
        let round = volume.upkeep.repair().await?;
        if round.needs_lost_found && round.done.is_empty() {
            make_lost_found(volume).await?;
        } else if round.done.is_empty() && round.changed_count == 0 {
            return Ok(());
        }
        vain_count = if round.done.is_empty() { vain_count + 1 } else { 0 };
        if vain_count > VAIN_ROUNDS_MAX {
            return Ok(());
        }
        report.repaired.extend(round.done);
    }
    Ok(())
}

async fn make_lost_found(volume: &Volume) -> Result<(), ClientError> {
    let name = Bytes::from_static(b"lost+found");
    let op = pb::MkdirOp { parent: ROOT_INO, name, mode: 0o700, umask: 0 };
    match volume.meta.mutate(&own_creds(), op).await {
        Ok(_) => Ok(()),
        Err(ClientError::Refused(FsErrno::Exist)) => {
            Err(ClientError::Failed("/lost+found is there and no directory: rename it, and repair again".to_owned()))
        }
        Err(error) => Err(error),
    }
}

impl Report {
    fn lines(&self, repair: bool) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in &self.repaired {
            lines.push(format!("{}\n  repaired: {}", finding.problem, finding.repair));
        }
        for finding in &self.left {
            let what = match (finding.repair.is_empty(), repair) {
                (true, _) => format!("left to you: {}", finding.advice),
                (false, true) => format!("not repaired, as it changes all the time: {}; try again", finding.repair),
                (false, false) => format!("--repair would see to it: {}", finding.repair),
            };
            lines.push(format!("{}\n  {what}", finding.problem));
        }
        let untold = self.left_count.saturating_sub(self.left.len() as u64);
        if untold > 0 {
            lines.push(format!("and {untold} more"));
        }
        for (object, damage) in &self.damages {
            lines.push(format!("object {object}: {}", damage.why));
            lines.extend(self.shown(damage).into_iter().map(|shown| format!("  {shown}")));
            lines.push(
                "  left to you: put the object back from a backup of the bucket, or write these bytes anew, or remove the file"
                    .to_owned(),
            );
        }
        lines
    }

    /// Which bytes of which files an object has.
    fn shown(&self, damage: &Damage) -> Vec<String> {
        let mut shown = Vec::new();
        for (ino, ranges) in &damage.shown {
            let names = self.paths.get(ino).map_or_else(|| "no name".to_owned(), |paths| paths.join(", "));
            for range in ranges {
                let bytes = match range {
                    Some(range) => format!("bytes {} to {}", range.start(), range.end()),
                    None => "no byte that it shows".to_owned(),
                };
                shown.push(format!("inode {ino} ({names}): {bytes}"));
            }
        }
        shown
    }

    /// The last line; Err where something is left.
    fn verdict(&self) -> Result<String, String> {
        let Looked { slices_count, objects_count, read_bytes } = self.looked;
        let read = if read_bytes > 0 { format!(", {} read", size::show(read_bytes)) } else { String::new() };
        let looked = format!("log index {}, {slices_count} slices, {objects_count} objects{read}", self.index);
        let repaired = match self.repaired.len() {
            0 => String::new(),
            count => format!("{count} repaired, "),
        };
        match (self.left_count, self.damages.len()) {
            (0, 0) => Ok(format!("{repaired}sound: {looked}")),
            (metadata, objects) => Err(format!(
                "{repaired}problems are left: {metadata} of metadata, {objects} objects missing or damaged ({looked})"
            )),
        }
    }

    fn as_json(&self) -> Value {
        let finding = |finding: &pb::Finding| json!({ "problem": finding.problem, "repair": finding.repair, "advice": finding.advice });
        let damage =
            |(object, damage): (&String, &Damage)| {
                let files: Vec<Value> = damage.shown.iter().map(|(ino, ranges)| {
                let ranges: Vec<_> = ranges.iter().flatten().map(|range| json!([range.start(), range.end()])).collect();
                json!({ "ino": ino, "paths": self.paths.get(ino).cloned().unwrap_or_default(), "bytes": ranges })
            }).collect();
                json!({ "object": object, "why": damage.why, "files": files })
            };
        json!({
            "sound": self.verdict().is_ok(),
            "index": self.index,
            "repaired": self.repaired.iter().map(finding).collect::<Vec<_>>(),
            "metadata_count": self.left_count,
            "metadata": self.left.iter().map(finding).collect::<Vec<_>>(),
            "objects": self.damages.iter().map(damage).collect::<Vec<_>>(),
            "slices_checked": self.looked.slices_count,
            "objects_checked": self.looked.objects_count,
            "bytes_read": self.looked.read_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(repair: &str, advice: &str) -> pb::Finding {
        pb::Finding { volume: 1, problem: "inode 3: x".into(), repair: repair.into(), advice: advice.into() }
    }

    #[test]
    fn each_problem_says_what_is_or_was_or_would_be_done() {
        let left = vec![finding("is set right", ""), finding("", "remove it")];
        let report = Report { left, left_count: 5, repaired: vec![finding("is set", "")], ..Report::default() };
        let text = |repair| report.lines(repair).join("\n");
        for part in
            ["repaired: is set", "--repair would see to it: is set right", "left to you: remove it", "and 3 more"]
        {
            assert!(text(false).contains(part), "{part}: {}", text(false));
        }
        assert!(text(true).contains("try again") && !text(true).contains("would"), "{}", text(true));
        assert!(
            report.verdict().is_err_and(|line| line.starts_with("1 repaired, problems are left: 5 of metadata, 0"))
        );
        assert_eq!(report.as_json()["sound"], false);
    }

    #[test]
    fn a_damaged_object_is_told_of_with_the_bytes_of_the_files_that_show_it() {
        let shown = BTreeMap::from([(3, vec![Some(10..=19)]), (4, vec![None])]);
        let damages = Damages::from([("chunks/x".to_owned(), Damage { why: "it is missing".into(), shown })]);
        let paths = BTreeMap::from([(3, vec!["/d/f".to_owned(), "/g".to_owned()])]);
        let report = Report { damages, paths, ..Report::default() };
        let text = report.lines(false).join("\n");
        assert!(text.contains("object chunks/x: it is missing\n  inode 3 (/d/f, /g): bytes 10 to 19\n"), "{text}");
        assert!(text.contains("inode 4 (no name): no byte that it shows"), "{text}");
        let json = report.as_json();
        assert_eq!(json["objects"][0]["files"][0], json!({ "ino": 3, "paths": ["/d/f", "/g"], "bytes": [[10, 19]] }));
    }

    #[test]
    fn nothing_left_is_sound() {
        let report = Report { repaired: vec![finding("is set", "")], ..Report::default() };
        assert!(report.verdict().is_ok_and(|line| line.starts_with("1 repaired, sound: ")));
    }
}
