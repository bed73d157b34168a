//! Tests of found, add_node, remove_node, join_node and admit_node: what the state machine knows of the cluster's members.

use crate::apply::{Verdict, apply_entry};
use crate::store::mem_store::MemStore;
use crate::store::node_record::{NodeRecord, StoreId};
use crate::store::{KvCommit, read};
use holdfast_proto::FsErrno::{Exist, Inval, NoEnt, NoSpc, Stale};
use holdfast_proto::limits::NODES_MAX;
use holdfast_proto::pb::mutation::Op;
use holdfast_proto::{FsErrno, pb};

#[derive(Default)]
struct Members {
    store: MemStore,
    log_index: u64,
}

fn addr(id: u64) -> pb::NodeAddr {
    pb::NodeAddr { id, addr: format!("n{id}:1") }
}

fn store(number: u128) -> StoreId {
    StoreId::new(number).expect("not 0")
}

impl Members {
    fn founded(count: u64) -> Members {
        let mut members = Members::default();
        members.run(Op::Found(pb::FoundOp { nodes: (1..=count).map(addr).collect(), done: true })).expect("founds");
        members
    }

    fn run(&mut self, op: Op) -> Result<(), FsErrno> {
        self.log_index += 1;
        let entry = pb::LogEntry {
            time: None,
            mutations: vec![pb::Mutation { op: Some(op), ..Default::default() }],
            tight: false,
        };
        let mut applied = self.store.view(|view| apply_entry(view, self.log_index, &entry)).expect("applies");
        self.store.commit(self.log_index, applied.batch).expect("commits");
        match applied.outcomes.remove(0).verdict {
            Verdict::Reply(_) => Ok(()),
            Verdict::Refused(errno) => Err(errno),
            Verdict::Failed(code) => panic!("{code:?}"),
        }
    }

    fn add(&mut self, id: u64, addr: &str) -> Result<(), FsErrno> {
        self.run(Op::AddNode(pb::AddNodeOp { node: Some(pb::NodeAddr { id, addr: addr.to_owned() }) }))
    }

    fn remove(&mut self, id: u64) -> Result<(), FsErrno> {
        self.run(Op::RemoveNode(pb::RemoveNodeOp { id }))
    }

    fn join(&mut self, id: u64, number: u128, blank: bool) -> Result<(), FsErrno> {
        self.run(Op::JoinNode(pb::JoinNodeOp { id, store: store(number).to_wire(), blank }))
    }

    fn admit(&mut self, id: u64, number: u128) -> Result<(), FsErrno> {
        self.run(Op::AdmitNode(pb::AdmitNodeOp { id, store: store(number).to_wire() }))
    }

    fn ids(&self) -> Vec<u64> {
        self.store.view(read::nodes).expect("reads").into_keys().collect()
    }

    fn node(&self, id: u64) -> NodeRecord {
        self.store.view(|view| read::node(view, id)).expect("reads").expect("is a member")
    }

    fn is_founding(&self) -> bool {
        self.store.view(read::is_founding).expect("reads")
    }
}

#[test]
fn members_are_recorded_once_and_the_founding_ends_once() {
    let mut members = Members::default();
    let found = |ids: &[u64], done| Op::Found(pb::FoundOp { nodes: ids.iter().map(|id| addr(*id)).collect(), done });
    assert_eq!(members.run(found(&[0], false)), Err(Inval));
    members.run(found(&[1, 2, 3], false)).expect("founds");
    assert!(members.is_founding());
    members.run(found(&[7], false)).expect("changes nothing");
    assert_eq!(members.ids(), [1, 2, 3]);
    members.run(found(&[], true)).expect("ends");
    assert!(!members.is_founding());
    members.run(found(&[8], false)).expect("changes nothing");
    assert_eq!((members.ids(), members.is_founding()), (vec![1, 2, 3], false));
}

#[test]
fn a_node_is_added_once_and_ids_and_addresses_are_nobody_elses() {
    let mut members = Members::founded(2);
    assert_eq!(members.add(3, "n3:1"), Ok(()));
    assert_eq!(members.add(3, "n3:1"), Ok(()));
    assert_eq!(members.add(3, "other:1"), Err(Exist));
    assert_eq!(members.add(4, "n1:1"), Err(Exist));
    assert_eq!(members.add(0, "x:1"), Err(Inval));
    for id in 4..=NODES_MAX as u64 {
        assert_eq!(members.add(id, &format!("n{id}:1")), Ok(()));
    }
    assert_eq!(members.add(99, "n99:1"), Err(NoSpc));
}

#[test]
fn the_last_member_stays() {
    let mut members = Members::founded(2);
    assert_eq!((members.remove(2), members.remove(2)), (Ok(()), Ok(())));
    assert_eq!(members.remove(1), Err(Inval));
    assert_eq!(members.ids(), [1]);
}

#[test]
fn a_node_that_knows_something_takes_a_free_place_at_once() {
    let mut members = Members::founded(1);
    assert_eq!(members.join(9, 5, false), Err(NoEnt));
    assert_eq!(members.join(1, 5, false), Ok(()));
    assert_eq!(members.join(1, 5, false), Ok(()));
    assert_eq!(members.node(1).store, Some(store(5)));
    assert_eq!(members.join(1, 6, false), Err(Stale));
}

#[test]
fn a_blank_node_waits_until_it_is_admitted_even_where_nobody_was() {
    let mut members = Members::founded(1);
    members.join(1, 5, true).expect("waits");
    assert_eq!((members.node(1).store, members.node(1).newcomer), (None, Some(store(5))));
    members.join(1, 6, true).expect("another life waits in its place");
    assert_eq!(members.admit(1, 5), Err(Stale));
    members.admit(1, 6).expect("admits");
    assert_eq!((members.node(1).store, members.node(1).newcomer), (Some(store(6)), None));
    assert_eq!(members.admit(1, 6), Err(Stale));
}

#[test]
fn a_life_that_was_replaced_never_comes_back() {
    let mut members = Members::founded(1);
    members.join(1, 5, false).expect("takes its place");
    members.join(1, 6, true).expect("waits");
    members.admit(1, 6).expect("admits");
    assert_eq!((members.join(1, 5, false), members.join(1, 5, true)), (Err(Stale), Err(Stale)));
    assert_eq!((members.node(1).store, members.node(1).former), (Some(store(6)), vec![store(5)]));
}
