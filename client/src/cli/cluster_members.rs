//! `holdfast cluster add` and `remove`: changes of the members, with progress, a line a change. The cluster makes them by itself once
//! they are recorded; this only watches. Called by `cluster`.

use super::{ClusterFlags, block_on, print_line};
use crate::config::{MetaConfig, TlsFlags};
use crate::error::ClientError;
use crate::meta::admin::{MemberChange, change_members, cluster_status, leader_of};
use holdfast_proto::pb;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const ADD_EXAMPLES: &str = "\
The node gets all entries first, without a vote; once it is near the leader it votes. Start it with an empty data directory,
without --init, and with at least one member among its --peers; before or after this command.

Examples:
  $ holdfast cluster add holdfast://10.0.0.1:9400/ 2=10.0.0.2:9400
  node 2 is recorded; it is waited for at 10.0.0.2:9400
  node 2 learns: 48213 entries to go
  node 2 votes; voters are 1, 2
  $ holdfast cluster add 3=10.0.0.3:9400 --no-wait        # with HOLDFAST_META

Add nodes up to an odd number: with two, the loss of either one stops the cluster. Interrupting the command changes nothing.
Exit codes: 0 it votes; 1 refused, or not within --timeout (it goes on); 2 wrong usage.";

const REMOVE_EXAMPLES: &str = "\
Refused where the members that are left and answer would be no quorum. A leader hands over first. Stop the node afterwards;
its data directory is of no use any more. A node that lost its disk need not be removed: start it with an empty directory.

Examples:
  $ holdfast cluster remove holdfast://10.0.0.1:9400/ 3 --yes
  node 3 is being removed
  node 3 is removed; voters are 1, 2

Exit codes: 0 removed; 1 refused, or not within --timeout (it goes on); 2 wrong usage.";

/// How often the leader is asked how far it is.
const POLL: Duration = Duration::from_millis(100);
/// Entries to go are told this often at most.
const TELL: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Waiting {
    /// Do not wait: the cluster goes on by itself
    #[arg(long)]
    pub no_wait: bool,
    /// Seconds to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// A JSON object a line in place of text
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub tls: TlsFlags,
}

#[derive(Debug, clap::Args)]
#[command(after_help = ADD_EXAMPLES, override_usage = "holdfast cluster add [OPTIONS] [META] <ID=HOST:PORT>")]
pub struct AddArgs {
    /// META [default: $HOLDFAST_META], and the new node: its id, and the address under which others reach it
    #[arg(value_name = "META> <ID=HOST:PORT", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    #[command(flatten)]
    pub waiting: Waiting,
}

#[derive(Debug, clap::Args)]
#[command(after_help = REMOVE_EXAMPLES, override_usage = "holdfast cluster remove [OPTIONS] [META] <ID>")]
pub struct RemoveArgs {
    /// META [default: $HOLDFAST_META], and the id of the node
    #[arg(value_name = "META> <ID", num_args = 1..=2, required = true)]
    pub words: Vec<String>,
    /// Do not ask back
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub waiting: Waiting,
}

/// META, where it was given, and the other word.
fn split(words: &[String]) -> (Option<String>, &str) {
    match words {
        [meta, word] => (Some(meta.clone()), word),
        [word] => (None, word),
        _ => (None, ""),
    }
}

fn load(meta: Option<String>, tls: &TlsFlags) -> Result<MetaConfig, ClientError> {
    Ok(ClusterFlags { meta, tls: tls.clone() }.load()?.1)
}

fn parse_node(word: &str) -> Result<(u64, String), ClientError> {
    let parts = word.split_once('=').and_then(|(id, addr)| Some((parse_id(id)?, addr)));
    let port_ok = |addr: &str| addr.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
    match parts.filter(|(_, addr)| port_ok(addr)) {
        Some((id, addr)) => Ok((id, addr.to_owned())),
        None => {
            Err(ClientError::Usage(format!("\"{word}\" is no node: write it as ID=HOST:PORT, e.g. 4=10.0.0.4:9400")))
        }
    }
}

fn parse_id(word: &str) -> Option<u64> {
    word.parse().ok().filter(|id| *id > 0)
}

/// # Errors
/// One line that names what to do.
pub fn add(args: &AddArgs) -> Result<ExitCode, ClientError> {
    let (meta, word) = split(&args.words);
    let (id, addr) = parse_node(word)?;
    let config = load(meta, &args.waiting.tls)?;
    block_on(change(&config, MemberChange::Add { id, addr }, &args.waiting))
}

/// # Errors
/// One line that names what to do.
pub fn remove(args: &RemoveArgs) -> Result<ExitCode, ClientError> {
    let (meta, word) = split(&args.words);
    let id = parse_id(word);
    let id = id.ok_or_else(|| ClientError::Usage(format!("\"{word}\" is no node id: ids are numbers from 1")))?;
    let config = load(meta, &args.waiting.tls)?;
    if !args.yes && !confirmed(id)? {
        return Err(ClientError::Failed("nothing was changed".to_owned()));
    }
    block_on(change(&config, MemberChange::Remove { id }, &args.waiting))
}

fn confirmed(id: u64) -> Result<bool, ClientError> {
    if !std::io::stdin().is_terminal() {
        return Err(ClientError::Usage(format!("to remove node {id} without being asked back, say --yes")));
    }
    eprint!("Remove node {id} from the cluster? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    // Without an answer it is no.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn change(config: &MetaConfig, change: MemberChange, waiting: &Waiting) -> Result<ExitCode, ClientError> {
    change_members(config, &change).await?;
    let (id, adds) = match &change {
        MemberChange::Add { id, .. } => (*id, true),
        MemberChange::Remove { id } => (*id, false),
    };
    let deadline = Instant::now() + Duration::from_secs(waiting.timeout);
    let mut teller = Teller { json: waiting.json, last: None };
    loop {
        let views = cluster_status(config).await;
        if let Some(leader) = leader_of(&views) {
            let stage = stage(leader, id);
            teller.tell(id, &stage, Instant::now());
            if waiting.no_wait || (adds && matches!(stage, Stage::Votes(_))) || matches!(stage, Stage::Gone(_)) {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if Instant::now() >= deadline {
            let text = format!("not done in {} s; it goes on: see holdfast cluster status", waiting.timeout);
            return Err(ClientError::Failed(text));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// How far a change is, by the leader's word.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// Recorded; the node has not been heard of. Its address.
    Awaited(String),
    /// Its former life is being removed.
    Returns,
    /// Entries to go.
    Learns(u64),
    /// Who votes.
    Votes(Vec<u64>),
    Leaves,
    /// Who votes.
    Gone(Vec<u64>),
}

fn stage(leader: &pb::NodeStatus, id: u64) -> Stage {
    let voters = || leader.members.iter().filter(|member| member.voter).map(|member| member.id).collect();
    let Some(member) = leader.members.iter().find(|member| member.id == id) else {
        return Stage::Gone(voters());
    };
    match member.state.as_str() {
        "voter" => Stage::Votes(voters()),
        "learner" => Stage::Learns(leader.last_log.saturating_sub(member.matched)),
        "returning" => Stage::Returns,
        "leaving" => Stage::Leaves,
        _ => Stage::Awaited(member.addr.clone()),
    }
}

fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

impl Stage {
    fn line(&self, id: u64) -> String {
        match self {
            Stage::Awaited(addr) => format!("node {id} is recorded; it is waited for at {addr}"),
            Stage::Returns => format!("node {id} comes back with another disk; its former one is being forgotten"),
            Stage::Learns(entries) => format!("node {id} learns: {entries} entries to go"),
            Stage::Votes(voters) => format!("node {id} votes; voters are {}", list(voters)),
            Stage::Leaves => format!("node {id} is being removed"),
            Stage::Gone(voters) => format!("node {id} is removed; voters are {}", list(voters)),
        }
    }

    fn json(&self, id: u64) -> String {
        match self {
            Stage::Awaited(addr) => json!({ "node": id, "stage": "awaited", "addr": addr }),
            Stage::Returns => json!({ "node": id, "stage": "returns" }),
            Stage::Learns(entries) => json!({ "node": id, "stage": "learns", "entries_to_go": entries }),
            Stage::Votes(voters) => json!({ "node": id, "stage": "votes", "voters": voters }),
            Stage::Leaves => json!({ "node": id, "stage": "leaves" }),
            Stage::Gone(voters) => json!({ "node": id, "stage": "gone", "voters": voters }),
        }
        .to_string()
    }
}

/// Says what is new.
struct Teller {
    json: bool,
    last: Option<(Stage, Instant)>,
}

impl Teller {
    fn is_news(&self, stage: &Stage, now: Instant) -> bool {
        match (&self.last, stage) {
            (Some((Stage::Learns(before), at)), Stage::Learns(left)) => {
                left != before && now.duration_since(*at) >= TELL
            }
            (Some((before, _)), _) => before != stage,
            (None, _) => true,
        }
    }

    fn tell(&mut self, id: u64, stage: &Stage, now: Instant) {
        if self.is_news(stage, now) {
            print_line(&if self.json { stage.json(id) } else { stage.line(id) });
            self.last = Some((stage.clone(), now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leader(members: &[(u64, &str, u64)]) -> pb::NodeStatus {
        let member = |&(id, state, matched): &(u64, &str, u64)| pb::Member {
            id,
            addr: format!("n{id}:1"),
            voter: state == "voter",
            state: state.to_owned(),
            matched,
            answers: true,
        };
        pb::NodeStatus { last_log: 100, members: members.iter().map(member).collect(), ..Default::default() }
    }

    #[test]
    fn a_node_is_named_with_id_and_address() {
        assert_eq!(parse_node("4=[::1]:9400").unwrap(), (4, "[::1]:9400".to_owned()));
        for wrong in ["4", "0=a:1", "x=a:1", "4=a", "4=:1", ""] {
            assert!(matches!(parse_node(wrong), Err(ClientError::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn stages_are_the_leaders_word() {
        let status = leader(&[(1, "voter", 0), (2, "learner", 40), (3, "joining", 0), (4, "leaving", 0)]);
        assert_eq!(stage(&status, 1), Stage::Votes(vec![1]));
        assert_eq!(stage(&status, 2).line(2), "node 2 learns: 60 entries to go");
        assert_eq!(stage(&status, 3).line(3), "node 3 is recorded; it is waited for at n3:1");
        assert_eq!(stage(&status, 4), Stage::Leaves);
        assert_eq!(stage(&status, 9).line(9), "node 9 is removed; voters are 1");
        assert_eq!(stage(&status, 2).json(2), r#"{"entries_to_go":60,"node":2,"stage":"learns"}"#);
    }

    #[test]
    fn only_news_are_told_and_entries_to_go_seldom() {
        let start = Instant::now();
        let mut teller = Teller { json: false, last: None };
        assert!(teller.is_news(&Stage::Learns(9), start));
        teller.last = Some((Stage::Learns(9), start));
        assert!(!teller.is_news(&Stage::Learns(9), start + 2 * TELL));
        assert!(!teller.is_news(&Stage::Learns(8), start + TELL / 2));
        assert!(teller.is_news(&Stage::Learns(8), start + TELL));
        assert!(teller.is_news(&Stage::Votes(vec![1]), start));
    }
}
