//! `holdfast status`: a volume's settings, usage and sessions, as JSON without secrets.

use super::{ClusterFlags, block_on, print_json, show};
use crate::error::ClientError;
use crate::meta::MetaClient;
use crate::meta::client::explain_volume;
use holdfast_proto::pb;
use std::process::ExitCode;

/// Show a volume: settings, usage, sessions.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// JSON is what is printed in any case
    #[arg(long)]
    pub json: bool,
}

/// # Errors
/// One line that names what to do.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let (url, config) = args.cluster.load()?;
    let name = url.volume()?;
    block_on(async {
        let meta = MetaClient::connect(config).await?;
        let asked = meta.query_unbound(pb::VolumeQuery { name: name.to_owned() }).await;
        let answer = asked.map_err(|error| explain_volume(error, name))?;
        print_json(&show::status(&answer.reply));
        Ok(ExitCode::SUCCESS)
    })
}
