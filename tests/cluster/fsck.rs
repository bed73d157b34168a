//! `holdfast fsck`: on a volume that was damaged on purpose, in its metadata and in its objects, each damage is named, repaired or refused with
//! advice; on a healthy one nothing is found, also while writers run. The rules one by one are tested beside them (apply/repair).

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::damage::{VOLUME, damage, edit, objects};
use holdfast_tests::mount::Mount;
use holdfast_tests::process::{self, Ended, apart};
use metad::store::inode_record::SlicePiece;
use metad::store::keys::{self, Key};
use metad::store::read;
use metad::store::records::{self, Deleted, Dentry, SliceRefs, Usage};
use metad::store::txn::Txn;
use serde_json::Value;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn quick() -> Shape {
    Shape { no_sync: true, ..Shape::default() }
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", ended.stdout, ended.stderr))
}

fn content(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(100_000).collect()
}

/// Files that are damaged below, each in a directory of its own with a bystander.
const FILES: [&str; 9] = ["nlink", "inode", "entry", "hash", "kind", "size", "refs", "deleted", "marks"];

fn fill(mount: &Path) {
    for name in FILES {
        fs::create_dir(mount.join(name)).unwrap();
        for file in ["f", "bystander"] {
            fs::write(mount.join(name).join(file), content(name)).unwrap();
        }
    }
    fs::create_dir_all(mount.join("tree/lost/below")).unwrap();
    fs::write(mount.join("tree/lost/below/f"), content("tree")).unwrap();
    fs::create_dir_all(mount.join("loop/inner")).unwrap();
    fs::write(mount.join("loop/inner/f"), content("loop")).unwrap();
    symlink("nowhere", mount.join("link")).unwrap();
    fs::hard_link(mount.join("nlink/f"), mount.join("nlink/g")).unwrap();
}

/// Numbers of what is damaged.
struct Inos(Vec<(String, u64)>);

impl Inos {
    fn read(mount: &Path) -> Inos {
        let mut paths: Vec<String> = FILES.iter().flat_map(|name| [(*name).to_owned(), format!("{name}/f")]).collect();
        paths.extend(["tree", "tree/lost", "loop", "loop/inner", "link"].map(str::to_owned));
        let ino = |path: &String| fs::symlink_metadata(mount.join(path)).unwrap().ino();
        Inos(paths.iter().map(|path| (path.clone(), ino(path))).collect())
    }

    fn of(&self, path: &str) -> u64 {
        self.0.iter().find(|(name, _)| name == path).unwrap().1
    }
}

fn first_slice(txn: &Txn<'_>, ino: u64) -> SlicePiece {
    read::chunk_slices(txn, VOLUME, ino, 0).unwrap().remove(0).piece
}

/// One of each, in places that have nothing to do with each other.
fn break_all(txn: &mut Txn<'_>, inos: &Inos) {
    edit(txn, inos.of("nlink/f"), |inode| inode.nlink = 7);
    edit(txn, inos.of("nlink"), |inode| inode.entries = 70);
    txn.delete(&keys::inode(VOLUME, inos.of("inode/f")));
    txn.delete(&keys::dentry(VOLUME, inos.of("entry"), b"f"));
    let file = |ino| Dentry { ino, kind: holdfast_proto::pb::FileKind::Regular };
    txn.delete(&keys::dentry(VOLUME, inos.of("hash"), b"f"));
    let mut wrong = keys::dentries_from(VOLUME, inos.of("hash"), 77).to_vec();
    wrong.push(b'f');
    txn.put(&Key::from_stored(&wrong), &file(inos.of("hash/f")));
    let fifo = Dentry { kind: holdfast_proto::pb::FileKind::Fifo, ..file(inos.of("kind/f")) };
    txn.put(&keys::dentry(VOLUME, inos.of("kind"), b"f"), &fifo);
    edit(txn, inos.of("size/f"), |inode| inode.size = 10);
    let shared = first_slice(txn, inos.of("refs/f")).slice_id;
    txn.put(&keys::slice_refs(VOLUME, shared), &SliceRefs(3));
    let piece = first_slice(txn, inos.of("deleted/f"));
    txn.put(&keys::deleted(VOLUME, piece.slice_id), &Deleted { slice_len: piece.slice_len });
    edit(txn, inos.of("marks/f"), |inode| (inode.xattrs, inode.mode) = (1, inode.mode | 0o200_000));
    txn.delete(&keys::inode(VOLUME, inos.of("tree/lost")));
    edit(txn, inos.of("tree"), |inode| inode.parent = 999);
    txn.delete(&keys::dentry(VOLUME, 1, b"loop"));
    let dir = Dentry { ino: inos.of("loop"), kind: holdfast_proto::pb::FileKind::Directory };
    txn.put(&keys::dentry(VOLUME, inos.of("loop/inner"), b"up"), &dir);
    edit(txn, inos.of("loop"), |inode| inode.parent = inos.of("loop/inner"));
    txn.delete(&keys::symlink(VOLUME, inos.of("link")));
    txn.put(&keys::xattr(VOLUME, 98_765, b"user.x"), &records::Xattr("v".into()));
    txn.put_bytes(&keys::hold(VOLUME, inos.of("nlink/f"), 99), records::marker());
    txn.put_bytes(&keys::slot(99, 1), records::marker());
    let usage = read::usage(txn, VOLUME).unwrap();
    txn.put(&keys::usage(VOLUME), &Usage { used_bytes: 5, used_inodes: 1, next_ino: 3, ..usage });
}

/// An object that the first session left, which has ended.
fn put_leak(cluster: &Cluster) {
    let some = &objects(cluster, "v")[0];
    let name = format!("{}_0_7", (1_u64 << 32) + 703);
    fs::write(some.with_file_name(name), b"garbage").unwrap();
}

/// What is said of each, before any repair.
fn words(inos: &Inos) -> Vec<String> {
    let of = |path| inos.of(path);
    vec![
        format!("inode {}: nlink 7 and not 2", of("nlink/f")),
        format!("inode {}: 70 entries and not 3", of("nlink")),
        format!("names {}, not such a thing", of("inode/f")),
        format!("inode {}: nlink 1 and not 0", of("entry/f")),
        format!("an entry of directory {} is under a wrong hash", of("hash")),
        format!("names {}, not such a thing", of("kind/f")),
        format!("a slice of {} ends at 100000, size Some(10)", of("size/f")),
        "shared by pieces: counted 3 and not 1".into(),
        format!("of {} is deleted", of("deleted/f")),
        format!("inode {} is marked 0x1", of("marks/f")),
        format!("inode {}: mode 2", of("marks/f")),
        format!("in {}, no directory", of("tree/lost")),
        format!("directory {}: wrong ..", of("tree")),
        format!("directory {} is not below the root", of("loop")),
        format!("symlink {} without its target", of("link")),
        "an extended attribute without its inode 98765".into(),
        format!("a hold of {} by session 99 has one side only", of("nlink/f")),
        "slot 1 of session 99, which has ended".into(),
        format!("inode {} is beyond the counter", of("link")),
        "usage (bytes, inodes, orphans, deleted) (5, 1, ".into(),
    ]
}

/// Everything is as it was, where it was or in /lost+found.
fn check_files(mount: &Path, inos: &Inos) {
    let home = mount.join("lost+found");
    for name in FILES {
        let dir = mount.join(name);
        let lost = home.join(format!("#{}", inos.of(&format!("{name}/f"))));
        let file = if name == "entry" { lost } else { dir.join("f") };
        assert!(fs::read(&file).unwrap() == content(name), "{}", file.display());
        assert!(fs::read(dir.join("bystander")).unwrap() == content(name), "{name}");
    }
    assert_eq!(fs::metadata(mount.join("nlink/f")).unwrap().nlink(), 2);
    assert_eq!(fs::metadata(mount.join("marks/f")).unwrap().permissions().mode(), 0o100_644);
    assert!(fs::read(mount.join("tree/lost/below/f")).unwrap() == content("tree"));
    let cut = home.join(format!("#{}", inos.of("loop")));
    assert!(fs::read(cut.join("inner/f")).unwrap() == content("loop"));
    assert_eq!(fs::metadata(&home).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn each_damage_of_metadata_is_named_and_repaired_or_left_with_advice() {
    let cluster = Cluster::start_as(quick());
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    fill(&mount.dir);
    let inos = Inos::read(&mount.dir);
    mount.umount_when_idle();
    damage(&cluster, |txn| break_all(txn, &inos));

    // Looking changes nothing, whoever looks.
    let said = cluster.holdfast(&["fsck", &meta]).refused(1, "problems are left").stdout;
    for words in words(&inos) {
        assert!(said.contains(&words), "{words:?} in\n{said}");
    }
    assert!(said.contains("--repair would see to it: is moved to /lost+found"), "{said}");
    let wrong = cluster.try_verify().expect_err("the harness sees it too");
    assert!(wrong.contains("nlink 7 and not 2"), "{wrong}");

    put_leak(&cluster);
    cluster.holdfast(&["gc", &meta, "--delete"]).refused(1, "nothing is deleted: the metadata has problems");

    let said = cluster.holdfast(&["fsck", &meta, "--repair"]).refused(1, "1 of metadata, 0 objects").stdout;
    let advice =
        format!("symlink {} without its target\n  left to you: where it led to is lost: remove it", inos.of("link"));
    assert!(said.contains(&advice), "{said}");
    mount.try_again(&meta, &[]).ok("mount again");
    check_files(&mount.dir, &inos);
    fs::remove_file(mount.path("link")).expect("the advice can be followed");
    symlink("anew", mount.path("link")).expect("no number comes twice");
    let freed = cluster.holdfast(&["gc", &meta, "--delete", "--json"]).ok("gc of what was repaired");
    assert_eq!(json(&freed)["deleted"]["objects"], 1, "{}", freed.stdout);
    let last = cluster.holdfast(&["fsck", &meta, "--deep", "--json"]).ok("fsck of what was repaired");
    assert_eq!((&json(&last)["sound"], &json(&last)["metadata_count"]), (&Value::Bool(true), &Value::from(0)));
    check_files(&mount.dir, &inos);
}

#[test]
fn missing_and_damaged_objects_are_named_with_their_files_and_left_to_the_operator() {
    let cluster = Cluster::start_as(Shape { node_count: 1, ..quick() });
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    fs::create_dir(mount.path("d")).unwrap();
    for name in ["missing", "cut", "flipped", "sound"] {
        let path = mount.path("d").join(name);
        fs::write(&path, content(name)).unwrap();
    }
    let all = objects(&cluster, "v");
    assert_eq!(all.len(), 4);
    let backup: Vec<_> = all.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let of = |name: &str| &backup.iter().find(|(_, bytes)| *bytes == content(name)).unwrap().0;
    fs::remove_file(of("missing")).unwrap();
    File::options().write(true).open(of("cut")).unwrap().set_len(10).unwrap();
    let flipped = File::options().write(true).open(of("flipped")).unwrap();
    flipped.write_all_at(b"\xff", 5000).unwrap();

    let quick = cluster.holdfast(&["fsck", &meta, "--repair"]).refused(1, "0 of metadata, 2 objects").stdout;
    assert!(quick.contains("it is missing") && quick.contains("it has 10 bytes instead of 100000"), "{quick}");
    assert!(quick.contains("(/d/missing): bytes 0 to 99999"), "{quick}");
    assert!(quick.contains("put the object back from a backup"), "{quick}");
    let deep = json(&cluster.holdfast(&["fsck", &meta, "--deep", "--json"]).refused(1, "3 objects missing or damaged"));
    let found: Vec<_> =
        deep["objects"].as_array().unwrap().iter().map(|object| &object["files"][0]["paths"][0]).collect();
    for path in ["/d/missing", "/d/cut", "/d/flipped"] {
        assert!(found.contains(&&Value::from(path)), "{path}: {deep}");
    }
    assert!(deep.to_string().contains("its checksum is "), "{deep}");

    // As advised: one from the backup, one written anew, one removed.
    fs::write(of("missing"), &backup.iter().find(|(path, _)| path == of("missing")).unwrap().1).unwrap();
    fs::write(mount.path("d/cut"), content("cut")).unwrap();
    fs::remove_file(mount.path("d/flipped")).unwrap();
    process::wait_for("a sound volume", || {
        Some(cluster.holdfast(&["fsck", &meta, "--deep"])).filter(|ended| ended.code == Some(0))
    });
}

#[test]
fn nothing_is_repaired_where_a_node_is_damaged_and_not_the_volume() {
    let cluster = Cluster::start_as(Shape { unverified: true, ..quick() });
    let meta = cluster.format("v");
    let mount = Mount::start(&meta);
    fs::write(mount.path("f"), b"x").unwrap();
    let ino = fs::metadata(mount.path("f")).unwrap().ino();
    mount.umount_when_idle();
    let first = std::cell::Cell::new(true);
    damage(&cluster, |txn| {
        let nlink = if first.replace(false) { 8 } else { 9 };
        edit(txn, ino, |inode| inode.nlink = nlink);
    });
    cluster.holdfast(&["fsck", &meta, "--repair"]).refused(1, "the states of the nodes differ");
    let said = cluster.holdfast(&["fsck", &meta]).refused(1, "problems are left").stdout;
    assert!(said.contains(" and not 1"), "nothing was repaired: {said}");
}

/// Makes, writes, copies, cuts, renames and removes files until it is told to stop. How many rounds.
fn work(dir: &Path, end: &AtomicBool, rounds: &AtomicU64) {
    let mut round = 0_u64;
    while !end.load(Ordering::Relaxed) {
        let name = |part: &str| dir.join(format!("{part}{}", round % 7));
        let source = File::options().create(true).truncate(true).read(true).write(true).open(name("a")).unwrap();
        source.write_all_at(&content(&round.to_string()), 0).unwrap();
        source.sync_all().unwrap();
        let copy = File::options().create(true).truncate(true).write(true).open(name("b")).unwrap();
        // SAFETY: two open files, and no pointers to offsets.
        let copied = unsafe {
            let (from, to) = (source.as_raw_fd(), copy.as_raw_fd());
            libc::copy_file_range(from, std::ptr::null_mut(), to, std::ptr::null_mut(), 80_000, 0)
        };
        assert!(copied > 0, "{}", std::io::Error::last_os_error());
        source.set_len(30_000).unwrap();
        fs::rename(name("b"), name("c")).unwrap();
        if round.is_multiple_of(2) {
            fs::remove_file(name("a")).unwrap();
            // Open, and without a name.
            source.write_all_at(&[1; 5000], 20_000).unwrap();
        }
        round += 1;
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_found_on_a_healthy_volume_while_writers_run() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start_as(quick());
    let meta = cluster.format("v");
    let (here, there, past) = (Mount::start(&meta), Mount::start(&meta), Mount::start(&meta));
    // Of a session that has ended: what gc looks at most closely.
    for number in 0..40 {
        fs::write(past.path(&format!("old{number}")), content(&number.to_string())).unwrap();
    }
    past.umount_when_idle();
    let (end, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let worker = |mount: &Mount, name: &str| {
        let dir = mount.path(name);
        fs::create_dir(&dir).unwrap();
        let (end, rounds) = (end.clone(), rounds.clone());
        apart(move || work(&dir, &end, &rounds))
    };
    let workers = [worker(&here, "one"), worker(&there, "two"), worker(&there, "three")];
    let remover = {
        let (dir, end) = (here.dir.clone(), end.clone());
        apart(move || {
            for number in (0..30).take_while(|_| !end.load(Ordering::Relaxed)) {
                // Copies of what is about to go, in the order in which a scan would miss it.
                let (old, new) = (dir.join(format!("old{number}")), dir.join(format!("copy{number}")));
                let (source, target) = (File::open(&old).unwrap(), File::create(&new).unwrap());
                // SAFETY: two open files, and no pointers to offsets.
                unsafe {
                    let (from, to) = (source.as_raw_fd(), target.as_raw_fd());
                    libc::copy_file_range(from, std::ptr::null_mut(), to, std::ptr::null_mut(), 100_000, 0);
                }
                fs::remove_file(&old).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        })
    };
    for _ in 0..2 {
        for deep in [&["--deep"][..], &["--repair"], &[]] {
            let found = cluster.holdfast(&[&["fsck", &meta, "--json"], deep].concat()).ok("fsck while writers run");
            assert_eq!(json(&found)["sound"], true, "{}", found.stdout);
            let found = cluster.holdfast(&["gc", &meta, "--delete", "--json"]).ok("gc while writers run");
            assert_eq!(json(&found)["leaked"]["objects"], 0, "{}", found.stdout);
        }
    }
    end.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    remover.join().unwrap();
    assert!(rounds.load(Ordering::Relaxed) > 3);
    for number in 0..40 {
        let name = [format!("copy{number}"), format!("old{number}")].into_iter().find(|name| there.path(name).exists());
        assert!(fs::read(there.path(&name.unwrap())).unwrap() == content(&number.to_string()), "{number}");
    }
    cluster.holdfast(&["fsck", &meta, "--deep"]).ok("fsck at the end");
}
