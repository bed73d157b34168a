//! State of the tree model: inodes and names, with the refusals that Linux gives to root. An inode is named by the call that made it, so that
//! two orders of calls which lead to one tree lead to equal states. Pure. Called by `tree`.

use super::dead::Dead;
use super::tree_call::{Kind, Place};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The errnos, of which any may be given.
pub type Refusal = &'static [&'static str];
pub type Id = u64;

pub const ROOT: Id = 0;
const GONE: Refusal = &["ENOENT", "ESTALE"];
const MISSING: Refusal = &["ENOENT"];
const TAKEN: Refusal = &["EEXIST"];
const NO_DIR: Refusal = &["EPERM"];
/// With two reasons to refuse, which one is told is not promised.
const TWO_REASONS: Refusal = &["ENOENT", "ESTALE", "ENOTDIR", "EEXIST", "EPERM"];
/// Links dangle here: a path through one finds nothing, and a look-up in one by its number no directory.
const THROUGH_LINK: Refusal = &["ENOENT", "ENOTDIR"];

fn both<A, B>(one: Result<A, Refusal>, other: Result<B, Refusal>) -> Result<(A, B), Refusal> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(_), Err(_)) => Err(TWO_REASONS),
        (Err(refusal), Ok(_)) | (Ok(_), Err(refusal)) => Err(refusal),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub kind: Kind,
    /// Where it was said or observed.
    pub mode: Option<u32>,
    pub nlink: u64,
    /// Directories: names.
    pub names: BTreeMap<String, Id>,
    /// Directories: "..".
    pub parent: Id,
    /// Its number, once a client has seen it.
    pub ino: Option<u64>,
}

/// Clones share what they do not change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    nodes: BTreeMap<Id, Arc<Node>>,
    dead: Dead,
}

impl Default for State {
    fn default() -> State {
        let root = Node { nlink: 2, ..Node::new(Kind::Dir, None) };
        State { nodes: BTreeMap::from([(ROOT, Arc::new(root))]), dead: Dead::default() }
    }
}

impl Node {
    pub fn new(kind: Kind, mode: Option<u32>) -> Node {
        let nlink = if kind == Kind::Dir { 2 } else { 1 };
        Node { kind, mode, nlink, names: BTreeMap::new(), parent: ROOT, ino: None }
    }
}

impl State {
    pub fn get(&self, id: Id) -> &Node {
        &self.nodes[&id]
    }

    pub fn edit(&mut self, id: Id) -> &mut Node {
        Arc::make_mut(self.nodes.entry(id).or_insert_with(|| Arc::new(Node::new(Kind::File, None))))
    }

    fn directory(&self, id: Id) -> Result<Id, Refusal> {
        match self.get(id).kind {
            Kind::Dir => Ok(id),
            Kind::Symlink => Err(THROUGH_LINK),
            Kind::File => Err(&["ENOTDIR"]),
        }
    }

    fn child(&self, id: Id, name: &str) -> Result<Id, Refusal> {
        let dir = self.directory(id)?;
        self.get(dir).names.get(name).copied().ok_or(MISSING)
    }

    fn start(&self, at: Option<u64>) -> Result<Id, Refusal> {
        let Some(ino) = at else { return Ok(ROOT) };
        let known = self.nodes.iter().find(|(_, node)| node.ino == Some(ino));
        known.map(|(id, _)| *id).ok_or(GONE)
    }

    pub fn walk(&self, place: &Place) -> Result<Id, Refusal> {
        place.names.iter().try_fold(self.start(place.at)?, |id, name| self.child(id, name))
    }

    /// The directory that holds a place's last name.
    pub fn parent<'a>(&self, place: &'a Place) -> Result<(Id, &'a str), Refusal> {
        let (name, above) = place.names.split_last().ok_or(MISSING)?;
        let walked = above.iter().try_fold(self.start(place.at)?, |id, name| self.child(id, name))?;
        Ok((self.directory(walked)?, name))
    }

    pub fn named(&self, (parent, name): (Id, &str)) -> Option<Id> {
        self.get(parent).names.get(name).copied()
    }

    pub fn make(&mut self, place: &Place, id: Id, node: Node) -> Result<Id, Refusal> {
        let spot = self.parent(place)?;
        if self.named(spot).is_some() {
            return Err(TAKEN);
        }
        self.nodes.insert(id, Arc::new(node));
        self.attach(spot, id);
        Ok(id)
    }

    pub fn link(&mut self, from: &Place, to: &Place) -> Result<Id, Refusal> {
        let source = self.walk(from).and_then(|id| if self.get(id).kind == Kind::Dir { Err(NO_DIR) } else { Ok(id) });
        let target = self.parent(to).and_then(|spot| self.named(spot).map_or(Ok(spot), |_| Err(TAKEN)));
        let (id, spot) = both(source, target)?;
        self.edit(id).nlink += 1;
        self.attach(spot, id);
        Ok(id)
    }

    /// What a name names, if it may be taken away by unlink or by rmdir.
    pub fn victim(&self, place: &Place, of_dir: bool) -> Result<Id, Refusal> {
        let id = self.named(self.parent(place)?).ok_or(MISSING)?;
        let node = self.get(id);
        match (of_dir, node.kind == Kind::Dir) {
            (false, true) => Err(&["EISDIR"]),
            (true, false) => Err(&["ENOTDIR"]),
            (true, true) if !node.names.is_empty() => Err(&["ENOTEMPTY"]),
            _ => Ok(id),
        }
    }

    /// Takes away a name that is there, and with its last one the inode.
    pub fn remove(&mut self, place: &Place) -> Result<(), Refusal> {
        let (parent, name) = self.parent(place)?;
        let id = self.detach(parent, name)?;
        self.drop_name(id);
        Ok(())
    }

    pub fn rename(&mut self, old: &Place, new: &Place, noreplace: bool, exchange: bool) -> Result<(), Refusal> {
        let (from, to) = both(self.parent(old), self.parent(new))?;
        let source = self.named(from).ok_or(MISSING)?;
        let target = self.named(to);
        match target {
            Some(_) if noreplace => return Err(TAKEN),
            None if exchange => return Err(MISSING),
            _ => {}
        }
        if self.is_above(source, to.0) {
            return Err(&["EINVAL"]);
        }
        if target.is_some_and(|target| self.is_above(target, from.0)) {
            return Err(if exchange { &["EINVAL"] } else { &["ENOTEMPTY"] });
        }
        if target == Some(source) {
            return Ok(());
        }
        if let Some(target) = target {
            if !exchange {
                self.may_replace(source, target)?;
            }
            self.detach(to.0, to.1)?;
        }
        self.detach(from.0, from.1)?;
        self.attach(to, source);
        match target {
            Some(target) if exchange => self.attach(from, target),
            Some(target) => self.drop_name(target),
            None => {}
        }
        Ok(())
    }

    fn may_replace(&self, source: Id, target: Id) -> Result<(), Refusal> {
        let (source, target) = (self.get(source), self.get(target));
        match (source.kind == Kind::Dir, target.kind == Kind::Dir) {
            (true, false) => Err(&["ENOTDIR"]),
            (false, true) => Err(&["EISDIR"]),
            (true, true) if !target.names.is_empty() => Err(&["ENOTEMPTY"]),
            _ => Ok(()),
        }
    }

    fn is_above(&self, above: Id, below: Id) -> bool {
        let mut at = below;
        while at != above {
            if at == ROOT {
                return false;
            }
            at = self.get(at).parent;
        }
        true
    }

    fn attach(&mut self, (parent, name): (Id, &str), id: Id) {
        if self.get(id).kind == Kind::Dir {
            self.edit(id).parent = parent;
            self.edit(parent).nlink += 1;
        }
        self.edit(parent).names.insert(name.to_string(), id);
    }

    fn detach(&mut self, parent: Id, name: &str) -> Result<Id, Refusal> {
        let id = self.edit(parent).names.remove(name).ok_or(MISSING)?;
        if self.get(id).kind == Kind::Dir {
            self.edit(parent).nlink -= 1;
        }
        Ok(id)
    }

    fn drop_name(&mut self, id: Id) {
        let node = self.edit(id);
        node.nlink -= 1;
        if node.nlink == 0 || node.kind == Kind::Dir {
            let ino = node.ino;
            self.nodes.remove(&id);
            if let Some(ino) = ino {
                self.dead.insert(ino);
            }
        }
    }

    /// An inode was seen to have this number. False where it has another, or another inode has it or had it.
    pub fn bind(&mut self, id: Id, ino: u64) -> bool {
        match self.get(id).ino {
            Some(known) => known == ino,
            None if self.dead.contains(ino) || self.nodes.values().any(|node| node.ino == Some(ino)) => false,
            None => {
                self.edit(id).ino = Some(ino);
                true
            }
        }
    }

    /// As `a/ a/f=17` : names, kinds, numbers.
    pub fn describe(&self) -> String {
        let mut lines = Vec::new();
        self.describe_below(ROOT, "", &mut lines);
        if lines.is_empty() { "an empty tree".into() } else { lines.join(" ") }
    }

    fn describe_below(&self, id: Id, path: &str, lines: &mut Vec<String>) {
        for (name, &child) in &self.get(id).names {
            let node = self.get(child);
            let ino = node.ino.map(|ino| format!("={ino}")).unwrap_or_default();
            let mark = ["", "/", "@"][node.kind as usize];
            lines.push(format!("{path}{name}{mark}{ino}"));
            self.describe_below(child, &format!("{path}{name}/"), lines);
        }
    }
}
