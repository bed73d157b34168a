//! holdfast with faults on purpose (`holdfast_proto::faults`): for tests.

use std::process::ExitCode;

#[path = "main.rs"]
mod real;

fn main() -> ExitCode {
    real::main()
}
