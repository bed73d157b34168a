//! Search: an order of intervals in which a model can do them one by one (Wing and Gong, 1993), which never comes twice to one set of
//! operations with one state (Lowe, 2017). Called by `linearizable` and `replay`.
//!
//! What may never have happened is the danger: of n such there are 2^n sets. So each is taken as late as it can be: only where what comes
//! next would not be the same without it, of several that are the same the first, and at first only one at a time.

use crate::model::Model;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// When something took effect: some time from `start` to `end`, on an axis of the caller's, and not before what was over before it began
/// by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    pub start: u64,
    pub end: u64,
    /// By the clock. What was over before another began must not start later than that on the axis.
    pub began: u64,
    pub over: u64,
    /// Or never.
    pub optional: bool,
}

#[derive(Debug)]
pub enum Found<S> {
    /// All that had to happen can have happened, in some order.
    Possible,
    Stuck(Stuck<S>),
    OutOfSteps,
}

/// How far it went at most.
#[derive(Debug)]
pub struct Stuck<S> {
    /// What had to come next and could not.
    pub at: usize,
    /// The last that came before, in one order of several.
    pub before: Vec<usize>,
    /// The states that were possible there, a few of them.
    pub states: Vec<S>,
}

const STATES_TOLD_MAX: usize = 3;
const BEFORE_TOLD_MAX: usize = 6;
/// How many that may never have happened are taken in one place, tried in this order.
const RUNS: [usize; 4] = [1, 2, 4, usize::MAX];
const END: usize = usize::MAX;

/// Operations by their start, of which some are taken out and put back in the reverse order.
struct List {
    /// Position to operation.
    ops: Vec<usize>,
    next: Vec<usize>,
    previous: Vec<usize>,
    first: usize,
    taken: Vec<u64>,
}

impl List {
    fn new(ops: Vec<usize>) -> List {
        let count = ops.len();
        let next = (0..count).map(|at| if at + 1 < count { at + 1 } else { END }).collect();
        let previous = (0..count).map(|at| at.checked_sub(1).unwrap_or(END)).collect();
        let first = if count > 0 { 0 } else { END };
        List { ops, next, previous, first, taken: vec![0; count.div_ceil(64)] }
    }

    fn after(&self, at: Option<usize>) -> usize {
        at.map_or(self.first, |at| self.next[at])
    }

    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] >> (at % 64) & 1 == 1
    }

    fn take(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        if before == END {
            self.first = after
        } else {
            self.next[before] = after
        }
        if after != END {
            self.previous[after] = before;
        }
        self.taken[at / 64] ^= 1 << (at % 64);
    }

    fn put_back(&mut self, at: usize) {
        let (before, after) = (self.previous[at], self.next[at]);
        if before == END {
            self.first = at
        } else {
            self.next[before] = at
        }
        if after != END {
            self.previous[after] = at;
        }
        self.taken[at / 64] ^= 1 << (at % 64);
    }

    /// Which ones are out; all before the first are.
    fn hash_taken(&self, through: usize, hasher: &mut impl Hasher) {
        let low = if self.first == END { self.taken.len() } else { self.first / 64 };
        low.hash(hasher);
        let high = (through / 64 + 1).min(self.taken.len());
        // Without trailing zeros, so that one set has one hash.
        let words = self.taken.get(low..high).unwrap_or_default();
        let count = words.iter().rposition(|word| *word != 0).map_or(0, |at| at + 1);
        words[..count].hash(hasher);
    }
}

/// A choice that was made.
struct Frame<S> {
    optional: bool,
    at: usize,
    before: S,
    /// The farthest required position taken, before this choice.
    farthest: usize,
}

/// What has to be over first: on the axis, and by the clock.
struct First {
    end: u64,
    over: u64,
    op: usize,
}

struct Search<'a, M: Model> {
    model: &'a M,
    calls: &'a [M::Call],
    intervals: &'a [Interval],
    /// What must happen, and what may.
    lists: [List; 2],
    farthest: [usize; 2],
    /// For what may happen, by position: the one before that is the same, and is taken first.
    twins: &'a [Option<usize>],
    /// Fingerprints of what was come to.
    seen: HashSet<(u64, u64)>,
    steps_left: u64,
    /// Required operations taken.
    depth: usize,
    run_max: usize,
    /// Something was left out for `run_max`.
    was_limited: bool,
    best: Option<(usize, Stuck<M::State>)>,
}

/// An order of `calls` in which each takes effect within its interval and is observed as it was.
pub fn search<M: Model>(model: &M, calls: &[M::Call], intervals: &[Interval], steps_left: &mut u64) -> Found<M::State> {
    let mut by_start: Vec<usize> = (0..calls.len()).collect();
    by_start.sort_by_key(|&op| intervals[op].start);
    let (may, must): (Vec<_>, Vec<_>) = by_start.into_iter().partition(|&op| intervals[op].optional);
    let twins = twins(model, calls, &may);
    let mut outcome = Found::OutOfSteps;
    for run_max in RUNS {
        let mut search = Search {
            model,
            calls,
            intervals,
            lists: [List::new(must.clone()), List::new(may.clone())],
            farthest: [0; 2],
            twins: &twins,
            seen: HashSet::new(),
            steps_left: *steps_left,
            depth: 0,
            run_max,
            was_limited: false,
            best: None,
        };
        outcome = search.run();
        *steps_left = search.steps_left;
        if !(search.was_limited && matches!(outcome, Found::Stuck(_))) {
            break;
        }
    }
    outcome
}

fn twins<M: Model>(model: &M, calls: &[M::Call], may: &[usize]) -> Vec<Option<usize>> {
    // The last of each kind so far: there are few kinds.
    let mut last_of_kind: Vec<usize> = Vec::new();
    let mut twins = Vec::with_capacity(may.len());
    for (at, &op) in may.iter().enumerate() {
        let twin = last_of_kind.iter_mut().find(|last| model.are_twins(&calls[may[**last]], &calls[op]));
        twins.push(match twin {
            Some(last) => Some(std::mem::replace(last, at)),
            None => {
                last_of_kind.push(at);
                None
            }
        });
    }
    twins
}

impl<M: Model> Search<'_, M> {
    fn run(&mut self) -> Found<M::State> {
        let mut state = self.model.init();
        let mut frames: Vec<Frame<M::State>> = Vec::new();
        let mut cursor = (false, None);
        while self.lists[0].first != END {
            if self.steps_left == 0 {
                return Found::OutOfSteps;
            }
            if let Some((optional, at, next)) = self.advance(&frames, &state, cursor) {
                let list = usize::from(optional);
                frames.push(Frame { optional, at, before: state, farthest: self.farthest[list] });
                self.farthest[list] = self.farthest[list].max(at);
                self.depth += usize::from(!optional);
                state = next;
                cursor = (false, None);
                continue;
            }
            if cursor == (false, None) {
                self.note_dead_end(&frames, &state);
            }
            let Some(frame) = frames.pop() else { break };
            let list = usize::from(frame.optional);
            self.lists[list].put_back(frame.at);
            self.farthest[list] = frame.farthest;
            self.depth -= usize::from(!frame.optional);
            state = frame.before;
            cursor = (frame.optional, Some(frame.at));
        }
        match self.best.take() {
            Some((_, stuck)) if self.lists[0].first != END => Found::Stuck(stuck),
            _ => Found::Possible,
        }
    }

    fn op_of(&self, frame: &Frame<M::State>) -> usize {
        self.lists[usize::from(frame.optional)].ops[frame.at]
    }

    /// Takes the next operation after `cursor` that can come now and leads to something new: what must happen first, since what may
    /// happen is as good just before it is needed.
    fn advance(
        &mut self,
        frames: &[Frame<M::State>],
        state: &M::State,
        cursor: (bool, Option<usize>),
    ) -> Option<(bool, usize, M::State)> {
        let run = &frames[frames.iter().rposition(|frame| !frame.optional).map_or(0, |last| last + 1)..];
        let First { end, over, .. } = self.first_to_end()?;
        let starts = [(cursor.0, cursor.1), (true, None)];
        for (optional, from) in &starts[..if cursor.0 { 1 } else { 2 }] {
            let list = usize::from(*optional);
            let mut at = self.lists[list].after(*from);
            while at != END {
                let op = self.lists[list].ops[at];
                if self.intervals[op].start > end {
                    break;
                }
                let is_second = *optional && self.twins[at].is_some_and(|twin| !self.lists[1].is_taken(twin));
                if is_second || self.intervals[op].began > over {
                    at = self.lists[list].next[at];
                    continue;
                }
                if *optional && run.len() >= self.run_max {
                    self.was_limited = true;
                    break;
                }
                if let Some(next) = self.try_op(run, state, (list, at), op) {
                    return Some((*optional, at, next));
                }
                at = self.lists[list].next[at];
            }
        }
        None
    }

    /// Of all that must happen and is left, what has to be over first. What starts later cannot come before it.
    fn first_to_end(&self) -> Option<First> {
        let list = &self.lists[0];
        let mut first: Option<First> = None;
        let mut at = list.first;
        while at != END {
            let op = list.ops[at];
            let Interval { start, end, over, .. } = self.intervals[op];
            match &mut first {
                Some(first) if start > first.end => break,
                Some(first) => {
                    first.over = first.over.min(over);
                    if end < first.end {
                        (first.end, first.op) = (end, op);
                    }
                }
                None => first = Some(First { end, over, op }),
            }
            at = list.next[at];
        }
        first
    }

    fn try_op(
        &mut self,
        run: &[Frame<M::State>],
        state: &M::State,
        (list, at): (usize, usize),
        op: usize,
    ) -> Option<M::State> {
        self.steps_left = self.steps_left.saturating_sub(1);
        let next = self.model.step(state, &self.calls[op])?;
        if self.has_idle(run, (list == 1, at), op, &next) {
            return None;
        }
        self.lists[list].take(at);
        let mut farthest = self.farthest;
        farthest[list] = farthest[list].max(at);
        let run_ends = list == 0;
        let marks = [1, 2].map(|salt| self.mark(salt, farthest, if run_ends { &[] } else { run }, &next));
        if self.seen.insert((marks[0], marks[1])) {
            return Some(next);
        }
        self.lists[list].put_back(at);
        None
    }

    /// Whether one of the run before `op` could as well come after it, or not at all: then that is tried elsewhere.
    fn has_idle(&mut self, run: &[Frame<M::State>], (optional, at): (bool, usize), op: usize, next: &M::State) -> bool {
        // Of two that may change places, the earlier one comes first.
        let judged = if optional {
            let last = run.len().saturating_sub(1);
            last..if run.last().is_some_and(|frame| frame.at > at) { run.len() } else { last }
        } else {
            0..run.len()
        };
        judged.into_iter().any(|idle| {
            self.steps_left = self.steps_left.saturating_sub(1);
            let rest = run[idle + 1..].iter().map(|frame| self.op_of(frame)).chain([op]);
            let without = rest
                .into_iter()
                .try_fold(run[idle].before.clone(), |state, op| self.model.step(&state, &self.calls[op]));
            without.is_some_and(|without| {
                let late = self.model.step(&without, &self.calls[self.op_of(&run[idle])]);
                (!optional && without == *next) || late.as_ref() == Some(next)
            })
        })
    }

    /// Half of a fingerprint of 128 bits: it stands for the set and the state, which would not fit into memory in a long run.
    fn mark(&self, salt: u8, farthest: [usize; 2], run: &[Frame<M::State>], state: &M::State) -> u64 {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        for (list, farthest) in self.lists.iter().zip(farthest) {
            list.hash_taken(farthest, &mut hasher);
        }
        // What may follow depends on the run, too.
        run.iter().for_each(|frame| frame.at.hash(&mut hasher));
        state.hash(&mut hasher);
        hasher.finish()
    }

    fn note_dead_end(&mut self, frames: &[Frame<M::State>], state: &M::State) {
        let Some(First { op: at, .. }) = self.first_to_end() else { return };
        match &mut self.best {
            Some((best, _)) if *best > self.depth => {}
            Some((best, stuck)) if *best == self.depth => {
                if stuck.states.len() < STATES_TOLD_MAX && !stuck.states.contains(state) {
                    stuck.states.push(state.clone());
                }
            }
            _ => {
                let last = &frames[frames.len().saturating_sub(BEFORE_TOLD_MAX)..];
                let before = last.iter().map(|frame| self.op_of(frame)).collect();
                self.best = Some((self.depth, Stuck { at, before, states: vec![state.clone()] }));
            }
        }
    }
}
