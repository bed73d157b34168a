//! Tree: a small whole tree of files, directories and links, where every call is one step. A client that walks a path of several names
//! makes several calls: it names the directory by its number (`at`), or uses directories that nobody moves. Pure.
//! Called by checker/linearizable and checker/replay.

use super::Model;
use super::tree_call::{self, Act, Call, Kind, Observed, Seen};
use super::tree_state::{Id, Node, Refusal, State};
use crate::history::Operation;

#[derive(Clone, Copy, Debug, Default)]
pub struct Tree;

impl Model for Tree {
    type Call = Call;
    type State = State;

    fn call(&self, operation: &Operation) -> Result<Call, String> {
        tree_call::read(operation)
    }

    fn init(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, call: &Call) -> Option<State> {
        if call.seen == Seen::Nothing && call.act.is_read() {
            return None;
        }
        let mut after = state.clone();
        let done = apply(&mut after, call);
        match (&call.seen, done) {
            (Seen::Nothing, Ok(_)) => (after != *state).then_some(after),
            (Seen::Refused(errno), Err(refusal)) => refusal.contains(&errno.as_str()).then(|| state.clone()),
            (Seen::Done(observed), Ok(id)) => observe(state, after, (call, id), observed),
            (Seen::Done(observed), Err(_)) if is_removed_and_empty(call, observed) => Some(state.clone()),
            (Seen::Nothing | Seen::Done(_), Err(_)) | (Seen::Refused(_), Ok(_)) => None,
        }
    }

    /// Whichever of them made an inode.
    fn are_twins(&self, one: &Call, other: &Call) -> bool {
        (&one.place, &one.act) == (&other.place, &other.act)
    }

    fn describe(&self, state: &State) -> String {
        state.describe()
    }
}

/// Who knows a directory by its number may list it after it was removed: it is empty.
fn is_removed_and_empty(call: &Call, observed: &Observed) -> bool {
    call.act == Act::Readdir && call.place.at.is_some() && observed.names.as_ref().is_some_and(Vec::is_empty)
}

/// Does the call, and says which inode a client that looks sees.
fn apply(state: &mut State, call: &Call) -> Result<Id, Refusal> {
    let place = &call.place;
    match &call.act {
        Act::Make(kind, mode) => state.make(place, call.id, Node::new(*kind, *mode)),
        Act::Link { to } => state.link(place, to),
        Act::Rename { to, noreplace, exchange } => {
            state.rename(place, to, *noreplace, *exchange)?;
            state.walk(to)
        }
        Act::Unlink | Act::Rmdir => {
            let victim = state.victim(place, call.act == Act::Rmdir)?;
            // Its number first: it is what must not come again.
            if let Seen::Done(Observed { ino: Some(ino), .. }) = &call.seen
                && !state.bind(victim, *ino)
            {
                return Err(&[]);
            }
            state.remove(place)?;
            Ok(victim)
        }
        Act::Chmod(mode) => {
            let id = state.walk(place)?;
            state.edit(id).mode = Some(*mode);
            Ok(id)
        }
        Act::Stat => state.walk(place),
        Act::Has => state.parent(place).map(|(dir, _)| dir),
        Act::Readdir => {
            let id = state.walk(place)?;
            match state.get(id).kind {
                Kind::Dir => Ok(id),
                Kind::Symlink => Err(&["ENOENT", "ENOTDIR"]),
                Kind::File => Err(&["ENOTDIR"]),
            }
        }
    }
}

/// The state after a call that was done, if it can have been observed so.
fn observe(before: &State, mut after: State, (call, id): (&Call, Id), observed: &Observed) -> Option<State> {
    match &call.act {
        Act::Unlink | Act::Rmdir => {
            let victim = before.get(id);
            return observed.kind.is_none_or(|kind| kind == victim.kind).then_some(after);
        }
        Act::Has => {
            let spot = after.parent(&call.place).ok()?;
            let fits = observed.has == Some(after.named(spot).is_some());
            return fits.then_some(after);
        }
        _ => {}
    }
    let node = after.get(id);
    let fits = observed.kind.is_none_or(|kind| kind == node.kind)
        && observed.nlink.is_none_or(|nlink| nlink == node.nlink)
        && observed.names.as_ref().is_none_or(|names| names.iter().eq(node.names.keys()))
        && observed.mode.zip(node.mode).is_none_or(|(seen, known)| seen == known);
    if !fits || observed.ino.is_some_and(|ino| !after.bind(id, ino)) {
        return None;
    }
    if observed.mode.is_some() && after.get(id).mode.is_none() {
        after.edit(id).mode = observed.mode;
    }
    Some(after)
}

#[cfg(test)]
#[path = "tree_test.rs"]
mod tests;
