//! Standing: whether this node takes part in Raft at all. A node that knows nothing (no vote, no log) may have voted and
//! acknowledged in an earlier life of its disk; until a leader has said that this life is counted, it answers no peer.
//! Kept by background/join; asked by rpc/raft_service before every peer's call.

use crate::identity::{ClusterId, Identity, IdentityError};
use crate::raft::channel::{Caller, ClusterCell};
use crate::store::node_record::{NodeRecord, StoreId};
use holdfast_proto::pb::{JoinAnswer, JoinRequest};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

pub struct Standing {
    pub id: u64,
    pub store: StoreId,
    pub cluster: ClusterCell,
    /// Somebody waits for the leader to change the members.
    pub newcomers: Notify,
    identity: Mutex<Identity>,
    serves: AtomicBool,
    /// It was let in blank, and does not know yet that it was: its log is a beginning, in which its former life may have been a
    /// voter, or even the only one. Until its state shows its own admission it neither votes nor stands for election.
    learns: AtomicBool,
    founder: Mutex<Founder>,
}

/// Who may found a cluster with this node, while it belongs to none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Founder {
    #[default]
    Anybody,
    Promised(u64),
    /// This node does.
    Itself,
}

impl Standing {
    /// `serves`: it knows of an earlier start.
    pub fn new(id: u64, identity: Identity, cluster: ClusterCell, serves: bool) -> Arc<Standing> {
        let store = identity.store();
        let learns = AtomicBool::new(identity.learns());
        let (identity, serves) = (Mutex::new(identity), AtomicBool::new(serves));
        let (newcomers, founder) = (Notify::new(), Mutex::default());
        Arc::new(Standing { id, store, cluster, newcomers, identity, serves, learns, founder })
    }

    /// As whom this node calls peers of which it knows no more than an address.
    pub fn caller(&self) -> Caller {
        Caller { node: self.id, cluster: self.cluster.clone(), store: self.store, target: None }
    }

    pub fn serves(&self) -> bool {
        self.serves.load(Ordering::SeqCst)
    }

    pub fn learns(&self) -> bool {
        self.learns.load(Ordering::SeqCst)
    }

    /// Its state shows its own admission.
    ///
    /// # Errors
    /// The identity cannot be written.
    pub fn has_learnt(&self) -> Result<(), IdentityError> {
        self.identity.lock().has_learnt()?;
        self.learns.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// This node is about to take part in `cluster`. That is on disk before it does: a blank node that finds a cluster there knows at the
    /// next start that it may have forgotten something.
    ///
    /// # Errors
    /// The identity cannot be written.
    pub fn begin(&self, cluster: ClusterId, learns: bool) -> Result<(), IdentityError> {
        self.identity.lock().set_cluster(cluster, learns)?;
        self.learns.store(learns, Ordering::SeqCst);
        self.cluster.set(cluster);
        Ok(())
    }

    /// Peers are answered from now on.
    pub fn serve(&self) {
        self.serves.store(true, Ordering::SeqCst);
    }

    /// Whether `founder` may found a cluster with this node. A promise to another stands, but one's own gives way to a lower id: so
    /// of all that want to found, one gets a majority.
    pub fn promise(&self, founder: u64) -> bool {
        if self.serves() || self.cluster.get().is_some() {
            return false;
        }
        let mut known = self.founder.lock();
        let gives_way = match *known {
            Founder::Anybody => true,
            Founder::Promised(to) => to == founder || (to == self.id && founder < self.id),
            Founder::Itself => false,
        };
        if gives_way {
            *known = Founder::Promised(founder);
        }
        gives_way
    }

    /// Makes use of the promise to itself: from now on this node founds. False: it has given way to another.
    pub fn claim(&self) -> bool {
        let mut known = self.founder.lock();
        let own = *known == Founder::Promised(self.id);
        if own {
            *known = Founder::Itself;
        }
        own
    }
}

/// What the leader answers to a node that asks to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    Answer(JoinAnswer, &'static str),
    /// The state must learn of this life first.
    Record,
}

/// The leader's ruling, by the record of the node. `nobody`: no member is recorded yet.
pub fn rule(record: Option<&NodeRecord>, nobody: bool, request: &JoinRequest) -> Ruling {
    let Some(store) = StoreId::from_wire(&request.store) else {
        return Ruling::Answer(JoinAnswer::Unknown, "it names no store");
    };
    let Some(record) = record else {
        return match nobody {
            true => Ruling::Answer(JoinAnswer::Wait, "the members are not recorded yet"),
            false => Ruling::Answer(JoinAnswer::Unknown, "no such member: add it with `holdfast cluster add`"),
        };
    };
    if record.store == Some(store) {
        return Ruling::Answer(JoinAnswer::Serve, "");
    }
    if record.former.contains(&store) || (!request.blank && record.store.is_some()) {
        return Ruling::Answer(JoinAnswer::Superseded, "another life of this node's disk has its place");
    }
    // Somebody else's id by mistake must not cost that node its place.
    if request.blank && record.addr != request.addr {
        return Ruling::Answer(JoinAnswer::Unknown, "this id is a member at another address: remove it, then add it");
    }
    match record.newcomer == Some(store) {
        true => Ruling::Answer(JoinAnswer::Wait, "what this node was before is being removed"),
        false => Ruling::Record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(number: u128) -> StoreId {
        StoreId::new(number).expect("not 0")
    }

    fn ask(number: u128, blank: bool) -> JoinRequest {
        JoinRequest { id: 2, addr: "b:2".to_owned(), store: store(number).to_wire(), blank }
    }

    fn known(of: Option<u128>, newcomer: Option<u128>) -> NodeRecord {
        NodeRecord {
            store: of.map(store),
            newcomer: newcomer.map(store),
            former: vec![store(1)],
            ..NodeRecord::new("b:2")
        }
    }

    fn answer(record: Option<&NodeRecord>, request: &JoinRequest) -> Option<JoinAnswer> {
        match rule(record, false, request) {
            Ruling::Answer(answer, _) => Some(answer),
            Ruling::Record => None,
        }
    }

    #[test]
    fn the_life_that_has_the_place_serves_and_a_former_one_never_again() {
        let node = known(Some(5), None);
        for blank in [false, true] {
            assert_eq!(answer(Some(&node), &ask(5, blank)), Some(JoinAnswer::Serve));
            assert_eq!(answer(Some(&node), &ask(1, blank)), Some(JoinAnswer::Superseded));
        }
        assert_eq!(answer(Some(&node), &ask(6, false)), Some(JoinAnswer::Superseded));
    }

    #[test]
    fn a_blank_node_is_recorded_waits_and_is_never_let_in_at_once() {
        assert_eq!(answer(Some(&known(Some(5), None)), &ask(6, true)), None);
        assert_eq!(answer(Some(&known(None, None)), &ask(6, true)), None);
        assert_eq!(answer(Some(&known(Some(5), Some(6))), &ask(6, true)), Some(JoinAnswer::Wait));
        assert_eq!(answer(Some(&known(Some(5), Some(7))), &ask(6, true)), None);
    }

    #[test]
    fn a_node_that_knows_something_takes_a_free_place() {
        assert_eq!(answer(Some(&known(None, None)), &ask(6, false)), None);
    }

    #[test]
    fn a_stranger_is_told_so_and_before_there_are_members_it_waits() {
        assert_eq!(answer(None, &ask(6, true)), Some(JoinAnswer::Unknown));
        assert!(matches!(rule(None, true, &ask(6, true)), Ruling::Answer(JoinAnswer::Wait, _)));
        let elsewhere = JoinRequest { addr: "x:9".to_owned(), ..ask(6, true) };
        assert_eq!(answer(Some(&known(Some(5), None)), &elsewhere), Some(JoinAnswer::Unknown));
    }

    #[test]
    fn of_those_that_want_to_found_the_lowest_is_promised_and_others_keep_their_word() {
        let dir = tempfile::tempdir().expect("temp dir");
        let identity = Identity::open(dir.path(), 3).expect("fresh");
        let standing = Standing::new(3, identity, ClusterCell::default(), false);
        assert!(standing.promise(3) && standing.promise(3));
        assert!(!standing.promise(5));
        assert!(standing.promise(2) && standing.promise(2));
        assert!(!standing.promise(1) && !standing.promise(3));
        assert!(!standing.claim());
        standing.begin(ClusterId(7), true).expect("write");
        standing.serve();
        assert!(standing.serves() && standing.learns() && !standing.promise(2));
        standing.has_learnt().expect("write");
        assert!(!standing.learns());
    }
}
