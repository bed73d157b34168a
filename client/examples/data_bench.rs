//! Measures the data path alone: writes and reads one file through `Data` on a local-directory store, with metadata in memory and no
//! FUSE. `cargo run --example data_bench -- [DIRECTORY] [MEBIBYTES] [sync|no_sync]`; prints one figure a line.

use bytes::Bytes;
use holdfast::data::memory_meta::MemoryMeta;
use holdfast::data::{Data, DataConfig};
use holdfast::error::ClientError;
use holdfast::object::{LocalStore, ObjectStore};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

const REQUEST_BYTES: u64 = 1 << 20;
const SMALL_FILES: u64 = 500;

#[tokio::main]
async fn main() -> Result<(), ClientError> {
    let mut args = std::env::args().skip(1);
    let parent = PathBuf::from(args.next().unwrap_or_else(|| "/tmp".into()));
    let mebibytes: u64 = args.next().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let sync = args.next().is_none_or(|text| text == "sync");
    let dir = parent.join(format!("holdfast-data-bench-{}", std::process::id()));
    let store = LocalStore::new(dir.clone(), sync);
    store.prepare().await.map_err(|error| ClientError::Object(error.to_string()))?;
    println!("{mebibytes} MiB in {}, requests of 1 MiB, sync {sync}", dir.display());
    let result = run(Arc::new(store), mebibytes).await;
    let _ = std::fs::remove_dir_all(&dir);
    result
}

async fn run(store: Arc<dyn ObjectStore>, mebibytes: u64) -> Result<(), ClientError> {
    let meta = Arc::new(MemoryMeta::new());
    let body = Bytes::from((0..REQUEST_BYTES).map(|n| ((n * 31) >> 3) as u8).collect::<Vec<u8>>());
    let config = DataConfig::default();

    let data = Data::new(meta.clone(), store.clone(), config.clone());
    let file = data.open(&meta.create(1));
    let start = Instant::now();
    for n in 0..mebibytes {
        data.write(&file, n * REQUEST_BYTES, body.clone()).await?;
    }
    data.flush(&file).await?;
    report("write and flush", mebibytes, start);
    data.release(file).await;

    // A second Data: nothing cached here, though the kernel has the objects in its page cache.
    let data = Data::new(meta.clone(), store.clone(), config.clone());
    let file = open(&data, &meta)?;
    read(&data, &file, mebibytes, &body, "first read").await?;
    let cached = mebibytes.min(config.cache_bytes_max / REQUEST_BYTES / 2);
    read(&data, &file, cached, &body, "fill the cache").await?;
    read(&data, &file, cached, &body, "cached read").await?;

    meta.set_session(2);
    let start = Instant::now();
    for n in 0..SMALL_FILES {
        let file = data.open(&meta.create(100 + n));
        data.write(&file, 0, body.slice(..4096)).await?;
        data.flush(&file).await?;
        data.release(file).await;
    }
    println!("4 KiB files: {:.0} a second", SMALL_FILES as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn open(data: &Data<MemoryMeta>, meta: &MemoryMeta) -> Result<Arc<holdfast::data::OpenFile>, ClientError> {
    let attr = meta.attr(1).ok_or_else(|| ClientError::Protocol("the file is gone".into()))?;
    Ok(data.open(&attr))
}

async fn read(
    data: &Data<MemoryMeta>,
    file: &holdfast::data::OpenFile,
    mebibytes: u64,
    body: &Bytes,
    what: &str,
) -> Result<(), ClientError> {
    let start = Instant::now();
    for n in 0..mebibytes {
        let pieces = data.read(file, n * REQUEST_BYTES, REQUEST_BYTES as u32).await?;
        let len: usize = pieces.iter().map(Bytes::len).sum();
        let right = pieces.first().map(|piece| piece[..1000] == body[..1000]);
        if len as u64 != REQUEST_BYTES || right != Some(true) {
            return Err(ClientError::Damaged(format!("MiB {n} came back different")));
        }
    }
    report(what, mebibytes, start);
    Ok(())
}

fn report(what: &str, mebibytes: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what}: {:.0} MB/s", mebibytes as f64 * 1.048_576 / seconds);
}
