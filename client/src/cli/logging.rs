//! Logs of the client: to stderr, or to a file for a mount in the background. HOLDFAST_LOG filters (`debug`, `holdfast::meta=trace`).
//! Called by cli::main and by mount.

use std::fs::File;
use std::sync::Arc;
use tracing_subscriber::EnvFilter;

const LOG_ENV: &str = "HOLDFAST_LOG";

/// Starts logging; the first call of a process counts. To stderr warnings and worse, to a file also what is worth knowing later.
pub fn init(file: Option<File>) {
    let default_level = if file.is_some() { "info" } else { "warn" };
    let filter = EnvFilter::try_from_env(LOG_ENV).unwrap_or_else(|_| EnvFilter::new(default_level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let started = match file {
        Some(file) => builder.with_writer(Arc::new(file)).try_init(),
        None => builder.with_writer(std::io::stderr).try_init(),
    };
    // Somebody else's logging is as good.
    drop(started);
}
