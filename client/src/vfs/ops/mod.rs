//! The operations, one a file, each an `impl Vfs` of its own. They take decoded arguments and return values or a ClientError; what
//! the kernel and fuser call things stays in fuse/.

pub mod access;
pub mod copy_file_range;
mod create;
mod fallocate;
mod flush;
mod fsync;
mod get_lock;
mod get_xattr;
mod getattr;
pub mod info;
mod link;
mod list_xattr;
mod lookup;
pub mod lseek;
mod mkdir;
mod mknod;
pub mod open;
mod read;
mod readdir;
mod readlink;
mod release;
mod remove_xattr;
pub mod rename;
mod rmdir;
pub mod set_lock;
mod set_xattr;
pub mod setattr;
pub mod statfs;
mod symlink;
mod unlink;
mod write;
