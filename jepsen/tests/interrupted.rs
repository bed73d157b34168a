//! A run that is interrupted takes everything with it: processes, mounts, disks, networks.

use holdfast_tests::process;
use std::collections::BTreeSet;
use std::process::Stdio;

fn networks() -> BTreeSet<String> {
    let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    spaces
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("hfns"))
        .collect()
}

/// What of the run with this process number is mounted.
fn mounts(pid: u32) -> usize {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    table.lines().filter(|line| line.contains(&format!("tests-run/{pid}-"))).count()
}

#[test]
fn a_run_that_is_interrupted_leaves_nothing_behind() {
    let before = networks();
    let out = process::scratch_dir("jepsen");
    let mut command = process::command("jepsen");
    command.args(["run", "--workload", "set", "--time", "60", "--seed", "1", "--out"]).arg(&out).stdout(Stdio::null());
    let mut run = process::spawn(command).expect("starts");
    // Three nodes' disks and two mounts.
    process::wait_for("the run's mounts", || (mounts(run.id()) >= 5).then_some(()));
    assert!(networks().len() > before.len());
    assert!(process::signal(run.id(), libc::SIGINT));
    let ended = process::wait_for("the run to end", || run.try_wait().expect("waits"));
    assert_eq!(ended.code(), Some(130));
    assert_eq!((mounts(run.id()), networks()), (0, before));
}
