//! The reference filesystem: everything in memory, as plain as can be, as root. Pure: no clock, no randomness, no files.
//! `tree` has the names and inodes, `bytes` the data of one file, `xattrs` its attributes and ACLs. Called by the model test.

pub mod bytes;
mod calls;
pub mod tree;
pub mod xattrs;

pub use tree::Model;
