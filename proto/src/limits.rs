//! Every bound in the system that both sides must agree on, with its unit in its name.

/// Longest name of a directory entry, bytes (NAME_MAX, limits.h).
pub const NAME_BYTES_MAX: usize = 255;
/// Longest target of a symbolic link, bytes (PATH_MAX less its NUL; symlink(2) ENAMETOOLONG).
pub const SYMLINK_BYTES_MAX: usize = 4095;
/// Longest name of an extended attribute, bytes, with its namespace (XATTR_NAME_MAX, linux/limits.h).
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// Longest value of an extended attribute, bytes (XATTR_SIZE_MAX; setxattr(2) E2BIG).
pub const XATTR_VALUE_BYTES_MAX: usize = 64 << 10;
/// Names of all attributes of an inode, each with its NUL, bytes (XATTR_LIST_MAX): one listxattr(2) can always return them.
pub const XATTR_LIST_BYTES_MAX: usize = 64 << 10;
/// Most names one inode may have (link(2) EMLINK).
pub const NLINK_MAX: u32 = 1_000_000_000;
/// Largest file, bytes: chunk indexes are u32.
pub const FILE_BYTES_MAX: u64 = CHUNK_BYTES as u64 * (u32::MAX as u64 + 1) / 2;
/// Bytes of a file that one chunk covers.
pub const CHUNK_BYTES: u32 = 64 << 20;
/// Size of an object, default, bytes.
pub const BLOCK_BYTES_DEFAULT: u32 = 4 << 20;
/// Smallest and largest block a volume may be formatted with, bytes; powers of two.
pub const BLOCK_BYTES_MIN: u32 = 64 << 10;
pub const BLOCK_BYTES_MAX: u32 = 16 << 20;
/// Most slots of a session, that is, mutations one client has in flight.
pub const SESSION_SLOTS_MAX: u32 = 1024;
/// A session whose client is silent for this long may be ended by the leader.
pub const SESSION_LEASE_MS: u64 = 60_000;
/// Client sends a keep-alive this often when it has nothing else to say.
pub const KEEP_ALIVE_MS: u64 = 5_000;
/// Largest gRPC message on the client's stream, bytes.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Largest single request, bytes.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Most requests one frame may carry.
pub const FRAME_REQUESTS_MAX: usize = 4096;
/// Most slices one commit may publish.
pub const COMMIT_SLICES_MAX: usize = 1024;
/// Most bytes of a file that one copy_file_range takes over; a longer one takes several.
pub const COPY_BYTES_MAX: u64 = 4 << 30;
/// Largest reply of one readdir, bytes; what a request may ask for at most.
pub const READDIR_BYTES_MAX: u32 = 1 << 20;
/// A page of scan_slices ends with the slice that makes it larger than this, bytes.
pub const SCAN_BYTES_MAX: usize = 1 << 20;
/// Largest question or answer about a whole state, bytes; most slices one question about garbage names.
pub const UPKEEP_MESSAGE_BYTES_MAX: usize = 16 << 20;
pub const GARBAGE_SLICES_MAX: usize = 1 << 20;
/// Most chunks one read_slices may ask for.
pub const READ_CHUNKS_MAX: u32 = 64;
/// Most inodes or slices one background mutation names.
pub const BACKGROUND_BATCH_MAX: usize = 512;
/// Last byte that a lock may cover: OFFSET_MAX of Linux, which stands for "to the end of the file".
pub const LOCK_LAST_BYTE: u64 = i64::MAX as u64;
/// Most ranges that may be locked in one file, both kinds together (ENOLCK). A grant after a wait may go beyond it, by two each.
pub const LOCKS_FILE_MAX: usize = 4096;
/// Most lock requests that may wait for one file (ENOLCK).
pub const LOCK_WAITS_FILE_MAX: usize = 1024;
/// Most ranges that one session may have locked or wait for, in all files together (ENOLCK).
pub const LOCKS_SESSION_MAX: u64 = 16_384;
/// Most owners one operation may drop the locks of.
pub const LOCK_OWNERS_MAX: usize = 512;
/// Owners that are looked at for a cycle of waits; beyond that many a wait is taken for harmless.
pub const DEADLOCK_OWNERS_MAX: usize = 256;
/// Most members of a metadata cluster.
pub const NODES_MAX: usize = 9;
/// Longest time that a volume keeps removed files, days.
pub const TRASH_DAYS_MAX: u32 = 3650;
/// Longest volume name, bytes: [a-z0-9-], starting with a letter.
pub const VOLUME_NAME_BYTES_MAX: usize = 63;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES_MAX) && BLOCK_BYTES_MAX.is_multiple_of(BLOCK_BYTES_MIN));
const _: () = assert!(REQUEST_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(KEEP_ALIVE_MS * 4 < SESSION_LEASE_MS);

/// Whether a volume may be called this.
pub fn volume_name_ok(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= VOLUME_NAME_BYTES_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
