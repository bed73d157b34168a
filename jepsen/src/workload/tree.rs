//! Tree: small trees, a few hundred operations each, changed at once by clients that speak to the cluster directly and by processes on
//! mounts. Called through `Workload`.

use super::{Scene, Workload, about, places_count};
use crate::run::recorder::{Done, Voice};
use crate::run::world::{self, Mounted, World, ending_of_call, mutate, rename_apart};
use holdfast::meta::MetaClient;
use holdfast_proto::pb::{self, FileKind};
use nix::errno::Errno;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Operations on one tree: few enough for a search through all orders.
const OPERATIONS: u64 = 220;
/// The same where replies say at which index of the log they were.
const OPERATIONS_INDEXED: u64 = 20_000;
const NAMES: [&str; 4] = ["a", "b", "c", "d"];
/// Directories of a tree that clients go on from by their numbers.
const KNOWN_DIRS_MAX: usize = 4;
/// Between two operations of a thread: with many at once there are too many orders.
const PAUSE: Duration = Duration::from_millis(12);

pub struct Tree {
    name: &'static str,
    operations: u64,
    /// Calls on a mount do not say at which index they were.
    on_mounts: bool,
    count: AtomicU64,
    /// Numbers of the directories that were seen in a tree; the first is its root.
    dirs: Mutex<BTreeMap<u64, Vec<u64>>>,
}

/// An operation before it is known where.
#[derive(Clone, Copy, Debug)]
enum Act {
    Create,
    Mkdir,
    Unlink,
    Rmdir,
    Rename,
    Stat,
    Readdir,
}

fn any_act(dice: &mut StdRng) -> Act {
    match dice.random_range(0..20) {
        0..5 => Act::Create,
        5..8 => Act::Mkdir,
        8..10 => Act::Unlink,
        10..12 => Act::Rmdir,
        12..16 => Act::Rename,
        16..19 => Act::Stat,
        _ => Act::Readdir,
    }
}

fn any_name(dice: &mut StdRng) -> &'static str {
    NAMES.choose(dice).copied().unwrap_or("a")
}

fn seen(attr: Option<pb::Attr>) -> Value {
    let attr = attr.unwrap_or_default();
    let kind = match attr.kind() {
        FileKind::Directory => "dir",
        FileKind::Symlink => "symlink",
        _ => "file",
    };
    json!({"ino": attr.ino, "nlink": attr.nlink, "kind": kind})
}

impl Workload for Tree {
    fn name(&self) -> &'static str {
        self.name
    }

    fn thread_count(&self, world: &World) -> u64 {
        if self.on_mounts { places_count(world) } else { world.client_count }
    }

    fn work(&self, scene: &Scene, thread: u64) {
        scene.at_place(
            thread,
            async |client| self.direct(scene, thread, client).await,
            |mount| self.mounted(scene, thread, mount),
        );
    }
}

impl Tree {
    pub fn small() -> Tree {
        Tree::of("tree", OPERATIONS, true)
    }

    /// Few long ones, by clients that are told the index of each reply.
    pub fn long() -> Tree {
        Tree::of("log", OPERATIONS_INDEXED, false)
    }

    fn of(name: &'static str, operations: u64, on_mounts: bool) -> Tree {
        Tree { name, operations, on_mounts, count: AtomicU64::new(0), dirs: Mutex::default() }
    }

    fn next_tree(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) / self.operations
    }

    fn root_of(&self, tree: u64) -> String {
        format!("{}-{tree}", self.name)
    }

    fn dirs_of(&self, tree: u64) -> Vec<u64> {
        self.dirs.lock().expect("no thread panics with it").get(&tree).cloned().unwrap_or_default()
    }

    fn know(&self, tree: u64, ino: u64) {
        let mut dirs = self.dirs.lock().expect("no thread panics with it");
        let known = dirs.entry(tree).or_default();
        if !known.contains(&ino) {
            // Most that were removed since make room for others; the root stays.
            if known.len() == KNOWN_DIRS_MAX {
                known.remove(1);
            }
            known.push(ino);
        }
    }

    async fn direct(&self, scene: &Scene, thread: u64, client: &MetaClient) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let tree = self.next_tree();
            let Some(root) = self.root(client, tree).await else { continue };
            let dirs = self.dirs_of(tree);
            let any_dir = |dice: &mut StdRng| dirs.choose(dice).copied().unwrap_or(root);
            let places = (any_dir(&mut dice), any_dir(&mut dice));
            let at = |ino: u64| if ino == root { Value::Null } else { json!(ino) };
            let (act, name, to) = (any_act(&mut dice), any_name(&mut dice), any_name(&mut dice));
            let mut input = json!({"tree": tree, "path": name, "at": at(places.0)});
            match act {
                Act::Rename => {
                    input["to"] = json!(to);
                    input["to_at"] = at(places.1);
                }
                Act::Readdir => input["path"] = json!(""),
                _ => {}
            }
            voice.invoke(name_of(act), input);
            let (done, log_index) = perform(client, act, places, (name, to)).await;
            if let Done::Ok(value) = &done
                && value.get("kind") == Some(&json!("dir"))
                && let Some(ino) = value.get("ino").and_then(Value::as_u64)
            {
                self.know(tree, ino);
            }
            voice.end(done, log_index);
            tokio::time::sleep(about(PAUSE, &mut dice)).await;
        }
    }

    /// Makes the tree's root, or finds it.
    async fn root(&self, client: &MetaClient, tree: u64) -> Option<u64> {
        if let Some(&root) = self.dirs_of(tree).first() {
            return Some(root);
        }
        let ino = world::dir(client, &self.root_of(tree)).await?;
        self.know(tree, ino);
        self.dirs_of(tree).first().copied()
    }

    fn mounted(&self, scene: &Scene, thread: u64, mount: &Mounted) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let tree = self.next_tree();
            // Made by a client without a mount.
            let Some(_) = self.dirs_of(tree).first() else {
                scene.pause(PAUSE);
                continue;
            };
            let there = mount.there();
            let root = mount.dir.join(self.root_of(tree));
            let (act, name, to) = (any_act(&mut dice), any_name(&mut dice), any_name(&mut dice));
            call(&mut voice, act, tree, &root, (name, to));
            drop(there);
            scene.pause(about(PAUSE, &mut dice));
        }
    }
}

fn name_of(act: Act) -> &'static str {
    match act {
        Act::Create => "create",
        Act::Mkdir => "mkdir",
        Act::Unlink => "unlink",
        Act::Rmdir => "rmdir",
        Act::Rename => "rename",
        Act::Stat => "stat",
        Act::Readdir => "readdir",
    }
}

async fn perform(
    client: &MetaClient,
    act: Act,
    (parent, new_parent): (u64, u64),
    (name, to): (&str, &str),
) -> (Done, Option<u64>) {
    let name = bytes::Bytes::copy_from_slice(name.as_bytes());
    let new_name = bytes::Bytes::copy_from_slice(to.as_bytes());
    match act {
        Act::Create => {
            let op = pb::CreateOp { parent, name, mode: 0o644, exclusive: true, umask: 0 };
            mutate(client, op, |reply| seen(reply.attr)).await
        }
        Act::Mkdir => {
            mutate(client, pb::MkdirOp { parent, name, mode: 0o755, umask: 0 }, |reply| seen(reply.attr)).await
        }
        Act::Unlink => mutate(client, pb::UnlinkOp { parent, name }, |_| json!({})).await,
        Act::Rmdir => mutate(client, pb::RmdirOp { parent, name }, |_| json!({})).await,
        Act::Rename => {
            mutate(client, pb::RenameOp { parent, name, new_parent, new_name, flags: 0 }, |_| json!({})).await
        }
        Act::Stat => world::query(client, pb::LookupQuery { parent, name }, |reply| seen(reply.attr)).await,
        Act::Readdir => {
            let ask = pb::ReaddirQuery { ino: parent, after: 0, bytes_max: 1 << 16, with_attrs: false };
            let names = |reply: pb::ReaddirReply| {
                let names = reply.entries.iter().map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
                json!({"names": names.collect::<Vec<_>>()})
            };
            world::query(client, ask, names).await
        }
    }
}

/// One call on a mount, on names right below the tree's root, which nobody moves: so each is one step.
fn call(voice: &mut Voice, act: Act, tree: u64, root: &Path, (name, to): (&str, &str)) {
    let path = root.join(name);
    let input = json!({"tree": tree, "path": name});
    let ended = |result: std::io::Result<Value>| result.map_or_else(|error| ending_of_call(&error), Done::Ok);
    match act {
        Act::Create => voice.act("create", input, || {
            let made = OpenOptions::new().write(true).create_new(true).open(&path);
            ended(made.map(|_| json!({})))
        }),
        Act::Mkdir => voice.act("mkdir", input, || ended(fs::create_dir(&path).map(|()| json!({})))),
        Act::Unlink => voice.act("unlink", input, || ended(unlink(&path))),
        Act::Rmdir => voice.act("rmdir", input, || ended(fs::remove_dir(&path).map(|()| json!({})))),
        Act::Rename => {
            let input = json!({"tree": tree, "path": name, "to": to, "noreplace": true});
            voice.act("rename", input, || rename_apart(&path, &root.join(to)));
        }
        // A listing of a mount is several calls: only names are asked for one by one.
        Act::Stat | Act::Readdir => voice.act("stat", input, || ended(stat(&path))),
    }
}

/// unlink(2), and not what the library makes of it for directories.
fn unlink(path: &PathBuf) -> std::io::Result<Value> {
    nix::unistd::unlink(path).map_err(|errno: Errno| std::io::Error::from_raw_os_error(errno as i32))?;
    Ok(json!({}))
}

/// The kernel looks the name up, and asks for its attributes afterwards: only what never changes is of one time.
fn stat(path: &Path) -> std::io::Result<Value> {
    let found = path.symlink_metadata()?;
    let kind = if found.is_dir() { "dir" } else { "file" };
    Ok(json!({"ino": found.ino(), "kind": kind}))
}
