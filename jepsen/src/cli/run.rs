//! run: a run from the command line, with its report. Called by `cli`.

use super::check::{exit_code, tell};
use crate::history::jsonl;
use crate::run::{self, Judged, Plan};
use crate::{nemesis, report, workload};
use clap::Args;
use holdfast_tests::process;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[derive(Debug, Args)]
#[command(
    after_help = "Needs root, ip(8), nft(8) and mkfs.ext4. Example:\n  jepsen run --workload tree,set --nemesis kill-leader,power-all --time 120"
)]
pub struct Run {
    /// What the clients do, commas between (see `jepsen list`)
    #[arg(long, value_delimiter = ',', required = true)]
    pub workload: Vec<String>,
    /// What happens to the cluster meanwhile, commas between; `none`
    #[arg(long, value_delimiter = ',', default_value = "none")]
    pub nemesis: Vec<String>,
    /// Seconds of faults
    #[arg(long, default_value_t = 60)]
    pub time: u64,
    /// Random without it, and said
    #[arg(long)]
    pub seed: Option<u64>,
    #[arg(long, default_value_t = 3)]
    pub nodes: u64,
    /// Clients, each in a network namespace of its own
    #[arg(long, default_value_t = 4)]
    pub clients: u64,
    /// How many of them also have a mount
    #[arg(long, default_value_t = 2)]
    pub mounts: u64,
    /// Where histories and reports go
    #[arg(long, default_value = "target/jepsen")]
    pub out: PathBuf,
}

impl Run {
    /// # Errors
    /// A name that nobody knows, or a file that cannot be written.
    pub fn run(&self) -> Result<u8, String> {
        let plan = Plan {
            workloads: self.workload.clone(),
            nemeses: self.nemesis.iter().filter(|name| *name != "none").cloned().collect(),
            time: Duration::from_secs(self.time),
            seed: self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>())),
            nodes: self.nodes,
            clients: self.clients,
            mounts: self.mounts,
        };
        println!("{}", plan.command());
        process::end_in_order_by_signals();
        let judged = run::run(&plan, &|step| println!("  {step}"))?;
        let mut worst = 0;
        for one in &judged {
            worst = worst.max(self.write(&plan, one)?);
        }
        Ok(worst)
    }

    fn write(&self, plan: &Plan, judged: &Judged) -> Result<u8, String> {
        let name = judged.history.about("workload").unwrap_or("run");
        let path = self.out.join(format!("{name}-{}", plan.seed));
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|error| format!("write {}: {error}", path.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(|error| format!("make {}: {error}", self.out.display()))?;
        write(&path.with_extension("jsonl"), jsonl::write(&judged.history))?;
        write(&path.with_extension("html"), report::html(&judged.history, &judged.verdicts))?;
        println!("{name}: {}", path.with_extension("html").display());
        judged.verdicts.iter().for_each(|verdict| print!("{}", tell(verdict)));
        Ok(exit_code(&judged.verdicts))
    }
}

/// What there is.
pub fn list() -> u8 {
    println!("workloads");
    workload::NAMES.iter().for_each(|(name, what)| println!("  {name:18} {what}"));
    println!("nemeses");
    nemesis::ALL.iter().for_each(|(name, what, _)| println!("  {name:18} {what}"));
    0
}
