//! The session as the link sees it: none yet, live, lost, or over. Its rules: what is in flight when it is lost fails with SessionLost,
//! never silently; another one is opened in its place at once, under a new uuid. Called by meta::link under its lock.

use super::slots::Slots;
use crate::error::ClientError;
use bytes::Bytes;
use holdfast_proto::{pb, version};

/// Who opens sessions, and of which volume.
#[derive(Clone, Debug)]
pub struct Owner {
    pub volume: String,
    pub host: String,
    pub mountpoint: String,
}

impl Owner {
    /// A request for a session. The uuid makes its repetition harmless: the same uuid is the same session.
    pub fn open_op(&self) -> pb::OpenSessionOp {
        pb::OpenSessionOp {
            uuid: Bytes::copy_from_slice(&rand::random::<[u8; 16]>()),
            volume: self.volume.clone(),
            host: self.host.clone(),
            mountpoint: self.mountpoint.clone(),
            pid: std::process::id(),
            version: version::BUILD.to_owned(),
        }
    }
}

/// A session that the server knows.
#[derive(Debug)]
pub struct Live {
    pub id: u64,
    pub slots: Slots,
}

/// Where the session stands.
#[derive(Debug, Default)]
pub enum State {
    /// Not opened yet.
    #[default]
    None,
    Live(Live),
    /// The server ended it; another is being opened.
    Lost,
    /// For good: closed by us, or the volume is gone.
    Over(ClientError),
}

/// The session and its owner.
#[derive(Debug, Default)]
pub struct Session {
    pub state: State,
    pub owner: Option<Owner>,
    /// Set while we end it ourselves: it is not opened again.
    pub closing: bool,
}

impl Session {
    /// Of the live session, else 0.
    pub fn id(&self) -> u64 {
        match &self.state {
            State::Live(live) => live.id,
            State::None | State::Lost | State::Over(_) => 0,
        }
    }

    /// Whether `id` is the live one.
    pub fn is_live(&self, id: u64) -> bool {
        id != 0 && self.id() == id
    }

    /// # Errors
    /// Where no mutation may be sent now. While a lost session has no successor yet a mutation fails rather than wait: it may
    /// belong to what was begun under the lost one (promise 5), and that must not take effect under another.
    pub fn for_mutation(&mut self) -> Result<&mut Live, ClientError> {
        match &mut self.state {
            State::Live(live) => Ok(live),
            State::Lost => Err(ClientError::SessionLost),
            State::Over(error) => Err(error.clone()),
            State::None => Err(ClientError::Protocol("no session is open".to_owned())),
        }
    }

    /// The session a query is asked under; 0 where it must wait for the next one.
    pub fn for_query(&self) -> Result<u64, ClientError> {
        match &self.state {
            State::Live(live) => Ok(live.id),
            State::Lost => Ok(0),
            State::Over(error) => Err(error.clone()),
            State::None => Err(ClientError::Protocol("no session is open".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_for_a_session_has_its_own_uuid() {
        let owner = Owner { volume: "v".into(), host: "h".into(), mountpoint: "/m".into() };
        let (first, second) = (owner.open_op(), owner.open_op());
        assert_eq!(first.uuid.len(), 16);
        assert_ne!(first.uuid, second.uuid);
    }

    #[test]
    fn between_two_sessions_mutations_fail_and_queries_wait() {
        let mut session = Session { state: State::Lost, ..Default::default() };
        assert_eq!(session.for_mutation().unwrap_err(), ClientError::SessionLost);
        assert_eq!(session.for_query(), Ok(0));
        assert!(!session.is_live(0));
    }

    #[test]
    fn after_the_end_everything_gets_the_reason() {
        let reason = ClientError::Unavailable("unmounted".into());
        let mut session = Session { state: State::Over(reason.clone()), ..Default::default() };
        assert_eq!(session.for_mutation().unwrap_err(), reason);
        assert_eq!(session.for_query(), Err(reason));
    }
}
