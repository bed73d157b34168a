//! Merge: one ascending stream of pairs from a state and the generations of changes that came after it. Pure. Called by checkpoint_dir.

use super::checkpoint::Pair;
use bytes::Bytes;
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io;

/// A key and its new value; None deletes.
pub type Change = (Bytes, Option<Bytes>);
/// Changes in ascending order of keys, each key once.
pub type Source<'a> = Box<dyn Iterator<Item = io::Result<Change>> + 'a>;

/// The newest change of some source that was not looked at yet. Ordered by key, and for one key the newest source first.
struct Next {
    change: Change,
    source: usize,
}

impl Next {
    fn rank(&self) -> (&[u8], Reverse<usize>) {
        (&self.change.0, Reverse(self.source))
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Next) -> bool {
        self.rank() == other.rank()
    }
}
impl Eq for Next {}
impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Next) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Next {
    fn cmp(&self, other: &Next) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// Yields each key that is not deleted, with its newest value. After an error it yields nothing more.
pub struct Merge<'a> {
    /// Oldest first.
    sources: Vec<Source<'a>>,
    heap: BinaryHeap<Reverse<Next>>,
    last: Option<Bytes>,
}

impl<'a> Merge<'a> {
    /// # Errors
    /// A source could not be read.
    pub fn new(sources: Vec<Source<'a>>) -> io::Result<Merge<'a>> {
        let mut merge = Merge { heap: BinaryHeap::with_capacity(sources.len()), sources, last: None };
        (0..merge.sources.len()).try_for_each(|source| merge.pull(source))?;
        Ok(merge)
    }

    fn pull(&mut self, source: usize) -> io::Result<()> {
        if let Some(change) = self.sources[source].next().transpose()? {
            self.heap.push(Reverse(Next { change, source }));
        }
        Ok(())
    }

    fn step(&mut self) -> io::Result<Option<Pair>> {
        while let Some(Reverse(next)) = self.heap.pop() {
            self.pull(next.source)?;
            let (key, value) = next.change;
            // Whatever else there is of this key is older.
            if self.last.as_ref() == Some(&key) {
                continue;
            }
            self.last = Some(key.clone());
            if let Some(value) = value {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Merge<'_> {
    type Item = io::Result<Pair>;

    fn next(&mut self) -> Option<io::Result<Pair>> {
        let step = self.step();
        if step.is_err() {
            self.heap.clear();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    use std::collections::BTreeMap;

    type Table = BTreeMap<u8, Option<u8>>;

    fn source(table: &Table) -> Source<'_> {
        let bytes = |byte: u8| Bytes::from(vec![byte]);
        Box::new(table.iter().map(move |(key, value)| Ok((bytes(*key), value.map(bytes)))))
    }

    fn random_table(rng: &mut StdRng) -> Table {
        let count = rng.random_range(0..40);
        (0..count).map(|_| (rng.random(), rng.random_bool(0.6).then(|| rng.random()))).collect()
    }

    #[test]
    fn it_is_what_applying_one_after_the_other_gives() {
        for seed in 0..300 {
            let mut rng = StdRng::seed_from_u64(seed);
            let tables: Vec<Table> = (0..rng.random_range(0..6)).map(|_| random_table(&mut rng)).collect();
            let mut expected = Table::new();
            for table in &tables {
                expected.extend(table.iter().map(|(key, value)| (*key, *value)));
            }
            let expected: Vec<(u8, u8)> = expected.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
            let merge = Merge::new(tables.iter().map(source).collect()).expect("begins");
            let merged: Vec<(u8, u8)> = merge.map(|pair| pair.map(|(k, v)| (k[0], v[0])).expect("goes on")).collect();
            assert_eq!(merged, expected, "seed {seed}");
        }
    }

    #[test]
    fn a_source_that_fails_ends_it() {
        let good = Table::from([(1, Some(1)), (9, Some(9))]);
        let failing: Vec<io::Result<Change>> =
            vec![Ok((Bytes::from_static(&[2]), None)), Err(io::Error::other("gone"))];
        let mut merge = Merge::new(vec![source(&good), Box::new(failing.into_iter())]).expect("begins");
        assert!(merge.next().expect("the first").is_ok());
        assert!(merge.next().expect("the failure").is_err());
        assert!(merge.next().is_none());
    }
}
