//! The leader empties the trash of a volume: all of it goes, whichever leader dies meanwhile, but not what somebody has open; and while it is
//! full, fsck and gc find nothing.

use crate::one_at_a_time;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::files::object_count;
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// Several entries' work: one removes 512.
const FILES: usize = 1300;
const WITH_DATA: usize = 10;

fn status(cluster: &Cluster, meta: &str) -> Value {
    let text = cluster.holdfast(&["status", meta]).ok("holdfast status").stdout;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn fill(mount: &Mount) {
    let makers: Vec<_> = (0..4)
        .map(|part| {
            let dir = mount.path(&format!("tree{part}"));
            apart(move || {
                fs::create_dir(&dir).unwrap();
                for n in (part..FILES).step_by(4) {
                    fs::write(dir.join(format!("f{n}")), vec![part as u8; if n < WITH_DATA { 100_000 } else { 0 }])
                        .unwrap();
                }
                fs::remove_dir_all(&dir).unwrap();
            })
        })
        .collect();
    makers.into_iter().for_each(|maker| maker.join().unwrap());
}

/// Has a removed file open and reads it when told to.
fn reader(path: PathBuf, ready: Sender<()>, go: Receiver<()>) -> JoinHandle<bool> {
    apart(move || {
        fs::write(&path, vec![9; 200_000]).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        ready.send(()).unwrap();
        go.recv().unwrap();
        let mut found = vec![0; 200_000];
        file.read_exact_at(&mut found, 0).unwrap();
        found == vec![9; 200_000]
    })
}

#[test]
fn a_full_trash_is_sound_and_is_emptied_to_the_last_object_while_leaders_die() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let (meta, bucket) = (cluster.meta("keeper"), cluster.bucket("keeper"));
    fs::create_dir_all(&bucket).unwrap();
    let args = ["format", &meta, "--storage", "file", "--bucket", bucket.to_str().unwrap(), "--no-sync"];
    cluster.holdfast(&[&args[..], &["--trash-days", "2"]].concat()).ok("holdfast format");
    let mount = Mount::start(&meta);
    let ((ready, is_ready), (tell, told)) = (channel(), channel());
    let reader = reader(mount.path("open"), ready, told);
    is_ready.recv().unwrap();
    fill(&mount);
    let full = status(&cluster, &meta);
    let all = FILES as u64 + 4 + 1;
    assert_eq!((&full["trash_days"], &full["used_inodes"]), (&Value::from(2), &Value::from(all)), "{full}");
    cluster.holdfast(&["fsck", &meta, "--deep"]).ok("fsck of a full trash");
    let gc = cluster.holdfast(&["gc", &meta, "--json"]).ok("gc of a full trash").stdout;
    let gc: Value = serde_json::from_str(&gc).expect("gc says JSON");
    assert_eq!(gc["leaked"]["objects"], 0, "{gc}");
    assert_eq!(status(&cluster, &meta)["used_inodes"], all);

    cluster.holdfast(&["config", &meta, "--trash-days", "0"]).ok("holdfast config");
    for at_most in [all - 1, all / 2] {
        let used = || status(&cluster, &meta)["used_inodes"].as_u64().expect("a number");
        let left = process::wait_for("the trash to be emptied", || Some(used()).filter(|left| *left <= at_most));
        let leader = cluster.leader();
        cluster.kill(leader);
        process::report(&format!("leader {leader} killed with {left} of {all} left in the trash"));
        cluster.bring_back(&[leader]);
    }
    process::wait_for("the trash to be empty", || (status(&cluster, &meta)["used_inodes"] == 0).then_some(()));
    assert_eq!(fs::read_dir(mount.path(".trash")).unwrap().count(), 0);
    tell.send(()).unwrap();
    assert!(reader.join().unwrap(), "what is open is still there");
    process::wait_for("all objects to go", || (object_count(&bucket) == 0).then_some(()));
    let is_empty = |status: Value| ["used_bytes", "orphans", "deleted_slices"].iter().all(|what| status[*what] == 0);
    process::wait_for("metadata to forget them", || is_empty(status(&cluster, &meta)).then_some(()));
}

#[test]
fn a_file_that_is_called_as_the_trash_is_never_taken_for_it() {
    let cluster = Cluster::start();
    let meta = cluster.format("own");
    let mount = Mount::start(&meta);
    fs::write(mount.path(".trash"), b"mine").unwrap();
    let refused = cluster.holdfast(&["config", &meta, "--trash-days", "7"]);
    refused.refused(1, "rename it first");
    assert_eq!(status(&cluster, &meta)["trash_days"], 0);
    cluster.holdfast(&["config", &meta, "--trash-days", "9999"]).refused(2, "--trash-days");
    assert_eq!(fs::read(mount.path(".trash")).unwrap(), b"mine");
    fs::rename(mount.path(".trash"), mount.path("mine")).unwrap();
    cluster.holdfast(&["config", &meta, "--trash-days", "7"]).ok("holdfast config");
    fs::remove_file(mount.path("mine")).unwrap();
    assert_eq!(fs::read_dir(mount.path(".trash")).unwrap().count(), 1);
}
