//! `holdfast mount` (to come).
use crate::error::ClientError;
use std::path::PathBuf;
use std::process::ExitCode;

/// Mount a volume on a directory.
#[derive(Debug, clap::Args)]
pub struct Args {
    pub meta: String,
    pub dir: PathBuf,
    #[arg(short = 'd', long)]
    pub background: bool,
    #[arg(short = 'o', value_name = "OPTIONS")]
    pub options: Vec<String>,
}

pub fn run(_args: Args) -> Result<ExitCode, ClientError> {
    Err(ClientError::Failed("mount: not built yet".to_owned()))
}
