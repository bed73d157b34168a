//! Retry: what to do with a request that got a failure in place of an answer. One pure table; randomness and time come in. A refusal
//! (FsErrno) never gets here: it is an answer. Called by meta::link and meta::leader.

use crate::error::ClientError;
use holdfast_proto::pb::FailureCode;
use std::time::Duration;

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The server said so.
    Failure { code: FailureCode, leader: String, message: String },
    /// The stream ended, so that nobody knows whether the request was done.
    StreamLost,
    /// Answered with something that is no answer.
    Garbled(String),
}

/// How far the request has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Failures so far, this one included; from 1.
    pub attempts: u32,
    pub elapsed: Duration,
    pub deadline: Duration,
    /// In [0, 1).
    pub jitter: f32,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it again with the same ids, on this stream if it lives.
    Retry { after: Duration },
    /// Find the leader (`to`, where known) and send all that is unanswered there.
    Redirect { to: Option<String> },
    /// The session has ended: fail its mutations, open another, ask queries again under that one.
    NewSession,
    /// Final.
    Fail(ClientError),
}

/// What becomes of the slot of a mutation that failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotFate {
    /// The server kept nothing: the seq is free.
    NotRecorded,
    /// Nobody knows what the server kept.
    Retire,
}

const BACKOFF_MS_FIRST: u64 = 5;
const BACKOFF_MS_MAX: u64 = 500;

/// The table.
pub fn decide(trouble: &Trouble, progress: Progress) -> Decision {
    if progress.elapsed >= progress.deadline {
        return Decision::Fail(overdue(trouble, progress));
    }
    match trouble {
        Trouble::StreamLost => Decision::Redirect { to: None },
        Trouble::Garbled(what) => Decision::Fail(ClientError::Protocol(what.clone())),
        Trouble::Failure { code, leader, message } => match code {
            FailureCode::NotLeader => Decision::Redirect { to: (!leader.is_empty()).then(|| leader.clone()) },
            FailureCode::Unavailable | FailureCode::Unknown => Decision::Retry { after: backoff(progress) },
            FailureCode::SessionLost => Decision::NewSession,
            FailureCode::Sequence => Decision::Fail(ClientError::Protocol(format!("out of sequence: {message}"))),
            FailureCode::Malformed => Decision::Fail(ClientError::Protocol(format!("refused as malformed: {message}"))),
            FailureCode::TooLarge => Decision::Fail(ClientError::Protocol(format!("refused as too large: {message}"))),
            FailureCode::Unspecified => {
                Decision::Fail(ClientError::Protocol(format!("a failure of unknown kind: {message}")))
            }
        },
    }
}

/// Only a first and only attempt that was refused unread is surely not in the state machine: of two that were sent, the other
/// one may be.
pub fn slot_fate(trouble: &Trouble, attempts: u32) -> SlotFate {
    match trouble {
        Trouble::Failure { code: FailureCode::Malformed | FailureCode::TooLarge, .. } if attempts == 1 => {
            SlotFate::NotRecorded
        }
        Trouble::Failure { .. } | Trouble::Garbled(_) | Trouble::StreamLost => SlotFate::Retire,
    }
}

/// 5 ms, 10 ms ... 500 ms, each between half and the whole, so that many clients do not come at once.
fn backoff(progress: Progress) -> Duration {
    let doublings = progress.attempts.saturating_sub(1).min(16);
    let full_ms = (BACKOFF_MS_FIRST << doublings).min(BACKOFF_MS_MAX);
    Duration::from_millis(full_ms).mul_f64(0.5 + f64::from(progress.jitter.clamp(0.0, 1.0)) / 2.0)
}

/// How long to wait before a node that does not lead is asked again. Short while an election may be under way (its own length is
/// what the application waits; ours must not show), longer when the cluster is down for good.
pub fn probe_pause(elapsed: Duration, jitter: f32) -> Duration {
    let full_ms = match elapsed.as_millis() {
        0..2_000 => 10,
        2_000..10_000 => 50,
        _ => 250,
    };
    Duration::from_millis(full_ms).mul_f64(0.75 + f64::from(jitter.clamp(0.0, 1.0)) / 2.0)
}

fn overdue(trouble: &Trouble, progress: Progress) -> ClientError {
    let why = match trouble {
        Trouble::Failure { message, .. } if !message.is_empty() => message.clone(),
        Trouble::Failure { code, .. } => format!("{code:?}"),
        Trouble::StreamLost => "the connection was lost".to_owned(),
        Trouble::Garbled(what) => what.clone(),
    };
    ClientError::Unavailable(format!("{why} (gave up after {} s)", progress.elapsed.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODES: [FailureCode; 8] = [
        FailureCode::Unspecified,
        FailureCode::NotLeader,
        FailureCode::Unavailable,
        FailureCode::Unknown,
        FailureCode::SessionLost,
        FailureCode::Sequence,
        FailureCode::Malformed,
        FailureCode::TooLarge,
    ];

    fn failure(code: FailureCode) -> Trouble {
        Trouble::Failure { code, leader: "h:1".into(), message: "said so".into() }
    }

    fn progress(attempts: u32, elapsed_ms: u64) -> Progress {
        Progress {
            attempts,
            elapsed: Duration::from_millis(elapsed_ms),
            deadline: Duration::from_secs(60),
            jitter: 1.0,
        }
    }

    #[test]
    fn every_code_of_the_wire_has_its_row() {
        for number in 0..64 {
            match FailureCode::try_from(number) {
                Ok(code) => assert!(CODES.contains(&code), "{code:?}"),
                Err(_) => assert!(number as usize >= CODES.len()),
            }
        }
        for code in CODES {
            let decision = decide(&failure(code), progress(1, 0));
            let name = match decision {
                Decision::Retry { .. } => "retry",
                Decision::Redirect { .. } => "redirect",
                Decision::NewSession => "new session",
                Decision::Fail(ClientError::Protocol(_)) => "protocol",
                Decision::Fail(_) => "fail",
            };
            let wanted = match code {
                FailureCode::NotLeader => "redirect",
                FailureCode::Unavailable | FailureCode::Unknown => "retry",
                FailureCode::SessionLost => "new session",
                FailureCode::Sequence | FailureCode::Malformed | FailureCode::TooLarge | FailureCode::Unspecified => {
                    "protocol"
                }
            };
            assert_eq!(name, wanted, "{code:?}");
        }
    }

    #[test]
    fn a_redirect_names_the_leader_only_where_it_is_known() {
        assert_eq!(
            decide(&failure(FailureCode::NotLeader), progress(1, 0)),
            Decision::Redirect { to: Some("h:1".into()) }
        );
        let nowhere = Trouble::Failure { code: FailureCode::NotLeader, leader: String::new(), message: String::new() };
        assert_eq!(decide(&nowhere, progress(1, 0)), Decision::Redirect { to: None });
        assert_eq!(decide(&Trouble::StreamLost, progress(1, 0)), Decision::Redirect { to: None });
    }

    #[test]
    fn past_the_deadline_everything_fails_as_unavailable_and_says_why() {
        let mut troubles: Vec<Trouble> = CODES.into_iter().map(failure).collect();
        troubles.extend([Trouble::StreamLost, Trouble::Garbled("odd".into())]);
        for trouble in troubles {
            for elapsed_ms in [60_000, 61_000] {
                match decide(&trouble, progress(3, elapsed_ms)) {
                    Decision::Fail(ClientError::Unavailable(why)) => assert!(why.contains("gave up after 6"), "{why}"),
                    other => panic!("{trouble:?}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn backoff_doubles_within_its_bounds_and_never_overflows() {
        let after = |attempts, jitter| {
            let progress = Progress { jitter, ..progress(attempts, 0) };
            match decide(&failure(FailureCode::Unknown), progress) {
                Decision::Retry { after } => after.as_micros(),
                other => panic!("{other:?}"),
            }
        };
        let full: Vec<u128> = (1..=9).map(|attempts| after(attempts, 1.0)).collect();
        assert_eq!(full, [5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 500_000, 500_000]);
        for attempts in 0..100 {
            assert!(after(attempts, 0.0) * 2 <= 500_000 && after(attempts, 0.0) >= 2_500);
        }
        assert_eq!(after(u32::MAX, 1.0), 500_000);
    }

    #[test]
    fn a_slot_is_used_again_only_if_the_server_surely_kept_nothing() {
        for code in CODES {
            let unread = matches!(code, FailureCode::Malformed | FailureCode::TooLarge);
            let once = if unread { SlotFate::NotRecorded } else { SlotFate::Retire };
            assert_eq!(slot_fate(&failure(code), 1), once, "{code:?}");
            assert_eq!(slot_fate(&failure(code), 2), SlotFate::Retire, "{code:?}");
        }
        assert_eq!(slot_fate(&Trouble::Garbled(String::new()), 1), SlotFate::Retire);
        assert_eq!(slot_fate(&Trouble::StreamLost, 1), SlotFate::Retire);
    }

    #[test]
    fn probing_is_dense_during_an_election_and_sparse_in_an_outage() {
        let pause = |ms| probe_pause(Duration::from_millis(ms), 0.5).as_millis();
        assert_eq!((pause(0), pause(1_999), pause(2_000), pause(60_000)), (10, 10, 50, 250));
        assert!(probe_pause(Duration::ZERO, 1.0) < Duration::from_millis(20));
    }
}
