//! What stores and networks do wrong, by a proxy in front of a real server: each fault is survived, or refused with an error, and what was
//! acknowledged is there when the store is well again. Most of it runs the whole data path over metadata in memory; the
//! last tests a mount.

use crate::contract::{open, open_bare};
use crate::mounts::objects;
use bytes::Bytes;
use holdfast::data::memory_meta::MemoryMeta;
use holdfast::data::{Data, DataConfig};
use holdfast::error::ClientError;
use holdfast::object::{self, ObjectError, ObjectStore};
use holdfast_proto::limits::BLOCK_BYTES_MIN;
use holdfast_tests::faulty_http::{Fault, FaultyHttp, Seen};
use holdfast_tests::mount::Mount;
use holdfast_tests::s3::S3Server;
use holdfast_tests::stores::{Reach, StoreServer};
use holdfast_tests::{process, shared};
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

const INO: u64 = 3;

/// A server, the proxy in front of it, and a client's data path through both. Files have blocks of 64 KiB.
struct Setup {
    proxy: FaultyHttp,
    reach: Reach,
    store: Arc<dyn ObjectStore>,
    meta: Arc<MemoryMeta>,
    data: Arc<Data<MemoryMeta>>,
    _server: Server,
}

/// Kept for as long as the test runs.
enum Server {
    S3(#[allow(dead_code)] S3Server),
    Other(#[allow(dead_code)] StoreServer),
}

impl Setup {
    fn s3(options: &[(&str, &str)]) -> Setup {
        let server = S3Server::start();
        let (reach, port) = (Reach::s3(&server), server.port());
        Setup::of(&reach, port, Server::S3(server), options)
    }

    fn webdav() -> Setup {
        let server = StoreServer::webdav();
        let (reach, port) = (server.reach.clone(), server.port);
        Setup::of(&reach, port, Server::Other(server), &[])
    }

    fn of(reach: &Reach, port: u16, server: Server, options: &[(&str, &str)]) -> Setup {
        let proxy = FaultyHttp::start(port, false);
        let reach = reach.through(proxy.port);
        let mut storage = reach.storage();
        storage.options.extend(options.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        let (store, meta) = (open(&storage), Arc::new(MemoryMeta::new()));
        let data = reader(&meta, &store);
        Setup { proxy, reach, store, meta, data, _server: server }
    }

    /// Writes a file and closes it.
    async fn save(&self, ino: u64, body: &Bytes) -> Result<(), ClientError> {
        let file = self.data.open(&self.meta.create(ino));
        self.data.write(&file, 0, body.clone()).await?;
        let flushed = self.data.flush(&file).await.map(drop);
        self.data.release(file).await;
        flushed
    }

    async fn object_count(&self) -> usize {
        open_bare(&self.reach).list("").await.expect("list").len()
    }

    /// Reads a file as a client does that has nothing of it in its cache.
    async fn read_cold(&self, ino: u64) -> Result<Vec<u8>, ClientError> {
        let data = reader(&self.meta, &self.store);
        let file = data.open(&self.meta.attr(ino).expect("the file"));
        data.read(&file, 0, 10_000_000).await.map(|parts| parts.concat())
    }
}

fn reader(meta: &Arc<MemoryMeta>, store: &Arc<dyn ObjectStore>) -> Arc<Data<MemoryMeta>> {
    Data::new(meta.clone(), store.clone(), DataConfig { block_bytes: BLOCK_BYTES_MIN, ..DataConfig::default() })
}

/// Bytes that are nowhere the same: two blocks and a half.
fn body(seed: u32) -> Bytes {
    (0..160_000_u32).map(|n| ((n.wrapping_mul(seed * 2 + 1)) >> 5) as u8).collect::<Vec<u8>>().into()
}

/// Without time for what will not come.
const HASTY: &[(&str, &str)] = &[("retry_deadline_ms", "700")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_store_is_left_alone_for_as_long_as_it_asks() {
    let setup = Setup::s3(&[]);
    setup.proxy.inject("PUT", "", Fault::Busy(503, 1), 2);
    setup.proxy.inject("PUT", "", Fault::Busy(429, 1), 1);
    setup.save(INO, &body(1)).await.expect("survived");
    setup.proxy.inject("GET", "", Fault::Busy(503, 1), 2);
    assert!(setup.read_cold(INO).await.expect("survived") == body(1));

    let seen = setup.proxy.seen();
    let busy = |seen: &&Seen| matches!(seen.fault, Some(Fault::Busy(..)));
    assert_eq!(seen.iter().filter(busy).count(), 5);
    for refused in seen.iter().filter(busy) {
        let same =
            |next: &&Seen| next.at > refused.at && (&next.method, &next.target) == (&refused.method, &refused.target);
        let next = seen.iter().find(same).expect("it was asked again");
        assert!(next.at - refused.at >= Duration::from_secs(1), "asked again after {:?}", next.at - refused.at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_failure_that_passes_is_survived_by_every_operation() {
    let setup = Setup::s3(&[]);
    let faults = [408, 429, 500, 502, 503, 504].map(Fault::Status);
    let faults = faults.into_iter().chain([Fault::Reset, Fault::ReplyLost, Fault::Slow(Duration::from_millis(300))]);
    for (ino, fault) in (1..).zip(faults) {
        let injected = |method| setup.proxy.inject(method, "", fault.clone(), 2);
        injected("PUT");
        setup.save(ino, &body(ino as u32)).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        injected("GET");
        let read = setup.read_cold(ino).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert!(read == body(ino as u32), "{fault:?}");
        injected("DELETE");
        setup.meta.remove(ino);
        assert_eq!(setup.data.reclaim().await, Ok(1), "{fault:?}");
        assert_eq!(setup.proxy.count(&fault), 6, "{fault:?}");
    }
    assert_eq!(setup.object_count().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_with_other_bytes_is_read_again_and_never_given_to_anybody() {
    let setup = Setup::s3(HASTY);
    setup.save(INO, &body(1)).await.expect("save");
    setup.save(INO + 1, &body(2)).await.expect("save");
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
    assert!(setup.read_cold(INO + 1).await.expect("read") == body(2));
    for fault in [Fault::CutBody, Fault::CutChunked, Fault::FlipReply, Fault::Empty, Fault::OtherBody] {
        setup.proxy.inject("GET", "", fault.clone(), 1);
        let read = setup.read_cold(INO).await.unwrap_or_else(|error| panic!("once {fault:?}: {error}"));
        assert!(read == body(1), "once {fault:?}");

        setup.proxy.inject("GET", "", fault.clone(), u32::MAX);
        let error = setup.read_cold(INO).await.expect_err("always wrong");
        assert!(matches!(error, ClientError::Damaged(_) | ClientError::Object(_)), "always {fault:?}: {error}");
        setup.proxy.heal();
        assert!(setup.read_cold(INO).await.expect("well again") == body(1), "after {fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_was_damaged_on_its_way_is_not_stored() {
    let setup = Setup::s3(&[]);
    setup.proxy.inject("PUT", "", Fault::FlipRequest, 3);
    setup.save(INO, &body(1)).await.expect("the store refused it, and got it again");
    assert_eq!(setup.proxy.count(&Fault::FlipRequest), 3);
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checksum_is_sent_where_it_is_asked_for_and_says_the_same() {
    let setup = Setup::s3(&[("unsigned_payload", "true"), ("checksum", "crc64nvme")]);
    setup.proxy.inject("PUT", "", Fault::FlipRequest, 3);
    setup.save(INO, &body(1)).await.expect("the store refused it, and got it again");
    assert_eq!(setup.proxy.count(&Fault::FlipRequest), 3);
    assert!(
        setup.proxy.seen().iter().all(|seen| seen.method != "PUT" || seen.head.contains("x-amz-checksum-crc64nvme"))
    );
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_store_acknowledged_and_lost_is_an_error_and_with_verify_puts_is_put_again() {
    let setup = Setup::s3(HASTY);
    setup.proxy.inject("PUT", "", Fault::Swallow, 1);
    setup.save(INO, &body(1)).await.expect("the store said yes");
    let error = setup.read_cold(INO).await.expect_err("a block is missing");
    assert!(matches!(&error, ClientError::Damaged(text) if text.contains("missing")), "{error}");

    let setup = Setup::s3(&[("verify_puts", "true")]);
    setup.proxy.inject("PUT", "", Fault::Swallow, 2);
    setup.save(INO, &body(1)).await.expect("put again");
    assert_eq!(setup.proxy.count(&Fault::Swallow), 2);
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webdav_is_asked_whether_it_has_what_it_took() {
    let setup = Setup::webdav();
    setup.proxy.inject("PUT", "", Fault::Swallow, 2);
    setup.proxy.inject("PUT", "", Fault::StoreHalf, 2);
    setup.proxy.inject("PUT", "", Fault::ReplyLost, 1);
    setup.save(INO, &body(1)).await.expect("put again");
    assert_eq!(setup.proxy.count(&Fault::Swallow) + setup.proxy.count(&Fault::StoreHalf), 4);
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_lists_late_is_waited_for_by_format_and_by_nothing_else() {
    let setup = Setup::s3(&[]);
    setup.proxy.inject("GET", "list-type=2", Fault::ListNothing, 2);
    object::prove(&*setup.store).await.expect("it is listed at last");
    assert_eq!(setup.proxy.count(&Fault::ListNothing), 2);

    setup.proxy.inject("GET", "list-type=2", Fault::ListNothing, u32::MAX);
    setup.save(INO, &body(1)).await.expect("save");
    assert!(setup.read_cold(INO).await.expect("read") == body(1));
    setup.meta.remove(INO);
    assert_eq!(setup.data.reclaim().await, Ok(1));
    let error = object::prove(&*setup.store).await.expect_err("never listed").to_string();
    assert!(error.contains("step list"), "{error}");
    setup.proxy.heal();
    assert_eq!(setup.object_count().await, 0, "deleted without a listing, and the proof left nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletes_that_fail_are_done_later() {
    let setup = Setup::s3(HASTY);
    setup.save(INO, &body(1)).await.expect("save");
    setup.meta.remove(INO);
    setup.proxy.inject("DELETE", "", Fault::Status(500), u32::MAX);
    assert!(setup.data.reclaim().await.is_err());
    assert_eq!(setup.meta.deleted_count(), 1);
    setup.proxy.heal();
    assert_eq!(setup.data.reclaim().await, Ok(1));
    assert_eq!((setup.meta.deleted_count(), setup.object_count().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_larger_than_any_of_ours_is_not_read_into_memory() {
    let setup = Setup::s3(HASTY);
    setup.store.put("chunks/0/0/1_0_1", Bytes::from_static(b"x")).await.expect("put");
    setup.proxy.inject("GET", "", Fault::Receipt("content-length", "999999999999"), 1);
    let error = setup.store.get("chunks/0/0/1_0_1").await.expect_err("a terabyte");
    assert!(matches!(&error, ObjectError::Refused(text) if text.contains("999999999999 bytes")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_of_faults_what_was_acknowledged_is_there() {
    let setup = Setup::s3(&[("retry_deadline_ms", "5000")]);
    let reads = [Fault::CutBody, Fault::CutChunked, Fault::FlipReply, Fault::Empty];
    let both = [Fault::Status(500), Fault::Status(503), Fault::Reset, Fault::ReplyLost, Fault::FlipRequest];
    setup.proxy.storm(25, 7, &both, &[&both[..4], &reads].concat());
    let mut saved = Vec::new();
    for ino in 1..40 {
        if setup.save(ino, &body(ino as u32)).await.is_ok() {
            saved.push(ino);
        }
        for ino in &saved[saved.len().saturating_sub(2)..] {
            // An error is an answer; other bytes are not.
            if let Ok(read) = setup.read_cold(*ino).await {
                assert!(read == body(*ino as u32), "file {ino}");
            }
        }
    }
    setup.proxy.heal();
    assert!(saved.len() > 30, "{} files were acknowledged", saved.len());
    for ino in saved {
        assert!(setup.read_cold(ino).await.expect("the store is well") == body(ino as u32), "file {ino}");
    }
}

#[test]
fn on_a_mount_a_store_that_is_away_is_an_error_at_fsync_and_no_loss() {
    let server = S3Server::start();
    let proxy = FaultyHttp::start(server.port(), false);
    let reach = Reach::s3(&server).through(proxy.port);
    let meta = shared::cluster().meta("store-away");
    reach.format(&meta, &["--option", "retry_deadline_ms=700"]).ok("holdfast format");
    let mount = Mount::start(&meta);
    fs::write(mount.path("before"), body(1)).unwrap();

    proxy.inject("", "", Fault::Status(503), u32::MAX);
    let mut file = fs::File::create(mount.path("during")).unwrap();
    file.write_all(&body(2)).unwrap();
    let error = file.sync_all().expect_err("nothing is stored");
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    proxy.heal();
    file.sync_all().expect("the data was kept");
    drop(file);

    mount.umount().ok("holdfast umount");
    mount.try_again(&meta, &[]).ok("holdfast mount");
    proxy.inject("GET", "", Fault::FlipReply, u32::MAX);
    assert_eq!(fs::read(mount.path("before")).expect_err("damaged").raw_os_error(), Some(libc::EIO));
    proxy.heal();
    let file = fs::File::open(mount.path("before")).unwrap();
    let mut read = vec![0; 160_000];
    file.read_exact_at(&mut read, 0).expect("well again");
    assert!(read == body(1));
    drop(file);
    assert!(fs::read(mount.path("during")).unwrap() == body(2));
    for name in ["before", "during"] {
        fs::remove_file(mount.path(name)).unwrap();
    }
    process::wait_for("the objects to be deleted", || objects(&reach).is_empty().then_some(()));
}
