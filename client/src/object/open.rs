//! open: from a volume's storage settings to a ready object store. Called by the command line (format, mount) and by tests.
//!
//! `pb::Storage`: `kind`, `url`, and two maps; a name is looked for in `secrets`, then in `options`:
//! | kind | URL | secrets | options |
//! |---|---|---|---|
//! | s3 | `s3://bucket[/path]` or `http(s)://endpoint/bucket[/path]` | access_key_id, secret_access_key, session_token | region (us-east-1), virtual_hosted, unsigned_payload, checksum (crc64nvme, sha256, none), disable_bulk_delete, skip_signature |
//! | gs | `gs://bucket[/path]` or `http(s)://endpoint/bucket[/path]` | service_account_key (JSON) | service_account_path, skip_signature |
//! | azure | `az://container[/path]` or `http(s)://endpoint[/account]/container[/path]` | account_key or secret_access_key | account or access_key_id |
//! | webdav | `http(s)://host/path` | username, password (or access_key_id, secret_access_key) | |
//! | file | `/directory` or `file:///directory` | | no_sync |
//!
//! For all: `retry_deadline_ms` (30 000), `requests_max` (64), `verify_puts` (true for webdav). `http://` URLs are taken as said: no encryption.

use super::remote::{Cleaner, RemoteStore};
use super::retry::{RetryPolicy, RetryStore};
use super::verify::VerifyStore;
use super::wire::Connector;
use super::{LocalStore, ObjectStore, base64};
use crate::error::ClientError;
use holdfast_proto::pb;
use object_store::aws::{AmazonS3Builder, Checksum};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::http::HttpBuilder;
use object_store::{BackoffConfig, ClientOptions, HeaderMap, HeaderValue, RetryConfig, StaticCredentialProvider};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Requests in flight to one store, unless `requests_max` says otherwise.
const REQUESTS_MAX: usize = 64;

/// Opens the store of a volume; `prefix` is where its objects are in the bucket. Asks the store nothing.
///
/// # Errors
/// `Usage`: the settings cannot be meant; the message says which and how it must look.
pub fn open(storage: &pb::Storage, prefix: &str) -> Result<Arc<dyn ObjectStore>, ClientError> {
    let settings = Settings { storage };
    let backend: Arc<dyn ObjectStore> = match storage.kind.as_str() {
        "file" => Arc::new(LocalStore::new(directory(&storage.url)?.join(prefix), !settings.flag("no_sync")?)),
        "s3" => settings.remote(prefix, s3)?,
        "gs" => settings.remote(prefix, gs)?,
        "azure" => settings.remote(prefix, azure)?,
        "webdav" => settings.remote(prefix, webdav)?,
        other => {
            return Err(ClientError::Usage(format!("storage kind {other:?} is none of s3, gs, azure, webdav, file")));
        }
    };
    // A WebDAV server is often a plain directory behind one: it may say yes to what it does not have.
    let backend = match settings.flag_or("verify_puts", storage.kind == "webdav")? {
        true => Arc::new(VerifyStore::new(backend)),
        false => backend,
    };
    let policy = RetryPolicy {
        deadline: Duration::from_millis(settings.number("retry_deadline_ms", 30_000)?),
        ..RetryPolicy::default()
    };
    let requests_max = settings.number("requests_max", REQUESTS_MAX as u64)? as usize;
    Ok(Arc::new(RetryStore::new(backend, policy, requests_max)))
}

struct Settings<'a> {
    storage: &'a pb::Storage,
}

/// A bucket, before a volume's prefix.
struct Opened {
    bucket: Arc<dyn object_store::ObjectStore>,
    /// Below the bucket, from the URL.
    path: String,
    /// What a listing has before the path of each object.
    listed_below: String,
}

impl Opened {
    fn new(bucket: impl object_store::ObjectStore, path: String) -> Opened {
        Opened { bucket: Arc::new(bucket), path, listed_below: String::new() }
    }
}

/// Where a bucket is: what a URL says.
struct Place {
    /// `scheme://host[:port]` where the URL names a server, none where it names only a bucket.
    endpoint: Option<String>,
    bucket: String,
    /// Below the bucket, without slashes at the ends.
    path: String,
}

impl Settings<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let storage = self.storage;
        storage.secrets.get(name).or_else(|| storage.options.get(name)).map(String::as_str).filter(|v| !v.is_empty())
    }

    fn any(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    fn flag(&self, name: &str) -> Result<bool, ClientError> {
        self.flag_or(name, false)
    }

    fn flag_or(&self, name: &str, default: bool) -> Result<bool, ClientError> {
        match self.get(name) {
            None => Ok(default),
            Some("false" | "0" | "no") => Ok(false),
            Some("true" | "1" | "yes") => Ok(true),
            Some(other) => Err(ClientError::Usage(format!("storage option {name} is {other:?}, not true or false"))),
        }
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, ClientError> {
        self.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| ClientError::Usage(format!("storage option {name} is {text:?}, not a number")))
        })
    }

    fn remote(
        &self,
        prefix: &str,
        build: impl Fn(&Settings<'_>, &str) -> Result<Opened, ClientError>,
    ) -> Result<Arc<dyn ObjectStore>, ClientError> {
        let url = self.storage.url.trim();
        if url.contains('@') {
            return Err(ClientError::Usage(
                "the bucket URL holds a user or a password: give credentials by environment or file".into(),
            ));
        }
        let opened = build(self, url)?;
        let cleaner = Cleaner::new(self.storage.secrets.values().cloned());
        let prefix = format!("{}/{prefix}", opened.path);
        Ok(Arc::new(RemoteStore::new(opened.bucket, &prefix, cleaner).listed_below(&opened.listed_below)))
    }

    fn unusable(&self, error: &object_store::Error) -> ClientError {
        let cleaner = Cleaner::new(self.storage.secrets.values().cloned());
        ClientError::Usage(format!("storage {}: {}", self.storage.kind, cleaner.clean(&error.to_string())))
    }
}

/// Splits `<scheme>://bucket/path` or `http(s)://endpoint/bucket/path`.
fn place(text: &str, scheme: &str) -> Result<Place, ClientError> {
    let wrong = |why: &str| {
        ClientError::Usage(format!(
            "bucket URL {text:?}: {why}; it is {scheme}://bucket or http(s)://endpoint/bucket, maybe with a path"
        ))
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    let host = url.host_str().ok_or_else(|| wrong("no host"))?;
    let segments: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
    if url.scheme() == scheme {
        return Ok(Place { endpoint: None, bucket: host.to_string(), path: segments.join("/") });
    }
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("unknown scheme"));
    }
    let (bucket, rest) = segments.split_first().ok_or_else(|| wrong("no bucket"))?;
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let endpoint = format!("{}://{host}{port}", url.scheme());
    Ok(Place { endpoint: Some(endpoint), bucket: (*bucket).to_string(), path: rest.join("/") })
}

fn directory(url: &str) -> Result<PathBuf, ClientError> {
    let path = match url.strip_prefix("file://") {
        Some(_) => Url::parse(url).ok().and_then(|url| url.to_file_path().ok()),
        None => Some(PathBuf::from(url)),
    };
    path.filter(|path| Path::is_absolute(path)).ok_or_else(|| {
        ClientError::Usage(format!("bucket {url:?} is not an absolute directory (/path or file:///path)"))
    })
}

fn plain_http(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|url| url.starts_with("http://"))
}

/// One attempt a call: retry.rs above knows the deadline of the foreground.
fn no_retry() -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::from_secs(30) }
}

fn client_options() -> ClientOptions {
    // How long a request may take, retry.rs knows too.
    ClientOptions::new().with_connect_timeout(Duration::from_secs(5)).with_timeout_disabled()
}

fn s3(settings: &Settings<'_>, url: &str) -> Result<Opened, ClientError> {
    let place = place(url, "s3")?;
    let mut builder = AmazonS3Builder::new()
        .with_client_options(client_options())
        .with_http_connector(Connector)
        .with_retry(no_retry())
        .with_bucket_name(&place.bucket)
        .with_region(settings.get("region").unwrap_or("us-east-1"))
        .with_allow_http(plain_http(place.endpoint.as_deref()))
        .with_virtual_hosted_style_request(settings.flag("virtual_hosted")?)
        .with_skip_signature(settings.flag("skip_signature")?)
        .with_disable_bulk_delete(settings.flag_or("disable_bulk_delete", true)?);
    // Signing the body costs a SHA-256 of every block. Over TLS it adds nothing; without, nothing else lets the store see that a body was
    // damaged on its way, and what is damaged there is lost.
    let tls = !plain_http(place.endpoint.as_deref());
    builder = builder.with_unsigned_payload(settings.flag_or("unsigned_payload", tls)?);
    if let Some(checksum) = s3_checksum(settings, &place)? {
        builder = builder.with_checksum_algorithm(checksum);
    }
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(key) = settings.get("access_key_id") {
        builder = builder.with_access_key_id(key);
    }
    if let Some(key) = settings.get("secret_access_key") {
        builder = builder.with_secret_access_key(key);
    }
    if let Some(token) = settings.get("session_token") {
        builder = builder.with_token(token);
    }
    let bucket = builder.build().map_err(|error| settings.unusable(&error))?;
    Ok(Opened::new(bucket, place.path))
}

/// Amazon's S3 compares the body with a CRC64 that comes with it, from end to end, for next to no work. Others may refuse the header.
fn s3_checksum(settings: &Settings<'_>, place: &Place) -> Result<Option<Checksum>, ClientError> {
    let amazon = place.endpoint.as_deref().is_none_or(|url| url.ends_with(".amazonaws.com"));
    match settings.get("checksum") {
        None => Ok(amazon.then_some(Checksum::CRC64NVME)),
        Some("none") => Ok(None),
        Some(name) => name.parse().map(Some).map_err(|()| {
            ClientError::Usage(format!("storage option checksum is {name:?}, none of crc64nvme, sha256, none"))
        }),
    }
}

fn gs(settings: &Settings<'_>, url: &str) -> Result<Opened, ClientError> {
    let place = place(url, "gs")?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client_options().with_allow_http(plain_http(place.endpoint.as_deref())))
        .with_http_connector(Connector)
        .with_retry(no_retry())
        .with_bucket_name(&place.bucket);
    if settings.flag("skip_signature")? {
        // The crate's own flag leaves puts and deletes asking for a token of the machine's, where there may be none.
        let nobody = StaticCredentialProvider::new(GcpCredential { bearer: String::new() });
        builder = builder.with_credentials(Arc::new(nobody));
    }
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_base_url(endpoint);
    }
    if let Some(key) = settings.any(&["service_account_key", "secret_access_key"]) {
        builder = builder.with_service_account_key(key);
    } else if let Some(path) = settings.get("service_account_path") {
        builder = builder.with_service_account_path(path);
    }
    let bucket = builder.build().map_err(|error| settings.unusable(&error))?;
    Ok(Opened::new(bucket, place.path))
}

fn azure(settings: &Settings<'_>, url: &str) -> Result<Opened, ClientError> {
    let mut place = place(url, "az")?;
    let account = settings.any(&["account", "account_name", "access_key_id"]).map(str::to_string);
    // An emulator has the account as first part of the path: http://host:port/account/container.
    if let (Some(endpoint), Some(account)) = (&place.endpoint, &account)
        && place.bucket == *account
    {
        let endpoint = format!("{endpoint}/{account}");
        let (bucket, path) = place.path.split_once('/').unwrap_or((&place.path, ""));
        place = Place { endpoint: Some(endpoint), bucket: bucket.to_string(), path: path.to_string() };
    }
    let account = account.ok_or_else(|| {
        ClientError::Usage("storage azure needs the account's name (option account, or AZURE_STORAGE_ACCOUNT)".into())
    })?;
    let mut builder = MicrosoftAzureBuilder::new()
        .with_client_options(client_options().with_allow_http(plain_http(place.endpoint.as_deref())))
        .with_http_connector(Connector)
        .with_retry(no_retry())
        .with_account(account)
        .with_container_name(&place.bucket);
    if let Some(endpoint) = &place.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    if let Some(key) = settings.any(&["account_key", "access_key", "secret_access_key"]) {
        builder = builder.with_access_key(key);
    }
    let bucket = builder.build().map_err(|error| settings.unusable(&error))?;
    Ok(Opened::new(bucket, place.path))
}

fn webdav(settings: &Settings<'_>, url: &str) -> Result<Opened, ClientError> {
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(ClientError::Usage(format!("bucket URL {url:?}: for webdav it is http(s)://host/path")));
    }
    let mut headers = HeaderMap::new();
    if let Some(user) = settings.any(&["username", "user", "access_key_id"]) {
        let password = settings.any(&["password", "secret_access_key"]).unwrap_or("");
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", base64::encode(format!("{user}:{password}").as_bytes())))
                .map_err(|_| ClientError::Usage("webdav user or password cannot be sent in a header".into()))?;
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    let options = client_options().with_allow_http(plain_http(Some(url))).with_default_headers(headers);
    let bucket = HttpBuilder::new()
        .with_url(url)
        .with_client_options(options)
        .with_http_connector(Connector)
        .with_retry(no_retry())
        .build()
        .map_err(|error| settings.unusable(&error))?;
    // The crate's requests are relative to the URL, but its listings to the server.
    let below = Url::parse(url).map_err(|error| ClientError::Usage(format!("bucket URL {url:?}: {error}")))?;
    let listed_below = percent_decoded(below.path());
    Ok(Opened { listed_below, ..Opened::new(bucket, String::new()) })
}

/// The text that a URL's path stands for; the path itself where it stands for none.
fn percent_decoded(path: &str) -> String {
    let hex = |digit: Option<&u8>| digit.and_then(|digit| char::from(*digit).to_digit(16));
    let (bytes, mut decoded, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while let Some(byte) = bytes.get(at) {
        match (byte, hex(bytes.get(at + 1)), hex(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).unwrap_or_else(|_| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storage(kind: &str, url: &str, pairs: &[(&str, &str)]) -> pb::Storage {
        let secrets = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        pb::Storage { kind: kind.into(), url: url.into(), secrets, ..Default::default() }
    }

    #[test]
    fn every_kind_opens_without_asking_the_network() {
        let keys = [("access_key_id", "account"), ("secret_access_key", "c2VjcmV0")];
        for (kind, url) in [
            ("s3", "s3://bucket"),
            ("s3", "http://127.0.0.1:1/bucket/some/path"),
            ("azure", "az://container"),
            ("azure", "http://127.0.0.1:1/account/container"),
            ("webdav", "https://host/dav"),
            ("file", "/some/dir"),
            ("file", "file:///some/dir"),
        ] {
            assert!(open(&storage(kind, url, &keys), "vol-00000000/").is_ok(), "{kind} {url}");
        }
        let gs = storage("gs", "http://127.0.0.1:1/bucket", &[("skip_signature", "true")]);
        assert!(open(&gs, "vol-00000000/").is_ok());
    }

    #[test]
    fn settings_that_cannot_be_meant_are_usage_errors() {
        for (kind, url, pairs) in [
            ("ftp", "ftp://x/y", &[][..]),
            ("s3", "bucket", &[]),
            ("s3", "http://host", &[]),
            ("s3", "https://user:pass@host/bucket", &[]),
            ("azure", "az://container", &[]),
            ("webdav", "dav://host", &[]),
            ("file", "relative/dir", &[]),
            ("file", "/dir", &[("no_sync", "maybe")]),
            ("file", "/dir", &[("retry_deadline_ms", "soon")]),
            ("file", "/dir", &[("verify_puts", "perhaps")]),
            ("s3", "s3://bucket", &[("checksum", "md5")]),
        ] {
            let error = open(&storage(kind, url, pairs), "p/").expect_err(kind);
            assert!(matches!(error, ClientError::Usage(_)), "{kind} {url}: {error}");
        }
    }

    #[test]
    fn a_path_is_decoded_where_it_is_coded() {
        for (path, text) in [("/a%20b/c", "/a b/c"), ("/100%", "/100%"), ("/%zz%2", "/%zz%2"), ("/%ff", "/%ff")] {
            assert_eq!(percent_decoded(path), text);
        }
    }

    #[test]
    fn an_endpoint_keeps_its_port_and_leaves_the_rest_as_path() {
        let place = place("http://127.0.0.1:9000/bucket/a/b/", "s3").expect("place");
        assert_eq!(
            (place.endpoint.as_deref(), place.bucket.as_str(), place.path.as_str()),
            (Some("http://127.0.0.1:9000"), "bucket", "a/b")
        );
    }
}
