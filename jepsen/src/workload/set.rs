//! Set: every process makes names that nobody else makes, on its mount, and lists the directory now and then. Called through `Workload`.

use super::{Scene, Workload, about, was_there};
use crate::run::recorder::{Done, Voice};
use crate::run::world::{World, ending_of_call};
use rand::Rng;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

const DIR: &str = "set";
const PAUSE: Duration = Duration::from_millis(10);
const THREADS_A_MOUNT: u64 = 2;
/// One operation in so many is a listing.
const LISTS: u32 = 25;

pub struct Set;

impl Workload for Set {
    fn name(&self) -> &'static str {
        "set"
    }

    fn thread_count(&self, world: &World) -> u64 {
        world.mounts.len() as u64 * THREADS_A_MOUNT
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let mount = &scene.world.mounts[(thread / THREADS_A_MOUNT) as usize];
        let dir = mount.dir.join(DIR);
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        let mut number = 0;
        while scene.goes_on() {
            scene.pause(about(PAUSE, &mut dice));
            let _there = mount.there();
            if !was_there(&dir) {
                continue;
            }
            if dice.random_ratio(1, LISTS) {
                list(&mut voice, &dir);
            } else {
                number += 1;
                let element = format!("e{thread}-{number}");
                voice.act("add", json!({"set": DIR, "element": element}), || make(&dir.join(&element)));
            }
        }
    }

    fn finish(&self, scene: &Scene) {
        let mut voice = scene.recorder.voice();
        for mount in &scene.world.mounts {
            list(&mut voice, &mount.dir.join(DIR));
        }
        list(&mut voice, &scene.world.mount(0).dir.join(DIR));
    }
}

fn make(path: &Path) -> Done {
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(_) => Done::Ok(json!({})),
        Err(error) => ending_of_call(&error),
    }
}

fn list(voice: &mut Voice, dir: &Path) {
    voice.act("read", json!({"set": DIR}), || {
        let names = fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        match names {
            Ok(entries) => {
                let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned());
                Done::Ok(json!({"elements": names.collect::<Vec<_>>()}))
            }
            Err(error) => ending_of_call(&error),
        }
    });
}
