//! Extended attributes that mean something to a filesystem, and the marks by which an inode says which it has, so that
//! nobody asks for what is not there. Pure. Called by metad's rules and by the client.

/// POSIX ACL of the inode itself (acl(5)).
pub const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// What a directory gives to what is made in it.
pub const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// File capabilities (capabilities(7)): gone with the next write.
pub const CAPABILITY: &[u8] = b"security.capability";

/// Bits of `Attr.xattrs`.
pub mod mark {
    /// At least one attribute, of whatever name.
    pub const ANY: u32 = 1;
    pub const ACL_ACCESS: u32 = 2;
    pub const ACL_DEFAULT: u32 = 4;
    pub const CAPABILITY: u32 = 8;
}

/// The marks that an attribute of this name brings.
pub fn marks_of(name: &[u8]) -> u32 {
    mark::ANY
        | match name {
            ACL_ACCESS => mark::ACL_ACCESS,
            ACL_DEFAULT => mark::ACL_DEFAULT,
            CAPABILITY => mark::CAPABILITY,
            _ => 0,
        }
}

/// Whether an inode with these marks has certainly no attribute of this name.
pub fn is_absent(marks: u32, name: &[u8]) -> bool {
    let brings = marks_of(name);
    marks & brings != brings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_rule_out_what_is_not_there_and_nothing_else() {
        assert!(is_absent(0, b"user.a") && is_absent(0, ACL_ACCESS));
        assert!(!is_absent(mark::ANY, b"user.a"));
        assert!(is_absent(mark::ANY, CAPABILITY));
        assert!(!is_absent(marks_of(CAPABILITY), CAPABILITY));
        assert!(is_absent(marks_of(ACL_ACCESS), ACL_DEFAULT));
    }
}
