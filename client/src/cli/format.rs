//! `holdfast format`: proves that the object store works, then creates the volume in the cluster. Nothing is written to the cluster
//! before the store is proven, and a volume that exists is never touched.

use super::credentials::{StoreFlags, gather};
use super::{ClusterFlags, block_on, print_json, show, size};
use crate::error::ClientError;
use crate::meta::MetaClient;
use crate::object;
use bytes::Bytes;
use holdfast_proto::limits::{BLOCK_BYTES_DEFAULT, BLOCK_BYTES_MAX, BLOCK_BYTES_MIN, TRASH_DAYS_MAX};
use holdfast_proto::{FsErrno, pb};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  holdfast format holdfast://h1:9400,h2:9400,h3:9400/data --storage file --bucket /srv/objects
  AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... \\
  holdfast format --storage s3 --bucket s3://my-bucket --region eu-west-1 --capacity 10T
  holdfast format --storage s3 --bucket http://127.0.0.1:9000/my-bucket --credentials-file keys.env
  holdfast format --storage azure --bucket az://my-container
  holdfast format --storage webdav --bucket https://dav.example.net/my-collection

Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AZURE_STORAGE_ACCOUNT,
AZURE_STORAGE_ACCOUNT_KEY, GOOGLE_SERVICE_ACCOUNT_KEY, WEBDAV_USER, WEBDAV_PASSWORD; or HOLDFAST_ACCESS_KEY and
HOLDFAST_SECRET_KEY for any), from --credentials-file, or are asked for. The cluster keeps them: clients need only META.";

/// How long each step of the proof is retried, unless the volume's own setting says otherwise.
const PROOF_DEADLINE_MS: u64 = 10_000;

/// Create a volume on an object store.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Kind of object store
    #[arg(long, value_name = "KIND", value_parser = ["s3", "gs", "azure", "webdav", "file"])]
    pub storage: String,
    /// Where the objects go: s3://bucket, http(s)://endpoint/bucket, gs://bucket, az://container, /directory
    #[arg(long, value_name = "URL")]
    pub bucket: String,
    /// Size of an object; a power of two from 64KiB to 16MiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "4MiB")]
    pub block_size: u64,
    /// Most bytes the volume may hold, 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "0")]
    pub capacity: u64,
    /// Most files and directories, 0 for no limit
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub inodes: u64,
    /// How long removed files are kept in /.trash, 0 for not at all
    #[arg(long, value_name = "DAYS", value_parser = trash_days(), default_value_t = 0)]
    pub trash_days: u32,
    /// Do not sync objects to disk (file storage; for tests and comparisons)
    #[arg(long)]
    pub no_sync: bool,
    #[command(flatten)]
    pub store: StoreFlags,
}

/// # Errors
/// One line that names what to do.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let (url, config) = args.cluster.load()?;
    let name = url.volume()?.to_owned();
    let block_size = check_block_size(args.block_size)?;
    block_on(async {
        let meta = MetaClient::connect(config).await?;
        refuse_existing(&meta, &name).await?;
        let settings = pb::VolumeSettings {
            uuid: Bytes::copy_from_slice(&rand::random::<[u8; 16]>()),
            storage: Some(storage(&args)?),
            block_size,
            capacity_bytes: args.capacity,
            inodes_max: args.inodes,
            trash_days: args.trash_days,
            name,
            ..Default::default()
        };
        prove(&settings).await?;
        let created = create(&meta, settings).await?;
        print_json(&show::settings(&created));
        Ok(ExitCode::SUCCESS)
    })
}

/// Also of `holdfast config`.
pub fn trash_days() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(0..=i64::from(TRASH_DAYS_MAX))
}

fn check_block_size(bytes: u64) -> Result<u32, ClientError> {
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (BLOCK_BYTES_MIN..=BLOCK_BYTES_MAX).contains(&bytes) => Ok(bytes),
        _ => Err(ClientError::Usage(format!(
            "--block-size {}: it must be a power of two from {} to {} ({} is usual)",
            size::show(bytes),
            size::show(BLOCK_BYTES_MIN.into()),
            size::show(BLOCK_BYTES_MAX.into()),
            size::show(BLOCK_BYTES_DEFAULT.into())
        ))),
    }
}

async fn refuse_existing(meta: &MetaClient, name: &str) -> Result<(), ClientError> {
    match meta.query_unbound(pb::VolumeQuery { name: name.to_owned() }).await {
        Ok(_) => Err(exists(name)),
        Err(ClientError::Refused(FsErrno::NoEnt)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn exists(name: &str) -> ClientError {
    ClientError::Failed(format!(
        "volume \"{name}\" exists already and was left as it is; choose another name (`holdfast status` shows it)"
    ))
}

fn storage(args: &Args) -> Result<pb::Storage, ClientError> {
    let mut storage = pb::Storage { kind: args.storage.clone(), url: args.bucket.clone(), ..Default::default() };
    if args.no_sync {
        if storage.kind != "file" {
            return Err(ClientError::Usage("--no-sync goes with --storage file only".to_owned()));
        }
        storage.options.insert("no_sync".to_owned(), "true".to_owned());
    }
    if storage.kind == "file" && !storage.url.starts_with('/') && !storage.url.contains("://") {
        // Clients may run anywhere: what is kept is absolute.
        let absolute = std::path::absolute(&storage.url)
            .map_err(|error| ClientError::Usage(format!("--bucket {}: {error}", storage.url)))?;
        storage.url = absolute.to_string_lossy().into_owned();
    }
    gather(&mut storage, &args.store)?;
    Ok(storage)
}

/// Puts, reads, lists and deletes an object where the volume's objects will be.
///
/// # Errors
/// Where the store does not do what it must.
pub async fn prove(settings: &pb::VolumeSettings) -> Result<(), ClientError> {
    let mut storage = settings.storage.clone().unwrap_or_default();
    // Somebody waits for it; what is kept has the store's usual patience.
    storage.options.entry("retry_deadline_ms".to_owned()).or_insert_with(|| PROOF_DEADLINE_MS.to_string());
    let prefix = object::keys::volume_prefix(&settings.name, &settings.uuid);
    let store = object::open(&storage, &prefix)?;
    object::prove(&*store).await
}

async fn create(meta: &MetaClient, settings: pb::VolumeSettings) -> Result<pb::VolumeSettings, ClientError> {
    let name = settings.name.clone();
    match meta.mutate_unbound(pb::FormatVolumeOp { settings: Some(settings) }).await {
        Ok(answer) => {
            answer.reply.settings.ok_or_else(|| ClientError::Protocol("format: a reply without settings".into()))
        }
        Err(ClientError::Refused(FsErrno::Exist)) => Err(exists(&name)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_powers_of_two_within_bounds() {
        assert_eq!(check_block_size(4 << 20), Ok(4 << 20));
        for bytes in [0, 1, 32 << 10, 3 << 20, 32 << 20, 1 << 32, u64::MAX] {
            assert!(check_block_size(bytes).is_err(), "{bytes}");
        }
    }
}
