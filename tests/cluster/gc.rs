//! `holdfast gc`: what killed clients and ended sessions have left is found and deleted; what a writer has not committed yet is not, nor
//! what a file, a clone or an open handle needs.

use bytes::Bytes;
use holdfast_proto::pb::{self, mutation, request};
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::damage::objects;
use holdfast_tests::grpc_raw;
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

const BLOCK: usize = 64 << 10;

fn gc(cluster: &Cluster, meta: &str, args: &[&str]) -> Value {
    let said = cluster.holdfast(&[&["gc", meta, "--json"], args].concat()).ok("gc").stdout;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn sessions(cluster: &Cluster, meta: &str) -> Vec<u64> {
    let said = cluster.holdfast(&["status", meta]).ok("status").stdout;
    let status: Value = serde_json::from_str(&said).expect("JSON");
    status["sessions"].as_array().expect("sessions").iter().map(|s| s["session"].as_u64().expect("number")).collect()
}

/// Ends the session of a client that is dead, as the leader would when its lease is over.
fn end_session(cluster: &Cluster, session: u64) {
    let op = mutation::Op::CloseSession(pb::CloseSessionOp {});
    let close = pb::Mutation { session, slot: 1023, seq: 1, creds: None, op: Some(op) };
    let addr = cluster.node(cluster.leader()).addr();
    let taken = grpc_raw::send(&addr, vec![grpc_raw::hello(0), grpc_raw::request(1, request::Body::Mutation(close))]);
    assert!(
        matches!(taken.response(1).and_then(|r| r.result.as_ref()), Some(pb::response::Result::Reply(_))),
        "{taken:?}"
    );
}

/// Small blocks, so that much is uploaded before anything is committed.
fn format(cluster: &Cluster) -> String {
    let (meta, bucket) = (cluster.meta("v"), cluster.bucket("v"));
    fs::create_dir_all(&bucket).unwrap();
    let bucket = bucket.to_string_lossy().into_owned();
    let args = ["format", &meta, "--storage", "file", "--bucket", &bucket, "--no-sync", "--block-size", "64KiB"];
    cluster.holdfast(&args).ok("format");
    meta
}

/// A process-to-be that has written blocks which are uploaded and not committed, with descriptors of its own: no child of ours closes its file.
struct Writer {
    go_on: Sender<()>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// The writer, and its objects.
    fn start(cluster: &Cluster, path: PathBuf, fill: u8) -> (Writer, Vec<PathBuf>) {
        let before = objects(cluster, "v");
        let (go_on, told) = channel::<()>();
        let thread = apart(move || {
            let mut file = File::create(path).unwrap();
            file.write_all(&vec![fill; 8 * BLOCK]).unwrap();
            if told.recv().is_ok() {
                file.write_all(&vec![fill; BLOCK]).unwrap();
                file.sync_all().unwrap();
            }
        });
        let uploaded = process::wait_for("uploads", || {
            let mut now = objects(cluster, "v");
            now.retain(|path| !before.contains(path));
            Some(now).filter(|new| new.len() >= 4)
        });
        (Writer { go_on, thread }, uploaded)
    }

    /// It writes another block, and commits all.
    fn finish(self) {
        self.go_on.send(()).unwrap();
        self.thread.join().unwrap();
    }
}

#[test]
fn leaks_are_found_and_deleted_and_nothing_that_anybody_needs() {
    let cluster = Cluster::start_as(Shape { no_sync: true, ..Shape::default() });
    let meta = format(&cluster);
    let mount = Mount::start(&meta);
    fs::write(mount.path("kept"), vec![1; 3 * BLOCK]).unwrap();
    let held = File::options().create_new(true).read(true).write(true).open(mount.path("held")).unwrap();
    held.write_all_at(&vec![2; BLOCK], 0).unwrap();
    held.sync_all().unwrap();
    fs::remove_file(mount.path("held")).unwrap();
    let (writer, _) = Writer::start(&cluster, mount.path("writer"), 3);
    let own = sessions(&cluster, &meta);

    // A client that dies with uploads that nobody will commit.
    let dying = Mount::start(&meta);
    let dead = sessions(&cluster, &meta).into_iter().find(|session| !own.contains(session)).expect("its session");
    let (user, lost) = Writer::start(&cluster, dying.path("lost"), 4);
    process::signal(dying.pid().expect("daemon"), libc::SIGKILL);
    process::wait_for("the client's end", || dying.pid().is_none().then_some(()));
    drop(user.go_on);
    user.thread.join().unwrap();
    let live = gc(&cluster, &meta, &["--delete"]);
    assert_eq!((&live["leaked"]["objects"], &live["deleted"]["objects"]), (&Value::from(0), &Value::from(0)), "{live}");
    assert!(live["uncommitted"]["objects"].as_u64() >= Some(8), "{live}");
    end_session(&cluster, dead);

    // By hand: of a session that has ended, of one that has not begun, and what is not ours at all.
    let chunks = objects(&cluster, "v")[0].ancestors().find(|path| path.ends_with("chunks")).unwrap().to_path_buf();
    let put = |session: u64| {
        let id = session << 32 | 0x00ff_0000;
        let dir = chunks.join(format!("{}/{}", id / 1_000_000, id / 1000 % 1000));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{id}_0_7"));
        fs::write(&path, Bytes::from_static(b"garbage")).unwrap();
        path
    };
    let (leaked, unborn, foreign) = (put(dead), put(1_000_000), chunks.join("notes"));
    fs::write(&foreign, b"mine").unwrap();

    let count = lost.iter().filter(|path| path.exists()).count() as u64 + 1;
    let dry = gc(&cluster, &meta, &[]);
    assert!(dry["leaked"]["objects"].as_u64() >= Some(count) && dry["deleted"]["objects"] == 0, "{dry}");
    assert_eq!(dry["foreign"].as_array().map(Vec::len), Some(1), "{dry}");
    assert!(leaked.exists() && lost.iter().all(|path| path.exists()));
    let text = cluster.holdfast(&["gc", &meta]).ok("gc").stdout;
    assert!(text.contains("--delete deletes what is leaked") && text.contains("chunks/notes"), "{text}");

    let done = gc(&cluster, &meta, &["--delete"]);
    assert_eq!(done["deleted"], dry["leaked"], "{done}");
    assert!(!leaked.exists() && !lost.iter().any(|path| path.exists()));
    assert!(unborn.exists() && foreign.exists());
    assert_eq!(gc(&cluster, &meta, &["--delete"])["leaked"]["objects"], 0);

    // Everybody has what is theirs.
    writer.finish();
    let mut found = vec![0; BLOCK];
    held.read_exact_at(&mut found, 0).unwrap();
    assert!(found == vec![2; BLOCK]);
    drop(held);
    let other = Mount::start(&meta);
    assert!(fs::read(other.path("writer")).unwrap() == vec![3; 9 * BLOCK]);
    assert!(fs::read(other.path("kept")).unwrap() == vec![1; 3 * BLOCK]);
    cluster.holdfast(&["fsck", &meta, "--deep"]).ok("fsck");
}
