//! FsErrno: the refusals a filesystem may give, and their Linux numbers. A refusal is an answer and travels in the reply; a
//! failure ("unknown whether it happened") is never one of these.

macro_rules! errnos {
    ($($variant:ident = $libc:ident, $text:literal;)*) => {
        /// A POSIX refusal, by its Linux number (errno(3)).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        pub enum FsErrno { $(#[error($text)] $variant,)* }

        impl FsErrno {
            /// Every refusal there is.
            pub const ALL: &'static [FsErrno] = &[$(FsErrno::$variant,)*];

            /// Linux's number, which is also the number on the wire.
            pub const fn number(self) -> u32 {
                match self { $(FsErrno::$variant => libc::$libc as u32,)* }
            }

            /// The symbolic name, e.g. `ENOENT`.
            pub const fn name(self) -> &'static str {
                match self { $(FsErrno::$variant => stringify!($libc),)* }
            }

            /// The refusal behind a number from the wire; None for a number that is not one of ours.
            pub fn from_number(number: u32) -> Option<FsErrno> {
                match number as i32 { $(libc::$libc => Some(FsErrno::$variant),)* _ => None }
            }
        }
    };
}

errnos! {
    Perm = EPERM, "operation not permitted";
    TooBig = E2BIG, "argument too large";
    NoEnt = ENOENT, "no such file or directory";
    Intr = EINTR, "interrupted";
    Io = EIO, "input/output error";
    BadF = EBADF, "bad file descriptor";
    Again = EAGAIN, "try again";
    Access = EACCES, "permission denied";
    Busy = EBUSY, "busy";
    Exist = EEXIST, "file exists";
    XDev = EXDEV, "cross-device link";
    NotDir = ENOTDIR, "not a directory";
    IsDir = EISDIR, "is a directory";
    Inval = EINVAL, "invalid argument";
    FBig = EFBIG, "file too large";
    NoSpc = ENOSPC, "no space left";
    ROFs = EROFS, "read-only filesystem";
    MLink = EMLINK, "too many links";
    Range = ERANGE, "result too large";
    Deadlk = EDEADLK, "deadlock avoided";
    NoLck = ENOLCK, "too many locks";
    NameTooLong = ENAMETOOLONG, "name too long";
    NoSys = ENOSYS, "not implemented";
    NotEmpty = ENOTEMPTY, "directory not empty";
    Loop = ELOOP, "too many symbolic links";
    NoData = ENODATA, "no such attribute";
    Overflow = EOVERFLOW, "value too large";
    OpNotSupp = EOPNOTSUPP, "operation not supported";
    Stale = ESTALE, "stale file handle";
    DQuot = EDQUOT, "quota exceeded";
    NoTty = ENOTTY, "inappropriate ioctl";
    NxIo = ENXIO, "no such device or address";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_survives_the_wire() {
        for &errno in FsErrno::ALL {
            assert_eq!(FsErrno::from_number(errno.number()), Some(errno));
        }
        assert_eq!(FsErrno::from_number(0), None);
        assert_eq!(FsErrno::from_number(100_000), None);
    }
}
