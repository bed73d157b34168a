//! Configuration of the client's side: where the cluster is, how it is spoken to, and for how long to insist. All defaults live here.
//! Called by the command line and by mount.

use crate::error::ClientError;
use crate::meta::url::MetaUrl;
use holdfast_proto::limits::SESSION_SLOTS_MAX;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one operation of a mounted volume is retried: an application waits over a short outage rather than see EIO.
pub const OP_DEADLINE: Duration = Duration::from_secs(60);
/// The same for what a person waits for.
pub const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// How long a request may go unanswered before other nodes are asked whether they lead by now.
pub const SUSPICION: Duration = Duration::from_millis(500);
/// A request that no answer came for on a live stream is sent again after this: an answer is lost there only by somebody's mistake.
pub const RESEND_AFTER: Duration = Duration::from_secs(5);

const TLS_CA_ENV: &str = "HOLDFAST_TLS_CA";
const TLS_CERT_ENV: &str = "HOLDFAST_TLS_CERT";
const TLS_KEY_ENV: &str = "HOLDFAST_TLS_KEY";

/// Files of mutual TLS, read and in PEM.
#[derive(Clone)]
pub struct TlsConfig {
    pub ca_pem: Vec<u8>,
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
}

// The key is a secret.
impl std::fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsConfig(..)")
    }
}

/// Flags of every subcommand that speaks to the cluster.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TlsFlags {
    /// Certificate authority that signed the nodes' certificates (PEM file); switches on mutual TLS
    #[arg(long = "tls-ca", value_name = "FILE", env = TLS_CA_ENV, hide_env = true, help_heading = "Transport")]
    pub ca: Option<PathBuf>,
    /// This client's certificate (PEM file)
    #[arg(long = "tls-cert", value_name = "FILE", env = TLS_CERT_ENV, hide_env = true, help_heading = "Transport")]
    pub cert: Option<PathBuf>,
    /// This client's private key (PEM file)
    #[arg(long = "tls-key", value_name = "FILE", env = TLS_KEY_ENV, hide_env = true, help_heading = "Transport")]
    pub key: Option<PathBuf>,
}

impl TlsFlags {
    /// Reads the files; None where none is named.
    ///
    /// # Errors
    /// Usage, where only some are named or one cannot be read.
    pub fn load(&self) -> Result<Option<TlsConfig>, ClientError> {
        match (&self.ca, &self.cert, &self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => {
                Ok(Some(TlsConfig { ca_pem: read(ca)?, cert_pem: read(cert)?, key_pem: read(key)? }))
            }
            _ => Err(ClientError::Usage(format!(
                "TLS needs all of --tls-ca, --tls-cert and --tls-key (or {TLS_CA_ENV}, {TLS_CERT_ENV} and {TLS_KEY_ENV})"
            ))),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path)
        .map_err(|error| ClientError::Usage(format!("cannot read the TLS file {}: {error}", path.display())))
}

/// Where the metadata cluster is and how it is spoken to.
#[derive(Clone, Debug)]
pub struct MetaConfig {
    /// `host:port` of nodes; the others are learnt from them.
    pub nodes: Vec<String>,
    pub tls: Option<TlsConfig>,
    /// How long an operation of a session is retried.
    pub op_deadline: Duration,
    /// The same for connecting, opening a session and calls without one.
    pub call_deadline: Duration,
    /// Most mutations in flight, at most SESSION_SLOTS_MAX.
    pub slot_count: u32,
    /// See SUSPICION.
    pub suspicion: Duration,
    /// See RESEND_AFTER.
    pub resend_after: Duration,
    /// Nothing is cached here, so the cluster need not push invalidations.
    pub quiet: bool,
}

impl MetaConfig {
    /// Defaults for a META.
    pub fn new(url: &MetaUrl, tls: Option<TlsConfig>) -> MetaConfig {
        MetaConfig {
            nodes: url.nodes.clone(),
            tls,
            op_deadline: OP_DEADLINE,
            call_deadline: CALL_DEADLINE,
            slot_count: SESSION_SLOTS_MAX,
            suspicion: SUSPICION,
            resend_after: RESEND_AFTER,
            quiet: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_wants_all_of_its_files_or_none() {
        assert!(TlsFlags::default().load().unwrap().is_none());
        let some = TlsFlags { ca: Some("/nonexistent/ca.pem".into()), ..Default::default() };
        assert!(some.load().unwrap_err().to_string().contains("TLS needs all of"));
        let path = || Some(PathBuf::from("/nonexistent/x.pem"));
        let unreadable = TlsFlags { ca: path(), cert: path(), key: path() };
        assert!(unreadable.load().unwrap_err().to_string().contains("/nonexistent/x.pem"));
    }

    #[test]
    fn the_private_key_is_not_in_the_debug_text() {
        let tls = TlsConfig { ca_pem: b"ca".into(), cert_pem: b"cert".into(), key_pem: b"SECRETKEY".into() };
        assert!(!format!("{tls:?}").contains("SECRET"));
    }
}
