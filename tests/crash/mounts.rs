//! Mounts die at each step of their data: what was synced is whole, fsck finds nothing, and gc removes what is left over and nothing else.

use crate::ways::Way;
use holdfast_proto::crash_points::{CRASH, Point};
use holdfast_proto::pb::{self, mutation, request};
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::damage::objects;
use holdfast_tests::grpc_raw;
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use holdfast_tests::trap;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

const BLOCK: usize = 64 << 10;
/// Of each file: the last one is not full.
const BLOCKS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(40);

fn content(version: u8) -> Vec<u8> {
    let len = (BLOCKS - 1) * BLOCK + 1000;
    (0..len).map(|at| (at / 512) as u8 ^ version).collect()
}

/// Writes all of a file, new or old, and syncs it.
fn save(path: &Path, version: u8) -> std::io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(false).open(path)?;
    file.write_all(&content(version))?;
    file.sync_all()
}

struct World {
    cluster: Cluster,
    meta: String,
    /// What is synced, or was removed again.
    files: BTreeMap<String, u8>,
    version: u8,
}

impl World {
    fn start() -> World {
        process::use_faulty_binaries();
        let cluster = Cluster::start_as(Shape { node_count: 1, no_sync: true, ..Shape::default() });
        let (meta, bucket) = (cluster.meta("v"), cluster.bucket("v"));
        fs::create_dir_all(&bucket).unwrap();
        let bucket = bucket.to_string_lossy().into_owned();
        let args = ["format", &meta, "--storage", "file", "--bucket", &bucket, "--no-sync", "--block-size", "64KiB"];
        cluster.holdfast(&args).ok("format");
        World { cluster, meta, files: BTreeMap::new(), version: 0 }
    }

    fn save(&mut self, mount: &Mount, name: &str) {
        self.version += 1;
        save(&mount.path(name), self.version).expect("saves");
        self.files.insert(name.to_owned(), self.version);
    }

    /// The mount dies at `point` while it does `work`, and its session ends.
    fn crash(&self, mount: Mount, point: Point, work: impl FnOnce(&Path) + Send + 'static) {
        let (pid, trap) = (mount.pid().expect("the mount runs"), mount.trap());
        trap::set(&trap, point, 1);
        let dir = mount.dir.clone();
        let worker = apart(move || work(&dir));
        let start = Instant::now();
        while process::signal(pid, 0) {
            assert!(start.elapsed() < PATIENCE, "the mount does not come to {point:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(trap::has_caught(&trap), "the mount ended, but not at {point:?}");
        worker.join().expect("an error is no reason to panic");
        drop(mount);
        self.end_sessions();
    }

    /// As the leader would when their leases are over.
    fn end_sessions(&self) {
        let said = self.cluster.holdfast(&["status", &self.meta]).ok("status").stdout;
        let status: Value = serde_json::from_str(&said).expect("JSON");
        let sessions = status["sessions"].as_array().expect("sessions");
        for session in sessions.iter().map(|session| session["session"].as_u64().expect("number")) {
            let op = Some(mutation::Op::CloseSession(pb::CloseSessionOp {}));
            let close = request::Body::Mutation(pb::Mutation { session, slot: 1023, seq: 1, creds: None, op });
            let addr = self.cluster.node(1).addr();
            let messages = vec![grpc_raw::hello(0), grpc_raw::request(1, close)];
            let taken = grpc_raw::send_until(&addr, messages, |taken| taken.response(1).is_some());
            assert!(taken.response(1).is_some() && taken.failure(1).is_none(), "{taken:?}");
        }
    }

    fn gc(&self, delete: &[&str]) -> u64 {
        let said = self.cluster.holdfast(&[&["gc", &self.meta, "--json"], delete].concat()).ok("gc").stdout;
        let found: Value = serde_json::from_str(&said).expect("JSON");
        if !delete.is_empty() {
            assert_eq!(found["deleted"], found["leaked"], "{said}");
        }
        found["leaked"]["objects"].as_u64().expect("a number")
    }

    /// All that was synced is there, as a mount that never saw it reads it; nothing else is in the store, sooner or later.
    fn check(&self) -> Mount {
        let mount = Mount::start(&self.meta);
        for (name, version) in &self.files {
            assert!(fs::read(mount.path(name)).unwrap() == content(*version), "{name}");
        }
        let there = fs::read_dir(&mount.dir).unwrap().count();
        assert_eq!(there, self.files.len());
        self.cluster.holdfast(&["fsck", &self.meta, "--deep"]).ok("fsck");
        mount
    }

    fn wait_nothing_else(&self) {
        let wanted = self.files.len() * BLOCKS;
        let mut found = 0;
        let start = Instant::now();
        while found != wanted {
            assert!(start.elapsed() < PATIENCE, "{found} objects, where {wanted} are needed");
            std::thread::sleep(Duration::from_millis(20));
            found = objects(&self.cluster, "v").len();
        }
    }

    /// A file is written over and another one made: of the first either version may be there, of the second all or nothing.
    fn crash_writing(&mut self, point: Point) {
        let mount = self.check();
        self.save(&mount, "kept");
        self.save(&mount, "over");
        let (old, new) = (self.version, self.version + 1);
        self.version = new;
        self.crash(mount, point, move |dir| {
            // Whoever dies cannot answer.
            drop(save(&dir.join("over"), new));
        });
        let is_committed = matches!(point, Point::CommitDone | Point::FlushDone);
        self.files.insert("over".to_owned(), if is_committed { new } else { old });
        let leaked = self.gc(&[]);
        assert_eq!(leaked > 0, !is_committed && point != Point::UploadBegin, "{leaked} objects are leaked");
        let mount = self.check();
        assert_eq!((self.gc(&["--delete"]), self.gc(&[])), (leaked, 0));
        drop(self.check());
        self.wait_nothing_else();
        mount.umount_when_idle();
    }

    fn crash_reclaiming(&mut self, point: Point) {
        let mount = self.check();
        self.save(&mount, "removed");
        self.files.remove("removed");
        self.crash(mount, point, |dir| fs::remove_file(dir.join("removed")).expect("removes"));
        let mount = self.check();
        self.wait_nothing_else();
        assert_eq!(self.gc(&[]), 0);
        mount.umount_when_idle();
    }

    fn crash_gc(&mut self, point: Point) {
        let mount = self.check();
        self.save(&mount, "kept");
        let version = self.version + 1;
        self.crash(mount, Point::CommitBegin, move |dir| drop(save(&dir.join("kept"), version)));
        let leaked = self.gc(&[]);
        assert!(leaked > 0);
        let trap = self.cluster.dir.join("gc-crash");
        trap::set(&trap, point, 1);
        let mut gc = process::command("holdfast");
        gc.args(["gc", &self.meta, "--delete"]).env(CRASH, &trap);
        let ended = process::run(gc);
        assert!(ended.code.is_none() && trap::has_caught(&trap), "gc does not come to {point:?}: {ended:?}");
        let left = self.gc(&["--delete"]);
        assert!(left <= leaked && (left < leaked) == (point == Point::GcDeleted), "{left} of {leaked} are left");
        assert_eq!(self.gc(&[]), 0);
        let mount = self.check();
        self.wait_nothing_else();
        mount.umount_when_idle();
    }
}

#[test]
fn a_client_that_dies_at_any_step_of_its_data_loses_nothing_and_leaves_nothing() {
    let mut world = World::start();
    for point in Point::ALL.iter().copied().filter(|point| !Way::to(*point).is_of_nodes()) {
        let started = Instant::now();
        match Way::to(point) {
            Way::Write => world.crash_writing(point),
            Way::Reclaim => world.crash_reclaiming(point),
            _ => world.crash_gc(point),
        }
        process::report(&format!("{point:?} {:.1?}", started.elapsed()));
    }
}
