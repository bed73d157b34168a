//! One file an operation: `apply(txn, cx, op) -> reply`. All checks come before the first write. Called by apply/mod.rs only.

pub mod cancel_lock;
pub mod close_session;
pub mod commit_write;
pub mod config_volume;
pub mod create;
pub mod drop_locks;
pub mod expire_sessions;
pub mod format_volume;
pub mod hold;
pub mod link;
pub mod mkdir;
pub mod mknod;
pub mod open_session;
pub mod purge_slices;
pub mod reclaim;
pub mod release;
pub mod remove_xattr;
pub mod rename;
pub mod rmdir;
pub mod set_lock;
pub mod set_xattr;
pub mod setattr;
pub mod symlink;
pub mod unlink;
