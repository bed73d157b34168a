//! A directory of very many entries: made, listed while others come and go, and removed, with bounded memory on both sides.
//! HOLDFAST_ENTRIES=1000000 makes it a million; CI does with fewer, since it runs debug builds.

use holdfast_tests::mount::Mount;
use holdfast_tests::{crowd, process, shared};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

const ENTRIES_COUNT: usize = 30_000;
/// What is left for `rm -rf` through the mount, which removes one after the other.
const REMOVED_BY_MOUNT: usize = 1_500;
/// By how much a listing may make a process grow: far less than the entries take.
const GROWTH_KIB_MAX: u64 = 24 << 10;

fn entries_count() -> usize {
    std::env::var("HOLDFAST_ENTRIES").ok().and_then(|text| text.parse().ok()).unwrap_or(ENTRIES_COUNT)
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}

/// By how much the processes grow at most while `work` is done, KiB.
fn growth(pids: &[u32], work: impl FnOnce()) -> Vec<u64> {
    let before: Vec<u64> = pids.iter().map(|&pid| status_kib(pid, "VmRSS:")).collect();
    // 5: the high-water mark starts anew (proc(5), clear_refs).
    pids.iter().for_each(|pid| fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("clear_refs"));
    work();
    pids.iter().zip(before).map(|(&pid, before)| status_kib(pid, "VmHWM:").saturating_sub(before)).collect()
}

/// Lists the directory while names come and go, and checks that each of the first `count` is seen exactly once.
fn list(dir: &Path, count: usize) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut changes = 0;
            while !stop.load(Ordering::Relaxed) {
                let passing = dir.join(format!("passing-{}", changes % 50));
                fs::write(&passing, b"").expect("creates");
                fs::rename(&passing, dir.join("renamed")).expect("renames");
                fs::remove_file(dir.join("renamed")).expect("removes");
                changes += 1;
            }
            changes
        });
        let mut seen = vec![0_u8; count];
        for entry in fs::read_dir(dir).expect("opens") {
            let entry_name = entry.expect("goes on").file_name().into_string().expect("text");
            if let Some(number) = entry_name.strip_prefix(&crowd::name(0)[..crowd::name(0).len() - 8]) {
                seen[number.parse::<usize>().expect("a number")] += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let changes = changes.join().expect("the thread that changes names");
        assert!(changes > 0, "nothing changed while the directory was listed");
        let wrong = seen.iter().position(|times| *times != 1);
        assert_eq!(wrong.map(|number| (number, seen[number])), None, "(entry, times seen) of the first that is wrong");
    });
}

#[test]
fn a_large_directory_is_made_listed_and_removed_in_bounded_memory() {
    let (meta, mount) = shared::own_volume();
    let count = entries_count();
    fs::create_dir(mount.path("large")).unwrap();
    let parent = std::os::unix::fs::MetadataExt::ino(&fs::metadata(mount.path("large")).unwrap());
    crowd::make(&meta, parent, 0..count);
    let pids: Vec<u32> = mount.pid().into_iter().chain(metad_pids()).collect();
    assert_eq!(pids.len(), 4);
    let grown = growth(&pids, || list(&mount.path("large"), count));
    process::report(&format!("large directory: {count} entries listed; client and nodes grew by {grown:?} KiB"));
    assert!(grown.iter().all(|kib| *kib < GROWTH_KIB_MAX), "grew by {grown:?} KiB for a listing of {count} entries");

    let fresh = Mount::start_with(&meta, &["--attr-cache", "60", "--entry-cache", "60"]);
    list(&fresh.path("large"), count);
    crowd::remove(&meta, parent, REMOVED_BY_MOUNT..count);
    fs::remove_dir_all(mount.path("large")).unwrap();
    assert_eq!(fs::read_dir(&fresh.dir).unwrap().count(), 0);
}

fn metad_pids() -> Vec<u32> {
    let cluster = shared::cluster();
    cluster.ids().into_iter().filter_map(|id| cluster.pid(id)).collect()
}
