//! `holdfast info`: what a file on a mount is made of: inode, chunks, slices and the objects they are stored as. Asks the mount that
//! has the file, which may be anybody's. Called by the command line's frame.

use crate::cli::{mount_table, print_json, print_line};
use crate::error::ClientError;
use crate::fuse::control;
use serde_json::{Value, json};
use std::fs::{Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// A file, directory or link on a mount
    pub path: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// Failed: the path is not there, not readable, or not on a Holdfast mount.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let report = report(&args.path)?;
    if args.json {
        print_json(&report);
    } else {
        print_line(text(&report).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn report(path: &Path) -> Result<Value, ClientError> {
    let usage = |error: std::io::Error| ClientError::Failed(format!("{}: {error}", path.display()));
    let metadata = std::fs::symlink_metadata(path).map_err(usage)?;
    let device = (libc::major(metadata.dev()), libc::minor(metadata.dev()));
    let table = mount_table::read()?;
    let Some(mount) = table.iter().rev().find(|entry| entry.device == device && entry.is_holdfast()) else {
        return Err(ClientError::Failed(format!("{} is not on a holdfast mount", path.display())));
    };
    let mut report = json!({
        "path": path, "mount": mount.dir, "meta": mount.source, "kind": kind(&metadata), "ino": metadata.ino(),
        "size": metadata.size(), "mode": format!("{:04o}", metadata.mode() & 0o7777), "nlink": metadata.nlink(),
        "uid": metadata.uid(), "gid": metadata.gid(),
    });
    if metadata.is_file() {
        let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(usage)?;
        let said = control::ask(&file, control::IOCTL_INFO).map_err(usage)?;
        let said: Value = serde_json::from_str(&said).map_err(|error| usage(error.into()))?;
        if let (Value::Object(report), Value::Object(said)) = (&mut report, said) {
            report.extend(said);
        }
    }
    Ok(report)
}

fn kind(metadata: &Metadata) -> &'static str {
    match metadata.file_type() {
        kind if kind.is_dir() => "directory",
        kind if kind.is_symlink() => "symlink",
        kind if kind.is_fifo() => "fifo",
        kind if kind.is_socket() => "socket",
        kind if kind.is_char_device() => "character device",
        kind if kind.is_block_device() => "block device",
        _ => "file",
    }
}

/// The report for people: one fact a line, then the slices, each with its objects.
fn text(report: &Value) -> String {
    let mut lines = String::new();
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for name in
        ["path", "mount", "meta", "kind", "ino", "size", "mode", "nlink", "uid", "gid", "data_version", "chunks"]
    {
        if let Some(value) = report.get(name) {
            lines += &format!("{:>13}: {}\n", name.replace('_', " "), plain(value));
        }
    }
    let Some(slices) = report.get("slices").and_then(Value::as_array) else { return lines };
    lines += &format!("{:>13}: {} (oldest first; a later one hides an earlier one)\n", "slices", slices.len());
    for slice in slices {
        let number = |name: &str| slice.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (chunk, start, len) = (number("chunk"), number("chunk_offset"), number("len"));
        let what = match number("slice_id") {
            0 => "a hole".to_owned(),
            id => format!("slice {id}, from {} of {}", number("slice_offset"), number("slice_len")),
        };
        lines += &format!("  chunk {chunk} [{start}, {}): {what}\n", start + len);
        for object in slice.get("objects").and_then(Value::as_array).into_iter().flatten() {
            lines += &format!("    {}\n", plain(object));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_slices_holes_and_objects() {
        let report = json!({"path": "/m/f", "kind": "file", "slices": [
            {"chunk": 0, "chunk_offset": 0, "len": 10, "slice_id": 7, "slice_offset": 0, "slice_len": 10, "objects": ["chunks/0/0/7_0_10"]},
            {"chunk": 1, "chunk_offset": 5, "len": 3, "slice_id": 0, "slice_offset": 0, "slice_len": 0},
        ]});
        let text = text(&report);
        assert!(text.contains("path: /m/f\n"), "{text}");
        assert!(text.contains("chunk 0 [0, 10): slice 7, from 0 of 10\n    chunks/0/0/7_0_10\n"), "{text}");
        assert!(text.contains("chunk 1 [5, 8): a hole\n"), "{text}");
    }

    #[test]
    fn a_path_elsewhere_is_refused_by_name() {
        let error = report(Path::new("/proc/version")).expect_err("elsewhere").to_string();
        assert!(error.contains("not on a holdfast mount"), "{error}");
    }
}
