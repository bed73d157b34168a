//! fuse: a thin adapter between the kernel and vfs: decode, spawn, reply. No rule of the filesystem lives here.

pub mod adapter;
mod callbacks;
pub mod capabilities;
pub mod control;
pub mod drive;
pub mod lock;
pub mod mount;
pub mod notify;
pub mod options;
pub mod reply;
mod space;
pub mod view;
mod xattr;
