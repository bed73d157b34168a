//! `holdfast umount` (to come).
use crate::error::ClientError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Undo a mount.
#[derive(Debug, clap::Args)]
pub struct Args {
    pub dir: PathBuf,
    #[arg(long)]
    pub force: bool,
}

pub fn run(_args: Args) -> Result<ExitCode, ClientError> {
    Err(ClientError::Failed("umount: not built yet".to_owned()))
}
