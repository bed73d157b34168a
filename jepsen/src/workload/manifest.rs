//! Manifest: files are written on mounts and synced with their directory; at the end a mount that never saw them reads them back.
//! Called through `Workload`.

use super::{Scene, Workload, about, was_there};
use crate::run::recorder::Done;
use crate::run::world::{World, ending_of_call, errno_name};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

const DIR: &str = "manifest";
const PAUSE: Duration = Duration::from_millis(40);
/// Across blocks and below one.
const LENGTHS: [usize; 5] = [0, 1, 5_000, 131_072, 700_001];

#[derive(Default)]
pub struct Manifest {
    files: Mutex<Vec<String>>,
}

pub(super) fn checksum(content: &[u8]) -> Value {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    json!(format!("{}-{:016x}", content.len(), hasher.finish()))
}

fn any_content(dice: &mut StdRng) -> Vec<u8> {
    let mut content = vec![0; LENGTHS[dice.random_range(0..LENGTHS.len())]];
    dice.fill_bytes(&mut content);
    content
}

fn write_and_sync(dir: &Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(dir.join(name))?;
    file.write_all(content)?;
    file.sync_all()?;
    File::open(dir)?.sync_all()
}

impl Workload for Manifest {
    fn name(&self) -> &'static str {
        "manifest"
    }

    fn thread_count(&self, world: &World) -> u64 {
        world.mounts.len() as u64
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let mount = &scene.world.mounts[thread as usize];
        let dir = mount.dir.join(DIR);
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        let mut number = 0;
        while scene.goes_on() {
            scene.pause(about(PAUSE, &mut dice));
            let _there = mount.there();
            if !was_there(&dir) {
                continue;
            }
            number += 1;
            let (name, content) = (format!("f{thread}-{number}"), any_content(&mut dice));
            self.files.lock().expect("no thread panics with it").push(name.clone());
            voice.act("fsync", json!({"file": name, "checksum": checksum(&content)}), || {
                match write_and_sync(&dir, &name, &content) {
                    Ok(()) => Done::Ok(json!({})),
                    Err(error) => match ending_of_call(&error) {
                        // It may be there all the same.
                        Done::Refused(errno) => Done::Info(errno),
                        other => other,
                    },
                }
            });
        }
    }

    fn finish(&self, scene: &Scene) {
        let cold = scene.world.mount(0);
        let mut voice = scene.recorder.voice();
        for name in self.files.lock().expect("no thread panics with it").iter() {
            voice.act("read-back", json!({"file": name}), || match fs::read(cold.dir.join(DIR).join(name)) {
                Ok(content) => Done::Ok(json!({"checksum": checksum(&content)})),
                // Nothing is broken any more: whatever is said now is the answer.
                Err(error) => Done::Refused(errno_name(&error)),
            });
        }
    }
}
