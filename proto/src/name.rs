//! Name: the name of a directory entry, checked once, then a type.

use crate::{FsErrno, limits::NAME_BYTES_MAX};
use bytes::Bytes;

/// 1 to 255 bytes, without '/' and NUL, and neither "." nor "..". Not necessarily UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Bytes);

impl Name {
    /// # Errors
    /// ENAMETOOLONG over 255 bytes; ENOENT if empty; EINVAL for '/', NUL, "." and "..".
    pub fn new(bytes: Bytes) -> Result<Name, FsErrno> {
        if bytes.len() > NAME_BYTES_MAX {
            return Err(FsErrno::NameTooLong);
        }
        if bytes.is_empty() {
            return Err(FsErrno::NoEnt);
        }
        if &bytes[..] == b"." || &bytes[..] == b".." || bytes.iter().any(|&b| b == b'/' || b == 0) {
            return Err(FsErrno::Inval);
        }
        Ok(Name(bytes))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_plain() {
        let name = |s: &[u8]| Name::new(Bytes::copy_from_slice(s));
        assert!(name(&[b'a'; 255]).is_ok());
        assert_eq!(name(&[b'a'; 256]), Err(FsErrno::NameTooLong));
        assert_eq!(name(b""), Err(FsErrno::NoEnt));
        for bad in [&b"."[..], b"..", b"a/b", b"a\0b"] {
            assert_eq!(name(bad), Err(FsErrno::Inval));
        }
        assert!(name(&[0xff, 0xfe]).is_ok());
    }
}
