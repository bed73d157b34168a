//! DirStream: where one open directory stands. Pure. Offsets that the kernel sees: 0 starts, 1 follows ".", 2 follows "..", and from
//! there each entry's cookie, which the server keeps stable for the life of the entry: so an offset means the same for ever,
//! whatever is created or removed meanwhile, and seekdir works. Called by ops/readdir.

use bytes::Bytes;
use holdfast_proto::pb::{DirEntry, FileKind};

/// Follows ".".
pub const OFFSET_DOT: u64 = 1;
/// Follows "..".
pub const OFFSET_DOTDOT: u64 = 2;

/// One line of a listing, with the offset at which the next one begins.
#[derive(Clone, Debug, PartialEq)]
pub struct DirItem {
    pub name: Bytes,
    pub ino: u64,
    pub kind: FileKind,
    pub attr: Option<holdfast_proto::pb::Attr>,
    pub next: u64,
}

/// Entries fetched and not yet given to the kernel, which asks in small pieces.
#[derive(Debug, Default)]
pub struct DirStream {
    page: Vec<DirEntry>,
    /// First entry of `page` that was not given yet.
    index: usize,
    /// Offset the kernel will name if it goes on from here; None before the first page.
    offset: Option<u64>,
    /// Nothing follows `page`.
    end: bool,
}

impl DirStream {
    /// Whether what follows `offset` is already here (it may be nothing but the end).
    pub fn stands_at(&self, offset: u64) -> bool {
        self.offset == Some(offset) && (self.index < self.page.len() || self.end)
    }

    /// What to ask the server for when it does not stand at `offset`: entries after this cookie.
    pub fn cookie_before(offset: u64) -> u64 {
        if offset <= OFFSET_DOTDOT { 0 } else { offset }
    }

    /// A page that begins after `offset` has arrived.
    pub fn refill(&mut self, offset: u64, page: Vec<DirEntry>, end: bool) {
        *self = DirStream { page, index: 0, offset: Some(offset), end };
    }

    /// The next entry, if the page has one.
    pub fn peek(&self) -> Option<DirItem> {
        let entry = self.page.get(self.index)?;
        Some(DirItem {
            name: entry.name.clone(),
            ino: entry.ino,
            kind: entry.kind(),
            attr: entry.attr,
            next: self.offset_after(self.index),
        })
    }

    /// The kernel took what `peek` gave.
    pub fn advance(&mut self) {
        self.offset = Some(self.offset_after(self.index));
        self.index += 1;
    }

    /// Forgets entries that were not taken: their attributes must not be given later, when they are old. Within a group of
    /// equal cookies they stay, because no offset could bring them back one by one.
    pub fn drop_rest(&mut self) {
        let within_group =
            self.index > 0 && self.index < self.page.len() && self.shares_cookie_with_next(self.index - 1);
        if self.index < self.page.len() && !within_group {
            self.page.clear();
            self.offset = None;
        }
    }

    /// Entries may share a cookie (their names have one hash). An offset that stands for the whole group comes with its last
    /// entry only; within the group it is one less, so that a listing resumed by offset alone gives the whole group again
    /// rather than losing a part of it. In the common case, going straight on, `stands_at` finds the place exactly.
    fn offset_after(&self, index: usize) -> u64 {
        let cookie = self.page[index].cookie;
        if self.shares_cookie_with_next(index) { cookie - 1 } else { cookie }
    }

    fn shares_cookie_with_next(&self, index: usize) -> bool {
        self.page.get(index + 1).is_some_and(|next| next.cookie == self.page[index].cookie)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &'static str, cookie: u64) -> DirEntry {
        DirEntry { name: Bytes::from_static(name.as_bytes()), ino: cookie, cookie, ..DirEntry::default() }
    }

    fn take(stream: &mut DirStream, count: usize) -> Vec<(String, u64)> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(item) = stream.peek()
        {
            taken.push((String::from_utf8_lossy(&item.name).into_owned(), item.next));
            stream.advance();
        }
        taken
    }

    #[test]
    fn going_straight_on_needs_no_second_page() {
        let mut stream = DirStream::default();
        stream.refill(OFFSET_DOTDOT, vec![entry("a", 10), entry("b", 20), entry("c", 30)], true);
        assert_eq!(take(&mut stream, 2), [("a".into(), 10), ("b".into(), 20)]);
        assert!(stream.stands_at(20));
        assert!(!stream.stands_at(10));
        assert_eq!(take(&mut stream, 9), [("c".into(), 30)]);
        assert!(stream.stands_at(30), "the end is known, too");
    }

    #[test]
    fn a_group_of_equal_cookies_is_continued_without_loss_or_repetition() {
        let mut stream = DirStream::default();
        stream.refill(OFFSET_DOTDOT, vec![entry("a", 10), entry("b", 20), entry("c", 20), entry("d", 20)], true);
        assert_eq!(take(&mut stream, 2), [("a".into(), 10), ("b".into(), 19)]);
        assert!(stream.stands_at(19));
        assert_eq!(take(&mut stream, 9), [("c".into(), 19), ("d".into(), 20)]);
    }

    #[test]
    fn a_group_resumed_by_offset_alone_is_given_back_whole() {
        let mut stream = DirStream::default();
        stream.refill(OFFSET_DOTDOT, vec![entry("a", 10), entry("b", 20), entry("c", 20)], true);
        let partly = take(&mut stream, 2);
        assert_eq!(DirStream::cookie_before(partly[1].1), 19, "the server gives everything with a cookie over 19");
    }

    #[test]
    fn what_was_not_taken_is_dropped_but_for_the_rest_of_a_group() {
        let mut stream = DirStream::default();
        stream.refill(OFFSET_DOTDOT, vec![entry("a", 10), entry("b", 20), entry("c", 20)], true);
        take(&mut stream, 2);
        stream.drop_rest();
        assert!(stream.stands_at(19));
        stream.refill(OFFSET_DOTDOT, vec![entry("a", 10), entry("b", 20)], true);
        take(&mut stream, 1);
        stream.drop_rest();
        assert!(!stream.stands_at(10));
    }

    #[test]
    fn the_two_dots_stand_before_every_cookie() {
        assert_eq!(DirStream::cookie_before(OFFSET_DOT), 0);
        assert_eq!(DirStream::cookie_before(OFFSET_DOTDOT), 0);
        assert_eq!(DirStream::cookie_before(3), 3);
    }
}
