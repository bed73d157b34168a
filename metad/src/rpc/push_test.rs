//! Tests of rpc/push: leases, replacement of streams, and who is told what.

use super::*;
use crate::apply::{Effects, Verdict};
use crate::rpc::outbox::Frames;
use futures::{FutureExt, StreamExt};

const LEASE: Duration = Duration::from_secs(60);

fn info(session: u64) -> SessionState {
    let info = pb::SessionInfo { session, volume: 1, ..Default::default() };
    SessionState { info, opened_index: 1, watermark: 0 }
}

fn pushed(outbox: &Arc<Outbox>) -> Vec<push::Event> {
    let mut frames = std::mem::ManuallyDrop::new(Frames(outbox.clone()));
    let frame = frames.next().now_or_never().flatten();
    frame
        .and_then(Result::ok)
        .map(|frame| frame.pushes.into_iter().filter_map(|push| push.event).collect())
        .unwrap_or_default()
}

fn changed(volume: u32, ino: u64) -> Outcome {
    let effects = Effects { volume, inos: vec![ino], ..Effects::default() };
    Outcome { verdict: Verdict::Reply(Default::default()), effects }
}

#[test]
fn sessions_of_the_state_get_a_full_lease_and_others_are_forgotten() {
    let hub = Hub::new(LEASE);
    hub.attach(1, 1, &Arc::new(Outbox::default()));
    assert_eq!(hub.reconcile(&[info(2), info(3)]), Vec::<u64>::new());
    assert_eq!(hub.attached(), Vec::new());
    assert_eq!(hub.reconcile(&[info(1), info(2)]), Vec::<u64>::new());
    hub.members.lock().values_mut().for_each(|member| member.expires = Instant::now());
    hub.renew(2);
    assert_eq!(hub.reconcile(&[info(1), info(2)]), vec![1]);
    hub.renew_all();
    assert_eq!(hub.reconcile(&[info(1), info(2)]), Vec::<u64>::new());
}

#[test]
fn a_session_opened_after_the_state_was_listed_keeps_its_stream() {
    let hub = Hub::new(LEASE);
    hub.attach(7, 1, &Arc::new(Outbox::default()));
    assert_eq!(hub.reconcile(&[info(1), info(2)]), Vec::<u64>::new());
    assert_eq!(hub.attached().iter().map(|stream| stream.session).collect::<Vec<_>>(), [7]);
}

#[test]
fn changes_go_to_streams_of_the_volume_that_want_them() {
    let hub = Hub::new(LEASE);
    let [near, far, quiet] = [(); 3].map(|()| Arc::new(Outbox::default()));
    hub.attach(1, 1, &near);
    hub.attach(2, 2, &far);
    hub.attach(3, 1, &quiet);
    quiet.set_quiet();
    hub.publish(&[changed(1, 5), changed(1, 6), changed(1, 7)], |at| if at == 2 { 1 } else { 9 });
    assert_eq!(pushed(&near), vec![push::Event::Invalidate(pb::Invalidate { inos: vec![5, 6], dentries: vec![] })]);
    assert_eq!(pushed(&far), vec![]);
    assert_eq!(pushed(&quiet), vec![]);
}

#[test]
fn an_ended_session_is_told_and_forgotten() {
    let hub = Hub::new(LEASE);
    let outbox = Arc::new(Outbox::default());
    hub.attach(1, 1, &outbox);
    let mut outcome = changed(0, 0);
    outcome.effects.ended = vec![1];
    hub.publish(&[outcome], |_| 0);
    assert!(pushed(&outbox).contains(&push::Event::SessionLost(pb::SessionLost { session: 1 })));
    assert_eq!(hub.attached(), vec![]);
}

#[test]
fn a_new_stream_of_a_session_replaces_the_old_one_and_is_asked_afresh() {
    let hub = Hub::new(LEASE);
    let [old, new] = [(); 2].map(|()| Arc::new(Outbox::default()));
    hub.attach(1, 1, &old);
    hub.ask(1, pb::OrphanQuestion { through_index: 4, inos: vec![8] });
    assert_eq!(hub.attached()[0].asked_through, 4);
    hub.attach(1, 1, &new);
    hub.detach(&old);
    assert_eq!(hub.attached(), vec![Attached { session: 1, volume: 1, asked_through: 0 }]);
}
