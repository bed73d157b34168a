//! Mount table: /proc/self/mountinfo as values, and what stands in the way of a mount. Called by mount, umount and info.

use crate::error::ClientError;
use crate::fuse::mount::SUBTYPE;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One line of proc(5) mountinfo, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    pub device: (u32, u32),
    pub dir: PathBuf,
    pub kind: String,
    pub source: String,
}

impl MountEntry {
    pub fn is_holdfast(&self) -> bool {
        self.kind.strip_prefix("fuse.") == Some(SUBTYPE)
    }

    /// `36 35 98:0 /root /dir rw,noatime shared:1 - ext3 /dev/root rw`
    fn parse(line: &str) -> Option<MountEntry> {
        let (left, right) = line.split_once(" - ")?;
        let mut fields = left.split(' ').skip(2);
        let (major, minor) = fields.next()?.split_once(':')?;
        let dir = PathBuf::from(unescape(fields.nth(1)?));
        let mut fields = right.split(' ');
        let kind = fields.next()?.to_owned();
        let source = unescape(fields.next()?).to_string_lossy().into_owned();
        Some(MountEntry { device: (major.parse().ok()?, minor.parse().ok()?), dir, kind, source })
    }
}

/// `\040` and the like stand for bytes that would break the line.
fn unescape(field: &str) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\').and_then(|code| std::str::from_utf8(code).ok());
        match octal.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &tail[3..];
            }
            None => {
                bytes.push(byte);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// All mounts, oldest first.
///
/// # Errors
/// Failed, where /proc is not there.
pub fn read() -> Result<Vec<MountEntry>, ClientError> {
    let text = std::fs::read("/proc/self/mountinfo")
        .map_err(|error| ClientError::Failed(format!("cannot read /proc/self/mountinfo: {error}")))?;
    Ok(String::from_utf8_lossy(&text).lines().filter_map(MountEntry::parse).collect())
}

/// What is mounted on exactly this directory, the topmost.
pub fn find<'a>(table: &'a [MountEntry], dir: &Path) -> Option<&'a MountEntry> {
    table.iter().rev().find(|entry| entry.dir == dir)
}

/// An absolute path without symbolic links, also of a mount point whose filesystem is dead: only its parents are asked.
///
/// # Errors
/// Failed, naming the path.
pub fn resolve(dir: &Path) -> Result<PathBuf, ClientError> {
    let unresolved = |error: std::io::Error| ClientError::Failed(format!("{}: {error}", dir.display()));
    match dir.canonicalize() {
        Ok(resolved) => Ok(resolved),
        Err(error) if is_dead(&error) => {
            let absolute = std::path::absolute(dir).map_err(unresolved)?;
            match (absolute.parent().map(Path::canonicalize), absolute.file_name()) {
                (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
                _ => Ok(absolute),
            }
        }
        Err(error) => Err(unresolved(error)),
    }
}

fn is_dead(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::ECONNABORTED | libc::EIO | libc::ESTALE))
}

/// The mount point, made absolute, if something may be mounted there.
///
/// # Errors
/// Failed: missing, not a directory, taken, or a dead mount; the message says what to do.
pub fn check_mount_point(dir: &Path) -> Result<PathBuf, ClientError> {
    let shown = dir.display();
    let refuse = |why: String| Err(ClientError::Failed(why));
    match std::fs::metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return refuse(format!("mount point {shown} does not exist: create it with `mkdir -p {shown}`"));
        }
        Err(error) if is_dead(&error) => {
            return refuse(format!("{shown} is a mount whose process is gone: run `holdfast umount {shown}` first"));
        }
        Err(error) => return refuse(format!("mount point {shown}: {error}")),
        Ok(metadata) if !metadata.is_dir() => return refuse(format!("mount point {shown} is not a directory")),
        Ok(_) => {}
    }
    let resolved = resolve(dir)?;
    match find(&read()?, &resolved) {
        Some(entry) if entry.is_holdfast() => refuse(format!(
            "{shown} is already a holdfast mount of {}: unmount it with `holdfast umount {shown}`",
            entry.source
        )),
        Some(entry) if resolved.as_os_str().as_bytes() != b"/" => {
            refuse(format!("mount point {shown} is busy: {} ({}) is mounted there", entry.source, entry.kind))
        }
        _ => Ok(resolved),
    }
}

/// That FUSE is there at all.
///
/// # Errors
/// Failed, naming the command that installs what is missing.
pub fn check_fuse() -> Result<(), ClientError> {
    if !Path::new("/dev/fuse").exists() {
        return Err(ClientError::Failed(
            "/dev/fuse is missing: load it with `modprobe fuse` (in a container: start it with \
             --device /dev/fuse --cap-add SYS_ADMIN)"
                .into(),
        ));
    }
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/fuse") {
        return Err(ClientError::Failed(format!(
            "/dev/fuse: {error}: mount as root, or let users in with `chmod 666 /dev/fuse`"
        )));
    }
    // Root mounts by itself; others need the helper, which is set-user-ID root.
    if nix::unistd::geteuid().is_root() || has_program("fusermount3") {
        return Ok(());
    }
    Err(ClientError::Failed("fusermount3 is missing: install it with `apt-get install fuse3`".into()))
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "36 35 0:42 / /mnt/a\\040b rw,nosuid shared:1 - fuse.holdfast holdfast://h:1,i:2/vol rw,user_id=0";

    #[test]
    fn a_line_gives_device_directory_type_and_source() {
        let entry = MountEntry::parse(LINE).expect("parses");
        assert_eq!((entry.device, entry.dir.as_path()), ((0, 42), Path::new("/mnt/a b")));
        assert!(entry.is_holdfast());
        assert_eq!(entry.source, "holdfast://h:1,i:2/vol");
        assert_eq!(MountEntry::parse("nonsense"), None);
    }

    #[test]
    fn the_topmost_of_stacked_mounts_counts() {
        let below = MountEntry::parse(LINE).expect("parses");
        let above = MountEntry { kind: "tmpfs".into(), ..below.clone() };
        assert_eq!(find(&[below, above.clone()], Path::new("/mnt/a b")), Some(&above));
    }

    #[test]
    fn a_mount_point_that_is_missing_or_a_file_is_named() {
        let missing = check_mount_point(Path::new("/nonexistent/mnt")).expect_err("missing").to_string();
        assert!(missing.contains("mkdir -p /nonexistent/mnt"), "{missing}");
        let file = check_mount_point(Path::new("/proc/version")).expect_err("a file").to_string();
        assert!(file.contains("not a directory"), "{file}");
        let busy = check_mount_point(Path::new("/proc")).expect_err("busy").to_string();
        assert!(busy.contains("busy") && busy.contains("proc"), "{busy}");
    }
}
