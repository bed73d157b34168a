//! ClientError: everything that can go wrong below the FUSE adapter, and the one table that turns it into an errno.

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
    #[error("the metadata cluster did not answer: {0}")]
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
            | ClientError::Damaged(_) => FsErrno::Io,
            ClientError::Usage(_) => FsErrno::Inval,
        }
    }
}
