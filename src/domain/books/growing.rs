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
pub(super) struct Rows<T>(Vec<Vec<T>>);

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Rows<T> {
    pub(super) fn len(&self) -> usize {
        let last = self.0.last().map_or(0, Vec::len);
        self.0.len().saturating_sub(1).saturating_mul(PIECE).saturating_add(last)
    }

    pub(super) fn get(&self, place: usize) -> Option<&T> {
        self.0.get(place / PIECE)?.get(place % PIECE)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.0.get_mut(place / PIECE)?.get_mut(place % PIECE)
    }

    pub(super) fn last(&self) -> Option<&T> {
        self.0.last()?.last()
    }

    pub(super) fn push(&mut self, item: T) {
        match self.0.last_mut() {
            Some(piece) if piece.len() < PIECE => piece.push(item),
            _ => self.0.push(vec![item]),
        }
    }

    /// Takes the last one off.
    #[cfg(test)]
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.0.last_mut()?.pop();
        self.0.pop_if(|piece| piece.is_empty());
        item
    }

    /// The items at these places, as far as there are such.
    pub(super) fn range(&self, places: Range<usize>) -> impl DoubleEndedIterator<Item = &T> {
        (places.start..places.end.min(self.len())).filter_map(|place| self.get(place))
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.0.iter().flatten()
    }

    /// How many items lie before the first that `is_before` does not hold of; it holds of those alone.
    pub(super) fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        let whole = self.0.partition_point(|piece| piece.last().is_some_and(&is_before));
        let within = self.0.get(whole).map_or(0, |piece| piece.partition_point(is_before));
        // The last piece may be before it as a whole, and not be full.
        whole.saturating_mul(PIECE).saturating_add(within).min(self.len())
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
        Self((0..TABLES).map(|_| HashTable::with_capacity(count / TABLES)).collect())
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
