//! A run that is interrupted, or panics, takes everything with it: processes, mounts, disks, networks.

use holdfast_tests::process;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

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

/// The processes whose arguments name something of that run's, and which program each is.
fn processes(pid: u32) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let line = |pid: u32| {
        let line = String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline")).ok()?).ok()?;
        Some((pid, line))
    };
    let of_it = pids.filter_map(line).filter(|(_, line)| line.contains(&format!("tests-run/{pid}-")));
    of_it.map(|(pid, line)| (pid, line.split('\0').next().unwrap_or_default().to_owned())).collect()
}

fn has_loop_devices(pid: u32) -> bool {
    let ended = process::run(Command::new("losetup")).ok("losetup");
    ended.stdout.contains(&format!("tests-run/{pid}-"))
}

/// Waits for the end of a run, and for that of what it killed. Its exit code, and what is left of it.
fn end(mut run: Child) -> (Option<i32>, usize, BTreeSet<String>) {
    let ended = process::wait_for("the run to end", || run.try_wait().expect("waits"));
    process::wait_for("its processes to be gone", || processes(run.id()).is_empty().then_some(()));
    process::wait_for("its loop devices to be gone", || (!has_loop_devices(run.id())).then_some(()));
    (ended.code(), mounts(run.id()), networks())
}

/// A run that has its three nodes' disks and its two mounts by now.
fn under_way(out: &Path, nemesis: &str) -> Child {
    let mut command = process::command("jepsen");
    command.args(["run", "--workload", "set", "--nemesis", nemesis, "--time", "60", "--seed", "1", "--out"]).arg(out);
    command.stdout(Stdio::null());
    let run = process::spawn(command).expect("starts");
    process::wait_for("the run's mounts", || (mounts(run.id()) >= 5).then_some(()));
    run
}

#[test]
fn a_run_that_is_interrupted_or_panics_leaves_nothing_behind() {
    let before = networks();
    let out = process::scratch_dir("jepsen");
    let run = under_way(&out, "none");
    assert!(networks().len() > before.len() && has_loop_devices(run.id()));
    assert!(process::signal(run.id(), libc::SIGINT));
    assert_eq!(end(run), (Some(130), 0, before.clone()));

    // A mount that was killed is there again when the run finds that a node is gone that nobody killed for it.
    let run = under_way(&out, "client-kill");
    let is_node = |(_, program): &(u32, String)| program.ends_with("/metad");
    let node = processes(run.id()).into_iter().find(is_node).expect("a node");
    assert!(process::signal(node.0, libc::SIGKILL));
    assert_eq!(end(run), (Some(101), 0, before));
}
