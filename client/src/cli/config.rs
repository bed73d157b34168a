//! `holdfast config`: shows a volume's settings, or changes what may change: limits, and how the store is reached. Kind, place and block
//! size of a volume stay for its life.

use super::credentials::{StoreFlags, gather};
use super::{ClusterFlags, block_on, format, format::trash_days, print_json, show, size};
use crate::error::ClientError;
use crate::meta::MetaClient;
use crate::meta::client::explain_volume;
use holdfast_proto::{FsErrno, pb};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  holdfast config                           shows the settings
  holdfast config --capacity 20T --inodes 0
  holdfast config --trash-days 7            removed files can be brought back for a week
  holdfast config --update-credentials      new keys, from the environment, --credentials-file, or asked for

A mount takes changed limits at once, and changed credentials when it is mounted again.";

/// Show or change a volume's settings.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Most bytes the volume may hold, 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub capacity: Option<u64>,
    /// Most files and directories, 0 for no limit
    #[arg(long, value_name = "COUNT")]
    pub inodes: Option<u64>,
    /// How long removed files are kept in /.trash, 0 for not at all
    #[arg(long, value_name = "DAYS", value_parser = trash_days())]
    pub trash_days: Option<u32>,
    /// Replace the stored credentials; they are tried first
    #[arg(long)]
    pub update_credentials: bool,
    #[command(flatten)]
    pub store: StoreFlags,
    /// JSON is what is printed in any case
    #[arg(long)]
    pub json: bool,
}

impl Args {
    fn changes_storage(&self) -> bool {
        let store = &self.store;
        self.renews_credentials() || !store.options.is_empty() || store.region.is_some()
    }

    fn renews_credentials(&self) -> bool {
        let store = &self.store;
        let named =
            store.credentials_file.is_some() || store.access_key_env.is_some() || store.secret_key_env.is_some();
        self.update_credentials || named
    }
}

/// # Errors
/// One line that names what to do.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    let (url, config) = args.cluster.load()?;
    let name = url.volume()?;
    block_on(async {
        let meta = MetaClient::connect(config).await?;
        let asked = meta.query_unbound(pb::VolumeQuery { name: name.to_owned() }).await;
        let current = asked.map_err(|error| explain_volume(error, name))?.reply.settings.unwrap_or_default();
        let storage = if args.changes_storage() { Some(changed_storage(&current, &args).await?) } else { None };
        if args.capacity.is_none() && args.inodes.is_none() && args.trash_days.is_none() && storage.is_none() {
            print_json(&show::settings(&current));
            return Ok(ExitCode::SUCCESS);
        }
        let op = pb::ConfigVolumeOp {
            name: name.to_owned(),
            capacity_bytes: args.capacity,
            inodes_max: args.inodes,
            storage,
            trash_days: args.trash_days,
        };
        let answer = meta.mutate_unbound(op).await.map_err(|error| explain(error, name))?;
        print_json(&show::settings(&answer.reply.settings.unwrap_or_default()));
        Ok(ExitCode::SUCCESS)
    })
}

fn explain(error: ClientError, name: &str) -> ClientError {
    match error {
        ClientError::Refused(FsErrno::Exist) => ClientError::Failed(
            "nothing was changed: the trash is the directory .trash of the volume's root, and there is a file of that name; \
             rename it first"
                .to_owned(),
        ),
        error => explain_volume(error, name),
    }
}

/// The storage with the changes in it, proven to work: a volume is not cut off from its store by a slip.
async fn changed_storage(current: &pb::VolumeSettings, args: &Args) -> Result<pb::Storage, ClientError> {
    let mut settings = current.clone();
    let mut storage = settings.storage.take().unwrap_or_default();
    if args.renews_credentials() {
        storage.secrets.clear();
        gather(&mut storage, &args.store)?;
    } else {
        let kept = storage.secrets.clone();
        gather(&mut storage, &args.store)?;
        storage.secrets = kept;
    }
    settings.storage = Some(storage.clone());
    format::prove(&settings).await?;
    Ok(storage)
}
