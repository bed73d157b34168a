//! Xattr: how values and lists of extended attributes are replied: getxattr(2) and listxattr(2) may ask for the size alone.
//! Called by the callbacks.

use fuser::{Errno, ReplyXattr};

/// `size` is the caller's buffer, bytes; 0 asks how large it must be. ERANGE where it is too small.
pub fn reply(reply: ReplyXattr, size: u32, value: &[u8]) {
    match size as usize {
        0 => reply.size(value.len() as u32),
        room if room < value.len() => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}
