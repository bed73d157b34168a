//! A network of its own for a cluster: each node, and each client that wants it, in a network namespace, joined by a bridge, so that who
//! hears whom can be cut. Needs root, ip(8) and, for `Rule`s, nft(8). Called by tests of partitions and by jepsen.

use crate::process::{self, Leftover};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Numbers of networks that may be there at once.
const NUMBERS: u32 = 250;
/// Clients are numbered from here on.
const CLIENTS: u64 = 100;

/// Namespaces of one cluster; they go with it.
#[derive(Debug)]
pub struct Net {
    number: u32,
    node_count: u64,
    client_count: u64,
}

/// What happens to packets of one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// What comes from these is dropped.
    DropFrom(Vec<u64>),
    /// What goes to these is dropped.
    DropTo(Vec<u64>),
    /// Of all that comes and goes, so many percent are lost.
    Lose(u32),
    /// Connections from and to these are reset.
    Reset(Vec<u64>),
}

impl Rule {
    /// Nothing comes from these, and nothing gets to them.
    pub fn apart_from(ids: &[u64]) -> Vec<Rule> {
        vec![Rule::DropFrom(ids.to_vec()), Rule::DropTo(ids.to_vec())]
    }
}

/// Runs ip(8).
pub(crate) fn ip(args: &str) {
    let mut command = Command::new("ip");
    command.args(args.split(' '));
    process::run(command).ok("ip");
}

fn succeeds(args: &str) -> bool {
    Command::new("ip").args(args.split(' ')).output().is_ok_and(|output| output.status.success())
}

impl Net {
    pub fn new(node_count: u64, client_count: u64) -> Net {
        // Whoever makes the bridge has the number: two runs never share one.
        let from = std::process::id().wrapping_mul(7);
        let free = |number: &u32| succeeds(&format!("link add hfbr{number} type bridge"));
        let number =
            (0..NUMBERS).map(|step| (from + step) % NUMBERS).find(free).expect("a network number that is free");
        let net = Net { number, node_count, client_count };
        process::register(Leftover::Network(number));
        let bridge = net.bridge();
        ip(&format!("addr add 10.213.{number}.254/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        for id in net.members() {
            let (space, link) = (net.space(id), net.link(id));
            ip(&format!("netns add {space}"));
            ip(&format!("link add {link} type veth peer name eth0 netns {space}"));
            ip(&format!("link set {link} master {bridge} up"));
            ip(&format!("-n {space} addr add {}/24 dev eth0", net.host(id)));
            ip(&format!("-n {space} link set eth0 up"));
            ip(&format!("-n {space} link set lo up"));
        }
        net
    }

    fn members(&self) -> impl Iterator<Item = u64> + use<> {
        (1..=self.node_count).chain((0..self.client_count).map(Net::client))
    }

    /// The number of a client, counted from 0, among the members.
    pub fn client(number: u64) -> u64 {
        CLIENTS + number
    }

    pub(crate) fn bridge(&self) -> String {
        format!("hfbr{}", self.number)
    }

    /// The end of a member's link that is at the bridge.
    pub(crate) fn link(&self, id: u64) -> String {
        format!("hfv{}-{id}", self.number)
    }

    /// A name for what may stand in its place.
    pub(crate) fn tap(&self, id: u64) -> String {
        format!("hft{}-{id}", self.number)
    }

    /// The name of a member's namespace.
    pub fn space(&self, id: u64) -> String {
        format!("hfns{}-{id}", self.number)
    }

    /// The address of a member, which this process can reach.
    pub fn host(&self, id: u64) -> String {
        format!("10.213.{}.{id}", self.number)
    }

    /// The address at which this process is reached from the namespaces.
    pub fn outside(&self) -> String {
        format!("10.213.{}.254", self.number)
    }

    /// Runs `command` in a member's namespace; the process is the command's own. It sees the mounts of this process.
    pub fn inside(&self, id: u64, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/run/netns/{}", self.space(id))).arg(command.get_program()).args(command.get_args());
        process::copy_env(command, &mut inside);
        inside
    }

    /// From now on the calling thread's new sockets are in a member's namespace.
    pub fn enter(&self, id: u64) {
        let space = std::fs::File::open(format!("/run/netns/{}", self.space(id))).expect("the namespace");
        nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
    }

    /// Node `id` and its peers hear nothing of each other any more; clients still reach it. Packets vanish without a word.
    pub fn cut_from_peers(&self, id: u64) {
        let peers: Vec<_> = (1..=self.node_count).filter(|peer| *peer != id).collect();
        self.apply(id, &Rule::apart_from(&peers));
    }

    /// Replaces what happens to a member's packets.
    pub fn apply(&self, id: u64, rules: &[Rule]) {
        let hosts = |ids: &[u64]| ids.iter().map(|&id| self.host(id)).collect::<Vec<_>>().join(", ");
        let (mut comes, mut goes) = (String::new(), String::new());
        for rule in rules {
            let (on_input, on_output) = match rule {
                Rule::DropFrom(ids) => (format!("ip saddr {{ {} }} counter drop", hosts(ids)), String::new()),
                Rule::DropTo(ids) => (String::new(), format!("ip daddr {{ {} }} counter drop", hosts(ids))),
                Rule::Lose(percent) => {
                    let lose = format!("numgen random mod 100 < {percent} counter drop");
                    (lose.clone(), lose)
                }
                Rule::Reset(ids) => {
                    let reset = "meta l4proto tcp counter reject with tcp reset";
                    (format!("ip saddr {{ {} }} {reset}", hosts(ids)), format!("ip daddr {{ {} }} {reset}", hosts(ids)))
                }
            };
            let _ = writeln!(comes, "    {on_input}");
            let _ = writeln!(goes, "    {on_output}");
        }
        let chain = |hook: &str, rules: &str| {
            format!("  chain {hook} {{\n    type filter hook {hook} priority 0; policy accept;\n{rules}  }}\n")
        };
        let table = format!("table inet fault {{\n{}{}}}\n", chain("input", &comes), chain("output", &goes));
        // Adding it first makes the deletion hold where there is none.
        self.nft(id, &format!("add table inet fault\ndelete table inet fault\n{table}"));
    }

    pub fn heal(&self, id: u64) {
        self.nft(id, "add table inet fault\ndelete table inet fault\n");
    }

    /// Packets that a member's rules have met so far.
    pub fn met_count(&self, id: u64) -> u64 {
        let mut list = Command::new("nft");
        list.args(["list", "table", "inet", "fault"]);
        let text = process::run(self.inside(id, &list)).stdout;
        let counts = text.split("counter packets ").skip(1).filter_map(|rest| rest.split(' ').next());
        counts.filter_map(|count| count.parse::<u64>().ok()).sum()
    }

    fn nft(&self, id: u64, text: &str) {
        let mut command = Command::new("nft");
        command.args(["-f", "-"]);
        let mut command = self.inside(id, &command);
        let mut nft = command.stdin(Stdio::piped()).spawn().expect("nft(8): install nftables");
        nft.stdin.take().expect("piped").write_all(text.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft").success(), "nft refused:\n{text}");
    }
}

/// Removes the network of this number, whatever is left of it.
pub(crate) fn remove(number: u32) {
    let spaces = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = spaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
    for space in names.filter(|name| name.starts_with(&format!("hfns{number}-"))) {
        succeeds(&format!("netns del {space}"));
    }
    succeeds(&format!("link del hfbr{number}"));
}

impl Drop for Net {
    fn drop(&mut self) {
        remove(self.number);
        process::unregister(&Leftover::Network(self.number));
    }
}
