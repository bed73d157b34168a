//! metad: reads the settings, sets up logging, and runs one node. Exit codes: 0 stopped in order, 1 failure, 2 usage.

use clap::Parser;
use metad::config::{Config, Flags, LogFormat};
use metad::error::MetadError;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Raft's own commentary is for its developers, and so are sled's complaints that it finds no sync(1) (`find_no_programs`).
const LOG_FILTER: &str = "info,openraft=error,raft_log=warn,chunked_wal=warn,sled=error,h2=warn,tower=warn";

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => builder.with_target(false).with_ansi(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// A panic anywhere ends the process: a node without one of its parts would go on by guesswork.
fn abort_on_panic() {
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tracing::error!(panic = %info, "panic; this node stops");
        default(info);
        std::process::abort();
    }));
}

fn run(flags: Flags) -> Result<(), MetadError> {
    let config = Config::load(flags)?;
    start_logging(config.log_format);
    abort_on_panic();
    // Before there are threads: they inherit it.
    metad::priority::raise();
    metad::store::sled_image::find_no_programs();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return Err(MetadError::Tls("a provider is installed already".to_owned()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.rpc_threads)
        .thread_name("rpc")
        .enable_all()
        .build()
        .map_err(|source| MetadError::Start { what: "rpc runtime", source })?;
    runtime.block_on(metad::server::run(config))
}

/// Help and version as they are; a wrong flag as one line.
fn parse_flags() -> Result<Flags, MetadError> {
    Flags::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        let text = error.to_string();
        let what = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        MetadError::Config(format!("{} (see metad --help)", what.split_whitespace().collect::<Vec<_>>().join(" ")))
    })
}

pub fn main() -> ExitCode {
    match parse_flags().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("metad: {}", error.one_line());
            ExitCode::from(error.exit_code())
        }
    }
}
