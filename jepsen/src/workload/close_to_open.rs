//! Close-to-open: each process writes files of its own as whole versions, and reads those of all. Called through `Workload`.

use super::{Scene, Workload, about, was_there};
use crate::run::recorder::Done;
use crate::run::world::{World, ending_of_call};
use rand::Rng;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const DIR: &str = "close-to-open";
const PAUSE: Duration = Duration::from_millis(25);
/// Where a version is stamped: within one object (4 MiB), at its end, and in the next.
const STAMPS: [u64; 6] = [0, 4096, 1 << 20, (4 << 20) - 4096, 4 << 20, 5 << 20];
const STAMP_BYTES: usize = 4096;

pub struct CloseToOpen;

impl Workload for CloseToOpen {
    fn name(&self) -> &'static str {
        "close-to-open"
    }

    fn thread_count(&self, world: &World) -> u64 {
        world.mounts.len() as u64 * 2
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let mounts = &scene.world.mounts;
        let number_of_mount = thread as usize % mounts.len();
        let mount = &mounts[number_of_mount];
        let dir = mount.dir.join(DIR);
        let threads = self.thread_count(&scene.world);
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        let mut number = 0;
        while scene.goes_on() {
            scene.pause(about(PAUSE, &mut dice));
            let _there = mount.there();
            if !was_there(&dir) {
                continue;
            }
            if dice.random_ratio(1, 3) {
                number += 1;
                let (file, version) = (format!("f{thread}"), (thread + 1) * 1_000_000 + number);
                voice.act("write", json!({"file": file, "version": version, "mount": number_of_mount}), || {
                    write(&dir.join(&file), version).map_or_else(|error| unsure(&error), |()| Done::Ok(json!({})))
                });
            } else {
                let file = format!("f{}", dice.random_range(0..threads));
                voice.act("read", json!({"file": file, "mount": number_of_mount}), || match read(&dir.join(&file)) {
                    Ok(versions) => Done::Ok(json!({"versions": versions})),
                    // Nobody wrote it yet: nothing was seen.
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                        Done::Ok(json!({"versions": vec![Value::Null; STAMPS.len()]}))
                    }
                    Err(error) => ending_of_call(&error),
                });
            }
        }
    }
}

/// What fails may have been done in part, and be seen later.
fn unsure(error: &std::io::Error) -> Done {
    Done::Info(error.to_string())
}

fn write(path: &Path, version: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    for at in STAMPS {
        let stamp = version.to_le_bytes().repeat(STAMP_BYTES / 8);
        file.write_all_at(&stamp, at)?;
    }
    // Not dropped: what close(2) says is the point.
    nix::unistd::close(file.into_raw_fd()).map_err(|errno| std::io::Error::from_raw_os_error(errno as i32))
}

fn read(path: &Path) -> std::io::Result<Vec<Value>> {
    let file = File::open(path)?;
    let one = |at: u64| {
        let mut bytes = [0; STAMP_BYTES];
        let got = file.read_at(&mut bytes, at)?;
        Ok(stamp(&bytes[..got]))
    };
    STAMPS.into_iter().map(one).collect()
}

/// The version of a stamp; those of a stamp that has parts of several, which a kernel makes of a read beside a write.
fn stamp(bytes: &[u8]) -> Value {
    let mut versions: Vec<Value> = Vec::new();
    for number in bytes.chunks_exact(8).map(number) {
        let version = if number == 0 { Value::Null } else { json!(number) };
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    match versions.len() {
        0 => Value::Null,
        // Of a file that ends within it: nobody wrote that.
        _ if bytes.len() < STAMP_BYTES => json!(format!("{} bytes of {versions:?}", bytes.len())),
        1 => versions.remove(0),
        _ => versions.into(),
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_of_the_versions_that_are_in_it() {
        let of = |version: u64, count: usize| version.to_le_bytes().repeat(count);
        let (whole, half) = (STAMP_BYTES / 8, STAMP_BYTES / 16);
        assert_eq!(stamp(&of(7, whole)), json!(7));
        assert_eq!(stamp(&[of(7, half), of(8, half)].concat()), json!([7, 8]));
        assert_eq!(stamp(&[of(7, half), of(0, half)].concat()), json!([7, null]));
        assert_eq!((stamp(&[]), stamp(&of(0, whole))), (Value::Null, Value::Null));
        assert!(stamp(&of(7, half)).is_string());
    }
}
