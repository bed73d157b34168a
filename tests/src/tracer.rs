//! A tracer at a process that runs: makes its system calls fail. Called by jepsen's faults and tests of disks.

use crate::process::{self, Leftover};
use std::process::{Child, Command, Stdio};

/// `strace`, until it is dropped; then the process goes on as it was.
pub struct Tracer(Child);

impl Tracer {
    /// `inject`: as strace(1) has it, `fsync:error=EIO`.
    pub fn attach(pid: u32, inject: &str) -> Tracer {
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e"]).arg(format!("inject={inject}"));
        command.args(["-p", &pid.to_string()]).stderr(Stdio::null());
        let child = process::spawn(command).expect("strace");
        process::register(Leftover::Process(child.id()));
        Tracer(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It lets go of its process before it ends.
        process::signal(self.0.id(), libc::SIGTERM);
        let _ = self.0.wait();
        process::unregister(&Leftover::Process(self.0.id()));
    }
}
