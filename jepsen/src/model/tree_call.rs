//! Calls of the tree model: an operation of the history, read once. Pure. Called by `tree`.

use crate::history::{Ending, Operation};
use serde_json::Value;

/// Where: names to walk, from the tree's root or from a directory that the client knows by its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub at: Option<u64>,
    pub names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    File,
    Dir,
    Symlink,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// O_EXCL; mkdir; symlink.
    Make(Kind, Option<u32>),
    Unlink,
    Rmdir,
    Rename {
        to: Place,
        noreplace: bool,
        exchange: bool,
    },
    Link {
        to: Place,
    },
    Chmod(u32),
    Stat,
    /// Whether a directory has a name.
    Has,
    /// All names at once.
    Readdir,
}

impl Act {
    pub fn is_read(&self) -> bool {
        matches!(self, Act::Stat | Act::Has | Act::Readdir)
    }
}

/// What a client saw of the inode; None where it did not look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    pub ino: Option<u64>,
    pub nlink: Option<u64>,
    pub kind: Option<Kind>,
    pub mode: Option<u32>,
    pub has: Option<bool>,
    pub names: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Nothing,
    Refused(String),
    Done(Observed),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Names the inode that this call makes.
    pub id: u64,
    pub place: Place,
    pub act: Act,
    pub seen: Seen,
}

pub fn read(operation: &Operation) -> Result<Call, String> {
    let input = &operation.input;
    let place = place(input, "at", "path")?;
    let to = || self::place(input, "to_at", "to");
    let mode = || number(input, "mode").map(|mode| mode.map(|mode| mode as u32));
    let flag = |name: &str| input.get(name).and_then(Value::as_bool).unwrap_or_default();
    let act = match operation.f.as_str() {
        "create" => Act::Make(Kind::File, mode()?),
        "mkdir" => Act::Make(Kind::Dir, mode()?),
        "symlink" => Act::Make(Kind::Symlink, None),
        "unlink" => Act::Unlink,
        "rmdir" => Act::Rmdir,
        "rename" => Act::Rename { to: to()?, noreplace: flag("noreplace"), exchange: false },
        "exchange" => Act::Rename { to: to()?, noreplace: false, exchange: true },
        "link" => Act::Link { to: to()? },
        "chmod" => Act::Chmod(mode()?.ok_or("chmod needs a mode")?),
        "stat" => Act::Stat,
        "has" => Act::Has,
        "readdir" => Act::Readdir,
        other => return Err(format!("a tree knows no {other}")),
    };
    let seen = match (&operation.ending, operation.errno()) {
        (Ending::Info | Ending::Fail, _) => Seen::Nothing,
        (Ending::Ok(_), Some(errno)) => Seen::Refused(errno.to_string()),
        (Ending::Ok(output), None) => Seen::Done(observed(output)?),
    };
    if place.names.is_empty() && !matches!(act, Act::Stat | Act::Readdir | Act::Chmod(_) | Act::Link { .. }) {
        return Err(format!("{} needs a name", operation.f));
    }
    Ok(Call { id: operation.start + 1, place, act, seen })
}

fn place(input: &Value, at: &str, path: &str) -> Result<Place, String> {
    let names = input.get(path).and_then(Value::as_str).ok_or_else(|| format!("there is no {path}"))?;
    let names = names.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    Ok(Place { at: number(input, at)?, names })
}

fn number(value: &Value, name: &str) -> Result<Option<u64>, String> {
    match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| format!("{name} is not a whole number: {value}")),
    }
}

fn observed(output: &Value) -> Result<Observed, String> {
    let kind = match output.get("kind").and_then(Value::as_str) {
        None => None,
        Some("file") => Some(Kind::File),
        Some("dir") => Some(Kind::Dir),
        Some("symlink") => Some(Kind::Symlink),
        Some(other) => return Err(format!("unknown kind {other}")),
    };
    let names = output.get("names").and_then(Value::as_array).map(|names| {
        let mut names: Vec<String> = names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
        names.sort();
        names
    });
    Ok(Observed {
        ino: number(output, "ino")?,
        nlink: number(output, "nlink")?,
        kind,
        mode: number(output, "mode")?.map(|mode| (mode & 0o7777) as u32),
        has: output.get("has").and_then(Value::as_bool),
        names,
    })
}
