//! Bad input to a node: damaged and foreign data, two processes on one directory, wrong configuration. Each ends with one clear
//! line and a non-zero exit, and the data stays as it was.

use crate::one_at_a_time;
use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::files::files_below;
use holdfast_tests::mount::Mount;
use holdfast_tests::ports;
use holdfast_tests::process::{self, Ended};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

fn quick() -> Shape {
    Shape { no_sync: true, ..Shape::default() }
}

/// Runs a metad that is expected to refuse at once.
fn attempt(command: Command) -> Ended {
    process::run_within(command, Duration::from_secs(20))
}

/// The last line on stderr or stdout: logs may come before the verdict.
fn refused(ended: Ended, code: i32, hint: &str) {
    assert_eq!(ended.code, Some(code), "exit code\nstdout: {}\nstderr: {}", ended.stdout, ended.stderr);
    let said = ended.stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().to_lowercase();
    assert!(hint.split('|').any(|word| said.contains(&word.to_lowercase())), "should name {hint:?}: {said}");
}

#[test]
fn a_data_directory_serves_one_process() {
    let cluster = Cluster::start_as(quick());
    let mut twin = process::command("metad");
    twin.args(["--id", "2", "--listen", &format!("127.0.0.1:{}", ports::free_port()), "--peers", &cluster.peers()]);
    twin.args(["--advertise", &cluster.node(2).addr(), "--admin-listen", "off"]);
    twin.arg("--data-dir").arg(cluster.node(2).data_dir());
    refused(attempt(twin), 1, "lock|another|use");
    assert!(cluster.is_running(2));
    cluster.wait_ready();
}

#[test]
fn another_clusters_data_is_refused() {
    let _turn = one_at_a_time();
    let (one, two) = (Cluster::start_as(quick()), Cluster::start_as(quick()));
    one.format("x");
    two.terminate(3);
    one.terminate(3);
    let foreign = two.node(3).data_dir();
    let aside = foreign.with_extension("aside");
    std::fs::rename(&foreign, &aside).unwrap();
    copy_dir(&one.node(3).data_dir(), &foreign);
    two.start_node(3);
    // It and its peers refuse each other: it may never take part.
    let reason = || two.node(3).log().contains("cluster") && two.node(3).log().contains("refuse");
    process::wait_for("the log to name the reason", || (!two.is_running(3) || reason()).then_some(()));
    assert!(reason(), "the log names the reason:\n{}", two.node(3).log());
    let status = || process::wait_for("node 3 to answer", || two.status(3).ok());
    let before = status().last_log;
    two.format("after");
    assert_eq!(status().last_log, before, "it took a foreign entry");
    assert!(!status().ready, "a node that every peer refuses says it is ready");
    // The leader asks it ten times a second, not thousands of times, and says so seldom.
    let refusals = |id| two.node(id).log().matches("refuse").count();
    assert!(
        two.ids().into_iter().all(|id| refusals(id) < 50),
        "{:?}",
        two.ids().into_iter().map(refusals).collect::<Vec<_>>()
    );
    if two.is_running(3) {
        two.kill(3);
    }
    two.leader();
}

#[test]
fn another_nodes_data_is_refused() {
    let cluster = Cluster::start_as(quick());
    cluster.terminate(2);
    cluster.terminate(3);
    let mut command = process::command("metad");
    command.args([
        "--id",
        "3",
        "--listen",
        &cluster.node(3).addr(),
        "--peers",
        &cluster.peers(),
        "--admin-listen",
        "off",
    ]);
    command.arg("--data-dir").arg(cluster.node(2).data_dir());
    refused(attempt(command), 1, "node 2|id 2|node");
}

#[test]
fn a_damaged_identity_is_refused_and_kept() {
    let cluster = Cluster::start_as(quick());
    cluster.terminate(2);
    let identity = cluster.node(2).data_dir().join("IDENTITY");
    std::fs::write(&identity, b"\x00garbage\xff").unwrap();
    refused(attempt(cluster.command(2)), 1, "identity");
    assert_eq!(std::fs::read(&identity).unwrap(), b"\x00garbage\xff");
}

#[test]
fn a_damaged_image_is_set_aside_and_rebuilt() {
    let _turn = one_at_a_time();
    let cluster = Cluster::start();
    let meta = cluster.format("image");
    let mount = Mount::start(&meta);
    for number in 0..200 {
        std::fs::write(mount.path(&format!("f{number}")), format!("content {number}")).unwrap();
    }
    for id in cluster.ids() {
        cluster.terminate(id);
    }
    for id in cluster.ids() {
        damage_every_file(&cluster.node(id).data_dir().join("image"));
        cluster.start_node(id);
    }
    cluster.wait_ready();
    for number in 0..200 {
        let found = std::fs::read_to_string(mount.path(&format!("f{number}"))).unwrap();
        assert_eq!(found, format!("content {number}"));
    }
}

#[test]
fn wrong_configuration_is_one_line_and_exit_code_2() {
    let dir = process::scratch_dir("config");
    let file = dir.join("metad.toml");
    let with_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = process::command("metad");
        command.arg("--config").arg(&file);
        attempt(command)
    };
    with_file("id = 1\nlissen = \"127.0.0.1:1\"\n").refused(2, "lissen");
    with_file("id = \"one\"\n").refused(2, "id");
    with_file("this is not toml").refused(2, "metad.toml");
    let mut missing = process::command("metad");
    missing.args(["--config", "/nonexistent/metad.toml"]);
    attempt(missing).refused(2, "/nonexistent/metad.toml");
    attempt(process::command("metad")).refused(2, "id|listen|peers|data");
    let mut flag = process::command("metad");
    flag.arg("--lissen");
    attempt(flag).refused(2, "--lissen");
}

#[test]
fn a_public_address_without_tls_is_refused() {
    let dir = process::scratch_dir("public").to_string_lossy().into_owned();
    let mut command = process::command("metad");
    command.args([
        "--id",
        "1",
        "--listen",
        "0.0.0.0:29471",
        "--advertise",
        "10.0.0.1:29471",
        "--peers",
        "1=10.0.0.1:29471",
    ]);
    command.args(["--data-dir", &dir, "--init", "--admin-listen", "off"]);
    attempt(command).refused(2, "tls|insecure");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let dir = process::scratch_dir("taken").to_string_lossy().into_owned();
    let mut command = process::command("metad");
    command.args(["--id", "1", "--listen", &addr, "--peers", &format!("1={addr}"), "--data-dir", &dir, "--init"]);
    command.args(["--admin-listen", "off"]);
    refused(attempt(command), 1, &addr);
}

fn copy_dir(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn damage_every_file(dir: &Path) {
    for path in files_below(dir).into_iter().filter(|path| std::fs::metadata(path).unwrap().len() > 0) {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..].fill(0xa5);
        std::fs::write(&path, bytes).unwrap();
    }
}
