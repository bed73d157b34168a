//! The reference filesystem: everything in memory, as plain as can be, as root. Pure: no clock, no randomness, no files.
//! `tree` has the names and inodes, `bytes` the data of one file, `xattrs` its attributes and ACLs, `locks` who has locked what. Called by the model test.

pub mod bytes;
mod calls;
pub mod locks;
pub mod tree;
pub mod xattrs;

pub use tree::Model;
