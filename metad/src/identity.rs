//! Who owns a data directory: a lock against a second process, and a file that says which node of which cluster it belongs to, and
//! which life of its disk this is. Called by server at start, and by rpc/standing when the node begins to take part.
//!
//! ```text
//! IDENTITY   holdfast-metad-identity
//!            format = 1
//!            node = 2
//!            cluster = 32 hex digits, or empty until this node has taken part in one
//!            store = 32 hex digits, random: made with the directory, and anew when what was in it is lost
//!            learns = yes, from when a blank node was let in until its state shows that it was; else the line is not there
//!            crc32c = 8 hex digits, of all lines before
//! ```

use crate::store::node_record::StoreId;
use crc_fast::CrcAlgorithm;
use holdfast_proto::crash_points::{Point, crash_point};
use nix::fcntl::{Flock, FlockArg};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The format of the data directory as a whole. A higher one was written by a newer metad.
pub const FORMAT: u64 = 1;
const TITLE: &str = "holdfast-metad-identity";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClusterId(pub u128);

impl ClusterId {
    pub fn random() -> ClusterId {
        ClusterId(rand::random())
    }

    pub fn parse(text: &str) -> Option<ClusterId> {
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(ClusterId)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("data directory {path} is in use by another metad process")]
    Locked { path: PathBuf },
    #[error("data directory {path} belongs to node {found}, but this is node {wanted}: check --id and --data-dir")]
    OtherNode { path: PathBuf, found: u64, wanted: u64 },
    #[error("data directory {path} has format {found}, and this metad knows up to {FORMAT}: start a newer metad")]
    Newer { path: PathBuf, found: u64 },
    #[error(
        "{path} is damaged ({detail}): restore it, or empty the data directory to let this node heal from its peers"
    )]
    Damaged { path: PathBuf, detail: &'static str },
    #[error("{doing} {path}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Owns the directory until it is dropped.
pub struct Identity {
    dir: PathBuf,
    node: u64,
    cluster: Option<ClusterId>,
    store: StoreId,
    learns: bool,
    is_new: bool,
    _lock: Flock<File>,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { doing, path, source }
}

impl Identity {
    /// Takes the directory for `node`, making it where there is none.
    ///
    /// # Errors
    /// Another process has it, it belongs to another node or a newer metad, or its identity cannot be read.
    pub fn open(dir: &Path, node: u64) -> Result<Identity, IdentityError> {
        std::fs::create_dir_all(dir).map_err(io_error("create data directory", dir))?;
        let lock = lock(dir)?;
        let path = dir.join("IDENTITY");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(String::new()),
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let is_new = text.is_none();
        let read = text.map(|text| parse(&path, &text, node)).transpose()?;
        let Parsed { cluster, store: known, learns } = read.unwrap_or_default();
        let store = known.unwrap_or_else(|| StoreId(rand::random()));
        let identity = Identity { dir: dir.to_owned(), node, cluster, store, learns, is_new, _lock: lock };
        if known.is_none() {
            identity.write()?;
        }
        Ok(identity)
    }

    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    /// Which life of its disk this is.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// There was none before: whatever else is in the directory is nobody's.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Whether it has yet to learn all that its former life may have known.
    pub fn learns(&self) -> bool {
        self.learns
    }

    /// It has learnt what it had to, durably.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn has_learnt(&mut self) -> Result<(), IdentityError> {
        self.learns = false;
        self.write()
    }

    /// Begins a new life, durably: what was in the directory is lost.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn renew_store(&mut self) -> Result<(), IdentityError> {
        self.store = StoreId(rand::random());
        self.learns = false;
        self.write()
    }

    /// Moves all that the life so far has left into `damaged-<n>`, and begins a new one.
    ///
    /// # Errors
    /// Something cannot be moved or written.
    pub fn set_aside(&mut self) -> Result<PathBuf, IdentityError> {
        let (dir, fail) = (self.dir.clone(), io_error("set aside what is in", &self.dir));
        let moved = move_aside(&dir).map_err(fail)?;
        crash_point(Point::StateAside);
        self.renew_store()?;
        Ok(moved)
    }

    /// Joins a cluster, durably. `learns`: others have gone ahead.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set_cluster(&mut self, cluster: ClusterId, learns: bool) -> Result<(), IdentityError> {
        self.cluster = Some(cluster);
        self.learns = learns;
        self.write()
    }

    fn write(&self) -> Result<(), IdentityError> {
        let cluster = self.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
        let Identity { node, store, .. } = self;
        let learns = if self.learns { "learns = yes\n" } else { "" };
        let body = format!("{TITLE}\nformat = {FORMAT}\nnode = {node}\ncluster = {cluster}\nstore = {store}\n{learns}");
        let text = format!("{body}crc32c = {:08x}\n", checksum(&body));
        let (part, path) = (self.dir.join("IDENTITY.part"), self.dir.join("IDENTITY"));
        replace_durably(&part, &path, text.as_bytes()).map_err(io_error("write", &path))
    }
}

fn replace_durably(part: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    crash_point(Point::IdentitySynced);
    std::fs::rename(part, path)?;
    crash_point(Point::IdentityNamed);
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    crash_point(Point::IdentityWritten);
    Ok(())
}

const ASIDE: &str = "damaged-";

fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let numbers = std::iter::successors(Some(1u64), |number| Some(number + 1));
    let mut targets = numbers.map(|number| dir.join(format!("{ASIDE}{number}"))).filter(|path| !path.exists());
    let target = targets.next().ok_or_else(|| io::Error::other("no free name"))?;
    std::fs::create_dir(&target)?;
    for entry in std::fs::read_dir(dir)? {
        let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        let text = name.to_string_lossy();
        if !text.starts_with(ASIDE) && !text.starts_with("IDENTITY") && text != "LOCK" && text != "lost+found" {
            std::fs::rename(&entry, target.join(&name))?;
        }
    }
    File::open(&target)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(target)
}

fn lock(dir: &Path) -> Result<Flock<File>, IdentityError> {
    let path = dir.join("LOCK");
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io_error("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => IdentityError::Locked { path: dir.to_owned() },
        errno => io_error("lock", &path)(errno.into()),
    })
}

fn checksum(body: &str) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, body.as_bytes()) as u32
}

#[derive(Default)]
struct Parsed {
    cluster: Option<ClusterId>,
    store: Option<StoreId>,
    learns: bool,
}

fn parse(path: &Path, text: &str, node: u64) -> Result<Parsed, IdentityError> {
    let damaged = |detail| IdentityError::Damaged { path: path.to_owned(), detail };
    let crc_at = text.find("crc32c = ").ok_or_else(|| damaged("no checksum"))?;
    let (body, crc) = text.split_at(crc_at);
    let field = |name: &str| body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    if !body.starts_with(TITLE) {
        return Err(damaged("not an identity"));
    }
    // A newer format may have other lines; its number is all that is asked of it.
    let format = field("format").and_then(|value| value.parse().ok()).ok_or_else(|| damaged("no format"))?;
    if format > FORMAT {
        return Err(IdentityError::Newer { path: path.with_file_name(""), found: format });
    }
    let stored = crc.trim_end().strip_prefix("crc32c = ").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    if stored != Some(checksum(body)) {
        return Err(damaged("checksum differs"));
    }
    let found = field("node").and_then(|value| value.parse().ok()).ok_or_else(|| damaged("no node"))?;
    if found != node {
        return Err(IdentityError::OtherNode { path: path.with_file_name(""), found, wanted: node });
    }
    let cluster = match field("cluster").unwrap_or_default() {
        "" => None,
        cluster => Some(ClusterId::parse(cluster).ok_or_else(|| damaged("cluster id"))?),
    };
    // A directory made before there were store ids has none.
    let store = field("store").map(|store| StoreId::parse(store).ok_or_else(|| damaged("store id"))).transpose()?;
    Ok(Parsed { cluster, store, learns: field("learns") == Some("yes") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_and_refuses_another_node() {
        let dir = tempfile::tempdir().expect("temp dir");
        let cluster = ClusterId::random();
        let mut first = Identity::open(dir.path(), 2).expect("fresh");
        assert_eq!(first.cluster(), None);
        assert!(first.is_new());
        first.set_cluster(cluster, true).expect("write");
        let store = first.store();
        drop(first);
        let mut again = Identity::open(dir.path(), 2).expect("own");
        assert_eq!(
            (again.cluster(), again.store(), again.learns(), again.is_new()),
            (Some(cluster), store, true, false)
        );
        again.has_learnt().expect("write");
        drop(again);
        assert!(!Identity::open(dir.path(), 2).expect("own").learns());
        assert!(matches!(Identity::open(dir.path(), 3), Err(IdentityError::OtherNode { found: 2, wanted: 3, .. })));
    }

    #[test]
    fn an_identity_of_before_there_were_store_ids_gets_one_for_good() {
        let dir = tempfile::tempdir().expect("temp dir");
        let body = format!("{TITLE}\nformat = 1\nnode = 2\ncluster = {}\n", "7".repeat(32));
        let text = format!("{body}crc32c = {:08x}\n", checksum(&body));
        std::fs::write(dir.path().join("IDENTITY"), text).expect("write");
        let store = Identity::open(dir.path(), 2).expect("reads").store();
        let again = Identity::open(dir.path(), 2).expect("reads");
        assert_eq!((again.store(), again.cluster()), (store, ClusterId::parse(&"7".repeat(32))));
    }

    #[test]
    fn what_is_set_aside_is_kept_and_a_new_life_begins() {
        let dir = tempfile::tempdir().expect("temp dir");
        let mut identity = Identity::open(dir.path(), 1).expect("fresh");
        identity.set_cluster(ClusterId(7), false).expect("write");
        let mut lives = vec![identity.store()];
        for round in 1..=2 {
            std::fs::create_dir(dir.path().join("wal")).expect("make");
            std::fs::write(dir.path().join("wal/chunk"), [round]).expect("write");
            let aside = identity.set_aside().expect("moves");
            assert_eq!(std::fs::read(aside.join("wal/chunk")).expect("kept"), [round]);
            assert!(!dir.path().join("wal").exists() && !lives.contains(&identity.store()));
            lives.push(identity.store());
        }
        drop(identity);
        let again = Identity::open(dir.path(), 1).expect("reads");
        assert_eq!((again.store(), again.cluster()), (lives[2], Some(ClusterId(7))));
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let dir = tempfile::tempdir().expect("temp dir");
        let held = Identity::open(dir.path(), 1).expect("fresh");
        assert!(matches!(Identity::open(dir.path(), 1), Err(IdentityError::Locked { .. })));
        drop(held);
        assert!(Identity::open(dir.path(), 1).is_ok());
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().expect("temp dir");
        drop(Identity::open(dir.path(), 1).expect("fresh"));
        let path = dir.path().join("IDENTITY");
        let whole = std::fs::read(&path).expect("read");
        for at in 0..whole.len() - 1 {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x04;
            std::fs::write(&path, &damaged).expect("write");
            assert!(Identity::open(dir.path(), 1).is_err(), "byte {at}");
        }
        std::fs::write(&path, b"").expect("write");
        assert!(matches!(Identity::open(dir.path(), 1), Err(IdentityError::Damaged { .. })));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::write(dir.path().join("IDENTITY"), format!("{TITLE}\nformat = 9\nnew = x\ncrc32c = 0\n"))
            .expect("write");
        assert!(matches!(Identity::open(dir.path(), 1), Err(IdentityError::Newer { found: 9, .. })));
    }
}
