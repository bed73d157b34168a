//! Overlay: runs of bytes laid over each other, of which a later one hides the earlier: how a list of slices becomes the bytes of a
//! chunk. Pure: no await, no clock, no I/O. Called by metad (copies, holes) and by the client (reads).

use std::collections::BTreeMap;
use std::ops::Range;

/// What is visible of everything that was painted.
#[derive(Debug)]
pub struct Overlay<T> {
    /// By start: end, offset from the start of what was painted, and what it was.
    spans: BTreeMap<u64, (u64, u64, T)>,
}

/// A visible run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span<T> {
    pub range: Range<u64>,
    /// How far into what was painted it begins.
    pub skip: u64,
    pub of: T,
}

impl<T> Default for Overlay<T> {
    fn default() -> Self {
        Overlay { spans: BTreeMap::new() }
    }
}

impl<T: Clone> Overlay<T> {
    /// Makes `at` a border between spans.
    fn cut(&mut self, at: u64) {
        let Some((&start, (end, skip, of))) = self.spans.range_mut(..at).next_back() else { return };
        if *end > at {
            let right = (*end, *skip + (at - start), of.clone());
            *end = at;
            self.spans.insert(at, right);
        }
    }

    /// Hides what was painted in `range` before. An empty range paints nothing.
    pub fn paint(&mut self, range: Range<u64>, of: T) {
        if range.is_empty() {
            return;
        }
        self.cut(range.start);
        self.cut(range.end);
        let hidden: Vec<u64> = self.spans.range(range.clone()).map(|(start, _)| *start).collect();
        for start in hidden {
            self.spans.remove(&start);
        }
        self.spans.insert(range.start, (range.end, 0, of));
    }

    /// The visible runs, in order; where nothing was painted is a gap.
    pub fn into_spans(self) -> impl Iterator<Item = Span<T>> {
        self.spans.into_iter().map(|(start, (end, skip, of))| Span { range: start..end, skip, of })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(painted: &[(u64, u64)]) -> Vec<(Range<u64>, u64, usize)> {
        let mut overlay = Overlay::default();
        for (index, &(start, end)) in painted.iter().enumerate() {
            overlay.paint(start..end, index);
        }
        overlay.into_spans().map(|span| (span.range, span.skip, span.of)).collect()
    }

    #[test]
    fn the_later_hides_the_earlier_and_gaps_stay() {
        assert_eq!(spans(&[(10, 20), (14, 16)]), [(10..14, 0, 0), (14..16, 0, 1), (16..20, 6, 0)]);
        assert_eq!(spans(&[(10, 20), (0, 12), (30, 40)]), [(0..12, 0, 1), (12..20, 2, 0), (30..40, 0, 2)]);
        assert_eq!(spans(&[(10, 20), (5, 25)]), [(5..25, 0, 1)]);
        assert_eq!(spans(&[(10, 20), (15, 15)]), [(10..20, 0, 0)]);
    }
}
