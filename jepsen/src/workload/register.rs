//! Register: extended attributes that are read, written, made and removed by all clients at once, those without a mount and those on one.
//! Called through `Workload`.

use super::{Scene, Workload};
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
const PAUSE: Duration = Duration::from_millis(15);
/// setxattr(2).
const CREATE: u32 = 1;
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
    fn any(&self, dice: &mut StdRng) -> Ask {
        let f = match dice.random_range(0..10) {
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
        world.client_count + world.mounts.len() as u64
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let clients = scene.world.client_count;
        if thread < clients {
            scene.world.with_client(thread, |client| async move { self.direct(scene, thread, &client).await });
        } else {
            self.mounted(scene, thread, &scene.world.mounts[(thread - clients) as usize]);
        }
    }
}

impl Register {
    async fn direct(&self, scene: &Scene, thread: u64, client: &MetaClient) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(&mut dice);
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
            tokio::time::sleep(PAUSE.mul_f64(dice.random_range(0.0..2.0))).await;
        }
    }

    fn mounted(&self, scene: &Scene, thread: u64, mount: &Mounted) {
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        while scene.goes_on() {
            let ask = self.any(&mut dice);
            let there = mount.there();
            voice.act(ask.f, ask.input(), || call(&ask, &mount.dir).unwrap_or_else(|error| ending_of_call(&error)));
            drop(there);
            scene.pause(PAUSE.mul_f64(dice.random_range(0.0..2.0)));
        }
    }
}

fn checked(result: libc::ssize_t) -> std::io::Result<usize> {
    let done = Errno::result(result).map_err(|errno| std::io::Error::from_raw_os_error(errno as i32))?;
    Ok(done as usize)
}

fn call(ask: &Ask, mount: &Path) -> std::io::Result<Done> {
    let path = CString::new(mount.as_os_str().as_bytes())?;
    let name = CString::new(ask.key.as_str())?;
    match ask.f {
        "read" => {
            let mut bytes = [0_u8; 64];
            // SAFETY: two C strings, and a buffer with its length.
            let len = checked(unsafe {
                libc::getxattr(path.as_ptr(), name.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len())
            })?;
            Ok(Done::Ok(json!({"value": String::from_utf8_lossy(&bytes[..len])})))
        }
        "remove" => {
            // SAFETY: two C strings.
            checked(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) } as libc::ssize_t)?;
            Ok(Done::Ok(json!({})))
        }
        _ => {
            let (value, flags) = (ask.value.to_string(), ask.flags() as libc::c_int);
            // SAFETY: two C strings, and a buffer with its length.
            let set =
                unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
            checked(set as libc::ssize_t)?;
            Ok(Done::Ok(json!({})))
        }
    }
}
