//! What systemd is told, seen by its own protocol (sd_notify(3)): READY when the node serves, WATCHDOG while its Raft core answers,
//! STOPPING at SIGTERM.

use holdfast_tests::cluster::{Cluster, Shape};
use holdfast_tests::process;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

struct Supervisor(UnixDatagram);

impl Supervisor {
    /// Waits for a message that says `wanted`; those that came before it.
    fn wait_for(&self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let mut buffer = [0; 4096];
            let len = self.0.recv(&mut buffer).unwrap_or_else(|error| panic!("no {wanted} ({error}), but {before:?}"));
            let said = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if said.lines().any(|line| line == wanted) {
                return before;
            }
            before.push(said);
        }
    }
}

#[test]
fn systemd_is_told_of_readiness_life_and_the_end() {
    let dir = process::scratch_dir("notify");
    let path = dir.join("socket");
    let supervisor = Supervisor(UnixDatagram::bind(&path).expect("socket"));
    supervisor.0.set_read_timeout(Some(Duration::from_secs(60))).expect("timeout");
    let env = [("NOTIFY_SOCKET", path.to_string_lossy().into_owned()), ("WATCHDOG_USEC", "600000".to_owned())];
    let env = env.map(|(key, value)| (key.to_owned(), value)).to_vec();
    let cluster = Cluster::prepare(Shape { node_count: 1, env, ..Shape::default() });
    cluster.start_node(1);
    assert!(supervisor.wait_for("READY=1").is_empty(), "nothing is said before it is ready");
    for _ in 0..3 {
        supervisor.wait_for("WATCHDOG=1");
    }
    assert_eq!(cluster.terminate(1), Some(0));
    supervisor.wait_for("STOPPING=1");
}

#[test]
fn a_follower_is_ready_only_when_it_follows() {
    let cluster = Cluster::prepare(Shape { no_sync: true, ..Shape::default() });
    cluster.start_node(2);
    process::wait_for("node 2 to answer", || cluster.status(2).ok());
    assert!(!cluster.status(2).expect("status").ready, "a node without a cluster says it is ready");
    cluster.start_node(1);
    cluster.wait_ready();
    assert!(cluster.status(2).expect("status").ready);
    cluster.kill(1);
    process::wait_for("the lone node to notice", || cluster.status(2).ok().filter(|status| !status.ready));
}
