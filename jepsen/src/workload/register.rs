//! Register: extended attributes that are read, written, made and removed by all clients at once, those without a mount and those on one.
//! Called through `Workload`.

use super::{Scene, Workload, about, places_count};
use crate::run::recorder::Done;
use crate::run::world::{Mounted, ROOT, World, ending_of_call, mutate, query};
use holdfast::meta::MetaClient;
use holdfast_proto::pb;
use nix::errno::Errno;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Operations on one register: few enough for a search through all orders.
const OPERATIONS: u64 = 120;
const VALUES: u64 = 5;
/// One thread in so many only reads: nothing that has to be committed makes it leave a node that leads no more.
const READERS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(15);
/// setxattr(2).
pub(super) const CREATE: u32 = 1;
const REPLACE: u32 = 2;

#[derive(Default)]
pub struct Register {
    count: AtomicU64,
}

struct Ask {
    f: &'static str,
    key: String,
    value: u64,
}

impl Register {
    fn any(&self, thread: u64, dice: &mut StdRng) -> Ask {
        let f = match dice.random_range(0..10) {
            _ if thread.is_multiple_of(READERS) => "read",
            0..4 => "read",
            4..6 => "write",
            6 => "create",
            7 => "replace",
            _ => "remove",
        };
        let key = format!("user.r{}", self.count.fetch_add(1, Ordering::Relaxed) / OPERATIONS);
        Ask { f, key, value: dice.random_range(0..VALUES) }
    }
}

impl Ask {
    fn input(&self) -> Value {
        match self.f {
            "read" | "remove" => json!({"key": self.key}),
            _ => json!({"key": self.key, "value": self.value.to_string()}),
        }
    }

    fn flags(&self) -> u32 {
        match self.f {
            "create" => CREATE,
            "replace" => REPLACE,
            _ => 0,
        }
    }
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
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
}

impl Register {
    async fn direct(&self, scene: &Scene, thread: u64, client: &MetaClient) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(thread, &mut dice);
            voice.invoke(ask.f, ask.input());
            let name = bytes::Bytes::from(ask.key.clone());
            let (done, log_index) = match ask.f {
                "read" => {
                    let value = |reply: pb::XattrReply| json!({"value": String::from_utf8_lossy(&reply.value)});
                    query(client, pb::GetXattrQuery { ino: ROOT, name }, value).await
                }
                "remove" => mutate(client, pb::RemoveXattrOp { ino: ROOT, name }, |_| json!({})).await,
                _ => {
                    let (value, flags) = (ask.value.to_string().into(), ask.flags());
                    mutate(client, pb::SetXattrOp { ino: ROOT, name, value, flags }, |_| json!({})).await
                }
            };
            voice.end(done, log_index);
            tokio::time::sleep(about(PAUSE, &mut dice)).await;
        }
    }

    fn mounted(&self, scene: &Scene, thread: u64, mount: &Mounted) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(thread, &mut dice);
            let there = mount.there();
            voice.act(ask.f, ask.input(), || call(&ask, &mount.dir).unwrap_or_else(|error| ending_of_call(&error)));
            drop(there);
            scene.pause(about(PAUSE, &mut dice));
        }
    }
}

fn checked(result: libc::ssize_t) -> std::io::Result<usize> {
    let done = Errno::result(result).map_err(|errno| std::io::Error::from_raw_os_error(errno as i32))?;
    Ok(done as usize)
}

fn c_strings(path: &Path, name: &str) -> std::io::Result<(CString, CString)> {
    Ok((CString::new(path.as_os_str().as_bytes())?, CString::new(name)?))
}

/// getxattr(2).
pub(super) fn get_on(path: &Path, name: &str) -> std::io::Result<String> {
    let (path, name) = c_strings(path, name)?;
    let mut bytes = [0_u8; 64];
    // SAFETY: two C strings, and a buffer with its length.
    let got = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
    let len = checked(got)?;
    Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
}

/// setxattr(2).
pub(super) fn set_on(path: &Path, name: &str, value: &str, flags: u32) -> std::io::Result<()> {
    let (path, name) = c_strings(path, name)?;
    let flags = flags as libc::c_int;
    // SAFETY: two C strings, and a buffer with its length.
    let set = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    checked(set as libc::ssize_t).map(drop)
}

fn remove_on(path: &Path, name: &str) -> std::io::Result<()> {
    let (path, name) = c_strings(path, name)?;
    // SAFETY: two C strings.
    checked(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } as libc::ssize_t).map(drop)
}

fn call(ask: &Ask, mount: &Path) -> std::io::Result<Done> {
    match ask.f {
        "read" => return Ok(Done::Ok(json!({"value": get_on(mount, &ask.key)?}))),
        "remove" => remove_on(mount, &ask.key)?,
        _ => set_on(mount, &ask.key, &ask.value.to_string(), ask.flags())?,
    }
    Ok(Done::Ok(json!({})))
}
