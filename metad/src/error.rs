//! MetadError: why a node cannot start or go on; and Fatal, by which any part of it stops the process in order.
//! Refusals (FsErrno) are never errors here. rpc/status.rs turns errors of requests into what clients see.

use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

#[derive(Debug, thiserror::Error)]
pub enum MetadError {
    #[error("{0}")]
    Config(String),
    #[error(transparent)]
    Identity(#[from] crate::identity::IdentityError),
    #[error(transparent)]
    LogStore(#[from] crate::raft::log_store::LogStoreError),
    #[error("open the state below {path}")]
    OpenState {
        path: PathBuf,
        #[source]
        source: crate::store::StoreError,
    },
    /// The log is whole, but begins after the newest state that is left.
    #[error("the state is lost: the image and all checkpoints that reach log index {purged} are gone or damaged")]
    StateLost { purged: u64 },
    #[error("listen on {addr}")]
    Listen {
        addr: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{what}: {path}")]
    File {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("set up TLS: {0}")]
    Tls(String),
    #[error("start {what}")]
    Start {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("raft: {0}")]
    Raft(String),
    #[error("stopped: {0}")]
    Fatal(String),
}

impl MetadError {
    /// 2 where the operator's settings are wrong, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            MetadError::Config(_) => 2,
            _ => 1,
        }
    }

    /// Whether what this node promised to others is gone: it must not go on with what is left.
    pub fn is_loss(&self) -> bool {
        match self {
            MetadError::LogStore(error) => error.is_loss(),
            MetadError::StateLost { .. } => true,
            _ => false,
        }
    }

    /// The error and all its causes, on one line.
    pub fn one_line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line = format!("{line}: {error}");
            cause = error.source();
        }
        line.replace('\n', " ")
    }
}

/// Raised by whoever finds that this process must not go on (a poisoned store, a dead Raft core). The first reason is kept.
#[derive(Clone)]
pub struct Fatal(Arc<watch::Sender<Option<String>>>);

impl Default for Fatal {
    fn default() -> Fatal {
        Fatal(Arc::new(watch::Sender::new(None)))
    }
}

impl Fatal {
    pub fn raise(&self, why: impl Into<String>) {
        let why = why.into();
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(why);
            }
            first
        });
    }

    pub fn raised(&self) -> bool {
        self.0.borrow().is_some()
    }

    /// The reason, if there is one by now.
    pub fn why(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Returns the reason once there is one.
    pub async fn wait(&self) -> String {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            // The sender lives in self.
            Err(_) => String::new(),
        }
    }
}
