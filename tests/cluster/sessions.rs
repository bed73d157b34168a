//! Sessions: a client that is silent for longer than its lease loses its session; a dead one leaves nothing behind, a stopped one notices,
//! says EIO for what it had not saved, and goes on with a new session.

use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::files::files_below;
use holdfast_tests::locker::{Locker, flock};
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use holdfast_tests::verify::kinds;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Seconds; clients follow what the nodes grant.
const LEASE_S: u64 = 12;
/// The lease begins anew where a busy machine has seen another leader elected; then the leader looks once a second.
const EXPIRY_MAX: Duration = Duration::from_secs(80);

fn mountpoints(cluster: &Cluster, meta: &str) -> Vec<String> {
    let json = cluster.holdfast(&["status", meta]).ok("status").stdout;
    let status: serde_json::Value = serde_json::from_str(&json).expect("status is JSON");
    let sessions = status["sessions"].as_array().expect("sessions").clone();
    sessions.iter().map(|session| session["mountpoint"].as_str().expect("mountpoint").to_owned()).collect()
}

/// Opens `path`, removes it, locks "saved" beside it, says so, and keeps both until `end`.
fn hold_removed(path: PathBuf, ready: Sender<()>, end: Receiver<()>) -> JoinHandle<()> {
    apart(move || {
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let _held = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let locked = File::open(path.with_file_name("saved")).unwrap();
        flock(&locked, libc::LOCK_EX).unwrap();
        ready.send(()).unwrap();
        end.recv().unwrap_err();
    })
}

/// Writes `path`, locks it, says so, and saves it once told to.
fn save_later(path: PathBuf, ready: Sender<()>, go: Receiver<()>) -> JoinHandle<io::Result<()>> {
    apart(move || {
        let mut file = File::create(path).unwrap();
        flock(&file, libc::LOCK_EX).unwrap();
        file.write_all(b"never saved").unwrap();
        ready.send(()).unwrap();
        go.recv().unwrap();
        let saved = file.sync_all();
        let unlocked = file.write(b"unlocked").and_then(|_| file.sync_all());
        assert_eq!(unlocked.unwrap_err().raw_os_error(), Some(libc::EIO), "the lock is gone");
        saved
    })
}

#[test]
fn a_silent_client_loses_its_session_and_a_dead_ones_open_files_are_freed() {
    let env = vec![("HOLDFAST_METAD_SESSION_LEASE_S".to_owned(), LEASE_S.to_string())];
    let cluster = Cluster::start_as(Shape { env, ..Shape::default() });
    let meta = cluster.format("silent");
    let (dead, stopped, alive) = (Mount::start(&meta), Mount::start(&meta), Mount::start(&meta));
    std::fs::write(stopped.path("saved"), b"saved").unwrap();
    let (dead_pid, stopped_pid) = (dead.pid().expect("daemon"), stopped.pid().expect("daemon"));
    assert_eq!(mountpoints(&cluster, &meta).len(), 3);

    // The dead one holds a removed file open; the stopped one has written what it has not saved.
    let ((ready, is_ready), (end, ended), (go, told)) = (channel(), channel(), channel());
    let holder = hold_removed(dead.path("held"), ready.clone(), ended);
    let saver = save_later(stopped.path("unsaved"), ready, told);
    is_ready.recv().unwrap();
    is_ready.recv().unwrap();
    let [saved, unsaved] = ["saved", "unsaved"].map(|name| Locker::new(&[&alive.path(name)]));
    let [of_dead, of_stopped] = [&saved, &unsaved].map(|locker| locker.start(|files| flock(&files[0], libc::LOCK_EX)));
    saved.wait_until_blocked();
    unsaved.wait_until_blocked();
    process::signal(dead_pid, libc::SIGKILL);
    process::signal(stopped_pid, libc::SIGSTOP);
    let start = Instant::now();
    let only_alive = [alive.dir.to_string_lossy().into_owned()];
    while mountpoints(&cluster, &meta) != only_alive {
        assert!(start.elapsed() < EXPIRY_MAX, "sessions are still there: {:?}", mountpoints(&cluster, &meta));
        std::thread::sleep(Duration::from_secs(1));
    }
    // What only the dead one held open goes: inode and object.
    let bucket = cluster.bucket("silent");
    process::wait_for("the dead client's removed file to be freed", || (object_bytes(&bucket) < 1 << 20).then_some(()));
    drop(end);
    holder.join().unwrap();
    // Their locks have gone to those that waited.
    assert_eq!((of_dead.recv().unwrap(), of_stopped.recv().unwrap()), (Ok(()), Ok(())));

    process::signal(stopped_pid, libc::SIGCONT);
    go.send(()).unwrap();
    let lost = saver.join().unwrap().expect_err("data that was not saved is lost with the session");
    assert_eq!(lost.raw_os_error(), Some(libc::EIO));
    // It goes on by itself, under a new session.
    let text = process::wait_for("the client to go on", || match std::fs::read_to_string(stopped.path("saved")) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("a saved file is gone"),
        Err(_) => None,
    });
    assert_eq!(text, "saved");
    std::fs::write(stopped.path("again"), b"again").unwrap();
    assert_eq!(std::fs::read(alive.path("again")).unwrap(), b"again");
    assert!(stopped.log_text().contains("locks were lost"), "the log says what happened:\n{}", stopped.log_text());
    assert_eq!(mountpoints(&cluster, &meta).len(), 2);
    let left = || kinds(&cluster.verify()[0]);
    let of_open_files = ["ORPHAN", "HOLD", "SESSION_HOLD", "DELETED", "SLICE_REFS"];
    process::wait_for("nothing to be left of the dead client's files", || {
        of_open_files.iter().all(|kind| !left().contains_key(*kind)).then_some(())
    });
    assert_eq!(left()["SESSION"], 2);
}

fn object_bytes(dir: &Path) -> u64 {
    files_below(dir).iter().map(|path| path.metadata().map_or(0, |metadata| metadata.len())).sum()
}

#[test]
fn where_the_lease_is_not_sure_a_quorum_is_asked_before_a_read_is_answered() {
    let _turn = crate::one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("gate");
    let mount = Mount::start(&meta);
    std::fs::write(mount.path("f"), b"x").unwrap();
    let leader = cluster.leader();
    let followers: Vec<_> = cluster.ids().into_iter().filter(|&id| id != leader).collect();
    followers.iter().for_each(|&id| cluster.pause(id));
    // Longer than the lease: from now on the leader alone can vouch for nothing.
    std::thread::sleep(Duration::from_secs(1));
    let path = mount.path("f");
    let (done, answer) = channel();
    let reader = apart(move || done.send(std::fs::metadata(path).map(|found| found.len())));
    std::thread::sleep(Duration::from_secs(1));
    assert!(answer.try_recv().is_err(), "a read was answered without a quorum");
    followers.iter().for_each(|&id| cluster.resume(id));
    assert_eq!(answer.recv().unwrap().unwrap(), 1);
    reader.join().unwrap().unwrap();
    let metrics = holdfast_tests::admin::http_get(cluster.node(leader).admin_port, "/metrics");
    let rounds = metrics.lines().find_map(|line| line.strip_prefix("holdfast_metad_read_index_rounds_total "));
    assert!(rounds.is_some_and(|count| count.trim() != "0"), "{rounds:?}");
}
