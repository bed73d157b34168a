//! ClientError: everything that can go wrong below the FUSE adapter, and the tables that turn it into an errno and an exit code.

use holdfast_proto::FsErrno;

/// Refusals are answers; all others mean "it did not work, or nobody knows whether it did".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("{0}")]
    Refused(#[from] FsErrno),
    /// The server ended our session: what was written and not yet committed under it is lost, and says so.
    #[error("the session with the metadata cluster was lost")]
    SessionLost,
    /// The deadline passed without an answer.
    #[error("metadata cluster: {0}")]
    Unavailable(String),
    /// The other side broke the protocol, or speaks another one.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The object store failed after all retries.
    #[error("object store: {0}")]
    Object(String),
    /// A block is missing, or its checksum is wrong.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// Not shaped as it must be (a flag, a URL, a configuration): the message names what to do.
    #[error("{0}")]
    Usage(String),
    /// Well said, but it cannot be done as things are: the message names what to do.
    #[error("{0}")]
    Failed(String),
}

impl ClientError {
    /// The errno that an application sees.
    pub fn errno(&self) -> FsErrno {
        match self {
            ClientError::Refused(errno) => *errno,
            ClientError::SessionLost
            | ClientError::Unavailable(_)
            | ClientError::Protocol(_)
            | ClientError::Object(_)
            | ClientError::Damaged(_)
            | ClientError::Failed(_) => FsErrno::Io,
            ClientError::Usage(_) => FsErrno::Inval,
        }
    }

    /// What the command line exits with: 1 for a failure, 2 for wrong usage.
    pub fn exit_code(&self) -> u8 {
        match self {
            ClientError::Usage(_) => 2,
            ClientError::Refused(_)
            | ClientError::SessionLost
            | ClientError::Unavailable(_)
            | ClientError::Protocol(_)
            | ClientError::Object(_)
            | ClientError::Damaged(_)
            | ClientError::Failed(_) => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_its_own_errno_and_a_failure_is_eio() {
        for &errno in FsErrno::ALL {
            assert_eq!(ClientError::Refused(errno).errno(), errno);
        }
        assert_eq!(ClientError::SessionLost.errno(), FsErrno::Io);
        assert_eq!(ClientError::Usage(String::new()).errno(), FsErrno::Inval);
    }

    #[test]
    fn only_wrong_usage_exits_with_two() {
        assert_eq!(ClientError::Usage(String::new()).exit_code(), 2);
        assert_eq!(ClientError::Failed(String::new()).exit_code(), 1);
        assert_eq!(ClientError::SessionLost.exit_code(), 1);
    }
}
