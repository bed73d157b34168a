//! Token: files that are renamed from one directory to another by everybody, and looked for in all of them: each is in one place.
//! Called through `Workload`.

use super::{Scene, Workload, about, places_count};
use crate::run::recorder::Done;
use crate::run::world::{Mounted, World, dir, dir_in, ending_of_call, mutate, rename_apart};
use holdfast::meta::{MetaApi, MetaClient};
use holdfast_proto::pb;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

const DIR: &str = "token";
const DIRS: u64 = 4;
const TOKENS: u64 = 12;
/// Slow, so that most tokens lie still while somebody looks.
const PAUSE: Duration = Duration::from_millis(80);
/// One operation in so many is a look.
const LOOKS: u32 = 3;
/// renameat2(2).
const NOREPLACE: u32 = 1;

pub struct Token;

struct Move {
    token: String,
    from: u64,
    to: u64,
}

fn any_move(dice: &mut StdRng) -> Move {
    let from = dice.random_range(0..DIRS);
    let to = (from + dice.random_range(1..DIRS)) % DIRS;
    Move { token: format!("t{}", dice.random_range(0..TOKENS)), from, to }
}

impl Move {
    fn input(&self) -> Value {
        json!({"token": self.token, "from": place(self.from), "to": place(self.to)})
    }
}

fn place(number: u64) -> String {
    format!("d{number}")
}

/// Places by token, from the names in each place.
fn found(places: &[(String, Vec<String>)]) -> Value {
    let mut tokens: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, names) in places {
        names.iter().for_each(|name| tokens.entry(name).or_default().push(place));
    }
    json!({ "tokens": tokens })
}

impl Workload for Token {
    fn name(&self) -> &'static str {
        "token"
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
        let mount = scene.world.mount(0);
        scene.recorder.voice().act("snapshot", json!({}), || look(&mount.dir.join(DIR)));
    }
}

async fn dirs(client: &MetaClient) -> Option<Vec<u64>> {
    let home = dir(client, DIR).await?;
    let mut dirs = Vec::new();
    for number in 0..DIRS {
        dirs.push(dir_in(client, home, &place(number)).await?);
    }
    Some(dirs)
}

async fn direct(scene: &Scene, thread: u64, client: &MetaClient) {
    let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
    let dirs = loop {
        match dirs(client).await {
            Some(dirs) => break dirs,
            None if !scene.goes_on() => return,
            None => {}
        }
    };
    if thread == 0 {
        for number in 0..TOKENS {
            let token = format!("t{number}");
            voice.invoke("create", json!({"token": token}));
            let (parent, name) = (dirs[0], token.into());
            let op = pb::CreateOp { parent, name, mode: 0o644, exclusive: true, umask: 0 };
            let (done, log_index) = mutate(client, op, |_| json!({})).await;
            voice.end(done, log_index);
        }
    }
    let mut files = BTreeSet::new();
    while scene.goes_on() {
        if dice.random_ratio(1, LOOKS) {
            voice.invoke("snapshot", json!({}));
            voice.end(walk(client, &dirs, &mut files).await, None);
            voice.invoke("balance", json!({"what": "names of each token"}));
            voice.end(links(client, &files).await, None);
        } else {
            let moved = any_move(&mut dice);
            voice.invoke("move", moved.input());
            let name = bytes::Bytes::from(moved.token.clone());
            let (parent, new_parent) = (dirs[moved.from as usize], dirs[moved.to as usize]);
            let op = pb::RenameOp { parent, name: name.clone(), new_parent, new_name: name, flags: NOREPLACE };
            let (done, log_index) = mutate(client, op, |_| json!({})).await;
            voice.end(done, log_index);
        }
        tokio::time::sleep(about(PAUSE, &mut dice)).await;
    }
}

/// Where the tokens are. Their files are added to `files`.
async fn walk(client: &MetaClient, dirs: &[u64], files: &mut BTreeSet<u64>) -> Done {
    let mut places = Vec::new();
    for (number, &ino) in dirs.iter().enumerate() {
        let ask = pb::ReaddirQuery { ino, after: 0, bytes_max: 1 << 16, with_attrs: false };
        match client.query(&pb::Creds::default(), ask).await {
            Ok(answer) => {
                files.extend(answer.reply.entries.iter().map(|entry| entry.ino));
                let names = answer.reply.entries.iter();
                let names = names.map(|entry| String::from_utf8_lossy(&entry.name).into_owned()).collect();
                places.push((place(number as u64), names));
            }
            Err(error) => return crate::run::world::ending(error),
        }
    }
    Done::Ok(found(&places))
}

/// Whether each has one name, wherever it is, and also while it is moved: what a walk cannot see.
async fn links(client: &MetaClient, files: &BTreeSet<u64>) -> Done {
    let mut stated = Vec::new();
    for &ino in files {
        match client.query(&pb::Creds::default(), pb::GetattrQuery { ino }).await {
            Ok(answer) => stated.push(answer.reply.attr.unwrap_or_default().nlink),
            Err(error) => return crate::run::world::ending(error),
        }
    }
    Done::Ok(json!({"counted": vec![1; stated.len()], "stated": stated}))
}

fn mounted(scene: &Scene, thread: u64, mount: &Mounted) {
    let home = &mount.dir.join(DIR);
    let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
    while scene.goes_on() {
        scene.pause(about(PAUSE, &mut dice));
        let _there = mount.there();
        if !home.join(place(DIRS - 1)).is_dir() {
            continue;
        }
        if dice.random_ratio(1, LOOKS) {
            voice.act("snapshot", json!({}), || look(home));
        } else {
            let moved = any_move(&mut dice);
            let path = |number: u64| home.join(place(number)).join(&moved.token);
            voice.act("move", moved.input(), || rename_apart(&path(moved.from), &path(moved.to)));
        }
    }
}

fn look(home: &Path) -> Done {
    let list = |number: u64| {
        let entries = fs::read_dir(home.join(place(number)))?.collect::<Result<Vec<_>, _>>()?;
        let names = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        std::io::Result::Ok((place(number), names))
    };
    let places: std::io::Result<Vec<_>> = (0..DIRS).map(list).collect();
    places.map_or_else(|error| ending_of_call(&error), |places| Done::Ok(found(&places)))
}
