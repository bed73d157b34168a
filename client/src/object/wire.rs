//! Wire: what we add to each HTTP exchange of crate object_store, which drops the headers of a reply before we see them. Two things are read
//! from them: how long a busy store asks to be left alone (Retry-After), and, in the reply to a put, the checksum of what the store
//! says it got. Called by open (every remote store is built with it) and by remote, which finds `Busy` among an error's causes.

use super::base64;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, HeaderMap};
use std::time::{Duration, SystemTime};

/// The store answered "not now" and said for how long.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is busy ({status}) and asks to wait {} s", retry_after.as_secs())]
pub struct Busy {
    status: String,
    pub retry_after: Duration,
}

/// The reply to a put has a checksum, and it is not the one of what we sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store got other bytes than were sent: {header} is {found} instead of {expected}")]
pub struct Garbled {
    header: &'static str,
    found: String,
    expected: String,
}

/// The body of a put, on its way to `Wire` in the request's extensions.
#[derive(Clone, Debug)]
pub struct Sent(pub Bytes);

#[derive(Debug)]
pub struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Wire { inner }))
    }
}

#[derive(Debug)]
struct Wire {
    inner: HttpClient,
}

#[async_trait]
impl HttpService for Wire {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let sent = request.extensions().get::<Sent>().cloned();
        let response = self.inner.execute(request).await?;
        let status = response.status();
        if status.is_server_error() || matches!(status.as_u16(), 408 | 429) {
            if let Some(retry_after) = retry_after(response.headers()) {
                return Err(HttpError::new(HttpErrorKind::Unknown, Busy { status: status.to_string(), retry_after }));
            }
        } else if status.is_success()
            && let Some(Sent(body)) = sent
        {
            check_receipt(response.headers(), &body).map_err(|wrong| HttpError::new(HttpErrorKind::Unknown, wrong))?;
        }
        Ok(response)
    }
}

/// Retry-After is a number of seconds, or a date: then by the clock of the server that wrote it, where that says what time it is.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let date = headers.get("date").and_then(|date| date.to_str().ok());
    let now = date.and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or_else(SystemTime::now);
    Some(until.duration_since(now).unwrap_or_default())
}

/// (P) Compares each checksum that a reply has and that costs next to nothing: CRC64NVME and CRC32C of S3, CRC32C of Google.
fn check_receipt(headers: &HeaderMap, body: &Bytes) -> Result<(), Garbled> {
    let same = |header: &'static str, found: &str, expected: String| match found == expected {
        true => Ok(()),
        false => Err(Garbled { header, found: found.to_string(), expected }),
    };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let crc32c = || base64::encode(&crc_fast::crc32_iscsi(body).to_be_bytes());
    if let Some(found) = text("x-amz-checksum-crc64nvme") {
        let crc64 = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, body);
        same("x-amz-checksum-crc64nvme", found, base64::encode(&crc64.to_be_bytes()))?;
    }
    if let Some(found) = text("x-amz-checksum-crc32c") {
        same("x-amz-checksum-crc32c", found, crc32c())?;
    }
    let google = headers.get_all("x-goog-hash").into_iter().filter_map(|value| value.to_str().ok());
    let mut hashes = google.flat_map(|value| value.split(',').map(str::trim));
    match hashes.find_map(|hash| hash.strip_prefix("crc32c=")) {
        Some(found) => same("x-goog-hash", found, crc32c()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("name"), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_by_a_date() {
        let asked = |pairs: &[(&'static str, &'static str)]| retry_after(&headers(pairs));
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[("retry-after", " 7 ")]), Some(Duration::from_secs(7)));
        assert_eq!(asked(&[("retry-after", "soon")]), None);
        assert_eq!(asked(&[("retry-after", "-1")]), None);
        let (date, later) = ("Fri, 31 Dec 1999 23:59:50 GMT", "Sat, 01 Jan 2000 00:00:03 GMT");
        assert_eq!(asked(&[("date", date), ("retry-after", later)]), Some(Duration::from_secs(13)));
        assert_eq!(asked(&[("date", later), ("retry-after", date)]), Some(Duration::ZERO));
    }

    #[test]
    fn a_receipt_for_other_bytes_is_no_receipt() {
        // The check values of the two algorithms, for the text that catalogues of CRCs use.
        let body = Bytes::from_static(b"123456789");
        let check = |pairs: &[(&'static str, &'static str)]| check_receipt(&headers(pairs), &body);
        let (crc32c, crc64) = ("4waSgw==", "rosUhgp5mIg=");
        assert_eq!(check(&[("etag", "\"25f9e794323b453885f5181f1b624d0b\"")]), Ok(()));
        assert_eq!(check(&[("x-amz-checksum-crc32c", crc32c), ("x-amz-checksum-crc64nvme", crc64)]), Ok(()));
        assert_eq!(check(&[("x-goog-hash", "md5=JfnnlDI7RTiF9RgfG2JNCw==,crc32c=4waSgw==")]), Ok(()));
        for name in ["x-amz-checksum-crc32c", "x-amz-checksum-crc64nvme"] {
            assert!(check(&[(name, "AAAAAA==")]).is_err_and(|wrong| wrong.header == name));
        }
        assert!(check(&[("x-goog-hash", "crc32c=AAAAAA==")]).is_err());
    }
}
