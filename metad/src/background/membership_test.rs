//! Tests of the keeper's decision: from what is recorded and what Raft has to the one next step.

use super::*;

fn store(number: u128) -> StoreId {
    StoreId::new(number).expect("not 0")
}

fn known(id: u64) -> (u64, NodeRecord) {
    (id, NodeRecord { store: Some(store(u128::from(id))), ..NodeRecord::new(&format!("n{id}:1")) })
}

/// Node 1 leads; these are recorded and vote, and all answer.
fn look(voters: &[u64]) -> Look {
    let raft = MemberView {
        voters: voters.iter().copied().collect(),
        answering: voters.iter().copied().collect(),
        matched: voters.iter().map(|id| (*id, 1000)).collect(),
        settled: true,
        last_log: 1000,
        ..MemberView::default()
    };
    let nodes = voters.iter().map(|id| known(*id)).collect();
    Look { id: 1, store: Some(store(1)), nodes, is_founding: false, raft }
}

fn silent(mut look: Look, id: u64) -> Look {
    look.raft.answering.remove(&id);
    look
}

fn learner(mut look: Look, id: u64, matched: u64) -> Look {
    look.nodes.extend([known(id)]);
    look.raft.learners.insert(id);
    look.raft.answering.insert(id);
    look.raft.matched.insert(id, matched);
    look
}

fn returning(mut look: Look, id: u64) -> Look {
    let node = look.nodes.entry(id).or_default();
    node.newcomer = Some(store(99));
    silent(look, id)
}

#[test]
fn with_all_in_place_there_is_nothing_to_do() {
    assert_eq!(next_step(&look(&[1, 2, 3])), Step::Done);
    assert_eq!(next_step(&silent(look(&[1, 2, 3]), 3)), Step::Done);
}

#[test]
fn members_are_recorded_first_and_nothing_is_begun_while_a_change_is_under_way() {
    assert_eq!(next_step(&Look { nodes: BTreeMap::new(), ..look(&[1]) }), Step::Record);
    let mut open = learner(look(&[1]), 2, 1000);
    open.raft.settled = false;
    assert_eq!(next_step(&open), Step::Wait);
}

#[test]
fn without_a_quorum_that_answers_nothing_is_begun() {
    let near = learner(look(&[1, 2]), 3, 1000);
    assert_eq!(next_step(&near), Step::Promote(3));
    assert_eq!(next_step(&silent(near, 2)), Step::Wait);
}

#[test]
fn a_change_that_a_leader_left_half_done_is_finished_first() {
    let mut half = learner(look(&[1, 2]), 3, 1000);
    half.raft.joint = true;
    assert_eq!(next_step(&half), Step::Settle);
}

#[test]
fn a_recorded_node_is_waited_for_until_it_says_which_disk_it_has() {
    let mut look = look(&[1]);
    look.nodes.insert(2, NodeRecord::new("n2:1"));
    assert_eq!(next_step(&look), Step::Done);
    look.nodes.extend([known(2)]);
    assert_eq!(next_step(&look), Step::AddLearner(2, "n2:1".to_owned()));
}

#[test]
fn a_learner_votes_once_it_is_near_and_answers() {
    assert_eq!(next_step(&learner(look(&[1]), 2, 1)), Step::Wait);
    assert_eq!(next_step(&silent(learner(look(&[1]), 2, 1000), 2)), Step::Wait);
    assert_eq!(next_step(&learner(look(&[1]), 2, 600)), Step::Promote(2));
    let mut unheard = learner(look(&[1]), 2, 0);
    unheard.raft.matched.clear();
    unheard.raft.last_log = 3;
    assert_eq!(next_step(&unheard), Step::Wait);
}

#[test]
fn a_blank_node_is_forgotten_by_raft_before_it_has_its_place() {
    let mut look = returning(look(&[1, 2, 3]), 3);
    assert_eq!(next_step(&look), Step::Drop(3));
    look.raft.voters.remove(&3);
    assert_eq!(next_step(&look), Step::Admit(3, store(99)));
    look.nodes.extend([known(3)]);
    assert_eq!(next_step(&look), Step::AddLearner(3, "n3:1".to_owned()));
    let learning = returning(learner(look, 4, 5), 4);
    assert_eq!(next_step(&learning), Step::Drop(4));
}

#[test]
fn a_node_that_answers_is_not_replaced_by_another_that_claims_its_id() {
    let mut claimed = returning(look(&[1, 2, 3]), 3);
    claimed.raft.answering.insert(3);
    assert_eq!(next_step(&claimed), Step::Wait);
}

#[test]
fn nobody_is_dropped_whose_vote_the_others_need() {
    let two_down = silent(returning(look(&[1, 2, 3]), 3), 2);
    assert_eq!(next_step(&two_down), Step::Wait);
    let mut unrecorded = silent(look(&[1, 2]), 2);
    unrecorded.nodes.remove(&2);
    assert_eq!(next_step(&unrecorded), Step::Wait);
    unrecorded.raft.answering.insert(2);
    assert_eq!(next_step(&unrecorded), Step::Drop(2));
    let mut pair = silent(look(&[1, 2, 3]), 2);
    pair.nodes.remove(&3);
    assert_eq!(next_step(&pair), Step::Wait);
}

#[test]
fn a_leader_without_a_place_hands_over() {
    let mut look = look(&[1, 2, 3]);
    look.nodes.remove(&1);
    assert_eq!(next_step(&look), Step::HandOver);
}

#[test]
fn the_leader_records_its_own_disk() {
    let mut look = look(&[1, 2, 3]);
    look.nodes.insert(1, NodeRecord::new("n1:1"));
    assert_eq!(next_step(&look), Step::RegisterSelf(store(1)));
}

#[test]
fn the_founding_ends_when_most_of_the_founders_vote() {
    let mut look = look(&[1]);
    look.is_founding = true;
    look.nodes.insert(2, NodeRecord::new("n2:1"));
    look.nodes.insert(3, NodeRecord::new("n3:1"));
    assert_eq!(next_step(&look), Step::Wait);
    look.raft.voters.insert(2);
    look.raft.answering.insert(2);
    assert_eq!(next_step(&look), Step::Founded);
}

#[test]
fn of_two_that_lost_their_disks_one_comes_back_after_the_other() {
    let mut look = returning(returning(look(&[1, 2, 3, 4, 5]), 4), 5);
    assert_eq!(next_step(&look), Step::Drop(4));
    look.raft.voters.remove(&4);
    assert_eq!(next_step(&look), Step::Drop(5));
    let three = returning(returning(returning(super::tests::look(&[1, 2, 3, 4, 5]), 3), 4), 5);
    assert_eq!(next_step(&three), Step::Wait);
}
