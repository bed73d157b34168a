//! A network of its own for a cluster: each node in a network namespace, joined by a bridge, so that who hears whom can be cut. Needs root
//! and ip(8). Called by tests of partitions.

use crate::process;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Namespaces of one cluster; they go with it.
#[derive(Debug)]
pub struct Net {
    number: u32,
    node_count: u64,
}

fn ip(args: &str) {
    let mut command = Command::new("ip");
    command.args(args.split(' '));
    process::run(command).ok("ip");
}

impl Net {
    pub fn new(node_count: u64) -> Net {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Test binaries may run side by side: the number is of the process, too.
        let number = (std::process::id().wrapping_mul(7) + COUNT.fetch_add(1, Ordering::Relaxed)) % 250;
        let net = Net { number, node_count };
        net.remove();
        let bridge = net.bridge();
        ip(&format!("link add {bridge} type bridge"));
        ip(&format!("addr add 10.213.{number}.254/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        for id in 1..=node_count {
            let (space, link) = (net.space(id), format!("hfv{number}-{id}"));
            ip(&format!("netns add {space}"));
            ip(&format!("link add {link} type veth peer name eth0 netns {space}"));
            ip(&format!("link set {link} master {bridge} up"));
            ip(&format!("-n {space} addr add {}/24 dev eth0", net.host(id)));
            ip(&format!("-n {space} link set eth0 up"));
            ip(&format!("-n {space} link set lo up"));
        }
        net
    }

    fn bridge(&self) -> String {
        format!("hfbr{}", self.number)
    }

    fn space(&self, id: u64) -> String {
        format!("hfns{}-{id}", self.number)
    }

    /// The address of node `id`, which this process can reach.
    pub fn host(&self, id: u64) -> String {
        format!("10.213.{}.{id}", self.number)
    }

    /// Runs `command` in the namespace of node `id`; the process is the command's own.
    pub fn inside(&self, id: u64, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.space(id)]).arg(command.get_program()).args(command.get_args());
        process::copy_env(command, &mut inside);
        inside
    }

    /// Node `id` and its peers hear nothing of each other any more; clients still reach it. Packets vanish without a word.
    pub fn cut_from_peers(&self, id: u64) {
        self.routes(id, "add");
    }

    pub fn heal(&self, id: u64) {
        self.routes(id, "del");
    }

    fn routes(&self, id: u64, verb: &str) {
        for peer in (1..=self.node_count).filter(|peer| *peer != id) {
            ip(&format!("-n {} route {verb} blackhole {}/32", self.space(id), self.host(peer)));
        }
    }

    fn remove(&self) {
        let quiet = |args: String| drop(Command::new("ip").args(args.split(' ')).output());
        (1..=self.node_count).for_each(|id| quiet(format!("netns del {}", self.space(id))));
        quiet(format!("link del {}", self.bridge()));
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.remove();
    }
}
