//! The command line. `run` lets faults loose, `check` judges a history that was written down before, `convert` writes one in the form that others read. The only place
//! of the judging half that reads or writes files. Called by main.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

pub mod check;
pub mod convert;
pub mod matrix;
pub mod plant;
pub mod results;
pub mod run;

#[derive(Debug, Parser)]
#[command(name = "jepsen", about = "Fault injection of Holdfast, and the checkers that judge what came of it")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Let faults loose on a cluster under load, and judge what clients saw: exit codes as of check
    Run(run::Run),
    /// All workloads under all faults
    Matrix(matrix::Matrix),
    /// Runs with bugs planted in the product: each must be caught
    Plant(plant::Plant),
    /// A table of many runs, from their histories
    Results(results::Results),
    /// Workloads, nemeses and bugs to plant
    List,
    /// Judge a history: exit code 0 valid, 1 invalid, 2 unknown, 64 not a history
    Check(check::Check),
    /// Write a history in another form: .edn or .jsonl, by the name of the file
    Convert(convert::Convert),
}

/// Not a history, or arguments that make no sense (sysexits.h).
pub const BAD_INPUT: u8 = 64;

pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { BAD_INPUT } else { 0 };
            // Where the terminal is gone, nobody reads the usage.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    if !matches!(args.command, Command::Run(_) | Command::Matrix(_) | Command::Plant(_)) {
        // `jepsen results | head` ends like any filter. What has a cluster to take down goes on.
        // SAFETY: there are no other threads yet.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
    let done = match args.command {
        Command::Run(run) => run.run(),
        Command::Matrix(matrix) => matrix.run(),
        Command::Plant(plant) => plant.run(),
        Command::Results(results) => results.run(),
        Command::List => Ok(run::list()),
        Command::Check(check) => check.run(),
        Command::Convert(convert) => convert.run(),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        eprintln!("jepsen: {error}");
        BAD_INPUT
    }))
}
