//! The client: mounts a volume (fuse -> vfs -> {meta, data}; data -> {cache, object}), and the command line around it.

pub mod cache;
pub mod cli;
pub mod config;
pub mod data;
pub mod error;
pub mod fuse;
pub mod meta;
pub mod object;
pub mod vfs;
