//! `holdfast mount`: joins the cluster, mounts, serves until unmounted or told to stop, and leaves nothing unwritten behind. The way
//! into the background is mount_daemon.rs. Called by the command line's frame, and for mount.holdfast.

use crate::cli::mount_daemon::{self, Ready};
use crate::cli::{logging, mount_table, size};
use crate::config::{MetaConfig, TlsFlags};
use crate::data::{Data, DataConfig};
use crate::error::ClientError;
use crate::fuse::drive::Runtimes;
use crate::fuse::mount::{self, MountConfig, Mounted};
use crate::fuse::options::MountOptions;
use crate::fuse::view::CacheTtl;
use crate::meta::client::explain_volume;
use crate::meta::url::MetaUrl;
use crate::meta::{MetaApi, MetaClient};
use crate::object;
use crate::vfs::{Caller, Vfs, VfsConfig, atimes, pushes};
use bytes::Bytes;
use holdfast_proto::pb;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long the kernel may take to end the session after an unmount; a mount that stays busy is left behind.
const END_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// META (holdfast://host:port,.../volume, else HOLDFAST_META) and the directory to mount on
    #[arg(required = true, num_args = 1..=2, value_names = ["META", "DIR"])]
    pub places: Vec<PathBuf>,
    /// Return when the mount answers, and serve it in the background
    #[arg(short = 'd', long)]
    pub background: bool,
    /// Mount options, as in fstab: ro, noexec, nosuid, nodev, allow_other, subdir=PATH, ...
    #[arg(short = 'o', long = "options", value_name = "OPTS")]
    pub options: Vec<String>,
    /// Refuse every change
    #[arg(long)]
    pub read_only: bool,
    /// Mount this directory of the volume as the root
    #[arg(long, value_name = "PATH")]
    pub subdir: Option<String>,
    /// Memory for cached blocks [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub cache_size: Option<u64>,
    /// Memory for data that is written and not uploaded yet [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub buffer_size: Option<u64>,
    /// Uploads at the same time [default: 16]
    #[arg(long, value_name = "COUNT")]
    pub max_uploads: Option<usize>,
    /// How long the kernel may keep attributes; 0 shows every change of other clients at once [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub attr_cache: Option<f64>,
    /// How long an open may believe what the last open of the file was told; 0 keeps close-to-open [default: 0]
    #[arg(long, value_name = "SECONDS")]
    pub open_cache: Option<f64>,
    /// As --attr-cache, for names
    #[arg(long, value_name = "SECONDS")]
    pub entry_cache: Option<f64>,
    /// Log file [default in the background: /var/log/holdfast-VOLUME.log, where writable]
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Write the mount into /etc/fstab, too
    #[arg(long)]
    pub update_fstab: bool,
    #[command(flatten)]
    pub tls: TlsFlags,
    /// The process in the background itself
    #[arg(long, hide = true)]
    pub background_child: bool,
}

impl Args {
    /// The options that have a value, by name, as the process in the background and a line of fstab need them.
    pub(crate) fn own(&self) -> Vec<(&'static str, Option<OsString>)> {
        fn text<T: ToString>(value: &Option<T>) -> Option<OsString> {
            value.as_ref().map(|value| value.to_string().into())
        }
        let file = |path: &Option<PathBuf>| path.as_deref().map(mount_daemon::absolute);
        vec![
            ("subdir", text(&self.subdir)),
            ("cache-size", text(&self.cache_size)),
            ("buffer-size", text(&self.buffer_size)),
            ("max-uploads", text(&self.max_uploads)),
            ("attr-cache", text(&self.attr_cache)),
            ("entry-cache", text(&self.entry_cache)),
            ("open-cache", text(&self.open_cache)),
            ("log", file(&self.log)),
            ("tls-ca", file(&self.tls.ca)),
            ("tls-cert", file(&self.tls.cert)),
            ("tls-key", file(&self.tls.key)),
        ]
    }
}

/// Args, checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub meta: MetaUrl,
    pub volume: String,
    pub dir: PathBuf,
    pub args: Args,
    pub options: MountOptions,
    pub ttl: CacheTtl,
    pub open_cache: Duration,
}

/// Runs the command to its end: the unmount, or with `-d` the moment when the mount answers.
///
/// # Errors
/// Usage, or why the mount did not come about.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let child = args.background_child;
    let done = Plan::new(args)
        .and_then(|plan| if plan.args.background && !child { mount_daemon::start(&plan) } else { serve(&plan) });
    if child && let Err(error) = &done {
        // The parent prints it; after that moment nobody listens, and the log has it.
        Ready::take().failed(error);
    }
    done.map(|()| ExitCode::SUCCESS)
}

impl Plan {
    pub(crate) fn new(mut args: Args) -> Result<Plan, ClientError> {
        let mut options = MountOptions::parse(&args.options).map_err(|error| ClientError::Usage(error.to_string()))?;
        merge_own_options(&mut args, &options)?;
        options.read_only |= args.read_only;
        let (meta, dir) = match &args.places[..] {
            [dir] => (None, dir),
            [meta, dir, ..] => (Some(meta.to_string_lossy().into_owned()), dir),
            [] => return Err(ClientError::Usage("the directory to mount on is missing".into())),
        };
        let meta = MetaUrl::from_arg_or_env(meta.as_deref())?;
        let volume = meta.volume()?.to_owned();
        mount_table::check_fuse()?;
        let dir = mount_table::check_mount_point(dir)?;
        let ttl = CacheTtl {
            attr: seconds("attr-cache", args.attr_cache)?,
            entry: seconds("entry-cache", args.entry_cache)?,
        };
        if options.ids.squash.is_some() && ttl.any() {
            let why = "root_squash checks each name as it is looked up: it goes without --attr-cache and --entry-cache";
            return Err(ClientError::Usage(why.into()));
        }
        let open_cache = seconds("open-cache", args.open_cache)?;
        Ok(Plan { meta, volume, dir, args, options, ttl, open_cache })
    }

    fn data_config(&self, block_bytes: u32) -> DataConfig {
        let default = DataConfig::default();
        DataConfig {
            block_bytes,
            buffer_bytes_max: self.args.buffer_size.map_or(default.buffer_bytes_max, |size| size as usize),
            cache_bytes_max: self.args.cache_size.unwrap_or(default.cache_bytes_max),
            uploads_max: self.args.max_uploads.unwrap_or(default.uploads_max).max(1),
        }
    }
}

/// What fstab can say only with -o goes to the options of the command; those given there win.
fn merge_own_options(args: &mut Args, options: &MountOptions) -> Result<(), ClientError> {
    fn fill<T>(
        slot: &mut Option<T>,
        name: &str,
        options: &MountOptions,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<(), ClientError> {
        let Some(text) = options.value(name).filter(|_| slot.is_none()) else { return Ok(()) };
        *slot = Some(parse(text).map_err(|error| ClientError::Usage(format!("mount option {name}: {error}")))?);
        Ok(())
    }
    let path = |text: &str| Ok(PathBuf::from(text));
    let number = |text: &str| text.parse::<f64>().map_err(|_| format!("\"{text}\" is no number of seconds"));
    fill(&mut args.subdir, "subdir", options, |text| Ok(text.to_owned()))?;
    fill(&mut args.cache_size, "cache-size", options, size::parse)?;
    fill(&mut args.buffer_size, "buffer-size", options, size::parse)?;
    fill(&mut args.max_uploads, "max-uploads", options, |text| {
        text.parse().map_err(|_| format!("\"{text}\" is no count"))
    })?;
    fill(&mut args.attr_cache, "attr-cache", options, number)?;
    fill(&mut args.entry_cache, "entry-cache", options, number)?;
    fill(&mut args.open_cache, "open-cache", options, number)?;
    fill(&mut args.log, "log", options, path)?;
    fill(&mut args.tls.ca, "tls-ca", options, path)?;
    fill(&mut args.tls.cert, "tls-cert", options, path)?;
    fill(&mut args.tls.key, "tls-key", options, path)
}

fn seconds(name: &str, given: Option<f64>) -> Result<Duration, ClientError> {
    Duration::try_from_secs_f64(given.unwrap_or_default())
        .map_err(|_| ClientError::Usage(format!("--{name} is a number of seconds, 0 or more")))
}

/// Serves the mount in this process.
fn serve(plan: &Plan) -> Result<(), ClientError> {
    logging::init(plan.args.log.as_deref().map(mount_daemon::open_log).transpose()?);
    let cores_count = std::thread::available_parallelism().map_or(1, usize::from);
    let (meta, data) = (runtime("meta", 1)?, runtime("data", cores_count)?);
    let runtimes = Runtimes { meta: meta.handle().clone(), data: data.handle().clone() };
    let clean = data.block_on(serve_until_ended(plan, runtimes))?;
    // What still waits (a request of a process that is gone) must not hold up the end.
    data.shutdown_background();
    meta.shutdown_background();
    if clean { Ok(()) } else { Err(ClientError::Failed("data was lost at unmount: see the log".into())) }
}

fn runtime(name: &'static str, threads_count: usize) -> Result<Runtime, ClientError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads_count)
        .enable_all()
        .thread_name(name)
        .build()
        .map_err(|error| ClientError::Failed(format!("cannot start threads: {error}")))
}

async fn serve_until_ended(plan: &Plan, runtimes: Runtimes) -> Result<bool, ClientError> {
    let mut stop = Stop::listen()?;
    let config = meta_config(plan)?;
    let joining = runtimes.meta.spawn(MetaClient::connect(config)).await;
    let meta = Arc::new(joining.map_err(|error| ClientError::Failed(format!("thread: {error}")))??);
    let settings = settings(&meta, &plan.volume).await?;
    let prefix = object::keys::volume_prefix(&settings.name, &settings.uuid);
    let store = object::open(&settings.storage.clone().unwrap_or_default(), &prefix)?;
    open_session(&meta, plan).await?;
    let data = Data::new(meta.clone(), store, plan.data_config(settings.block_size));
    let root = match &plan.args.subdir {
        Some(path) => find_subdir(&*meta, path).await?,
        None => holdfast_proto::ROOT_INO,
    };
    let config = VfsConfig {
        root,
        read_only: plan.options.read_only,
        kernel_caches: plan.ttl.any(),
        atime: plan.options.atime,
        open_cache: plan.open_cache,
    };
    let vfs = Vfs::new(meta.clone(), data, config);
    let pushes = tokio::spawn(pushes::run(vfs.clone()));
    let atimes = tokio::spawn(atimes::run(vfs.clone()));
    let mut mounted = mount::mount(&vfs, runtimes, &mount_config(plan))?;
    if let Err(error) = announce(plan).await {
        mounted.unmount();
        return Err(error);
    }
    wait_for_end(&mut mounted, &mut stop).await;
    atimes.abort();
    let clean = vfs.shutdown().await;
    pushes.abort();
    if let Err(error) = meta.close_session().await {
        tracing::warn!(%error, "the session will end by its lease");
    }
    tracing::info!(dir = %plan.dir.display(), clean, "unmounted");
    Ok(clean)
}

fn mount_config(plan: &Plan) -> MountConfig {
    MountConfig { dir: plan.dir.clone(), source: plan.meta.to_string(), options: plan.options.clone(), ttl: plan.ttl }
}

fn meta_config(plan: &Plan) -> Result<MetaConfig, ClientError> {
    let mut config = MetaConfig::new(&plan.meta, plan.args.tls.load()?);
    config.quiet = !plan.ttl.any() && plan.open_cache.is_zero();
    Ok(config)
}

async fn settings(meta: &MetaClient, volume: &str) -> Result<pb::VolumeSettings, ClientError> {
    let ask = pb::VolumeQuery { name: volume.to_owned() };
    let answer = meta.query_unbound(ask).await.map_err(|error| explain_volume(error, volume))?;
    answer.reply.settings.ok_or_else(|| ClientError::Protocol(format!("volume {volume} came without settings")))
}

async fn open_session(meta: &MetaClient, plan: &Plan) -> Result<(), ClientError> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let opened = meta.open_session(&plan.volume, host.trim(), &plan.dir.to_string_lossy()).await;
    opened.map(|_| ()).map_err(|error| explain_volume(error, &plan.volume))
}

/// The inode of a directory of the volume, by path from its root.
async fn find_subdir(meta: &impl MetaApi, path: &str) -> Result<u64, ClientError> {
    let mut ino = holdfast_proto::ROOT_INO;
    for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
        let ask = pb::LookupQuery { parent: ino, name: Bytes::copy_from_slice(name.as_bytes()) };
        let found = meta.query(&Caller::ROOT.creds(), ask).await.map_err(|error| match error {
            ClientError::Refused(errno) => ClientError::Failed(format!("--subdir {path}: \"{name}\": {errno}")),
            other => other,
        })?;
        ino = found.reply.attr.map_or(0, |attr| attr.ino);
    }
    let answer = meta.query(&Caller::ROOT.creds(), pb::GetattrQuery { ino }).await?;
    match answer.reply.attr {
        Some(attr) if attr.kind() == pb::FileKind::Directory => Ok(ino),
        _ => Err(ClientError::Failed(format!("--subdir {path} is not a directory"))),
    }
}

/// The mount is up when it answers; from then on the parent may go, fstab be written, and the log be elsewhere.
async fn announce(plan: &Plan) -> Result<(), ClientError> {
    let dir = plan.dir.clone();
    let asked = tokio::task::spawn_blocking(move || {
        mount::raise_readahead(&dir);
        nix::sys::statvfs::statvfs(&dir).map(|_| ())
    });
    match asked.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(ClientError::Failed(format!("{} is mounted but does not answer: {error}", plan.dir.display())));
        }
        Err(error) => return Err(ClientError::Failed(format!("thread: {error}"))),
    }
    if plan.args.update_fstab {
        mount_daemon::update_fstab(plan, Path::new("/etc/fstab"))?;
    }
    tracing::info!(dir = %plan.dir.display(), meta = %plan.meta, "mounted");
    if plan.args.background_child {
        Ready::take().ok();
    } else {
        let dir = plan.dir.display();
        eprintln!("{} is mounted on {dir}; `holdfast umount {dir}` or Ctrl-C unmounts it", plan.meta);
    }
    Ok(())
}

/// Returns when the mount is gone, or has been detached at a signal.
async fn wait_for_end(mounted: &mut Mounted, stop: &mut Stop) {
    tokio::select! {
        () = mounted.ended() => return,
        name = stop.told() => tracing::info!(signal = name, "unmounting"),
    }
    mounted.unmount();
    if tokio::time::timeout(END_DEADLINE, mounted.ended()).await.is_err() {
        tracing::warn!("processes still use the mount: it is detached, and what they do from now on fails");
    }
}

/// The signals that ask for an end.
struct Stop {
    term: tokio::signal::unix::Signal,
    int: tokio::signal::unix::Signal,
}

impl Stop {
    fn listen() -> Result<Stop, ClientError> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error: std::io::Error| ClientError::Failed(format!("cannot listen for signals: {error}"));
        Ok(Stop {
            term: signal(SignalKind::terminate()).map_err(failed)?,
            int: signal(SignalKind::interrupt()).map_err(failed)?,
        })
    }

    async fn told(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_command_line_win_over_those_of_fstab() {
        let mut args = Args { cache_size: Some(7), ..Args::default() };
        let options = MountOptions::parse(&["cache-size=1GiB,subdir=/a,attr-cache=0.5".into()]).expect("parses");
        merge_own_options(&mut args, &options).expect("merges");
        assert_eq!((args.cache_size, args.subdir.as_deref(), args.attr_cache), (Some(7), Some("/a"), Some(0.5)));
    }

    #[test]
    fn every_option_with_a_value_reaches_the_background_and_fstab() {
        let names: Vec<_> = Args::default().own().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, crate::fuse::options::OWN);
    }

    #[test]
    fn a_value_that_does_not_parse_is_named_with_its_option() {
        let options = MountOptions::parse(&["cache-size=much".into()]).expect("parses");
        let error = merge_own_options(&mut Args::default(), &options).expect_err("much").to_string();
        assert!(error.contains("cache-size") && error.contains("much"), "{error}");
        assert!(seconds("attr-cache", Some(-1.0)).is_err());
    }
}
