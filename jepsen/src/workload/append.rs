//! Append: lists in extended attributes, one element an attribute, which only grow. Called through `Workload`.
//!
//! Whoever appends makes the attribute behind the last one it knows, with XATTR_CREATE, until it is the first to do so. Elements never
//! change and leave no gap: so a reader that walks from the first to one that is not there has seen the list as it was at that last look.

use super::register::{CREATE, get_on, set_on};
use super::{Scene, Workload, about, places_count};
use crate::history::edn::TXN;
use crate::run::recorder::Done;
use crate::run::world::{self, Mounted, ROOT, World, ending_of_call, mutate};
use holdfast::meta::MetaClient;
use holdfast_proto::pb;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Operations on one list.
const OPERATIONS: u64 = 60;
/// Lists that grow at one time.
const LISTS: u64 = 3;
const PAUSE: Duration = Duration::from_millis(40);

#[derive(Default)]
pub struct Append {
    count: AtomicU64,
    values: AtomicU64,
}

struct Ask {
    list: String,
    /// None: reads.
    value: Option<u64>,
}

impl Append {
    fn any(&self, dice: &mut StdRng) -> Ask {
        let turn = self.count.fetch_add(1, Ordering::Relaxed) / (OPERATIONS * LISTS);
        let list = format!("{turn}-{}", dice.random_range(0..LISTS));
        let value = dice.random_bool(0.5).then(|| self.values.fetch_add(1, Ordering::Relaxed));
        Ask { list, value }
    }
}

impl Ask {
    /// As Elle has it.
    fn transaction(&self, read: Value) -> Value {
        match self.value {
            Some(value) => json!([["append", self.list, value]]),
            None => json!([["r", self.list, read]]),
        }
    }

    fn name(&self, place: usize) -> String {
        format!("user.l{}.{place}", self.list)
    }
}

impl Workload for Append {
    fn name(&self) -> &'static str {
        "append"
    }

    fn thread_count(&self, world: &World) -> u64 {
        places_count(world)
    }

    fn work(&self, scene: &Scene, thread: u64) {
        scene.at_place(
            thread,
            async |client| self.direct(scene, thread, client).await,
            |mount| self.mounted(scene, thread, mount),
        );
    }

    /// Every list, once more.
    fn finish(&self, scene: &Scene) {
        let mount = scene.world.mount(0);
        let turns = self.count.load(Ordering::Relaxed) / (OPERATIONS * LISTS);
        let mut voice = scene.recorder.voice();
        for (turn, list) in (0..=turns).flat_map(|turn| (0..LISTS).map(move |list| (turn, list))) {
            let ask = Ask { list: format!("{turn}-{list}"), value: None };
            voice.act(TXN, ask.transaction(Value::Null), || read_on(&mount.dir, &ask));
        }
    }
}

impl Append {
    async fn direct(&self, scene: &Scene, thread: u64, client: &MetaClient) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(&mut dice);
            voice.invoke(TXN, ask.transaction(Value::Null));
            let done = match ask.value {
                Some(value) => append(client, &ask, value).await,
                None => read(client, &ask).await,
            };
            voice.end(done, None);
            tokio::time::sleep(about(PAUSE, &mut dice)).await;
        }
    }

    fn mounted(&self, scene: &Scene, thread: u64, mount: &Mounted) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(&mut dice);
            let there = mount.there();
            voice.act(TXN, ask.transaction(Value::Null), || match ask.value {
                Some(value) => append_on(&mount.dir, &ask, value),
                None => read_on(&mount.dir, &ask),
            });
            drop(there);
            scene.pause(about(PAUSE, &mut dice));
        }
    }
}

/// A place that was taken is no end: the next one is tried.
fn is_taken(done: &Done) -> bool {
    matches!(done, Done::Refused(errno) if errno == "EEXIST")
}

fn appended(ask: &Ask, done: Done) -> Done {
    if let Done::Ok(_) = done { Done::Ok(ask.transaction(Value::Null)) } else { done }
}

async fn append(client: &MetaClient, ask: &Ask, value: u64) -> Done {
    let mut place = 0;
    loop {
        let (name, value) = (ask.name(place).into(), value.to_string().into());
        let (done, _) = mutate(client, pb::SetXattrOp { ino: ROOT, name, value, flags: CREATE }, |_| json!({})).await;
        if !is_taken(&done) {
            return appended(ask, done);
        }
        place += 1;
    }
}

async fn read(client: &MetaClient, ask: &Ask) -> Done {
    let mut values = Vec::new();
    loop {
        let name = ask.name(values.len()).into();
        let value = |reply: pb::XattrReply| number(&reply.value);
        match world::query(client, pb::GetXattrQuery { ino: ROOT, name }, value).await.0 {
            Done::Ok(value) => values.push(value),
            Done::Refused(errno) if errno == "ENODATA" => return Done::Ok(ask.transaction(json!(values))),
            other => return other,
        }
    }
}

/// Of an element's text; what is none is shown as it is.
fn number(text: &[u8]) -> Value {
    let text = String::from_utf8_lossy(text);
    text.parse::<u64>().map_or_else(|_| json!(text), |number| json!(number))
}

fn append_on(mount: &Path, ask: &Ask, value: u64) -> Done {
    let mut place = 0;
    loop {
        let set = set_on(mount, &ask.name(place), &value.to_string(), CREATE);
        let done = set.map_or_else(|error| ending_of_call(&error), |()| Done::Ok(json!({})));
        if !is_taken(&done) {
            return appended(ask, done);
        }
        place += 1;
    }
}

fn read_on(mount: &Path, ask: &Ask) -> Done {
    let mut values = Vec::new();
    loop {
        match get_on(mount, &ask.name(values.len())) {
            Ok(value) => values.push(number(value.as_bytes())),
            Err(error) => {
                return match ending_of_call(&error) {
                    Done::Refused(errno) if errno == "ENODATA" => Done::Ok(ask.transaction(json!(values))),
                    other => other,
                };
            }
        }
    }
}
