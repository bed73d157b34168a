//! The contract of an object store, on each kind: a directory, S3, Azure Blob and WebDAV by real servers (google.rs has the fifth). Then a
//! file through the whole data path, and what is said when a store is not what it was said to be.

use bytes::Bytes;
use futures::future::join_all;
use holdfast::data::memory_meta::MemoryMeta;
use holdfast::data::{Data, DataConfig};
use holdfast::error::ClientError;
use holdfast::object::{self, ObjectError, ObjectStore, keys};
use holdfast_proto::pb;
use holdfast_tests::faulty_http::{Fault, FaultyHttp};
use holdfast_tests::process;
use holdfast_tests::s3::{S3Server, SECRET_KEY};
use holdfast_tests::stores::{ACCOUNT_KEY, DAV_PASSWORD, Reach, StoreServer};
use std::collections::BTreeMap;
use std::sync::Arc;

const PREFIX: &str = "volume-01234567/";

/// The whole bucket, whatever volumes are in it.
pub fn open_bare(reach: &Reach) -> Arc<dyn ObjectStore> {
    object::open(&reach.storage(), "").expect("the settings are right")
}

pub fn open(storage: &pb::Storage) -> Arc<dyn ObjectStore> {
    object::open(storage, PREFIX).expect("the settings are right")
}

async fn keeps_the_contract(store: &dyn ObjectStore) {
    let key = "chunks/0/1/1234_0_100000";
    let body = Bytes::from((0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    assert_eq!(store.get(key).await, Err(ObjectError::NotFound(key.into())));
    assert_eq!(store.head(key).await, Err(ObjectError::NotFound(key.into())));
    assert!(matches!(store.get_range(key, 0..10).await, Err(ObjectError::NotFound(_))));
    assert_eq!(store.delete(key).await, Ok(()));
    assert_eq!(store.list("chunks").await, Ok(vec![]));

    store.put(key, body.clone()).await.expect("put");
    store.put(key, body.clone()).await.expect("put the same again");
    assert_eq!(store.get(key).await, Ok(body.clone()));
    assert_eq!(store.head(key).await, Ok(100_000));
    assert_eq!(store.get_range(key, 99_990..100_000).await, Ok(body.slice(99_990..)));
    assert_eq!(store.get_range(key, 0..1).await, Ok(body.slice(..1)));
    store.put("chunks/0/2/5_0_1", Bytes::from_static(b"x")).await.expect("put");

    let both = vec![(key.to_string(), 100_000), ("chunks/0/2/5_0_1".to_string(), 1)];
    assert_eq!(listed(store, "").await, both);
    assert_eq!(listed(store, "chunks").await, both);
    assert_eq!(listed(store, "chunks/0/2").await, both[1..]);
    assert_eq!(listed(store, "chun").await, [], "a prefix is a whole component");

    // What a torn first attempt left is replaced as a whole.
    store.put("chunks/0/2/5_0_1", Bytes::from_static(b"longer than before")).await.expect("put over");
    assert_eq!(store.get("chunks/0/2/5_0_1").await, Ok(Bytes::from_static(b"longer than before")));
    store.put("chunks/0/2/5_0_1", Bytes::new()).await.expect("put nothing");
    assert_eq!(store.get("chunks/0/2/5_0_1").await, Ok(Bytes::new()));
    assert_eq!(store.head("chunks/0/2/5_0_1").await, Ok(0));

    store.delete(key).await.expect("delete");
    store.delete(key).await.expect("delete again");
    assert!(matches!(store.get(key).await, Err(ObjectError::NotFound(_))));
    store.delete("chunks/0/2/5_0_1").await.expect("delete");
    object::prove(store).await.expect("prove");
    assert_eq!(listed(store, "").await, [], "the proof leaves nothing behind");
}

async fn listed(store: &dyn ObjectStore, prefix: &str) -> Vec<(String, u64)> {
    let mut list = store.list(prefix).await.expect("list");
    list.sort();
    list
}

/// Objects of which S3 and Google list a thousand at a time. (Azure: five thousand, which is too many for a test.)
pub const MORE_THAN_A_PAGE: u64 = 1050;

/// Blocks of full size, and many small objects, all put, read and deleted side by side.
async fn keeps_many(store: &dyn ObjectStore, count: u64) {
    let block = |n: u64| Bytes::from(vec![n as u8 + 1; 4 << 20]);
    let blocks = (0..8_u64).map(|n| async move {
        let key = keys::block_key(n, 0, 4 << 20);
        store.put(&key, block(n)).await.expect("put a block");
        assert!(store.get(&key).await.expect("get a block") == block(n), "block {n}");
        store.delete(&key).await.expect("delete a block");
    });
    join_all(blocks).await;

    let small = |n: u64| (keys::block_key(n * 77, 1, 5), Bytes::from(format!("{n:05}")));
    let expected: BTreeMap<String, u64> = (0..count).map(|n| (small(n).0, 5)).collect();
    let puts = (0..count).map(small).map(|(key, body)| async move { store.put(&key, body).await.expect("put") });
    join_all(puts).await;
    let found = store.list("chunks").await.expect("list");
    assert_eq!(found.len(), expected.len(), "each object once");
    assert!(found.into_iter().collect::<BTreeMap<_, _>>() == expected);
    let rest = (0..count).map(small).map(|(key, body)| async move {
        assert_eq!(store.get(&key).await, Ok(body));
        store.delete(&key).await.expect("delete");
    });
    join_all(rest).await;
    assert_eq!(listed(store, "").await, []);
}

async fn keeps_a_file(store: Arc<dyn ObjectStore>) {
    let meta = Arc::new(MemoryMeta::new());
    let data = Data::new(meta.clone(), store.clone(), DataConfig { block_bytes: 1 << 20, ..DataConfig::default() });
    let body = Bytes::from((0..5_000_000_u32).map(|n| ((n * 7) >> 3) as u8).collect::<Vec<u8>>());
    let file = data.open(&meta.create(1));
    data.write(&file, 1000, body.clone()).await.expect("write");
    data.flush(&file).await.expect("flush");
    data.release(file).await;
    let listed = store.list("chunks").await.expect("list");
    assert_eq!((listed.len(), listed.iter().map(|(_, size)| size).sum::<u64>()), (5, 5_000_000));

    let other = Data::new(meta.clone(), store.clone(), DataConfig { block_bytes: 1 << 20, ..DataConfig::default() });
    let file = other.open(&meta.attr(1).expect("attr"));
    let read = other.read(&file, 0, 6_000_000).await.expect("read").concat();
    assert!(read[..1000].iter().all(|byte| *byte == 0) && read[1000..] == body[..]);
    meta.remove(1);
    assert_eq!(other.reclaim().await, Ok(1));
    assert_eq!(store.list("").await, Ok(vec![]));
}

/// Everything above, on one store that is empty.
pub async fn keeps_all(reach: &Reach, count: u64) {
    let store = open(&reach.storage());
    object::prove(&*store).await.expect("format proves, and makes what can be made");
    keeps_the_contract(&*store).await;
    keeps_many(&*store, count).await;
    keeps_a_file(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("tempdir");
    keeps_all(&Reach::directory(&directory.path().join("bucket")), 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract() {
    let server = S3Server::start();
    keeps_all(&Reach::s3(&server), MORE_THAN_A_PAGE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_the_contract() {
    let server = StoreServer::azure();
    keeps_all(&server.reach, 300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webdav_keeps_the_contract() {
    let server = StoreServer::webdav();
    // A listing of WebDAV has no pages; and the server does a hundred requests a second.
    keeps_all(&server.reach, 200).await;
}

/// The proof's error for these settings, which must be one line with what to look at, and without any secret.
async fn refused(mut storage: pb::Storage, step: &str, says: &str) {
    storage.options.insert("retry_deadline_ms".into(), "500".into());
    let error = object::prove(&*open(&storage)).await.expect_err("cannot work");
    let text = error.to_string();
    process::report(&text);
    assert!(matches!(error, ClientError::Object(_)) && text.contains(step) && text.contains(says), "{text}");
    assert!(text.contains("check: ") && !text.contains('\n'), "{text}");
    for secret in
        [SECRET_KEY, ACCOUNT_KEY, DAV_PASSWORD].into_iter().chain(storage.secrets.values().map(String::as_str))
    {
        assert!(!text.contains(secret), "{text}");
    }
}

fn with_secret(reach: &Reach, name: &str, value: &str) -> pb::Storage {
    let mut storage = reach.storage();
    storage.secrets.insert(name.into(), value.into());
    storage
}

fn at(reach: &Reach, from: &str, to: &str) -> pb::Storage {
    let url = reach.url.replace(from, to);
    assert_ne!(url, reach.url);
    pb::Storage { url, ..reach.storage() }
}

#[tokio::test]
async fn a_proof_on_s3_names_what_is_wrong_and_shows_no_secret() {
    let server = S3Server::start();
    let reach = Reach::s3(&server);
    refused(with_secret(&reach, "secret_access_key", "wrong-secret"), "step put", "credentials").await;
    refused(with_secret(&reach, "access_key_id", "NOBODY"), "step put", "credentials").await;
    // The server here makes buckets as it needs them; Amazon's words instead.
    let proxy = FaultyHttp::start(server.port(), false);
    let no_bucket = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
    proxy.inject("PUT", "", Fault::Says(404, no_bucket), 1);
    refused(reach.through(proxy.port).storage(), "step put", "NoSuchBucket").await;
    assert_eq!(proxy.seen().iter().filter(|seen| seen.method == "PUT").count(), 1, "a refusal is not asked again");
    refused(reach.through(9).storage(), "step put", "bucket URL").await;
}

#[tokio::test]
async fn a_proof_on_azure_names_what_is_wrong_and_shows_no_secret() {
    let server = StoreServer::azure();
    let wrong_key = "d3Jvbmctd3Jvbmctd3Jvbmctd3Jvbmc=";
    refused(with_secret(&server.reach, "account_key", wrong_key), "step put", "credentials").await;
    refused(at(&server.reach, "/container", "/nowhere"), "step put", "ContainerNotFound").await;
    refused(server.reach.through(9).storage(), "step put", "bucket URL").await;
}

#[tokio::test]
async fn a_proof_on_webdav_names_what_is_wrong_and_shows_no_secret() {
    let server = StoreServer::webdav();
    refused(with_secret(&server.reach, "password", "wrong-password"), "step put", "credentials").await;
    refused(at(&server.reach, "/share", "/nowhere"), "step put", "bucket URL").await;
    refused(server.reach.through(9).storage(), "step put", "bucket URL").await;
}

#[tokio::test]
async fn a_bucket_that_vanishes_fails_at_once_and_works_again_when_it_is_back() {
    let directory = tempfile::tempdir().expect("tempdir");
    let bucket = directory.path().join("bucket");
    let store = open(&Reach::directory(&bucket).storage());
    object::prove(&*store).await.expect("prove");
    let meta = Arc::new(MemoryMeta::new());
    let data = Data::new(meta.clone(), store, DataConfig { cache_bytes_max: 0, ..DataConfig::default() });
    let file = data.open(&meta.create(1));
    data.write(&file, 0, Bytes::from_static(b"before")).await.expect("write");
    data.flush(&file).await.expect("flush");

    let away = directory.path().join("away");
    std::fs::rename(&bucket, &away).expect("take the bucket away");
    assert!(matches!(data.read(&file, 0, 10).await, Err(ClientError::Object(_))));
    data.write(&file, 6, Bytes::from_static(b" after")).await.expect("taken into memory");
    assert!(matches!(data.flush(&file).await, Err(ClientError::Object(_))));
    assert!(!bucket.exists(), "nothing is made where the bucket was");

    std::fs::rename(&away, &bucket).expect("bring it back");
    data.flush(&file).await.expect("flush");
    assert_eq!(data.read(&file, 0, 100).await.expect("read").concat(), b"before after");
}
