//! The operations, one a file, each an `impl Vfs` of its own. They take decoded arguments and return values or a ClientError; what
//! the kernel and fuser call things stays in fuse/.

pub mod access;
mod create;
mod flush;
mod fsync;
mod get_lock;
mod getattr;
pub mod info;
mod link;
mod lookup;
mod mkdir;
mod mknod;
pub mod open;
mod read;
mod readdir;
mod readlink;
mod release;
pub mod rename;
mod rmdir;
pub mod set_lock;
pub mod setattr;
pub mod statfs;
mod symlink;
mod unlink;
mod write;
