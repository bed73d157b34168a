//! `holdfast cluster checkpoint`: every node writes its whole state to a file and lets go of the log before the last one. Called by `cluster`.

use super::{ClusterFlags, block_on, print_json, print_line, size};
use crate::error::ClientError;
use crate::meta::admin::{cluster_status, make_checkpoint};
use serde_json::json;
use std::process::ExitCode;

const EXAMPLE: &str = "\
Nodes do this by themselves, whenever as much log has come as the last checkpoint took (64 MiB at least). Do it by hand before you copy
a data directory, or to give a disk room at once. One node after the other; nobody waits for it.

Example:
  $ holdfast cluster checkpoint holdfast://10.0.0.1:9400,10.0.0.2:9400,10.0.0.3:9400
  node 1: checkpoint at log index 48213, 12 MiB, 0.4 s
  node 2: checkpoint at log index 48214, 12 MiB, 0.4 s
  node 3: checkpoint at log index 48214, 12 MiB, 0.5 s

Exit codes: 0 every node made one; 1 otherwise.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// A JSON object a line in place of text
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// One line that names the nodes that made none.
pub fn run(args: &Args) -> Result<ExitCode, ClientError> {
    let (_, config) = args.cluster.load()?;
    let failed = block_on(async {
        let mut failed = Vec::new();
        for view in cluster_status(&config).await {
            match make_checkpoint(&config, &view.addr).await {
                Ok(made) if args.json => {
                    print_json(
                        &json!({ "id": made.id, "index": made.index, "bytes": made.bytes, "took_ms": made.took_ms }),
                    );
                }
                Ok(made) => {
                    let (size, seconds) = (size::show(made.bytes), f64::from(made.took_ms) / 1e3);
                    print_line(&format!(
                        "node {}: checkpoint at log index {}, {size}, {seconds:.1} s",
                        made.id, made.index
                    ));
                }
                Err(why) => failed.push(format!("{}: {why}", view.addr)),
            }
        }
        Ok(failed)
    })?;
    if failed.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(ClientError::Failed(failed.join("; "))) }
}
