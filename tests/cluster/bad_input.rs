//! Bad input to the client: each refusal is one clear line that names what to do, a non-zero exit, and nothing is lost.

use holdfast_tests::cluster::Cluster;
use holdfast_tests::files::files_below;
use holdfast_tests::mount::{Mount, is_mounted};
use holdfast_tests::process::{self, Ended};
use holdfast_tests::{ports, shared};
use std::path::Path;

fn holdfast(args: &[&str]) -> Ended {
    shared::cluster().holdfast(args)
}

fn empty_dir() -> String {
    process::scratch_dir("empty").to_string_lossy().into_owned()
}

#[test]
fn a_meta_that_is_no_meta_is_refused() {
    let dir = empty_dir();
    for meta in [
        "redis://localhost/1",
        "holdfast://",
        "holdfast://localhost",
        "holdfast://localhost:x/v",
        "holdfast://a:1/BAD NAME",
    ] {
        holdfast(&["mount", meta, &dir, "-d"]).refused(2, "holdfast://|a-z");
        holdfast(&["status", meta]).refused(2, "holdfast://|a-z");
    }
}

#[test]
fn without_a_meta_the_variable_is_named() {
    holdfast(&["status"]).refused(2, "HOLDFAST_META");
}

#[test]
fn an_unreachable_cluster_is_named() {
    let meta = format!("holdfast://127.0.0.1:{}/shared", ports::free_port());
    holdfast(&["status", &meta]).refused(1, "127.0.0.1");
    let dir = empty_dir();
    holdfast(&["mount", &meta, &dir, "-d"]).refused(1, "127.0.0.1");
    assert!(!is_mounted(Path::new(&dir)));
}

#[test]
fn an_unknown_volume_is_named_with_what_to_do() {
    let meta = shared::cluster().meta("nosuchvolume");
    holdfast(&["status", &meta]).refused(1, "nosuchvolume");
    let dir = empty_dir();
    holdfast(&["mount", &meta, &dir, "-d"]).refused(1, "format");
    assert!(!is_mounted(Path::new(&dir)));
}

#[test]
fn format_over_a_volume_is_refused_and_changes_nothing() {
    let (meta, mount) = shared::own_volume();
    std::fs::write(mount.path("f"), b"precious").unwrap();
    let bucket = empty_dir();
    holdfast(&["format", &meta, "--storage", "file", "--bucket", &bucket]).refused(1, "exist");
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(&bucket).unwrap().count(), 0, "nothing was left in the other bucket");
}

#[test]
fn format_on_a_store_that_does_not_work_writes_no_volume() {
    let meta = shared::cluster().meta("neverborn");
    holdfast(&["format", &meta, "--storage", "file", "--bucket", "/proc/nonexistent/bucket"]).refused(1, "bucket");
    let endpoint = format!("http://127.0.0.1:{}/bucket", ports::free_port());
    let mut command = process::command("holdfast");
    command.args(["format", &meta, "--storage", "s3", "--bucket", &endpoint]);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret-of-the-test");
    let ended = process::run(command);
    assert!(!ended.stderr.contains("secret-of-the-test"), "credentials were printed");
    ended.refused(1, "bucket|127.0.0.1");
    holdfast(&["format", &meta, "--storage", "tape", "--bucket", "x"]).refused(2, "storage|s3");
    holdfast(&["status", &meta]).refused(1, "neverborn");
}

#[test]
fn a_block_size_that_is_no_block_size_is_refused() {
    let (meta, bucket) = (shared::cluster().meta("blocks"), empty_dir());
    for size in ["3MiB", "1", "1GiB", "many"] {
        let ended = holdfast(&["format", &meta, "--storage", "file", "--bucket", &bucket, "--block-size", size]);
        ended.refused(2, "block");
    }
}

#[test]
fn a_mount_point_that_is_missing_busy_or_a_file_is_refused() {
    let meta = shared::meta();
    holdfast(&["mount", &meta, "/nonexistent/mnt", "-d"]).refused(1, "/nonexistent/mnt");
    let file = format!("{}/file", empty_dir());
    std::fs::write(&file, b"").unwrap();
    holdfast(&["mount", &meta, &file, "-d"]).refused(1, "directory");
    let busy = shared::mount().dir.to_string_lossy().into_owned();
    holdfast(&["mount", &meta, &busy, "-d"]).refused(1, "mount");
    assert!(is_mounted(Path::new(&busy)), "the first mount lives");
}

#[test]
fn umount_of_what_is_not_mounted_is_refused() {
    holdfast(&["umount", &empty_dir()]).refused(1, "mount");
    holdfast(&["umount", "/nonexistent/mnt"]).refused(1, "/nonexistent/mnt");
}

#[test]
fn a_subdirectory_that_is_not_there_is_refused() {
    let dir = empty_dir();
    holdfast(&["mount", &shared::meta(), &dir, "-d", "--subdir", "no/such"]).refused(1, "no/such");
    assert!(!is_mounted(Path::new(&dir)));
}

#[test]
fn a_bucket_that_vanishes_is_eio_and_a_log_line_and_the_mount_lives() {
    let (meta, mount) = shared::own_volume();
    let bucket = shared::cluster().bucket(meta.rsplit('/').next().unwrap());
    std::fs::write(mount.path("f"), vec![1; 1 << 20]).unwrap();
    let aside = bucket.with_extension("aside");
    std::fs::rename(&bucket, &aside).unwrap();
    // A file in the way, so that the store cannot make the directory again by itself.
    std::fs::write(&bucket, b"").unwrap();
    let written = std::fs::File::create(mount.path("g")).and_then(|mut file| {
        std::io::Write::write_all(&mut file, &[2; 1 << 20])?;
        file.sync_all()
    });
    assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(std::fs::metadata(mount.path("f")).is_ok(), "metadata goes on");
    assert!(mount.log_text().contains("object"), "the log names the object store:\n{}", mount.log_text());
    std::fs::remove_file(&bucket).unwrap();
    std::fs::rename(&aside, &bucket).unwrap();
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), vec![1; 1 << 20]);
    std::fs::write(mount.path("h"), b"works again").unwrap();
    assert_eq!(std::fs::read(mount.path("h")).unwrap(), b"works again");
}

#[test]
fn a_damaged_object_is_eio_and_never_wrong_bytes() {
    let (meta, mount) = shared::own_volume();
    let bucket = shared::cluster().bucket(meta.rsplit('/').next().unwrap());
    std::fs::write(mount.path("f"), vec![1; 100_000]).unwrap();
    flip_a_byte_in_every_object(&bucket);
    // Another mount has it in no cache.
    let cold = Mount::start(&meta);
    assert_eq!(std::fs::read(cold.path("f")).unwrap_err().raw_os_error(), Some(libc::EIO));
    assert!(std::fs::metadata(cold.path("f")).is_ok(), "the mount lives");
}

fn flip_a_byte_in_every_object(dir: &Path) {
    let objects = files_below(dir);
    assert!(!objects.is_empty(), "no object in {}", dir.display());
    for path in objects {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    for args in [&["frobnicate"][..], &["status", "--no-such-flag"], &["mount"]] {
        let ended = holdfast(args);
        ended.refused(2, "--help");
    }
}

#[test]
fn a_read_only_mount_refuses_every_change() {
    let (meta, mount) = shared::own_volume();
    std::fs::write(mount.path("f"), b"data").unwrap();
    let read_only = Mount::start_with(&meta, &["--read-only"]);
    assert_eq!(std::fs::read(read_only.path("f")).unwrap(), b"data");
    let results = [
        std::fs::write(read_only.path("f"), b"x"),
        std::fs::write(read_only.path("new"), b"x"),
        std::fs::create_dir(read_only.path("d")),
        std::fs::remove_file(read_only.path("f")),
        std::fs::rename(read_only.path("f"), read_only.path("g")),
    ];
    for result in results {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EROFS));
    }
}

#[test]
fn a_subdirectory_can_be_mounted() {
    let (meta, mount) = shared::own_volume();
    std::fs::create_dir_all(mount.path("a/b")).unwrap();
    std::fs::write(mount.path("a/b/f"), b"below").unwrap();
    let below = Mount::start_with(&meta, &["--subdir", "a/b"]);
    assert_eq!(std::fs::read(below.path("f")).unwrap(), b"below");
    std::fs::write(below.path("g"), b"new").unwrap();
    assert_eq!(std::fs::read(mount.path("a/b/g")).unwrap(), b"new");
}

#[test]
fn a_killed_mount_can_be_undone_and_made_again() {
    let (meta, mount) = shared::own_volume();
    std::fs::write(mount.path("f"), b"kept").unwrap();
    process::signal(mount.pid().expect("the mount's process"), libc::SIGKILL);
    process::wait_for("the mount to be dead", || std::fs::metadata(mount.path("f")).err());
    mount.umount().ok("umount of a dead mount");
    mount.try_again(&meta, &[]).ok("mount again");
    assert_eq!(std::fs::read(mount.path("f")).unwrap(), b"kept");
}

#[test]
fn secrets_are_never_shown() {
    let cluster: &Cluster = shared::cluster();
    let text = cluster.holdfast(&["status", &shared::meta()]).ok("status").stdout;
    let value: serde_json::Value = serde_json::from_str(&text).expect("status prints JSON");
    assert!(value.to_string().contains(shared::VOLUME));
    assert!(!text.contains("secret"), "{text}");
}
