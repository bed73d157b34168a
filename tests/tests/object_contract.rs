//! The contract of an object store, on each kind that we can run here: a directory, and S3 by a real server. Then a file through the
//! whole data path on both, and what is said when a store is not what it was said to be.

use bytes::Bytes;
use holdfast::data::memory_meta::MemoryMeta;
use holdfast::data::{Data, DataConfig};
use holdfast::error::ClientError;
use holdfast::object::{self, ObjectError, ObjectStore};
use holdfast_proto::pb;
use holdfast_tests::s3::{S3Server, SECRET_KEY};
use std::sync::Arc;

const PREFIX: &str = "volume-01234567/";

fn directory_storage(directory: &std::path::Path) -> pb::Storage {
    pb::Storage { kind: "file".into(), url: directory.display().to_string(), ..Default::default() }
}

fn open(storage: &pb::Storage) -> Arc<dyn ObjectStore> {
    object::open(storage, PREFIX).expect("the settings are right")
}

async fn keeps_the_contract(store: &dyn ObjectStore) {
    let key = "chunks/0/1/1234_0_100000";
    let body = Bytes::from((0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>());
    assert_eq!(store.get(key).await, Err(ObjectError::NotFound(key.into())));
    assert!(matches!(store.get_range(key, 0..10).await, Err(ObjectError::NotFound(_))));
    assert_eq!(store.delete(key).await, Ok(()));
    assert_eq!(store.list("chunks").await, Ok(vec![]));

    store.put(key, body.clone()).await.expect("put");
    store.put(key, body.clone()).await.expect("put the same again");
    assert_eq!(store.get(key).await, Ok(body.clone()));
    assert_eq!(store.get_range(key, 99_990..100_000).await, Ok(body.slice(99_990..)));
    store.put("chunks/0/2/5_0_1", Bytes::from_static(b"x")).await.expect("put");

    let both = vec![(key.to_string(), 100_000), ("chunks/0/2/5_0_1".to_string(), 1)];
    let sorted = |mut list: Vec<(String, u64)>| {
        list.sort();
        list
    };
    assert_eq!(store.list("").await.map(sorted), Ok(both.clone()));
    assert_eq!(store.list("chunks").await.map(sorted), Ok(both.clone()));
    assert_eq!(store.list("chunks/0/2").await, Ok(both[1..].to_vec()));

    store.delete(key).await.expect("delete");
    store.delete(key).await.expect("delete again");
    assert!(matches!(store.get(key).await, Err(ObjectError::NotFound(_))));
    store.delete("chunks/0/2/5_0_1").await.expect("delete");
    object::prove(store).await.expect("prove");
    assert_eq!(store.list("").await, Ok(vec![]), "the proof leaves nothing behind");
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

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let directory = tempfile::tempdir().expect("tempdir");
    let store = open(&directory_storage(&directory.path().join("bucket")));
    object::prove(&*store).await.expect("format proves, and makes the directory");
    keeps_the_contract(&*store).await;
    keeps_a_file(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract() {
    let server = S3Server::start();
    let store = open(&server.storage());
    keeps_the_contract(&*store).await;
    keeps_a_file(store).await;
}

#[tokio::test]
async fn a_proof_names_what_is_wrong_and_shows_no_secret() {
    let server = S3Server::start();
    let wrong = |name: &str, value: &str| {
        let mut storage = server.storage();
        storage.secrets.insert(name.into(), value.into());
        storage.options.insert("retry_deadline_ms".into(), "500".into());
        storage
    };
    let mut nobody = wrong("x", "y");
    nobody.url = "http://127.0.0.1:9/bucket".into();
    let cases = [wrong("secret_access_key", "wrong-secret"), wrong("access_key_id", "NOBODY"), nobody];
    for storage in cases {
        let error = object::prove(&*open(&storage)).await.expect_err("cannot work");
        let text = error.to_string();
        assert!(matches!(error, ClientError::Object(_)) && text.contains("step put"), "{text}");
        assert!(text.contains("check: ") && !text.contains('\n'), "{text}");
        assert!(!text.contains(SECRET_KEY) && !text.contains("wrong-secret"), "{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_vanishes_fails_at_once_and_works_again_when_it_is_back() {
    let directory = tempfile::tempdir().expect("tempdir");
    let bucket = directory.path().join("bucket");
    let store = open(&directory_storage(&bucket));
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
