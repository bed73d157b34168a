//! `holdfast info` (to come).
use crate::error::ClientError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show how a file is stored.
#[derive(Debug, clap::Args)]
pub struct Args {
    pub path: PathBuf,
    #[arg(long)]
    pub json: bool,
}

pub fn run(_args: Args) -> Result<ExitCode, ClientError> {
    Err(ClientError::Failed("info: not built yet".to_owned()))
}
