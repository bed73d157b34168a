//! `holdfast bench`: measures any directory, on any filesystem, by plain system calls: one large file, small files, and the operations
//! on names, each by several workers at once in directories of their own. Prints a table or JSON, and leaves nothing behind. Called by
//! the command line's frame. The measuring itself is bench_run.rs.

use crate::cli::bench_run::{Bench, Result as Row, Unit};
use crate::cli::{print_json, print_line, size};
use crate::error::ClientError;
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Directory to measure; a fresh directory in it is used and removed
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Size of the large file; 0 leaves it out
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size::parse)]
    pub size: u64,
    /// Files a test makes, of all workers together
    #[arg(long, value_name = "COUNT", default_value_t = 4000)]
    pub small_files: usize,
    /// Numbers of workers at once
    #[arg(long, value_name = "COUNTS", default_value = "1,4,16", value_delimiter = ',')]
    pub procs: Vec<usize>,
    /// Empty the kernel's caches before each test that reads (root only; slows the whole machine)
    #[arg(long)]
    pub drop_caches: bool,
}

/// # Errors
/// Usage; Failed: what an operation said.
pub fn run(args: Args) -> Result<ExitCode, ClientError> {
    check(&args)?;
    let progress = ProgressBar::new(Bench::steps(&args) as u64);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {bar:30} {msg}") {
        progress.set_style(style);
    }
    let bench = Bench::new(&args, &progress)?;
    let rows = bench.run();
    progress.finish_and_clear();
    // Before the results: who reads them may do so on the filesystem that was measured.
    drop(bench);
    let rows = rows?;
    if args.json {
        print_json(&json_of(&args, &rows));
    } else {
        print_line(&table_of(&rows).to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &Args) -> Result<(), ClientError> {
    if !args.dir.is_dir() {
        return Err(ClientError::Failed(format!("{} is not a directory", args.dir.display())));
    }
    if args.procs.is_empty() || args.procs.iter().any(|count| *count == 0 || *count > 256) {
        return Err(ClientError::Usage("--procs is a list of numbers from 1 to 256, e.g. 1,4,16".into()));
    }
    if args.small_files < args.procs.iter().copied().max().unwrap_or(1) {
        return Err(ClientError::Usage("--small-files is less than one a worker".into()));
    }
    if args.drop_caches && !nix::unistd::geteuid().is_root() {
        return Err(ClientError::Usage("--drop-caches is for root only".into()));
    }
    Ok(())
}

fn json_of(args: &Args, rows: &[Row]) -> serde_json::Value {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| {
            let (rate_name, rate) = match row.unit {
                Unit::Operations => ("ops_per_second", row.rate()),
                Unit::Bytes => ("mib_per_second", row.rate()),
            };
            json!({
                "test": row.name, "workers": row.workers, "count": row.count, "seconds": row.elapsed.as_secs_f64(),
                rate_name: rate, "p50_us": row.percentile_us(50.0), "p95_us": row.percentile_us(95.0),
                "p99_us": row.percentile_us(99.0), "max_us": row.percentile_us(100.0),
            })
        })
        .collect();
    json!({
        "dir": args.dir, "size": args.size, "small_files": args.small_files, "drop_caches": args.drop_caches,
        "version": env!("CARGO_PKG_VERSION"), "results": rows,
    })
}

fn table_of(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["test", "workers", "rate", "p50", "p95", "p99", "max"]);
    for row in rows {
        let rate = match row.unit {
            Unit::Operations => format!("{:.0}/s", row.rate()),
            Unit::Bytes => format!("{:.0} MiB/s", row.rate()),
        };
        let shown = |percentile| show_us(row.percentile_us(percentile));
        table.add_row([
            row.name.to_owned(),
            row.workers.to_string(),
            rate,
            shown(50.0),
            shown(95.0),
            shown(99.0),
            shown(100.0),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn show_us(us: f64) -> String {
    if us < 1000.0 { format!("{us:.0} us") } else { format!("{:.1} ms", us / 1000.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &std::path::Path) -> Args {
        Args { dir: dir.into(), json: false, size: 3 << 20, small_files: 20, procs: vec![1, 4], drop_caches: false }
    }

    #[test]
    fn a_run_measures_every_test_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let args = args(dir.path());
        let progress = ProgressBar::hidden();
        let bench = Bench::new(&args, &progress).expect("starts");
        let rows = bench.run().expect("runs");
        drop(bench);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
        assert_eq!(rows.len(), Bench::steps(&args));
        assert!(rows.iter().all(|row| row.count > 0 && row.rate() > 0.0), "{rows:?}");
        let json = json_of(&args, &rows);
        assert!(json["results"][0]["mib_per_second"].as_f64().is_some(), "{json}");
        assert_eq!(table_of(&rows).row_iter().count(), rows.len());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(check(&Args { procs: vec![0], ..args(dir.path()) }).is_err());
        assert!(check(&Args { small_files: 2, ..args(dir.path()) }).is_err());
        assert!(check(&args(&dir.path().join("missing"))).is_err());
    }
}
