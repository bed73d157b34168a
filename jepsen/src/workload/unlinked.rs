//! Unlinked: files that are written and unlinked on one mount while another has them open, and are read there for the first time after the
//! cluster had time to free them. Called through `Workload`.

use super::manifest::checksum;
use super::{Scene, Workload, about, was_there};
use crate::run::recorder::{Done, Voice};
use crate::run::world::{Mounted, World, ending_of_call};
use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

const DIR: &str = "unlinked";
const PAUSE: Duration = Duration::from_millis(40);
const THREADS_A_MOUNT: u64 = 2;
/// Open at once in a thread.
const HELD_MAX: usize = 6;
/// Until a file is read: orphans are looked for at once, and deleted objects handed out every two seconds.
const KEPT_S: std::ops::Range<f64> = 0.1..6.0;
const BYTES: usize = 70_001;
/// In the log of a mount.
const SESSION_LOST: &str = "the session was lost: writes";
const LOSS_TOLD_WITHIN: Duration = Duration::from_secs(2);

pub struct Unlinked;

/// A file without a name.
struct Held {
    name: String,
    file: File,
    lease: Lease,
    due: Instant,
}

/// What keeps open files without names: the process of the mount, and its session. With either they go.
#[derive(PartialEq)]
struct Lease {
    pid: Option<u32>,
    sessions_lost: usize,
}

impl Lease {
    fn of(mount: &Mounted) -> Lease {
        Lease { pid: mount.pid(), sessions_lost: mount.log_text().matches(SESSION_LOST).count() }
    }

    /// A mount hears of it a little later than it may be told that the file is gone.
    fn lasts(&self, mount: &Mounted) -> bool {
        let start = Instant::now();
        while start.elapsed() < LOSS_TOLD_WITHIN {
            if *self != Lease::of(mount) {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

impl Workload for Unlinked {
    fn name(&self) -> &'static str {
        "unlinked"
    }

    fn thread_count(&self, world: &World) -> u64 {
        world.mounts.len() as u64 * THREADS_A_MOUNT
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let mounts = &scene.world.mounts;
        let number_of_mount = thread as usize % mounts.len();
        let (here, there) = (&mounts[number_of_mount], &mounts[(number_of_mount + 1) % mounts.len()]);
        let (mut dice, mut voice) = (scene.dice(thread), scene.recorder.voice());
        let mut held: Vec<Held> = Vec::new();
        let mut number = 0;
        while scene.goes_on() {
            scene.pause(about(PAUSE, &mut dice));
            let _served = (here.there(), there.there());
            if let Some(at) = held.iter().position(|one| one.due <= Instant::now()) {
                let mut one = held.swap_remove(at);
                one.due = any_due(&mut dice);
                if look(&mut voice, &one, here, false) && dice.random() {
                    held.push(one);
                }
            } else if held.len() < HELD_MAX && was_there(&there.dir.join(DIR)) {
                number += 1;
                held.extend(hold(&mut voice, &mut dice, (here, there), format!("f{thread}-{number}")));
            }
        }
        let _served = here.there();
        for one in &held {
            look(&mut voice, one, here, true);
        }
    }
}

fn any_due(dice: &mut StdRng) -> Instant {
    Instant::now() + Duration::from_secs_f64(dice.random_range(KEPT_S))
}

/// Written there, opened here, unlinked there.
fn hold(voice: &mut Voice, dice: &mut StdRng, (here, there): (&Mounted, &Mounted), name: String) -> Option<Held> {
    let mut content = vec![0; BYTES];
    dice.fill_bytes(&mut content);
    let path = there.dir.join(DIR).join(&name);
    // Where that fails, the file may be there without its content.
    let written =
        File::create_new(&path).and_then(|file| file.write_all_at(&content, 0).and_then(|()| file.sync_all()));
    written.ok()?;
    let lease = Lease::of(here);
    let file = File::open(here.dir.join(DIR).join(&name)).ok()?;
    let mut done = false;
    voice.act("hold", json!({"file": name, "checksum": checksum(&content)}), || {
        let unlinked = fs::remove_file(&path);
        done = unlinked.is_ok();
        unlinked.map_or_else(|error| ending_of_call(&error), |()| Done::Ok(json!({})))
    });
    done.then(|| Held { name, file, lease, due: any_due(dice) })
}

/// Reads all of it; whether that went well.
fn look(voice: &mut Voice, held: &Held, here: &Mounted, is_over: bool) -> bool {
    let read = || {
        // Its end is looked for, too.
        let mut content = vec![0; BYTES + 1];
        let mut len = 0;
        while let more @ 1.. = held.file.read_at(&mut content[len..], len as u64)? {
            len += more;
        }
        std::io::Result::Ok(checksum(&content[..len]))
    };
    let mut done = false;
    voice.act("read", json!({"file": held.name}), || match read() {
        Ok(checksum) => {
            done = true;
            Done::Ok(json!({ "checksum": checksum }))
        }
        Err(error) => match ending_of_call(&error) {
            Done::Refused(errno) if held.lease.lasts(here) => Done::Refused(errno),
            // Nothing is broken any more: no fault is to blame.
            Done::Info(errno) if is_over && held.lease.lasts(here) => Done::Refused(errno),
            Done::Refused(errno) => Done::Info(errno),
            other => other,
        },
    });
    done
}
