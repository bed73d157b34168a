//! Tests of MetaClient against the fake cluster: what happens to an operation when the transport or the server misbehaves.

use super::link::{Core, Effects};
use super::test_fake::{Fault, Node, Shared, start};
use super::{MetaApi, MetaClient};
use crate::config::MetaConfig;
use crate::error::ClientError;
use holdfast_proto::{FsErrno, pb};
use pb::FailureCode;
use pb::response::Result as Wire;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn config(world: &Shared) -> MetaConfig {
    let addrs = world.lock().addrs.join(",");
    let mut config = MetaConfig::new(&format!("holdfast://{addrs}/v").parse().unwrap(), None);
    // Nothing is asserted about time; these only keep the tests short.
    config.suspicion = Duration::from_millis(60);
    config.resend_after = Duration::from_millis(200);
    config
}

async fn connected(config: MetaConfig) -> Arc<MetaClient> {
    let meta = MetaClient::connect(config).await.unwrap();
    meta.open_session("v", "host", "/mnt").await.unwrap();
    Arc::new(meta)
}

async fn one_node() -> (Shared, Vec<Node>, Arc<MetaClient>) {
    let (world, nodes) = start(1).await;
    let meta = connected(config(&world)).await;
    (world, nodes, meta)
}

async fn mkdir(meta: &MetaClient, name: &'static str) -> Result<u64, ClientError> {
    let op = pb::MkdirOp { parent: 1, name: name.into(), mode: 0o755, umask: 0 };
    let answer = meta.mutate(&pb::Creds::default(), op).await?;
    Ok(answer.reply.attr.map_or(0, |attr| attr.ino))
}

async fn getattr(meta: &MetaClient) -> Result<u64, ClientError> {
    let answer = meta.query(&pb::Creds::default(), pb::GetattrQuery { ino: 1 }).await?;
    Ok(answer.reply.attr.map_or(0, |attr| attr.ino))
}

/// Mutations of a session as they came in, without the node.
fn seen(world: &Shared) -> Vec<(u64, u32, u64)> {
    let world = world.lock();
    world.seen.iter().filter(|s| s.1 != 0).map(|&(_, session, slot, seq)| (session, slot, seq)).collect()
}

#[tokio::test]
async fn an_operation_gets_its_reply_and_its_log_index() {
    let (_world, _nodes, meta) = one_node().await;
    assert_eq!(meta.session(), 1);
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    assert_eq!(getattr(&meta).await, Ok(1));
    let answer = meta.query(&pb::Creds::default(), pb::GetattrQuery { ino: 1 }).await.unwrap();
    assert_eq!(answer.log_index, 7);
}

#[tokio::test]
async fn a_reply_lost_with_the_stream_is_asked_for_again_under_the_same_ids() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::EndStream);
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    assert_eq!(seen(&world), [(1, 0, 1), (1, 0, 1)]);
    assert_eq!(world.lock().applied.len(), 1);
}

#[tokio::test]
async fn a_reply_lost_on_a_live_stream_is_asked_for_again_under_the_same_ids() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::LoseReply);
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    assert_eq!(seen(&world), [(1, 0, 1), (1, 0, 1)]);
    assert_eq!(world.lock().applied.len(), 1);
}

#[tokio::test]
async fn a_retried_refusal_is_the_original_one_and_final() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::EndStream);
    assert_eq!(mkdir(&meta, "taken").await, Err(ClientError::Refused(FsErrno::Exist)));
    assert_eq!(mkdir(&meta, "b").await, Ok(3));
    assert_eq!(seen(&world), [(1, 0, 1), (1, 0, 1), (1, 0, 2)]);
}

#[tokio::test]
async fn unknown_and_unavailable_are_retried_under_the_same_ids() {
    let (world, _nodes, meta) = one_node().await;
    let codes = [FailureCode::Unknown, FailureCode::Unavailable, FailureCode::Unknown];
    world.lock().faults.extend(codes.map(Fault::Fail));
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    assert_eq!(seen(&world), [(1, 0, 1); 4]);
    world.lock().faults.extend(codes.map(Fault::Fail));
    assert_eq!(getattr(&meta).await, Ok(1));
}

#[tokio::test]
async fn a_leader_that_resigned_is_left_for_the_one_it_names() {
    let (world, _nodes) = start(2).await;
    // Only the first is in META: the other is learnt.
    let mut config = config(&world);
    config.nodes.truncate(1);
    let meta = connected(config).await;
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    world.lock().leader = 1;
    assert_eq!(mkdir(&meta, "b").await, Ok(3));
    assert_eq!(world.lock().seen.last().map(|s| s.0), Some(1));
    assert_eq!(meta.nodes().len(), 2);
}

#[tokio::test]
async fn a_leader_that_died_is_left_for_the_next() {
    let (world, mut nodes) = start(2).await;
    let meta = connected(config(&world)).await;
    world.lock().leader = 1;
    nodes.remove(0);
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
}

#[tokio::test]
async fn a_client_outlives_every_node_it_was_started_with() {
    let (world, mut nodes) = start(2).await;
    let mut config = config(&world);
    config.nodes.truncate(1);
    {
        let mut world = world.lock();
        world.members = world.addrs.clone();
    }
    let meta = connected(config).await;
    // Nobody is left to name the other one.
    world.lock().leader = 1;
    nodes.remove(0);
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
}

#[tokio::test]
async fn a_silent_leader_is_left_when_another_node_leads() {
    let (world, _nodes) = start(3).await;
    let meta = connected(config(&world)).await;
    {
        let mut world = world.lock();
        world.stalled.push(0);
        world.leader = 2;
    }
    assert_eq!(mkdir(&meta, "a").await, Ok(2));
    assert_eq!(getattr(&meta).await, Ok(1));
}

#[tokio::test]
async fn a_lost_session_fails_what_it_carried_and_another_takes_its_place() {
    let (world, _nodes, meta) = one_node().await;
    let mut pushes = meta.take_pushes().unwrap();
    assert!(meta.take_pushes().is_none());
    world.lock().faults.push_back(Fault::LoseSession);
    assert_eq!(mkdir(&meta, "a").await, Err(ClientError::SessionLost));
    assert!(world.lock().applied.is_empty());
    let mut push = pushes.recv().await.unwrap();
    // Each new stream begins with the word that grants of locks may have been missed.
    while matches!(push.event, Some(pb::push::Event::LockGranted(_))) {
        push = pushes.recv().await.unwrap();
    }
    assert_eq!(push.event, Some(pb::push::Event::SessionLost(pb::SessionLost { session: 1 })));
    // A query waits for the next session, and is asked of the same volume.
    assert_eq!(getattr(&meta).await, Ok(1));
    assert_eq!(meta.session(), 2);
    assert_eq!(mkdir(&meta, "b").await, Ok(2));
    assert_eq!(seen(&world), [(1, 0, 1), (2, 0, 1)]);
}

#[tokio::test]
async fn a_query_survives_the_loss_that_it_meets() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::LoseSession);
    assert_eq!(getattr(&meta).await, Ok(1));
    assert_eq!(meta.session(), 2);
}

#[tokio::test]
async fn answers_that_make_no_sense_are_errors_and_the_client_goes_on() {
    let (world, _nodes, meta) = one_node().await;
    let answers = [
        None,
        Some(Wire::Errno(100_000)),
        Some(Wire::Reply(vec![0xff; 9].into())),
        Some(Wire::Failure(pb::Failure { code: 99, ..Default::default() })),
    ];
    for answer in answers {
        world.lock().faults.push_back(Fault::Answer(answer.clone()));
        let result = mkdir(&meta, "a").await;
        assert!(matches!(result, Err(ClientError::Protocol(_))), "{answer:?}: {result:?}");
    }
    assert!(mkdir(&meta, "b").await.is_ok());
    let slots: Vec<(u32, u64)> = seen(&world).iter().map(|s| (s.1, s.2)).collect();
    // An answer without a result, and a failure of no known kind, retire their slot; a reply that was kept uses up its seq.
    assert_eq!(slots, [(0, 1), (1, 1), (1, 2), (1, 3), (2, 1)]);
}

#[tokio::test]
async fn a_request_that_was_refused_unread_leaves_its_seq_to_the_next() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::Fail(FailureCode::Malformed));
    assert!(matches!(mkdir(&meta, "a").await, Err(ClientError::Protocol(_))));
    assert_eq!(mkdir(&meta, "b").await, Ok(2));
    assert_eq!(seen(&world), [(1, 0, 1), (1, 0, 1)]);
}

#[tokio::test]
async fn more_callers_than_slots_wait_for_their_turn() {
    let (world, _nodes) = start(1).await;
    let meta = connected(MetaConfig { slot_count: 2, ..config(&world) }).await;
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let meta = meta.clone();
            tokio::spawn(async move { mkdir(&meta, "a").await })
        })
        .collect();
    for caller in callers {
        assert!(caller.await.unwrap().is_ok());
    }
    assert_eq!(world.lock().applied.len(), 50);
    assert!(seen(&world).iter().all(|s| s.1 < 2));
}

#[tokio::test]
async fn an_operation_past_its_deadline_fails_and_its_slot_is_resolved_behind_it() {
    let (world, _nodes) = start(1).await;
    let meta = connected(MetaConfig { slot_count: 1, op_deadline: Duration::from_millis(150), ..config(&world) }).await;
    world.lock().stalled.push(0);
    let late = mkdir(&meta, "a").await;
    assert!(matches!(late, Err(ClientError::Unavailable(_))), "{late:?}");
    world.lock().stalled.clear();
    // The only slot is busy with what nobody waits for any more, until that has its answer.
    while mkdir(&meta, "b").await.is_err() {}
    assert_eq!(world.lock().applied.iter().map(|a| (a.1, a.2)).next(), Some((0, 1)));
    assert!(world.lock().applied.len() >= 2);
}

#[test]
fn time_in_which_the_client_itself_did_not_run_is_not_counted() {
    let config = MetaConfig::new(&"holdfast://a:1/v".parse().unwrap(), None);
    let mut core = Core::new(&config);
    let mut effects = Effects::default();
    let began = Instant::now();
    core.install(1, began);
    let (waiter, mut outcome) = tokio::sync::oneshot::channel();
    let mut op = Some(pb::mutation::Op::Release(pb::ReleaseOp::default()));
    core.take_mutation(1, &pb::Creds::default(), &mut op, waiter, (began, Duration::from_secs(60))).unwrap();
    let stopped_for = Duration::from_secs(75);
    core.on_tick(began + stopped_for, String::new, &mut effects);
    assert!(effects.done.is_empty() && outcome.try_recv().is_err());
    let mut now = began + stopped_for;
    while now < began + stopped_for + Duration::from_secs(60) {
        assert!(effects.done.is_empty());
        now += Duration::from_millis(500);
        core.on_tick(now, String::new, &mut effects);
    }
    core.on_tick(now + Duration::from_millis(500), String::new, &mut effects);
    assert_eq!(effects.done.len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let (world, _nodes) = start(1).await;
    let meta = connected(MetaConfig { slot_count: 1, ..config(&world) }).await;
    for _ in 0..3 {
        let call = mkdir(&meta, "a");
        let _ = futures::poll!(std::pin::pin!(call));
    }
    assert!(mkdir(&meta, "b").await.is_ok());
}

#[tokio::test]
async fn a_closed_session_takes_nothing_more() {
    let (world, _nodes, meta) = one_node().await;
    assert_eq!(meta.close_session().await, Ok(()));
    assert_eq!(world.lock().applied.len(), 1);
    assert!(matches!(mkdir(&meta, "a").await, Err(ClientError::Unavailable(_))));
    assert!(matches!(getattr(&meta).await, Err(ClientError::Unavailable(_))));
}

#[tokio::test]
async fn the_session_is_named_as_soon_as_it_is_open_and_on_each_new_stream() {
    let (world, _nodes, meta) = one_node().await;
    world.lock().faults.push_back(Fault::EndStream);
    assert!(mkdir(&meta, "a").await.is_ok());
    assert!(mkdir(&meta, "b").await.is_ok());
    let named = world.lock().keep_alives.clone();
    assert!(named.len() >= 2 && named.iter().all(|&session| session == 1), "{named:?}");
}

#[tokio::test]
async fn an_oversized_request_is_not_sent() {
    let (world, _nodes, meta) = one_node().await;
    let op = pb::ReleaseOp { inos: vec![u64::MAX; 200_000] };
    let result = meta.mutate(&pb::Creds::default(), op).await;
    assert!(matches!(result, Err(ClientError::Protocol(_))), "{result:?}");
    assert!(seen(&world).is_empty());
    assert!(mkdir(&meta, "a").await.is_ok());
}

#[tokio::test]
async fn where_nobody_listens_the_error_names_the_nodes() {
    let (world, nodes) = start(1).await;
    drop(nodes);
    world.lock().addrs = vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()];
    let config = MetaConfig { call_deadline: Duration::from_millis(50), ..config(&world) };
    let error = MetaClient::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("no metadata node of 127.0.0.1:1,127.0.0.1:2 answers; are they running?"), "{error}");
}

#[tokio::test]
async fn a_node_of_another_version_is_named_with_what_to_do() {
    let (world, _nodes) = start(1).await;
    world.lock().protocol = 2;
    let config = MetaConfig { call_deadline: Duration::from_millis(300), ..config(&world) };
    let error = MetaClient::connect(config).await.unwrap_err().to_string();
    assert!(error.contains("speaks protocol 2, this client 1: upgrade the older one"), "{error}");
}
