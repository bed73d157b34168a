//! fuse: a thin adapter between the kernel and vfs: decode, spawn, reply. No rule of the filesystem lives here.

pub mod adapter;
mod callbacks;
pub mod control;
pub mod drive;
pub mod lock;
pub mod mount;
pub mod notify;
pub mod options;
pub mod reply;
pub mod view;
