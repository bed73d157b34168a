//! A whole mount over a real S3 server.

use holdfast_tests::files::files_below;
use holdfast_tests::mount::Mount;
use holdfast_tests::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use holdfast_tests::{process, shared};
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file of credentials, as `--credentials-file` wants it.
fn credentials(secret: &str) -> String {
    let path = process::scratch_dir("s3-keys").join("keys");
    fs::write(&path, format!("AWS_ACCESS_KEY_ID={ACCESS_KEY}\nAWS_SECRET_ACCESS_KEY={secret}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_string_lossy().into_owned()
}

fn object_count(directory: &Path) -> usize {
    assert!(directory.is_dir(), "no bucket at {}", directory.display());
    let is_object = |path: &&PathBuf| !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    files_below(directory).iter().filter(is_object).count()
}

#[test]
fn files_on_s3_come_back_on_another_mount_and_no_key_is_shown() {
    let server = S3Server::start();
    let meta = shared::cluster().meta("on-s3");
    let keys = credentials(SECRET_KEY);
    let bucket = server.bucket_url();
    let format = ["format", &meta, "--storage", "s3", "--bucket", &bucket, "--credentials-file", &keys];
    let said = shared::cluster().holdfast(&format).ok("format on S3");
    assert!(!format!("{}{}", said.stdout, said.stderr).contains(SECRET_KEY));
    assert_eq!(object_count(&server.bucket_directory()), 0, "the proof leaves nothing behind");

    let (here, there) = (Mount::start(&meta), Mount::start(&meta));
    let mut content: Vec<u8> = (0..9_000_000_u32).map(|n| ((n * 13) >> 4) as u8).collect();
    fs::write(here.path("large"), &content).unwrap();
    fs::write(here.path("small"), b"small").unwrap();
    assert_eq!(object_count(&server.bucket_directory()), 4);
    assert!(fs::read(there.path("large")).unwrap() == content);

    let file = fs::File::options().write(true).open(there.path("large")).unwrap();
    file.write_all_at(&[7; 5000], 4_190_000).unwrap();
    drop(file);
    content[4_190_000..4_195_000].fill(7);
    assert!(fs::read(here.path("large")).unwrap() == content);
    assert_eq!(fs::read(there.path("small")).unwrap(), b"small");
    assert!(!format!("{}{}", here.log_text(), there.log_text()).contains(SECRET_KEY));
}

#[test]
fn a_wrong_key_is_told_before_anything_is_made() {
    let server = S3Server::start();
    let meta = shared::cluster().meta("wrong-key");
    let keys = credentials("a-wrong-secret-key");
    let bucket = server.bucket_url();
    let format = ["format", &meta, "--storage", "s3", "--bucket", &bucket, "--credentials-file", &keys];
    let refused = shared::cluster().holdfast(&format).refused(1, "credentials");
    assert!(!refused.stderr.contains("a-wrong-secret-key"));
    shared::cluster().holdfast(&["status", &meta]).refused(1, "wrong-key|no volume|no such");
}
