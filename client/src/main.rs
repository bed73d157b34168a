//! The `holdfast` command, which is `mount.holdfast` too when called by that name.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub fn main() -> ExitCode {
    holdfast::cli::main(std::env::args_os().collect())
}
