//! Lock: files that are written under flock(2), with a counter inside as the fencing token: whoever gets the lock reads it, and syncs one
//! more. A holder whose mount sleeps through the end of its lease must not get anything into the file any more. Called through `Workload`.

use super::{Scene, Workload, about, was_there};
use crate::run::recorder::Done;
use crate::run::world::{World, ending_of_call};
use holdfast_tests::locker::flock;
use rand::Rng;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

const DIR: &str = "lock";
const LOCKS: u64 = 2;
const THREADS_A_MOUNT: u64 = 2;
/// Under one holding.
const WRITES_MAX: u32 = 4;
/// Between two writes: long enough for a mount to be stopped there.
const HOLDS: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(50);
/// The counter, in decimal; what is written under the lock comes behind it.
const TOKEN_LEN: usize = 16;

pub struct Lock;

impl Workload for Lock {
    fn name(&self) -> &'static str {
        "lock"
    }

    fn thread_count(&self, world: &World) -> u64 {
        world.mounts.len() as u64 * THREADS_A_MOUNT
    }

    fn work(&self, scene: &Scene, thread: u64) {
        let mount = &scene.world.mounts[(thread / THREADS_A_MOUNT) as usize];
        let dir = mount.dir.join(DIR);
        let mut dice = scene.dice(thread);
        while scene.goes_on() {
            scene.pause(about(PAUSE, &mut dice));
            let _there = mount.there();
            if !was_there(&dir) {
                continue;
            }
            let lock = format!("l{}", dice.random_range(0..LOCKS));
            let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(dir.join(&lock));
            if let Ok(file) = opened {
                hold(scene, &lock, &file, &mut dice);
            }
        }
    }
}

/// One holding, from acquire to release, or to the first call that fails; closing the file gives back what is left of it.
fn hold(scene: &Scene, lock: &str, file: &File, dice: &mut StdRng) {
    let mut voice = scene.recorder.voice();
    let mut act = |f: &str, input: Value, result: &mut dyn FnMut() -> io::Result<Value>| {
        let mut worked = false;
        voice.act(f, input, || match result() {
            Ok(value) => {
                worked = true;
                Done::Ok(value)
            }
            Err(error) => unknown(&error),
        });
        worked
    };
    let mut token = 0;
    let acquired = act("acquire", json!({"lock": lock}), &mut || {
        token = acquire(file)?;
        Ok(json!({"token": token}))
    });
    if !acquired {
        return;
    }
    let about_it = json!({"lock": lock, "token": token});
    for number in 0..dice.random_range(1..=WRITES_MAX) {
        scene.pause(about(HOLDS, dice));
        if !act("write", about_it.clone(), &mut || write(file, token, number).map(|()| json!({}))) {
            return;
        }
    }
    // A last word under the lock shows that it was held until now.
    act("release", about_it, &mut || {
        write(file, token, WRITES_MAX)?;
        flock(file, libc::LOCK_UN).map_err(io::Error::from_raw_os_error)?;
        Ok(json!({}))
    });
}

/// Nothing of this is ever refused: what fails may have happened.
fn unknown(error: &io::Error) -> Done {
    match ending_of_call(error) {
        Done::Refused(errno) => Done::Info(errno),
        other => other,
    }
}

fn acquire(file: &File) -> io::Result<u64> {
    flock(file, libc::LOCK_EX).map_err(io::Error::from_raw_os_error)?;
    let mut text = [0; TOKEN_LEN];
    let len = file.read_at(&mut text, 0)?;
    let text = str::from_utf8(&text[..len]).map_err(io::Error::other)?;
    let last: u64 = if text.is_empty() { 0 } else { text.trim().parse().map_err(io::Error::other)? };
    let token = last + 1;
    file.write_all_at(format!("{token:TOKEN_LEN$}").as_bytes(), 0)?;
    file.sync_all()?;
    Ok(token)
}

fn write(file: &File, token: u64, number: u32) -> io::Result<()> {
    file.write_all_at(format!("{token} {number}").as_bytes(), TOKEN_LEN as u64)?;
    file.sync_all()
}
