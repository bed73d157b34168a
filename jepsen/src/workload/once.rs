//! Once: every name is made, renamed and removed by its owner alone, so that a refusal says that it was done twice; and a directory counts what
//! is made in it by its links. Called through `Workload`.

use super::{Scene, Workload, about, places_count};
use crate::run::recorder::{Done, Voice};
use crate::run::world::{Mounted, World, dir, ending_of_call, mutate, query};
use holdfast::meta::MetaClient;
use holdfast_proto::pb;
use rand::Rng;
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

const DIR: &str = "once";
const COUNTER: &str = "counter";
const PAUSE: Duration = Duration::from_millis(15);
/// One round in so many looks at the counter.
const LOOKS: u32 = 4;

pub struct Once;

fn owned(path: &str) -> serde_json::Value {
    json!({"path": path, "once": true})
}

fn incr() -> serde_json::Value {
    json!({"counter": COUNTER, "by": 1, "once": true})
}

impl Workload for Once {
    fn name(&self) -> &'static str {
        "once"
    }

    fn thread_count(&self, world: &World) -> u64 {
        places_count(world)
    }

    fn work(&self, scene: &Scene, thread: u64) {
        scene.at_place(
            thread,
            async |client| direct(scene, thread, client).await,
            |mount| mounted(scene, thread, mount),
        );
    }

    fn finish(&self, scene: &Scene) {
        let mut voice = scene.recorder.voice();
        let mount = scene.world.mount(0);
        voice.act("count", json!({"counter": COUNTER}), || {
            // Not by its links: by what is there.
            match fs::read_dir(mount.dir.join(COUNTER)) {
                Ok(entries) => Done::Ok(json!({"value": entries.count()})),
                Err(error) => ending_of_call(&error),
            }
        });
    }
}

async fn direct(scene: &Scene, thread: u64, client: &MetaClient) {
    let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
    let (home, counter) = loop {
        if let (Some(home), Some(counter)) = (dir(client, DIR).await, dir(client, COUNTER).await) {
            break (home, counter);
        }
        if !scene.goes_on() {
            return;
        }
    };
    let mut number = 0;
    while scene.goes_on() {
        number += 1;
        round(&mut voice, client, (home, counter), &format!("{thread}-{number}")).await;
        if dice.random_ratio(1, LOOKS) {
            voice.invoke("count", json!({"counter": COUNTER}));
            let links = |reply: pb::EntryReply| {
                // "." and the name in the directory above.
                json!({"value": reply.attr.unwrap_or_default().nlink.saturating_sub(2)})
            };
            let (done, log_index) = query(client, pb::GetattrQuery { ino: counter }, links).await;
            voice.end(done, log_index);
        }
        tokio::time::sleep(about(PAUSE, &mut dice)).await;
    }
}

/// Each step only where the one before is known to be done.
async fn round(voice: &mut Voice, client: &MetaClient, (home, counter): (u64, u64), name: &str) {
    let bytes = |text: String| bytes::Bytes::from(text);
    voice.invoke("incr", incr());
    let op = pb::MkdirOp { parent: counter, name: bytes(name.to_owned()), mode: 0o755, umask: 0 };
    let (done, log_index) = mutate(client, op, |_| json!({})).await;
    voice.end(done, log_index);
    let (from, to) = (format!("{name}-a"), format!("{name}-b"));
    voice.invoke("create", owned(&from));
    let op = pb::CreateOp { parent: home, name: bytes(from.clone()), mode: 0o644, exclusive: true, umask: 0 };
    if !end(voice, mutate(client, op, |_| json!({})).await) {
        return;
    }
    voice.invoke("rename", owned(&from));
    let (name, new_name) = (bytes(from), bytes(to.clone()));
    let op = pb::RenameOp { parent: home, name, new_parent: home, new_name: new_name.clone(), flags: 0 };
    if !end(voice, mutate(client, op, |_| json!({})).await) {
        return;
    }
    voice.invoke("unlink", owned(&to));
    end(voice, mutate(client, pb::UnlinkOp { parent: home, name: new_name }, |_| json!({})).await);
}

/// Whether it was done.
fn end(voice: &mut Voice, (done, log_index): (Done, Option<u64>)) -> bool {
    let is_done = matches!(done, Done::Ok(_));
    voice.end(done, log_index);
    is_done
}

fn mounted(scene: &Scene, thread: u64, mount: &Mounted) {
    let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
    let (home, counter) = (mount.dir.join(DIR), mount.dir.join(COUNTER));
    let mut number = 0;
    while scene.goes_on() {
        scene.pause(about(PAUSE, &mut dice));
        let _there = mount.there();
        if !home.is_dir() || !counter.is_dir() {
            continue;
        }
        number += 1;
        let name = format!("{thread}-{number}");
        let (from, to) = (home.join(format!("{name}-a")), home.join(format!("{name}-b")));
        call(&mut voice, "incr", incr(), || fs::create_dir(counter.join(&name)));
        let made = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path).map(drop);
        let path = |path: &Path| owned(&path.file_name().unwrap_or_default().to_string_lossy());
        let _ = call(&mut voice, "create", path(&from), || made(&from))
            && call(&mut voice, "rename", path(&from), || fs::rename(&from, &to))
            && call(&mut voice, "unlink", path(&to), || fs::remove_file(&to));
    }
}

/// Whether it was done.
fn call(voice: &mut Voice, f: &str, input: serde_json::Value, call: impl FnOnce() -> std::io::Result<()>) -> bool {
    voice.invoke(f, input);
    let done = call().map_or_else(|error| ending_of_call(&error), |()| Done::Ok(json!({})));
    end(voice, (done, None))
}
