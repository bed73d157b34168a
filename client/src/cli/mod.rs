//! The command line: one subcommand, one file, each with its `Args` and `run`. An error is one line on stderr that names what to do.
//! Exit codes: 0 done, 1 failed, 2 wrong usage. Called by main only.

pub mod bench;
pub mod bench_meta;
mod bench_run;
pub mod cluster;
mod cluster_checkpoint;
mod cluster_members;
mod cluster_verify;
pub mod config;
pub mod credentials;
pub mod format;
pub mod fsck;
mod fsck_objects;
pub mod gc;
pub mod info;
pub mod logging;
pub mod mount;
mod mount_daemon;
pub mod mount_helper;
mod mount_table;
pub mod show;
pub mod size;
pub mod status;
pub mod umount;
mod volume;

use crate::config::{MetaConfig, TlsFlags};
use crate::error::ClientError;
use crate::meta::url::MetaUrl;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

const EXAMPLES: &str = "\
META is holdfast://host1:port,host2:port,host3:port/volume; HOLDFAST_META stands in for it.

Examples:
  export HOLDFAST_META=holdfast://10.0.0.1:9400,10.0.0.2:9400,10.0.0.3:9400/data
  holdfast format --storage file --bucket /srv/objects
  holdfast mount $HOLDFAST_META /mnt/data -d
  holdfast status
  holdfast cluster status

Exit codes: 0 done, 1 failed, 2 wrong usage. HOLDFAST_LOG=debug shows what goes on.";

#[derive(Debug, Parser)]
#[command(name = "holdfast", version, about = "A distributed POSIX filesystem", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a volume on an object store
    Format(format::Args),
    /// Show a volume: settings, usage, sessions (JSON)
    Status(status::Args),
    /// Mount a volume on a directory
    Mount(mount::Args),
    /// Undo a mount
    Umount(umount::Args),
    /// Show how a file is stored: inode, chunks, slices, objects
    Info(info::Args),
    /// Show or change a volume's settings
    Config(config::Args),
    /// Check a volume: metadata and objects; repair what can be repaired
    Fsck(fsck::Args),
    /// Find objects that nothing needs, and delete them
    Gc(gc::Args),
    /// Measure a directory of any filesystem
    Bench(bench::Args),
    /// Measure the metadata cluster, without a mount
    BenchMeta(bench_meta::Args),
    /// Look at the metadata nodes, check their states, add or remove some, or move their leadership
    Cluster(cluster::Args),
}

impl Command {
    fn run(self) -> Result<ExitCode, ClientError> {
        match self {
            Command::Format(args) => format::run(args),
            Command::Status(args) => status::run(args),
            Command::Mount(args) => mount::run(args),
            Command::Umount(args) => umount::run(args),
            Command::Info(args) => info::run(args),
            Command::Config(args) => config::run(args),
            Command::Fsck(args) => fsck::run(&args),
            Command::Gc(args) => gc::run(&args),
            Command::Bench(args) => bench::run(args),
            Command::BenchMeta(args) => bench_meta::run(args),
            Command::Cluster(args) => cluster::run(args),
        }
    }
}

/// What every subcommand that speaks to the cluster takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ClusterFlags {
    /// holdfast://host1:port,host2:port,host3:port/volume [default: $HOLDFAST_META]
    #[arg(value_name = "META")]
    pub meta: Option<String>,
    #[command(flatten)]
    pub tls: TlsFlags,
}

impl ClusterFlags {
    /// # Errors
    /// Usage, with what to do.
    pub fn load(&self) -> Result<(MetaUrl, MetaConfig), ClientError> {
        let url = MetaUrl::from_arg_or_env(self.meta.as_deref())?;
        let config = MetaConfig::new(&url, self.tls.load()?);
        Ok((url, config))
    }
}

/// Everything but the process around it.
pub fn main(args: Vec<OsString>) -> ExitCode {
    // Fails only where one is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let args = match mount_helper::rewrite(args) {
        Ok(Some(args)) => args,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return fail(&error),
    };
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return refuse_usage(&error),
    };
    // A mount may log to a file: it sets up its own.
    if !matches!(cli.command, Command::Mount(_)) {
        logging::init(None);
    }
    cli.command.run().unwrap_or_else(|error| fail(&error))
}

/// Help and version as they are; anything wrong as one line.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    let what = text.split("\n\n").next().unwrap_or_default();
    match what.strip_prefix("error: ") {
        Some(what) if error.use_stderr() => {
            let words: Vec<_> = what.split_whitespace().collect();
            eprintln!("holdfast: {} (see holdfast --help)", words.join(" "));
        }
        // The whole help, where a subcommand is missing.
        _ => error.exit(),
    }
    ExitCode::from(2)
}

fn fail(error: &ClientError) -> ExitCode {
    let text = error.to_string().replace('\n', " ");
    eprintln!("holdfast: {text}");
    ExitCode::from(error.exit_code())
}

/// Runs one call to its end, on a runtime of its own.
///
/// # Errors
/// Those of the call.
pub fn block_on<T>(call: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClientError::Failed(format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(call);
    runtime.shutdown_background();
    result
}

/// This machine's name, for the list of sessions.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Prints pretty JSON. A reader that went away is no error of ours.
pub fn print_json(value: &serde_json::Value) {
    print_line(&format!("{value:#}"));
}

/// Prints a text and a newline.
pub fn print_line(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn meta_may_be_left_out_where_the_environment_can_say_it() {
        for line in [
            "status",
            "config",
            "bench-meta",
            "cluster status",
            "cluster verify --timeout 9",
            "cluster checkpoint --json",
            "fsck --deep --repair",
            "gc --delete",
            "cluster add 4=h:1",
            "cluster add holdfast://h:1 4=h:1 --no-wait",
            "cluster remove 4 --yes",
            "cluster remove holdfast://h:1 4",
            "format --storage file --bucket /x",
        ] {
            let args = std::iter::once("holdfast").chain(line.split(' '));
            assert!(Cli::try_parse_from(args).is_ok(), "{line}");
        }
    }
}
