//! Everything that happened in a run, in order, a line each: what the determinism test compares, and what a failure leaves to be read.

use parking_lot::Mutex;
use std::sync::Arc;

#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    pub fn note(&self, now: u64, line: impl FnOnce() -> String) {
        self.0.lock().push(format!("{now:>7} {}", line()));
    }

    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}
