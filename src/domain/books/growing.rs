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

/// A hash table of places: small tables, which of them by some bits of the hash. Beside each place stands half of its
/// hash, so that nothing but the table is looked at when it grows, and hardly ever a place that is not the one looked for.
pub(super) struct Index<T>(Vec<HashTable<Placed<T>>>);

struct Placed<T> {
    half: u32,
    item: T,
}

/// Where something with this hash is: in which table, and by which half of it.
fn place(hash: u64) -> (usize, u32) {
    let table = usize::try_from(hash >> 32).unwrap_or_default() % TABLES;
    (table, u32::try_from(hash & u64::from(u32::MAX)).unwrap_or_default())
}

/// A whole hash for a table, which uses the highest bits and the lowest, of a half.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

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

    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&T) -> bool) -> Option<&T> {
        let (table, half) = place(hash);
        let same = |known: &Placed<T>| known.half == half && is_it(&known.item);
        self.0.get(table)?.find(spread(half), same).map(|known| &known.item)
    }

    /// Puts `item` in, in the place of the one that `is_it` holds of, if there is one, and returns that.
    pub(super) fn insert(&mut self, hash: u64, item: T, is_it: impl Fn(&T) -> bool) -> Option<T> {
        let (table, half) = place(hash);
        let same = |known: &Placed<T>| known.half == half && is_it(&known.item);
        match self.0.get_mut(table)?.entry(spread(half), same, |known| spread(known.half)) {
            Entry::Occupied(mut known) => Some(std::mem::replace(&mut known.get_mut().item, item)),
            Entry::Vacant(vacant) => {
                VacantEntry::insert(vacant, Placed { half, item });
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

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
    fn an_index_spreads_over_its_tables_and_each_over_its_buckets() {
        let mut index = Index::default();
        for item in 0..8000_u64 {
            index.insert(item.wrapping_mul(0x9E37_79B9_7F4A_7C15), item, |known| *known == item);
        }
        for table in &index.0 {
            let even = 8000 / TABLES;
            assert!((even / 2..even * 2).contains(&table.len()), "{} of {even}", table.len());
            // What a table tells its items apart by, without looking at them.
            let tags: HashSet<u64> = table.iter().map(|known| spread(known.half) >> 57).collect();
            let buckets: HashSet<u64> =
                table.iter().map(|known| spread(known.half) % 1024).collect();
            assert!(tags.len() > 100 && buckets.len() > 512, "{} {}", tags.len(), buckets.len());
        }
    }

    #[test]
    fn items_of_the_same_hash_are_told_apart_and_one_of_another_hash_is_not_asked() {
        let mut index = Index::default();
        assert_eq!(index.insert(7, 'a', |_| false), None);
        assert_eq!(index.insert(7, 'b', |known| *known == 'b'), None);
        assert_eq!(index.find(7, |known| *known == 'a'), Some(&'a'));
        assert_eq!(index.find(7, |known| *known == 'b'), Some(&'b'));
        let unlike = [7 ^ 1 << 31, 7 ^ 1 << 32];
        assert_eq!(unlike.map(|hash| index.find(hash, |_| true)), [None; 2]);
    }

    #[test]
    fn an_index_finds_what_was_put_in_last_under_a_hash() {
        let hash = |item: &(u64, u8)| item.0.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut index = Index::default();
        for round in 0..2 {
            for number in 0..1000 {
                let item = (number, round);
                let before = index.insert(hash(&item), item, |it| it.0 == number);
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
