//! Files of a directory tree, for tests that count, measure or damage what a node or an object store keeps. Called by tests.

use std::path::{Path, PathBuf};

/// Everything below `dir` that is no directory; nothing where it does not exist.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Data objects of a volume on a directory; what else lies in the bucket (the volume's marker) does not count.
pub fn object_count(dir: &Path) -> usize {
    let is_object = |path: &&PathBuf| path.components().any(|part| part.as_os_str() == "chunks");
    files_below(dir).iter().filter(is_object).count()
}
