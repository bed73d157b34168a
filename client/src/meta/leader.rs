//! Finding the leader: every node known is asked at once, each again after a short pause of its own, until one says of itself that
//! it leads. A node that hangs delays nobody. The stream that asked is the stream that is used. Called by meta::stream.

use super::channel::{self, AttachError};
use super::retry::probe_pause;
use super::stream::{Link, Outbound};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_proto::limits::SESSION_LEASE_MS;
use holdfast_proto::pb;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tonic::Streaming;
use tonic::transport::Channel;
use tracing::{debug, info, warn};

/// A node that takes the connection and says nothing for this long is asked anew.
const WELCOME_TIMEOUT: Duration = Duration::from_millis(1_000);

/// A stream to the leader, of which nothing has been used yet.
#[derive(Debug)]
pub struct Attached {
    pub addr: String,
    /// How long this node lets a session be silent.
    pub lease: Duration,
    pub inbound: Streaming<pb::ServerFrame>,
    /// Names the outbound stream.
    pub stream: u64,
    /// Lets the outbound stream take from the queue.
    pub gate: oneshot::Sender<()>,
}

/// What is known of the nodes: their addresses, and what each said last.
#[derive(Debug, Default)]
pub struct Nodes {
    said: Mutex<BTreeMap<String, String>>,
    /// The cluster's id, once a leader has said it: nodes of another one are not ours.
    cluster: Mutex<String>,
}

const NOT_REACHABLE: &str = "not reachable";

impl Nodes {
    pub fn new(addrs: &[String]) -> Nodes {
        let said = addrs.iter().map(|addr| (addr.clone(), NOT_REACHABLE.to_owned())).collect();
        Nodes { said: Mutex::new(said), cluster: Mutex::default() }
    }

    pub fn addrs(&self) -> Vec<String> {
        self.said.lock().keys().cloned().collect()
    }

    /// Whether it says anything new.
    fn note(&self, addr: &str, what: String) -> bool {
        let mut said = self.said.lock();
        let news = said.get(addr) != Some(&what);
        said.insert(addr.to_owned(), what);
        news
    }

    /// Adds an address that a node named; whether it was new.
    fn learn(&self, addr: &str) -> bool {
        let mut said = self.said.lock();
        if addr.is_empty() || said.contains_key(addr) {
            return false;
        }
        said.insert(addr.to_owned(), NOT_REACHABLE.to_owned());
        true
    }

    /// Whether a node belongs to the cluster that we began with, that is, of the first leader that answered. A node that leads nobody
    /// may be a stray one with another cluster's data, which must not make strangers of all the others.
    fn ours(&self, welcome: &pb::Welcome) -> bool {
        let mut known = self.cluster.lock();
        if known.is_empty() && welcome.is_leader {
            known.clone_from(&welcome.cluster);
        }
        known.is_empty() || welcome.cluster.is_empty() || *known == welcome.cluster
    }

    /// Why nobody answers, for a person.
    pub fn trouble(&self) -> String {
        let said = self.said.lock();
        if said.values().all(|what| what == NOT_REACHABLE) {
            let addrs: Vec<&str> = said.keys().map(String::as_str).collect();
            return format!("no metadata node of {} answers; are they running?", addrs.join(","));
        }
        let lines: Vec<String> = said.iter().map(|(addr, what)| format!("{addr} {what}")).collect();
        format!("no leader among the metadata nodes; are most of them running? ({})", lines.join(", "))
    }
}

/// Asks until a leader answers. `exclude` is the node that is suspected; `hint` one that another named.
pub async fn find(link: &Arc<Link>, exclude: Option<String>, hint: Option<String>) -> Attached {
    let started = Instant::now();
    if let Some(hint) = hint {
        link.nodes.learn(&hint);
    }
    let mut rounds = FuturesUnordered::new();
    for addr in link.nodes.addrs() {
        if Some(&addr) != exclude.as_ref() {
            rounds.push(round(link.clone(), addr, None, Duration::ZERO));
        }
    }
    while let Some(done) = rounds.next().await {
        match done.result {
            Ok((welcome, attached)) => {
                // All nodes that this client was started with may be replaced in time.
                let new: Vec<_> = welcome.members.iter().filter(|addr| link.nodes.learn(addr)).cloned().collect();
                if welcome.is_leader {
                    info!(addr = done.addr, node = welcome.node, "attached to the leader");
                    return attached;
                }
                debug!(addr = done.addr, leader = welcome.leader, "does not lead");
                let named = link.nodes.learn(&welcome.leader).then_some(welcome.leader);
                for addr in new.into_iter().chain(named).filter(|addr| Some(addr) != exclude.as_ref()) {
                    rounds.push(round(link.clone(), addr, None, Duration::ZERO));
                }
                link.nodes.note(&done.addr, "does not lead".to_owned());
            }
            Err(error) => {
                debug!(addr = done.addr, %error, "cannot be asked");
                let news = link.nodes.note(&done.addr, error.to_string());
                if news && matches!(error, AttachError::Stranger) {
                    warn!(addr = done.addr, "this node {error}");
                }
            }
        }
        let pause = probe_pause(started.elapsed(), rand::random());
        rounds.push(round(link.clone(), done.addr, done.channel, pause));
    }
    // The only node there is is the suspected one.
    std::future::pending().await
}

struct Round {
    addr: String,
    /// Used again where it worked.
    channel: Option<Channel>,
    result: Result<(pb::Welcome, Attached), AttachError>,
}

async fn round(link: Arc<Link>, addr: String, channel: Option<Channel>, pause: Duration) -> Round {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let asked = tokio::time::timeout(WELCOME_TIMEOUT, ask(&link, &addr, channel)).await;
    match asked {
        Ok(Ok((channel, welcome, attached))) => Round { addr, channel: Some(channel), result: Ok((welcome, attached)) },
        Ok(Err(error)) => Round { addr, channel: None, result: Err(error) },
        Err(_) => Round { addr, channel: None, result: Err(AttachError::Silent) },
    }
}

async fn ask(
    link: &Arc<Link>,
    addr: &str,
    channel: Option<Channel>,
) -> Result<(Channel, pb::Welcome, Attached), AttachError> {
    let channel = match channel {
        Some(channel) => channel,
        None => channel::connect(addr, link.config.tls.as_ref()).await?,
    };
    let (gate, opened) = oneshot::channel();
    let outbound = Outbound::new(link.clone(), opened);
    let stream = outbound.id();
    let (welcome, inbound) = channel::attach(channel.clone(), outbound).await?;
    if !link.nodes.ours(&welcome) {
        return Err(AttachError::Stranger);
    }
    let lease = Duration::from_millis(if welcome.lease_ms == 0 { SESSION_LEASE_MS } else { welcome.lease_ms.into() });
    Ok((channel, welcome, Attached { addr: addr.to_owned(), lease, inbound, stream, gate }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes() -> Nodes {
        Nodes::new(&["a:1".to_owned(), "b:2".to_owned()])
    }

    #[test]
    fn when_nobody_is_there_the_message_names_all_and_asks_the_right_question() {
        assert_eq!(nodes().trouble(), "no metadata node of a:1,b:2 answers; are they running?");
    }

    #[test]
    fn when_some_are_there_the_message_says_what_each_said() {
        let nodes = nodes();
        nodes.note("b:2", "does not lead".to_owned());
        assert!(nodes.trouble().contains("(a:1 not reachable, b:2 does not lead)"), "{}", nodes.trouble());
    }

    #[test]
    fn addresses_are_learnt_once() {
        let nodes = nodes();
        assert!(!nodes.learn(""));
        assert!(!nodes.learn("a:1"));
        assert!(nodes.learn("c:3"));
        assert!(!nodes.learn("c:3"));
        assert_eq!(nodes.addrs(), ["a:1", "b:2", "c:3"]);
    }

    #[test]
    fn a_node_of_another_cluster_is_not_ours_and_one_without_cluster_may_be() {
        let nodes = nodes();
        let says = |cluster: &str, is_leader| pb::Welcome { cluster: cluster.into(), is_leader, ..Default::default() };
        assert!(nodes.ours(&says("stray", false)), "nobody knows yet whose it is");
        assert!(nodes.ours(&says("aa", true)));
        assert!(nodes.ours(&says("", false)));
        assert!(!nodes.ours(&says("stray", false)));
        assert!(!nodes.ours(&says("bb", true)));
        assert!(nodes.ours(&says("aa", false)));
    }
}
