//! Models: what the filesystem would do, were it one process that does one thing at a time. Pure. Called by checkers.

use crate::history::Operation;
use std::fmt::Debug;
use std::hash::Hash;

mod dead;
pub mod register;
pub mod tree;
mod tree_call;
mod tree_state;

/// A sequential specification.
pub trait Model {
    /// An operation as the model understands it, with what was observed.
    type Call: Debug;
    type State: Clone + Eq + Hash + Debug;

    /// # Errors
    /// What is wrong with an operation that the model cannot read.
    fn call(&self, operation: &Operation) -> Result<Self::Call, String>;

    fn init(&self) -> Self::State;

    /// The state after `call`, if it can come next and be observed as it was. Of a call whose ending nobody knows nothing was
    /// observed; None then also where it would change nothing, since that is as good as if it never happened.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// Whether two calls of which nothing was observed are the same: then one is as good as the other.
    fn are_twins(&self, _one: &Self::Call, _other: &Self::Call) -> bool {
        false
    }

    /// For readers of an anomaly.
    fn describe(&self, state: &Self::State) -> String {
        format!("{state:?}")
    }
}
