//! The contract of Holdfast: wire messages, and the pure domain rules that the client and metad share.
//! Depends on nothing of ours. Called by everything.

pub mod acl;
pub mod crash_points;
pub mod date;
pub mod errno;
pub mod faults;
pub mod limits;
pub mod name;
pub mod op;
pub mod overlay;
pub mod range_lock;
mod redact;
pub mod version;
pub mod xattr;

/// The generated wire messages, package `holdfast.v1`.
#[allow(clippy::all, missing_docs)]
pub mod pb {
    tonic::include_proto!("holdfast.v1");
}

pub use errno::FsErrno;
pub use name::Name;
pub use op::{Ask, Op};

/// Inode of a volume's root directory.
pub const ROOT_INO: u64 = 1;
/// Inode of a volume's trash. Those of its directories follow; other inodes are numbered from the root up and never come so far.
pub const TRASH_INO: u64 = 1 << 62;
