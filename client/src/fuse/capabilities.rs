//! Capabilities: what the kernel is asked to do, and to leave to us, when a mount begins. Called by the callback `init`.

use crate::fuse::view::CacheTtl;
use fuser::{InitFlags, KernelConfig};

/// Largest request, bytes; also what the kernel may read ahead.
pub const REQUEST_BYTES_MAX: u32 = 1 << 20;
/// Requests that nobody waits for (read-ahead, release) which the kernel may have in flight.
const BACKGROUND_MAX: u16 = 256;

/// Asks for what this kernel can.
pub fn ask(config: &mut KernelConfig, ttl: CacheTtl) {
    // Symbolic links never change, so their targets may stay in the page cache. FUSE_ATOMIC_O_TRUNC is not asked for: then
    // the kernel truncates by setattr, which orders it after local writes.
    // The umask is the server's: it does not count where a directory has a default ACL. With FUSE_HANDLE_KILLPRIV_V2 a write says
    // whether set-ID bits go with it, and the kernel does not ask for file capabilities before each one.
    let rules = InitFlags::FUSE_DONT_MASK | InitFlags::FUSE_POSIX_ACL | InitFlags::FUSE_HANDLE_KILLPRIV_V2;
    let mut wanted = rules
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_EXPORT_SUPPORT
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_POSIX_LOCKS
        | InitFlags::FUSE_FLOCK_LOCKS;
    if ttl.any() {
        wanted |= InitFlags::FUSE_DO_READDIRPLUS | InitFlags::FUSE_READDIRPLUS_AUTO;
    }
    // An older kernel goes without: then it masks modes itself, knows no ACLs, and clears set-ID bits by setattr.
    let _ = config.add_capabilities(wanted & config.capabilities());
    let _ = config.set_max_background(BACKGROUND_MAX);
    let _ = config.set_max_write(REQUEST_BYTES_MAX);
    let _ = config.set_max_readahead(REQUEST_BYTES_MAX).or_else(|most| config.set_max_readahead(most));
}
