//! `holdfast bench` (to come).
use crate::error::ClientError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure a directory of any filesystem.
#[derive(Debug, clap::Args)]
pub struct Args {
    pub dir: PathBuf,
    #[arg(long)]
    pub json: bool,
}

pub fn run(_args: Args) -> Result<ExitCode, ClientError> {
    Err(ClientError::Failed("bench: not built yet".to_owned()))
}
