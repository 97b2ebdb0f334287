//! Lists and tables that grow a little at a time.
//!
//! The books are changed under a lock that every request waits for. A `Vec` or a hash table that doubles moves all it
//! holds at once, and a hash table looks at every payment for it: a pause that is the longer the more there are, in which
//! nobody is answered. What is as long as the history is held in these instead.

use hashbrown::{
    HashTable,
    hash_table::{Entry, VacantEntry},
};
use std::ops::Range;

/// How many items a piece of a [`Rows`] holds.
const PIECE: usize = if cfg!(test) { 4 } else { 16 * 1024 };

/// How many tables an [`Index`] is made of. Each holds few enough items that one which grows is done in well under a
/// millisecond; that they grow at different times is left to chance.
const TABLES: usize = if cfg!(test) { 4 } else { 4096 };

/// A list that is appended to: pieces, of which only the last one grows.
#[derive(Clone, Debug)]
pub(super) struct Rows<T> {
    /// Pieces of [`PIECE`] items.
    full: Vec<Vec<T>>,
    last: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self { full: Vec::new(), last: Vec::new() }
    }
}

impl<T> Rows<T> {
    pub(super) fn len(&self) -> usize {
        self.full.len().saturating_mul(PIECE).saturating_add(self.last.len())
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.full.get(place / PIECE).unwrap_or(&self.last).get(self.within(place))
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let within = self.within(place);
        self.full.get_mut(place / PIECE).unwrap_or(&mut self.last).get_mut(within)
    }

    /// Which item of its piece that is, or of the last piece what lies behind it.
    fn within(&self, place: usize) -> usize {
        place - (place / PIECE).min(self.full.len()) * PIECE
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.last.last().or_else(|| self.full.last()?.last())
    }

    pub(super) fn push(&mut self, item: T) {
        if self.last.len() == PIECE {
            // A list that has come so far will fill the next piece, too.
            let full = std::mem::replace(&mut self.last, Vec::with_capacity(PIECE));
            self.full.push(full);
        }
        self.last.push(item);
    }

    /// Takes the last one off.
    #[cfg(test)]
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.last.is_empty() {
            self.last = self.full.pop()?;
        }
        self.last.pop()
    }

    /// The items at these places, as far as there are such.
    pub(super) fn range(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        (places.start..places.end.min(self.len())).filter_map(|place| self.get(place))
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.full.iter().chain([&self.last]).flatten()
    }

    /// How many items lie before the first that `is_before` does not hold of; it holds of those alone.
    pub(super) fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let whole = self.full.partition_point(|piece| piece.last().is_some_and(&is_before));
        let piece = self.full.get(whole).unwrap_or(&self.last);
        whole.saturating_mul(PIECE).saturating_add(piece.partition_point(is_before))
    }
}

impl<T> FromIterator<T> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut rows = Self::default();
        items.into_iter().for_each(|item| rows.push(item));
        rows
    }
}

/// A hash table of places: small tables, which of them by some bits of the hash.
pub(super) struct Index<T>(Vec<HashTable<T>>);

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T> Index<T> {
    /// An empty one that is made for `count` items.
    pub(super) fn with_capacity(count: usize) -> Self {
        // Chance does not part them evenly.
        let each = count / TABLES;
        Self((0..TABLES).map(|_| HashTable::with_capacity(each + each / 8)).collect())
    }

    /// Of the bits in the middle: a table uses the lowest and the highest itself.
    fn table(hash: u64) -> usize {
        usize::try_from(hash >> 32).unwrap_or_default() % TABLES
    }

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        self.0.get(Self::table(hash))?.find(hash, is_it)
    }

    /// Puts `item` in, in the place of the one that `is_it` holds of, if there is one, and returns that. `rehash` is the
    /// hash of an item.
    pub(super) fn insert(
        &mut self,
        hash: u64,
        item: T,
        is_it: impl Fn(&T) -> bool,
        rehash: impl Fn(&T) -> u64,
    ) -> Option<T> {
        match self.0.get_mut(Self::table(hash))?.entry(hash, is_it, rehash) {
            Entry::Occupied(mut known) => Some(std::mem::replace(known.get_mut(), item)),
            Entry::Vacant(vacant) => {
                VacantEntry::insert(vacant, item);
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_list_in_pieces_reads_like_a_list() {
        let mut rows = Rows::default();
        assert_eq!((rows.len(), rows.last(), rows.partition_point(|_| true)), (0, None, 0));
        for count in 1..=3 * PIECE + 1 {
            rows.push(count);
            let list: Vec<usize> = (1..=count).collect();
            assert_eq!((rows.len(), rows.last()), (count, Some(&count)));
            assert!(rows.iter().eq(&list) && rows.iter().rev().eq(list.iter().rev()));
            assert!(Rows::from_iter(list.clone()).iter().eq(&list));
            for from in 0..=count {
                assert_eq!(rows.get(from), list.get(from));
                assert_eq!(rows.partition_point(|item| *item <= from), from);
                for to in from..=count {
                    assert!(rows.range(from..to).eq(&list[from..to]), "{from}..{to}");
                    assert!(rows.range(from..to).rev().eq(list[from..to].iter().rev()));
                }
            }
        }
        assert_eq!(rows.range(1..usize::MAX).count(), 3 * PIECE);
        *rows.get_mut(PIECE).unwrap() = 0;
        assert_eq!(rows.get(PIECE), Some(&0));
        assert_eq!(rows.pop(), Some(3 * PIECE + 1));
        assert_eq!(rows.last(), Some(&(3 * PIECE)));
    }

    #[test]
    fn a_table_that_grows_looks_at_few_of_what_the_index_holds() {
        let hash = |item: &u64| item.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = Index::default();
        let grown = (0..8000).filter(|item| {
            let looked_at = Cell::new(0);
            let rehash = |known: &u64| {
                looked_at.set(looked_at.get() + 1);
                hash(known)
            };
            index.insert(hash(item), *item, |known| known == item, rehash);
            let most = usize::try_from(*item).unwrap() * 3 / (2 * TABLES) + 16;
            assert!(looked_at.get() <= most, "{item}: {} of {most}", looked_at.get());
            looked_at.get() > 0
        });
        assert!(grown.count() > TABLES, "each has grown");
    }

    #[test]
    fn an_index_finds_what_was_put_in_last_under_a_hash() {
        let hash = |item: &(u64, u8)| item.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = Index::default();
        for round in 0..2 {
            for number in 0..1000 {
                let item = (number, round);
                let before = index.insert(hash(&item), item, |it| it.0 == number, hash);
                assert_eq!(before, (round > 0).then_some((number, 0)));
            }
        }
        for number in 0..1001 {
            let found = index.find(hash(&(number, 0)), |it| it.0 == number);
            assert_eq!(found, (number < 1000).then_some(&(number, 1)));
        }
        let sizes: Vec<_> = index.0.iter().map(HashTable::len).collect();
        assert!(sizes.len() == TABLES && sizes.iter().all(|size| *size > 0), "{sizes:?}");
    }
}
