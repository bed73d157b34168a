//! A whole mount over each kind of store: formatted as INSTALL.md says, written, read back cold by another mount, emptied; and what is told
//! of credentials that are wrong, and never of any.

use crate::contract::open_bare;
use crate::google::Google;
use holdfast_tests::files::files_below;
use holdfast_tests::mount::Mount;
use holdfast_tests::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use holdfast_tests::stores::{Reach, StoreServer};
use holdfast_tests::{process, shared};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};

/// Names of all objects in the bucket, whatever volume they belong to.
pub fn objects(reach: &Reach) -> Vec<String> {
    if reach.kind == "file" {
        let files = files_below(reach.url.as_ref());
        let names = files.iter().map(|path| path.to_string_lossy().into_owned());
        return names.filter(|name| !name.ends_with("/.holdfast-volume")).collect();
    }
    let store = open_bare(reach);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listed = runtime.block_on(store.list("")).expect("list");
    listed.into_iter().map(|(name, _)| name).collect()
}

fn shows_no_secret(reach: &Reach, said: &str) {
    for (variable, value) in reach.variables.iter().filter(|(name, _)| *name != "AZURE_STORAGE_ACCOUNT") {
        assert!(!said.contains(value), "{variable} is shown");
    }
}

/// What the process shows to everybody on the machine, and to root.
fn shown_by(mount: &Mount) -> String {
    let pid = mount.pid().expect("the mount is served");
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).expect("a process of ours");
    String::from_utf8_lossy(&[read("cmdline"), read("environ")].concat()).into_owned()
}

/// fsck and gc know every object by its name in the store's listing.
fn is_found_sound(reach: &Reach, meta: &str) {
    let fsck = shared::cluster().holdfast(&["fsck", meta, "--deep"]).ok("fsck");
    let gc = shared::cluster().holdfast(&["gc", meta, "--json"]).ok("gc");
    shows_no_secret(reach, &[fsck.stdout, fsck.stderr, gc.stdout.clone(), gc.stderr].concat());
    let found: serde_json::Value = serde_json::from_str(&gc.stdout).expect("JSON");
    let count = |kind: &str| found[kind]["objects"].as_u64().expect("a count");
    assert_eq!((count("all"), count("leaked")), (objects(reach).len() as u64, 0), "{found}");
    assert_eq!(found["foreign"].as_array().map(Vec::len), Some(0), "{found}");
}

/// `options` are those of format.
fn serves_files(reach: &Reach, volume: &str, options: &[&str]) {
    let meta = shared::cluster().meta(volume);
    let said = reach.format(&meta, options).ok("holdfast format");
    shows_no_secret(reach, &format!("{}{}", said.stdout, said.stderr));
    assert_eq!(objects(reach), [""; 0], "the proof leaves nothing behind");

    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    shows_no_secret(reach, &shown_by(&here));
    let mut content: Vec<u8> = (0..9_000_000_u32).map(|n| ((n * 13) >> 4) as u8).collect();
    fs::write(here.path("large"), &content).unwrap();
    fs::write(here.path("small"), b"small").unwrap();
    fs::write(here.path("empty"), b"").unwrap();
    assert_eq!(objects(reach).len(), 4);
    assert!(fs::read(there.path("large")).unwrap() == content);

    let file = fs::File::options().write(true).open(there.path("large")).unwrap();
    file.write_all_at(&[7; 5000], 4_190_000).unwrap();
    drop(file);
    content[4_190_000..4_195_000].fill(7);
    assert!(fs::read(here.path("large")).unwrap() == content);

    // Cold: neither a cache of ours nor one of the kernel's is left.
    here.umount().ok("holdfast umount");
    here.try_again(&meta, &[]).ok("holdfast mount");
    assert!(fs::read(here.path("large")).unwrap() == content);
    assert_eq!(fs::read(here.path("small")).unwrap(), b"small");
    assert_eq!(fs::read(here.path("empty")).unwrap(), b"");

    is_found_sound(reach, &meta);

    for name in ["large", "small", "empty"] {
        fs::remove_file(here.path(name)).unwrap();
    }
    process::wait_for("the objects to be deleted", || objects(reach).is_empty().then_some(()));
    shows_no_secret(reach, &format!("{}{}", here.log_text(), there.log_text()));
}

#[test]
fn files_in_a_directory_come_back_and_go() {
    let reach = Reach::directory(&process::scratch_dir("bucket").join("objects"));
    serves_files(&reach, "on-directory", &[]);
}

#[test]
fn files_on_s3_come_back_and_go() {
    let server = S3Server::start();
    serves_files(&Reach::s3(&server), "on-s3", &[]);
}

#[test]
fn files_on_azure_come_back_and_go() {
    let server = StoreServer::azure();
    serves_files(&server.reach, "on-azure", &[]);
}

#[test]
fn files_on_webdav_come_back_and_go() {
    let server = StoreServer::webdav();
    serves_files(&server.reach, "on-webdav", &[]);
}

#[test]
fn files_on_google_come_back_and_go() {
    let server = Google::start();
    serves_files(&server.reach, "on-google", &[]);
}

#[test]
fn the_manual_shows_each_kind_with_the_variables_that_these_tests_use() {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/INSTALL.md");
    let manual = fs::read_to_string(manual).expect("INSTALL.md");
    let (azure, webdav, s3, google) = (StoreServer::azure(), StoreServer::webdav(), S3Server::start(), Google::start());
    let directory = Reach::directory("/srv/objects".as_ref());
    for reach in [&azure.reach, &webdav.reach, &Reach::s3(&s3), &google.reach, &directory] {
        let format = format!("holdfast format --storage {} --bucket ", reach.kind);
        let before = manual.find(&format).unwrap_or_else(|| panic!("INSTALL.md does not say: {format}"));
        let example = &manual[manual[..before].rfind("\n**").expect("a heading")..before];
        for (variable, _) in &reach.variables {
            assert!(example.contains(&format!("{variable}=")), "{variable} is not in the example of {}", reach.kind);
        }
    }
}

/// A file of credentials, as `--credentials-file` wants it.
fn credentials(secret: &str) -> String {
    let path = process::scratch_dir("keys").join("keys");
    fs::write(&path, format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={secret}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn credentials_come_from_a_file_as_well_and_a_wrong_one_is_told_before_anything_is_made() {
    let server = S3Server::start();
    let reach = Reach { variables: Vec::new(), ..Reach::s3(&server) };
    let meta = shared::cluster().meta("keys-in-a-file");
    let keys = credentials("a-wrong-secret-key");
    let refused = reach.format(&meta, &["--credentials-file", &keys]).refused(1, "credentials");
    assert!(!refused.stderr.contains("a-wrong-secret-key"));
    shared::cluster().holdfast(&["status", &meta]).refused(1, "keys-in-a-file|no volume|no such");

    let keys = credentials(SECRET_KEY);
    let said = reach.format(&meta, &["--credentials-file", &keys]).ok("format");
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(SECRET_KEY));
    let status = shared::cluster().holdfast(&["status", &meta]).ok("status");
    assert!(!format!("{}{}", status.stdout, status.stderr).contains(SECRET_KEY));
}

#[test]
fn a_store_that_nobody_serves_is_told_within_seconds() {
    let server = S3Server::start();
    let reach = Reach::s3(&server).through(9);
    let meta = shared::cluster().meta("nobody-there");
    reach.format(&meta, &[]).refused(1, "check: bucket URL");
}
