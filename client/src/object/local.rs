//! A directory as an object store (`file`): one file an object. Called through `open` only.
//!
//! A put is durable when it returns: file data, then the name, are synced, unless `no_sync`. `prepare` (format) makes the volume's
//! directory and a marker in it; without the marker nothing is read as "not there", written or made: the disk is not mounted, or
//! somebody moved it, and that must not look like lost objects, still less be filled with a second tree.

use super::aligned::{ALIGN, AlignedBuf, is_aligned};
use super::{ObjectError, ObjectStore};
use async_trait::async_trait;
use bytes::Bytes;
use holdfast_proto::crash_points::{Point, crash_point};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// In the volume's directory: says that this is the directory, and not the empty mount point below it.
const MARKER: &str = ".holdfast-volume";

/// Objects from this size go past the page cache (O_DIRECT), where the filesystem can: on two cores the copy costs more than the disk,
/// and the blocks are kept in the client's cache, and the file in the kernel's, already.
const DIRECT_BYTES_MIN: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct LocalStore {
    root: Arc<PathBuf>,
    sync: bool,
}

impl LocalStore {
    /// `root` is the volume's directory: bucket and prefix.
    pub fn new(root: PathBuf, sync: bool) -> Self {
        LocalStore { root: Arc::new(root), sync }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LocalStore) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|error| ObjectError::Unavailable(format!("local store task: {error}")))?
    }

    /// Keys are ours, but a path that leaves the root is a mistake nobody wants to debug.
    fn path(&self, key: &str) -> Result<PathBuf, ObjectError> {
        let relative = Path::new(key);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(ObjectError::Refused(format!("object name {key:?} is not a plain path")));
        }
        Ok(self.root.join(relative))
    }

    fn check_marker(&self) -> Result<(), ObjectError> {
        match fs::symlink_metadata(self.root.join(MARKER)) {
            Ok(_) => Ok(()),
            Err(error) => Err(ObjectError::Refused(format!(
                "the bucket directory {} has vanished (its marker {MARKER}: {error}): is its disk mounted?",
                self.root.display()
            ))),
        }
    }

    /// An object that is not there, if the bucket is.
    fn not_found(&self, key: &str) -> ObjectError {
        self.check_marker().err().unwrap_or_else(|| ObjectError::NotFound(key.to_string()))
    }

    fn failed(&self, what: &str, path: &Path, error: &io::Error) -> ObjectError {
        let text = format!("{what} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::StorageFull
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::NotADirectory => ObjectError::Refused(text),
            _ => ObjectError::Unavailable(text),
        }
    }

    /// Makes the directories above an object, synced from the first that is new, and none outside a marked root.
    fn make_parents(&self, parent: &Path) -> Result<(), ObjectError> {
        self.check_marker()?;
        let mut missing = Vec::new();
        let mut at = parent;
        while at != self.root.as_path() && !at.is_dir() {
            missing.push(at);
            match at.parent() {
                Some(up) => at = up,
                None => break,
            }
        }
        for dir in missing.into_iter().rev() {
            match fs::create_dir(dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.failed("make directory", dir, &error)),
            }
            // Also for one that another task has just made: its sync may not be through yet.
            self.sync_dir(dir.parent().unwrap_or(dir))?;
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), ObjectError> {
        if !self.sync {
            return Ok(());
        }
        File::open(dir).and_then(|file| file.sync_all()).map_err(|error| self.failed("sync directory", dir, &error))
    }

    fn put_blocking(&self, key: &str, body: &[u8]) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        let parent = path.parent().unwrap_or(&self.root).to_path_buf();
        match self.put_at(&path, &parent, body) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_parents(&parent)?;
                self.put_at(&path, &parent, body).map_err(|error| self.failed("write", &path, &error))
            }
            other => other.map_err(|error| self.failed("write", &path, &error)),
        }
    }

    /// The first put of a key writes the file where it belongs: one journal commit. Where the name is taken an earlier attempt failed
    /// or still hangs; what it left is replaced as a whole by a new file, for a file whose sync failed once can not be trusted.
    fn put_at(&self, path: &Path, parent: &Path, body: &[u8]) -> io::Result<()> {
        let file = match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return self.replace_at(path, parent, body),
            Err(error) => return Err(error),
        };
        crash_point(Point::ObjectCreated);
        self.fill(&file, path, body)?;
        crash_point(Point::ObjectFilled);
        self.sync_name(parent)
    }

    fn replace_at(&self, path: &Path, parent: &Path, body: &[u8]) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let temporary = parent.join(format!(".tmp-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed)));
        let file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        let result = self.fill(&file, &temporary, body).and_then(|()| fs::rename(&temporary, path));
        if result.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        result?;
        self.sync_name(parent)
    }

    fn fill(&self, file: &File, path: &Path, body: &[u8]) -> io::Result<()> {
        let direct_len = write_direct(path, body)?;
        file.write_all_at(&body[direct_len..], direct_len as u64)?;
        if self.sync { file.sync_data() } else { Ok(()) }
    }

    fn sync_name(&self, parent: &Path) -> io::Result<()> {
        if self.sync { File::open(parent)?.sync_all() } else { Ok(()) }
    }

    fn open_object(&self, key: &str) -> Result<(File, u64), ObjectError> {
        let path = self.path(key)?;
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta.len())));
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.not_found(key),
            _ => self.failed("read", &path, &error),
        })
    }

    fn get_blocking(&self, key: &str, range: Option<Range<u64>>) -> Result<Bytes, ObjectError> {
        let (file, size) = self.open_object(key)?;
        let range = range.unwrap_or(0..size);
        if range.start > range.end || range.end > size {
            return Err(ObjectError::Refused(format!("object {key} has {size} bytes, asked for {range:?}")));
        }
        let len = (range.end - range.start) as usize;
        if range.start == 0 && len >= DIRECT_BYTES_MIN {
            // Whatever goes wrong here is tried again, and judged, below.
            if let Some(body) = self.path(key).ok().and_then(|path| read_direct(&path, len)) {
                return Ok(body);
            }
        }
        let mut body = vec![0_u8; len];
        file.read_exact_at(&mut body, range.start).map_err(|error| self.failed("read", Path::new(key), &error))?;
        Ok(body.into())
    }

    fn delete_blocking(&self, key: &str) -> Result<(), ObjectError> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Ok(()) => Ok(()),
            // "Already gone" needs the bucket to be there; else its slices would be purged and their objects stay for ever.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_marker(),
            Err(error) => Err(self.failed("delete", &path, &error)),
        }
    }

    fn list_blocking(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        self.check_marker()?;
        let prefix = prefix.trim_matches('/');
        let start = if prefix.is_empty() { self.root.to_path_buf() } else { self.path(prefix)? };
        let mut found = Vec::new();
        let mut directories = vec![start];
        while let Some(dir) = directories.pop() {
            let entries = match fs::read_dir(&dir) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(self.failed("list", &dir, &error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| self.failed("list", &dir, &error))?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                match entry.metadata() {
                    Ok(meta) if meta.is_dir() => directories.push(path),
                    Ok(meta) => {
                        let key = path.strip_prefix(self.root.as_path()).unwrap_or(&path);
                        found.push((key.to_string_lossy().into_owned(), meta.len()));
                    }
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(self.failed("list", &path, &error)),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    fn prepare_blocking(&self) -> Result<(), ObjectError> {
        fs::create_dir_all(self.root.as_path()).map_err(|error| self.failed("make directory", &self.root, &error))?;
        let marker = self.root.join(MARKER);
        let text = b"A Holdfast volume keeps its objects here. Without this file its mounts refuse to write.\n";
        let file = File::create(&marker).map_err(|error| self.failed("make", &marker, &error))?;
        self.fill(&file, &marker, text).map_err(|error| self.failed("write", &marker, &error))?;
        for dir in self.root.ancestors().take(3).filter(|dir| !dir.as_os_str().is_empty()) {
            self.sync_dir(dir)?;
        }
        Ok(())
    }
}

fn open_direct(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    options.custom_flags(libc::O_DIRECT).open(path)
}

/// Writes as much of `body` as direct IO can; its length. 0 where the filesystem or the buffer does not fit.
fn write_direct(path: &Path, body: &[u8]) -> io::Result<usize> {
    if body.len() < DIRECT_BYTES_MIN || !is_aligned(body) {
        return Ok(0);
    }
    let Ok(file) = open_direct(path, OpenOptions::new().write(true)) else { return Ok(0) };
    let len = body.len() / ALIGN * ALIGN;
    match file.write_all_at(&body[..len], 0) {
        Ok(()) => Ok(len),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(0),
        Err(error) => Err(error),
    }
}

/// The first `len` bytes. None: not this way.
fn read_direct(path: &Path, len: usize) -> Option<Bytes> {
    let file = open_direct(path, OpenOptions::new().read(true)).ok()?;
    let mut body = AlignedBuf::zeroed(len.next_multiple_of(ALIGN));
    let mut at = 0;
    while at < len {
        // A read that ends between two borders was the last one of the file.
        match file.read_at(&mut body.as_mut_slice()[at..], at as u64).ok()? {
            n if n > 0 && (n % ALIGN == 0 || at + n >= len) => at += n,
            _ => return None,
        }
    }
    Some(body.freeze().slice(..len))
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(&self, key: &str, body: Bytes) -> Result<(), ObjectError> {
        let key = key.to_string();
        self.blocking(move |store| store.put_blocking(&key, &body)).await
    }

    async fn get(&self, key: &str) -> Result<Bytes, ObjectError> {
        let key = key.to_string();
        self.blocking(move |store| store.get_blocking(&key, None)).await
    }

    async fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let key = key.to_string();
        self.blocking(move |store| store.get_blocking(&key, Some(range))).await
    }

    async fn head(&self, key: &str) -> Result<u64, ObjectError> {
        let key = key.to_string();
        self.blocking(move |store| store.open_object(&key).map(|(_, size)| size)).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let key = key.to_string();
        self.blocking(move |store| store.delete_blocking(&key)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>, ObjectError> {
        let prefix = prefix.to_string();
        self.blocking(move |store| store.list_blocking(&prefix)).await
    }

    async fn prepare(&self) -> Result<(), ObjectError> {
        self.blocking(LocalStore::prepare_blocking).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn prepared(dir: &Path) -> LocalStore {
        let store = LocalStore::new(dir.join("bucket/vol-0"), true);
        store.prepare().await.expect("prepare");
        store
    }

    #[tokio::test]
    async fn a_bucket_that_vanished_is_refused_and_not_made_again() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = prepared(dir.path()).await;
        store.put("chunks/0/0/1_0_1", Bytes::from_static(b"x")).await.expect("put");
        let bucket = dir.path().join("bucket");
        let away = dir.path().join("away");
        fs::rename(&bucket, &away).expect("rename");

        for error in [
            store.put("chunks/0/0/2_0_1", Bytes::from_static(b"y")).await.expect_err("put"),
            store.get("chunks/0/0/1_0_1").await.expect_err("get"),
            store.delete("chunks/0/0/1_0_1").await.expect_err("delete"),
            store.list("").await.expect_err("list"),
        ] {
            assert!(matches!(&error, ObjectError::Refused(text) if text.contains("vanished")), "{error}");
        }
        assert!(!bucket.exists());

        fs::rename(&away, &bucket).expect("rename back");
        assert_eq!(store.get("chunks/0/0/1_0_1").await, Ok(Bytes::from_static(b"x")));
        store.put("chunks/0/0/2_0_1", Bytes::from_static(b"y")).await.expect("put again");
    }

    #[tokio::test]
    async fn a_second_put_replaces_what_a_failed_one_left() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = prepared(dir.path()).await;
        let path = store.root.join("chunks/0/0");
        fs::create_dir_all(&path).expect("mkdir");
        fs::write(path.join("1_0_3"), b"a").expect("a torn write");
        store.put("chunks/0/0/1_0_3", Bytes::from_static(b"abc")).await.expect("put");
        assert_eq!(store.get("chunks/0/0/1_0_3").await, Ok(Bytes::from_static(b"abc")));
        assert_eq!(store.list("chunks").await, Ok(vec![("chunks/0/0/1_0_3".to_string(), 3)]));
    }

    #[tokio::test]
    async fn large_objects_of_any_length_and_alignment_come_back_as_they_were() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = prepared(dir.path()).await;
        for (n, len) in [DIRECT_BYTES_MIN - 1, DIRECT_BYTES_MIN, DIRECT_BYTES_MIN + 1, 3 * DIRECT_BYTES_MIN + 5000]
            .into_iter()
            .enumerate()
        {
            let mut body = AlignedBuf::zeroed(len + 1);
            body.as_mut_slice().iter_mut().enumerate().for_each(|(at, byte)| *byte = ((at * 7) >> 3) as u8);
            let body = body.freeze();
            for (kind, body) in [("aligned", body.slice(..len)), ("not aligned", body.slice(1..))] {
                let key = format!("chunks/0/0/{n}_{kind}");
                store.put(&key, body.clone()).await.expect("put");
                assert!(store.get(&key).await.expect("get") == body, "{len} bytes, {kind}");
                let range = store.get_range(&key, 5..len as u64).await.expect("get range");
                assert!(range == body.slice(5..), "{len} bytes, {kind}");
            }
        }
    }

    #[tokio::test]
    async fn a_name_that_leaves_the_root_is_refused() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = prepared(dir.path()).await;
        assert!(matches!(store.get("../x").await, Err(ObjectError::Refused(_))));
        assert!(matches!(store.get("/etc/passwd").await, Err(ObjectError::Refused(_))));
    }
}
