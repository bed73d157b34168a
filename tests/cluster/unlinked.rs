//! Files that are open and have lost their last name, on two mounts, while leaders die and all nodes restart: they work to the last close,
//! or to the end of the session, and then nothing of them is left, neither objects nor keys of any kind.

use crate::one_at_a_time;
use holdfast_tests::cluster::Cluster;
use holdfast_tests::files::object_count;
use holdfast_tests::locker::flock;
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, apart};
use holdfast_tests::verify::kinds;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

const BYTES: usize = 300_000;

/// How much there is of everything: data objects, and keys of each kind on every node.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    objects_count: usize,
    keys: Vec<BTreeMap<String, u64>>,
}

impl Census {
    fn take(cluster: &Cluster, volume: &str) -> Census {
        let mut keys: Vec<_> = cluster.verify().iter().map(kinds).collect();
        // How many slots a session has used says only how much it did at once.
        keys.iter_mut().for_each(|node| node.retain(|kind, _| kind != "SLOT"));
        Census { objects_count: object_count(&cluster.bucket(volume)), keys }
    }

    fn of(&self, kind: &str) -> u64 {
        self.keys[0].get(kind).copied().unwrap_or(0)
    }
}

/// Keeps files open on a thread with descriptors of its own, and works on them when told to.
struct Holder {
    tell: Sender<()>,
    done: Receiver<()>,
    thread: JoinHandle<()>,
}

impl Holder {
    /// `open` has opened and unlinked what it returns.
    fn start(open: impl FnOnce() -> Vec<Held> + Send + 'static) -> Holder {
        let ((tell, told), (say, done)) = (channel::<()>(), channel());
        let thread = apart(move || {
            let mut held = open();
            say.send(()).unwrap();
            for (round, ()) in told.into_iter().enumerate() {
                held.iter_mut().for_each(|held| held.work(round as u8));
                say.send(()).unwrap();
            }
        });
        done.recv().expect("the files are opened");
        Holder { tell, done, thread }
    }

    /// Everything that is open is still read and written.
    fn work(&self) {
        self.tell.send(()).unwrap();
        self.done.recv().expect("the files work");
    }

    /// The last close.
    fn close(self) {
        drop(self.tell);
        self.thread.join().unwrap();
    }
}

/// A file without a name, and what is in it.
struct Held {
    file: File,
    content: Vec<u8>,
    is_writer: bool,
}

impl Held {
    fn work(&mut self, round: u8) {
        assert_eq!(self.file.metadata().unwrap().nlink(), 0);
        let mut found = vec![0; self.content.len() + 1];
        let len = self.file.read_at(&mut found, 0).unwrap();
        assert!(found[..len] == self.content, "what is held open has changed");
        if self.is_writer {
            let (at, fresh) = (1000 * usize::from(round), [round ^ 0x55; 5000]);
            self.file.write_all_at(&fresh, at as u64).unwrap();
            self.content[at..at + fresh.len()].copy_from_slice(&fresh);
            self.file.sync_all().unwrap();
        }
    }
}

fn new_file(path: &Path, fill: u8) -> File {
    std::fs::write(path, vec![fill; BYTES]).unwrap();
    File::options().read(true).write(true).open(path).unwrap()
}

fn held(file: File, fill: u8, is_writer: bool) -> Held {
    Held { file, content: vec![fill; BYTES], is_writer }
}

/// Open here, unlinked here and there.
fn unlinked(here: &Path, there: &Path) -> Vec<Held> {
    let file = new_file(&here.join("by-itself"), 1);
    std::fs::remove_file(here.join("by-itself")).unwrap();
    let other = new_file(&here.join("by-another"), 2);
    std::fs::remove_file(there.join("by-another")).unwrap();
    vec![held(file, 1, true), held(other, 2, true)]
}

/// Renamed over there; one open here, with a lock, and one on each of `readers`, with an attribute.
fn replaced(here: &Path, there: &Path, readers: &[PathBuf]) -> Vec<Held> {
    let writer = new_file(&here.join("replaced"), 3);
    flock(&writer, libc::LOCK_EX).unwrap();
    let reader_path = here.join("read");
    drop(new_file(&reader_path, 4));
    set_attribute(&reader_path);
    let readers: Vec<_> = readers.iter().map(|mount| File::open(mount.join("read")).unwrap()).collect();
    for name in ["replaced", "read"] {
        std::fs::write(there.join("new"), b"new").unwrap();
        std::fs::rename(there.join("new"), there.join(name)).unwrap();
        std::fs::remove_file(there.join(name)).unwrap();
    }
    let readers = readers.into_iter().map(|file| held(file, 4, false));
    std::iter::once(held(writer, 3, true)).chain(readers).collect()
}

fn set_attribute(path: &Path) {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: valid C strings, and a value of the length given.
    let set = unsafe { libc::setxattr(path.as_ptr(), c"user.mark".as_ptr(), b"x".as_ptr().cast(), 1, 0) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Two files that share their slices.
fn sharing(here: &Path) -> Vec<Held> {
    let from = new_file(&here.join("from"), 5);
    from.sync_all().unwrap();
    let to = File::options().create_new(true).read(true).write(true).open(here.join("to")).unwrap();
    // SAFETY: two open files, and no pointers to offsets.
    let copied = unsafe {
        let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
        libc::copy_file_range(from, std::ptr::null_mut(), to, std::ptr::null_mut(), BYTES, 0)
    };
    assert_eq!(copied, BYTES as isize, "{}", std::io::Error::last_os_error());
    ["from", "to"].iter().for_each(|name| std::fs::remove_file(here.join(name)).unwrap());
    vec![held(from, 5, true), held(to, 5, true)]
}

fn open_all(here: &Path, there: &Path, readers: &[&Path]) -> Holder {
    let (here, there) = (here.to_owned(), there.to_owned());
    let readers: Vec<_> = readers.iter().map(|mount| mount.to_path_buf()).collect();
    Holder::start(move || {
        let mut all = unlinked(&here, &there);
        all.extend(replaced(&here, &there, &readers));
        all.extend(sharing(&here));
        all
    })
}

#[test]
fn nothing_is_left_of_files_that_lost_their_names_while_open() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("leak");
    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    std::fs::write(here.path("kept"), vec![9; BYTES]).unwrap();
    set_attribute(&here.path("kept"));
    let before = Census::take(&cluster, "leak");

    let leaving = Mount::start(&meta);
    let closed = open_all(&here.dir, &there.dir, &[&here.dir, &there.dir]);
    let ended = open_all(&leaving.dir, &there.dir, &[&leaving.dir]);
    // The leader asks the sessions whether they hold what another has unlinked.
    let during = process::wait_for("both sessions' holds", || {
        Some(Census::take(&cluster, "leak")).filter(|census| census.of("HOLD") >= 13)
    });
    for (kind, at_least) in [("ORPHAN", 12), ("SESSION_HOLD", 13), ("XATTR", 3), ("LOCK", 2), ("SLICE_REFS", 2)] {
        assert!(during.of(kind) >= at_least, "{kind}: {during:?}");
    }
    assert!(during.objects_count >= before.objects_count + 10, "{during:?}");
    let work = || [&closed, &ended].iter().for_each(|holder| holder.work());
    work();
    let leader = cluster.leader();
    cluster.kill(leader);
    work();
    cluster.start_node(leader);
    cluster.wait_ready();
    cluster.ids().into_iter().for_each(|id| cluster.kill(id));
    cluster.ids().into_iter().for_each(|id| cluster.start_node(id));
    cluster.wait_ready();
    work();
    let after = Census::take(&cluster, "leak");
    assert_eq!(
        ["ORPHAN", "LOCK", "XATTR"].map(|kind| after.of(kind)),
        ["ORPHAN", "LOCK", "XATTR"].map(|kind| during.of(kind))
    );

    // One set ends with its last close, the other with its client's session.
    closed.close();
    process::signal(leaving.pid().expect("daemon"), libc::SIGTERM);
    let mut last = None;
    let start = std::time::Instant::now();
    while last.as_ref() != Some(&before) {
        assert!(start.elapsed().as_secs() < 90, "before:\n{before:?}\nleft for good:\n{last:?}");
        std::thread::sleep(std::time::Duration::from_millis(200));
        last = Some(Census::take(&cluster, "leak"));
    }
    ended.close();
}
