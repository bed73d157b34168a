//! One cluster and one mount a test binary, so that CI stays quick; each test works in a directory of its own. Tests that kill
//! or fill things make their own cluster instead. Verified and cleaned at exit by process.rs.

use crate::admin::{self, runtime};
use crate::cluster::{Cluster, Shape};
use crate::fs::mount_fs::MountFs;
use crate::mount::Mount;
use crate::process;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

/// Name of the shared volume.
pub const VOLUME: &str = "shared";

static COUNTER: AtomicU32 = AtomicU32::new(0);

fn number() -> u32 {
    COUNTER.fetch_add(1, Ordering::Relaxed)
}

/// The three nodes of this test binary.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::start_as(Shape { no_sync: true, ..Shape::default() });
        process::check_at_exit("the_shared_cluster_is_sound_and_equal_at_exit", verify);
        cluster
    })
}

fn verify() -> Result<(), String> {
    cluster().try_verify().map(drop)
}

/// Holds the state of one node, each time another, against the invariants: for the end of a test. Others may be at work.
pub fn check_invariants() {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let addr = cluster().nodes[number() as usize % cluster().nodes.len()].addr();
    let reply = runtime().block_on(admin::verify(&addr, 0)).expect("a node verifies its state");
    assert!(reply.problems.is_empty(), "metad {}: {}", reply.id, reply.problems.join("\n"));
}

/// META of the shared volume.
pub fn meta() -> String {
    static META: OnceLock<String> = OnceLock::new();
    META.get_or_init(|| cluster().format(VOLUME)).clone()
}

/// The shared volume, mounted.
pub fn mount() -> &'static Mount {
    static MOUNT: OnceLock<Mount> = OnceLock::new();
    MOUNT.get_or_init(|| Mount::start(&meta()))
}

/// A second mount of the shared volume.
pub fn second_mount() -> &'static Mount {
    static MOUNT: OnceLock<Mount> = OnceLock::new();
    MOUNT.get_or_init(|| Mount::start(&meta()))
}

/// A new directory's name, relative to the volume's root. Open to all users.
pub fn fresh_name() -> String {
    let name = format!("test-{}", number());
    let dir = mount().path(&name);
    std::fs::create_dir(&dir).expect("mkdir on the shared mount");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(&dir, open).expect("chmod on the shared mount");
    name
}

/// A new directory on the shared mount.
pub fn fresh_dir() -> PathBuf {
    mount().path(&fresh_name())
}

/// A new directory as both shared mounts see it.
pub fn fresh_dir_on_both() -> (PathBuf, PathBuf) {
    let name = fresh_name();
    (mount().path(&name), second_mount().path(&name))
}

/// A new directory on the shared mount, as an `Fs`.
pub fn fresh_fs() -> MountFs {
    MountFs::new(&fresh_dir())
}

/// A volume of its own on the shared cluster, and its mount.
pub fn own_volume() -> (String, Mount) {
    let meta = cluster().format(&format!("own-{}", number()));
    let mount = Mount::start(&meta);
    (meta, mount)
}
