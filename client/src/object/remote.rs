//! Remote: a bucket behind crate object_store (S3, GCS, Azure Blob, WebDAV), below a prefix. Called through `open` only.
//! Its errors are sorted into three kinds, and cleaned: no credential ever leaves this file in a message.

use super::wire::{Busy, Sent};
use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use holdfast_proto::limits::BLOCK_BYTES_MAX;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutOptions};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a store says is larger is not read into memory.
const OBJECT_BYTES_MAX: u64 = BLOCK_BYTES_MAX as u64;

pub struct RemoteStore {
    bucket: Arc<dyn object_store::ObjectStore>,
    prefix: Path,
    /// Length of what listings have before a key.
    listed_prefix_len: usize,
    cleaner: Cleaner,
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteStore").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Takes secrets, and the query part of URLs (signatures, shared access keys), out of messages.
#[derive(Clone, Default)]
pub struct Cleaner {
    secrets: Vec<String>,
}

impl Cleaner {
    pub fn new(secrets: impl Iterator<Item = String>) -> Self {
        Cleaner { secrets: secrets.filter(|secret| secret.len() >= 4).collect() }
    }

    pub fn clean(&self, message: &str) -> String {
        let hidden = self.secrets.iter().fold(message.to_string(), |text, secret| text.replace(secret, "***"));
        let mut clean = String::with_capacity(hidden.len());
        for word in hidden.split_inclusive(char::is_whitespace) {
            match word.find("://").and_then(|_| word.find('?')) {
                Some(at) => {
                    clean.push_str(&word[..at]);
                    clean.push_str("?... ");
                }
                None => clean.push_str(word),
            }
        }
        clean.trim_end().to_string()
    }
}

impl RemoteStore {
    pub fn new(bucket: Arc<dyn object_store::ObjectStore>, prefix: &str, cleaner: Cleaner) -> Self {
        let prefix = Path::from(prefix);
        RemoteStore { bucket, listed_prefix_len: prefix.as_ref().len(), prefix, cleaner }
    }

    /// For a store whose listings name objects by a longer path than its requests.
    pub fn listed_below(mut self, path: &str) -> Self {
        let path = Path::from(path);
        self.listed_prefix_len = path.parts().chain(self.prefix.parts()).collect::<Path>().as_ref().len();
        self
    }

    fn path(&self, key: &str) -> Path {
        key.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| path.join(part))
    }

    fn error(&self, key: &str, error: &object_store::Error) -> ObjectError {
        let text = self.cleaner.clean(&chain(error));
        if let Some(busy) = busy(error) {
            return ObjectError::Busy { reason: text, retry_after: busy.retry_after };
        }
        match kind(error, &text) {
            Kind::Missing => ObjectError::NotFound(key.to_string()),
            Kind::Refused => ObjectError::Refused(text),
            Kind::Unavailable => ObjectError::Unavailable(text),
        }
    }
}

enum Kind {
    Missing,
    Refused,
    Unavailable,
}

/// (P) What an error of the crate means. Some stores say "no such bucket" with the status of "no such object", and the crate passes
/// a refused request on as a generic error: there the text decides.
fn kind(error: &object_store::Error, text: &str) -> Kind {
    use object_store::Error;
    match error {
        Error::NotFound { .. } if text.contains("NoSuchBucket") || text.contains("ContainerNotFound") => Kind::Refused,
        Error::NotFound { .. } => Kind::Missing,
        Error::PermissionDenied { .. }
        | Error::Unauthenticated { .. }
        | Error::InvalidPath { .. }
        | Error::NotSupported { .. }
        | Error::NotImplemented { .. }
        | Error::UnknownConfigurationKey { .. }
        | Error::AlreadyExists { .. }
        | Error::Precondition { .. }
        | Error::NotModified { .. } => Kind::Refused,
        _ if [
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
            "InvalidToken",
            "NoSuchBucket",
            "InvalidBucketName",
            "AuthorizationHeader",
        ]
        .iter()
        .any(|code| text.contains(code)) =>
        {
            Kind::Refused
        }
        _ => Kind::Unavailable,
    }
}

/// What the store said of how long to wait, if that is why it failed.
fn busy(error: &object_store::Error) -> Option<&Busy> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// The error and its causes on one line, each said once: the crate's own Display leaves the reason to the source.
fn chain(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = inner.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[async_trait]
impl ObjectStore for RemoteStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let mut options = PutOptions::default();
        options.extensions.insert(Sent(body.clone()));
        let put = self.bucket.put_opts(&self.path(key), body.into(), options).await;
        put.map(drop).map_err(|error| self.error(key, &error))
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let got = self.bucket.get(&self.path(key)).await.map_err(|error| self.error(key, &error))?;
        if got.meta.size > OBJECT_BYTES_MAX {
            return Err(ObjectError::Refused(format!(
                "object {key} has {} bytes, which none of ours has",
                got.meta.size
            )));
        }
        got.bytes().await.map_err(|error| self.error(key, &error))
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        self.bucket.get_range(&self.path(key), range).await.map_err(|error| self.error(key, &error))
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        let meta = self.bucket.head(&self.path(key)).await.map_err(|error| self.error(key, &error))?;
        Ok(meta.size)
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.bucket.delete(&self.path(key)).await.map_err(|error| self.error(key, &error)) {
            Err(ObjectError::NotFound(_)) => Ok(()),
            other => other,
        }
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let path = self.path(prefix);
        let skip = self.listed_prefix_len;
        self.bucket
            .list(Some(&path))
            .map_ok(|meta| {
                let key = meta.location.as_ref().get(skip..).unwrap_or("").trim_start_matches('/').to_string();
                (key, meta.size)
            })
            .try_collect()
            .await
            .map_err(|error| self.error(prefix, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_carry_neither_secrets_nor_query_strings() {
        let cleaner = Cleaner::new(["hunter22".to_string()].into_iter());
        let clean = cleaner.clean("put with hunter22 at https://h/c/b?sig=abc%2F failed");
        assert_eq!(clean, "put with *** at https://h/c/b?... failed");
    }

    #[test]
    fn causes_are_told_once_and_on_one_line() {
        let error = object_store::Error::Generic { store: "S3", source: "disk\n on fire".into() };
        assert_eq!(chain(&error), "Generic S3 error: disk on fire");
    }

    #[test]
    fn a_bucket_that_is_not_there_is_no_missing_object() {
        let store = RemoteStore::new(Arc::new(object_store::memory::InMemory::new()), "p", Cleaner::default());
        let not_found =
            |why: &str| object_store::Error::NotFound { path: "p/k".into(), source: why.to_string().into() };
        let refused = store.error("k", &not_found("404 Not Found: <Code>NoSuchBucket</Code>"));
        assert!(matches!(refused, ObjectError::Refused(text) if text.contains("NoSuchBucket")));
        let missing = store.error("k", &not_found("404 Not Found: <Code>NoSuchKey</Code>"));
        assert_eq!(missing, ObjectError::NotFound("k".into()));
    }
}
