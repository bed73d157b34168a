//! Join: how this node gets its place. A node with --init that knows nothing first asks all peers, and founds a cluster where most of
//! them know nothing either; else, and always without --init, it asks to be let in until a leader says that it may take part.
//! Also those that know something ask, beside their work: so the leader learns which life of its disk each has, and a disk of
//! former times, or a node that was removed, hears of it. Started by server.

use crate::config::Config;
use crate::error::{Fatal, MetadError};
use crate::identity::ClusterId;
use crate::raft::channel::Caller;
use crate::raft::dial::{Dial, PeerChannel};
use crate::raft::node::RaftNode;
use crate::rpc::standing::Standing;
use crate::seldom::Seldom;
use crate::store::{KvCommit, read};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_proto::pb::raft_client::RaftClient;
use holdfast_proto::pb::{JoinAnswer, JoinReply, JoinRequest, WhoReply, WhoRequest};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::Code;

/// A peer that has not answered in this time is not there.
const ASK_DEADLINE: Duration = Duration::from_millis(500);
/// The leader may have to write a record first, or to ask a quorum whether it leads.
const JOIN_DEADLINE: Duration = Duration::from_secs(4);
/// Often at first, so that founding is quick, then seldom: the answer comes when people have done something.
const PAUSES: [(u32, Duration); 3] =
    [(100, Duration::from_millis(15)), (300, Duration::from_millis(100)), (u32::MAX, Duration::from_secs(1))];
/// A node that serves, and hears nothing of a leader, asks this often whether it is still a member.
const CHECK_PAUSE: Duration = Duration::from_secs(3);

fn pause(round: u32) -> Duration {
    PAUSES.iter().find(|(rounds, _)| round < *rounds).map_or(CHECK_PAUSE, |(_, pause)| *pause)
}

pub struct Join {
    node: Arc<RaftNode>,
    standing: Arc<Standing>,
    caller: Caller,
    addr: String,
    peers: BTreeMap<u64, String>,
    dial: Dial,
    init: bool,
    fatal: Fatal,
    channels: Mutex<BTreeMap<String, RaftClient<PeerChannel>>>,
    complaints: Seldom,
}

/// What all peers together said to a node that wants to found a cluster.
#[derive(Debug, PartialEq, Eq)]
enum Founding {
    /// One belongs to a cluster: this node belongs there, too.
    Exists,
    /// Most, this node included, know nothing and leave it to this node.
    Agreed,
    /// These have not agreed.
    Waits(Vec<u64>),
}

/// `answers`: of the other peers; None where there was no answer.
fn founding(answers: &[(u64, Option<WhoReply>)]) -> Founding {
    if answers.iter().flat_map(|(_, answer)| answer).any(|answer| !answer.cluster.is_empty()) {
        return Founding::Exists;
    }
    let agreed = |answer: &Option<WhoReply>| answer.as_ref().is_some_and(|answer| answer.promised);
    let missing: Vec<u64> = answers.iter().filter(|(_, answer)| !agreed(answer)).map(|(id, _)| *id).collect();
    let (all, yes) = (answers.len() + 1, answers.len() + 1 - missing.len());
    if yes * 2 > all { Founding::Agreed } else { Founding::Waits(missing) }
}

impl Join {
    pub fn new(node: Arc<RaftNode>, standing: Arc<Standing>, config: &Config, dial: Dial, fatal: Fatal) -> Join {
        let caller = standing.caller();
        let (addr, peers, init) = (config.advertise.clone(), config.peers.clone(), config.init);
        let (channels, complaints) = (Mutex::default(), Seldom::default());
        Join { node, standing, caller, addr, peers, dial, init, fatal, channels, complaints }
    }

    /// Runs until the process ends.
    pub async fn run(self) {
        if self.init && self.node.blank && self.standing.cluster.get().is_none() && self.found().await {
            return self.keep_asking().await;
        }
        // What it knows by now may be enough, and where a quorum needs it, no leader comes before.
        tokio::join!(self.ask(), self.learn());
        self.keep_asking().await;
    }

    /// Asks until a leader says that this node has its place.
    async fn ask(&self) {
        let mut round = 0;
        // A leader is told of itself by the keeper of the members.
        while !(self.node.leadership().is_self && self.standing.serves()) {
            match self.ask_all().await {
                Some((addr, reply)) if self.take(&addr, &reply).await => break,
                Some(_) => {}
                None if self.standing.serves() => {}
                None => self.complain(|| tracing::info!("waits for a leader to let this node in")),
            }
            tokio::time::sleep(if self.standing.serves() { CHECK_PAUSE } else { pause(round) }).await;
            round = round.saturating_add(1);
        }
    }

    /// Waits until the state shows this node's own admission. Raft's memberships before that one speak of its former life.
    async fn learn(&self) {
        let mut changes = self.node.watch();
        loop {
            match (self.standing.serves(), self.standing.learns()) {
                (true, false) => return,
                (_, true) if self.is_admitted() => break,
                _ => {}
            }
            if !changes.changed().await {
                return;
            }
        }
        match self.standing.has_learnt() {
            Ok(()) => self.node.stand_for_election().await,
            Err(error) => self.fatal.raise(format!("write that this node has learnt enough to vote: {error}")),
        }
    }

    fn is_admitted(&self) -> bool {
        match self.node.store().view(|view| read::node(view, self.standing.id)) {
            Ok(record) => record.is_some_and(|record| record.store == Some(self.standing.store)),
            Err(error) => {
                tracing::warn!(%error, "read this node's own record");
                false
            }
        }
    }

    /// A node that hears nothing of a leader may have been removed.
    async fn keep_asking(&self) {
        loop {
            tokio::time::sleep(CHECK_PAUSE).await;
            if !self.node.is_ready()
                && let Some((addr, reply)) = self.ask_all().await
            {
                self.take(&addr, &reply).await;
            }
        }
    }

    /// False: this node is to join instead.
    async fn found(&self) -> bool {
        let mut round = 0;
        loop {
            if !self.standing.promise(self.standing.id) {
                tracing::info!("leaves it to another node to found the cluster");
                return false;
            }
            match founding(&self.ask_who().await) {
                Founding::Exists => {
                    tracing::warn!("there is a cluster already: this node does not found one, and asks to be let in");
                    return false;
                }
                Founding::Agreed if self.standing.claim() => break,
                Founding::Agreed => {}
                Founding::Waits(nodes) => {
                    self.complain(|| tracing::info!(?nodes, "waits for most of the nodes to found the cluster"));
                }
            }
            tokio::time::sleep(pause(round)).await;
            round = round.saturating_add(1);
        }
        let cluster = ClusterId::random();
        let founded = match self.node.found_alone(&self.addr).await {
            Ok(()) => {
                self.standing.begin(cluster, false).map_err(|error| error.to_string()).map(|()| self.standing.serve())
            }
            Err(error) => Err(error.to_string()),
        };
        match founded {
            Ok(()) => {
                self.node.stand_for_election().await;
                tracing::info!(%cluster, members = self.peers.len(), "founded a new cluster");
            }
            Err(error) => self.fatal.raise(format!("found the cluster: {error}")),
        }
        true
    }

    async fn ask_who(&self) -> Vec<(u64, Option<WhoReply>)> {
        let ask = |(id, addr): (u64, String)| async move {
            let mut client = self.client(&addr)?;
            let request = self.caller.request(WhoRequest { founder: self.standing.id });
            let asked = tokio::time::timeout(ASK_DEADLINE, client.who(request)).await;
            let answer = asked.ok()?.inspect_err(|status| self.refused(&addr, status)).ok()?;
            Some((id, answer.into_inner()))
        };
        let others = || self.peers.iter().filter(|(id, _)| **id != self.standing.id);
        let asked = others().map(|(id, addr)| ask((*id, addr.clone())));
        let mut said: BTreeMap<_, _> = futures::future::join_all(asked).await.into_iter().flatten().collect();
        others().map(|(id, _)| (*id, said.remove(id))).collect()
    }

    /// Asks all peers at once, and whom they name; the first word of a leader counts.
    async fn ask_all(&self) -> Option<(String, JoinReply)> {
        let mut asked: Vec<String> = Vec::new();
        let mut answers = FuturesUnordered::new();
        for addr in self.peers.values().filter(|addr| **addr != self.addr) {
            asked.push(addr.clone());
            answers.push(self.ask_one(addr.clone()));
        }
        while let Some((addr, reply)) = answers.next().await {
            let Some(reply) = reply else { continue };
            if reply.answer() != JoinAnswer::AskLeader {
                return Some((addr, reply));
            }
            if !reply.leader.is_empty() && reply.leader != self.addr && !asked.contains(&reply.leader) {
                asked.push(reply.leader.clone());
                answers.push(self.ask_one(reply.leader));
            }
        }
        None
    }

    async fn ask_one(&self, addr: String) -> (String, Option<JoinReply>) {
        let request = JoinRequest {
            id: self.standing.id,
            addr: self.addr.clone(),
            store: self.standing.store.to_wire(),
            blank: !self.standing.serves(),
        };
        let Some(mut client) = self.client(&addr) else { return (addr, None) };
        let answer = match tokio::time::timeout(JOIN_DEADLINE, client.join(self.caller.request(request))).await {
            Ok(Ok(answer)) => Some(answer.into_inner()),
            Ok(Err(status)) => {
                self.refused(&addr, &status);
                None
            }
            Err(_) => None,
        };
        (addr, answer)
    }

    fn refused(&self, addr: &str, status: &tonic::Status) {
        if status.code() == Code::FailedPrecondition {
            self.complain(|| tracing::warn!(addr, "peer refuses this node: {}", status.message()));
        }
    }

    fn client(&self, addr: &str) -> Option<RaftClient<PeerChannel>> {
        let mut channels = self.channels.lock();
        if let Some(client) = channels.get(addr) {
            return Some(client.clone());
        }
        let client = self
            .dial
            .connect(addr)
            .map_err(|error| self.complain(|| tracing::error!(addr, %error, "peer address is of no use")))
            .ok()?;
        channels.insert(addr.to_owned(), client.clone());
        Some(client)
    }

    /// Whether this node has its place.
    async fn take(&self, addr: &str, reply: &JoinReply) -> bool {
        match reply.answer() {
            JoinAnswer::Serve if !self.standing.serves() => {
                let Some(cluster) = ClusterId::parse(&reply.cluster) else { return false };
                match self.begin(cluster, reply).await {
                    Ok(()) => tracing::info!(%cluster, leader = addr, "let in by the leader"),
                    Err(error) => self.fatal.raise(format!("join the cluster: {}", error.one_line())),
                }
            }
            JoinAnswer::Superseded => {
                let why = "the data directory is of a former life of this node, which another has replaced; it may not take part again: \
                           empty it, and the node heals from its peers";
                self.fatal.raise(format!("leader {addr}: {}; {why}", reply.message));
            }
            JoinAnswer::Unknown => {
                self.complain(|| tracing::error!(leader = addr, "this node is no member: {}", reply.message));
            }
            JoinAnswer::Wait => {
                self.complain(|| tracing::info!(leader = addr, "waits to be let in: {}", reply.message))
            }
            JoinAnswer::Serve | JoinAnswer::AskLeader | JoinAnswer::Unspecified => {}
        }
        reply.answer() == JoinAnswer::Serve
    }

    async fn begin(&self, cluster: ClusterId, reply: &JoinReply) -> Result<(), MetadError> {
        self.standing.begin(cluster, true)?;
        self.node.hear_leader(reply.term, reply.leader_id).await?;
        self.standing.serve();
        Ok(())
    }

    fn complain(&self, say: impl FnOnce()) {
        if self.complaints.is_due(Instant::now()) {
            say();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(cluster: &str, promised: bool) -> Option<WhoReply> {
        Some(WhoReply { cluster: cluster.to_owned(), promised, learns: false })
    }

    #[test]
    fn a_cluster_is_founded_where_most_know_nothing_and_agree() {
        assert_eq!(founding(&[]), Founding::Agreed);
        assert_eq!(founding(&[(2, who("", true)), (3, None)]), Founding::Agreed);
        assert_eq!(founding(&[(2, None), (3, None)]), Founding::Waits(vec![2, 3]));
        assert_eq!(founding(&[(2, who("", false)), (3, None)]), Founding::Waits(vec![2, 3]));
        assert_eq!(founding(&[(2, None)]), Founding::Waits(vec![2]));
    }

    #[test]
    fn no_cluster_is_founded_beside_one_that_any_peer_belongs_to() {
        assert_eq!(founding(&[(2, who("", true)), (3, who("aa", false))]), Founding::Exists);
    }

    #[test]
    fn asking_starts_often_and_becomes_rare() {
        assert!(pause(0) < pause(150) && pause(150) < pause(100_000));
    }
}
