//! Where an event stands in an endpoint's count, found by reading the journal's index from the nearest mark on. The
//! books are held for a slice at a time only, so payments go on meanwhile.

use crate::{
    actors::BooksReader,
    domain::{
        id::{EndpointId, Sequence},
        webhook::Endpoint,
    },
};

const SLICE: usize = 1024;

/// An event at an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number at the endpoint.
    pub number: u64,
    /// The journal entry it is derived from.
    pub sequence: Sequence,
}

/// The first event that the endpoint was admitted from entry `sequence` on.
#[must_use]
pub fn first_from(books: &BooksReader, id: EndpointId, sequence: Sequence) -> Option<Place> {
    let mark = |endpoint: &Endpoint| {
        endpoint.mark_before_entry(sequence).or_else(|| endpoint.mark_before_number(1))
    };
    find(books, id, mark, |place| place.sequence >= sequence)
}

/// The event of that entry, if the endpoint was admitted it.
#[must_use]
pub fn of_entry(books: &BooksReader, id: EndpointId, sequence: Sequence) -> Option<Place> {
    let mark = |endpoint: &Endpoint| endpoint.mark_before_entry(sequence);
    find(books, id, mark, |place| place.sequence >= sequence)
        .filter(|place| place.sequence == sequence)
}

/// The endpoint's event of that number.
#[must_use]
pub fn of_number(books: &BooksReader, id: EndpointId, number: u64) -> Option<Place> {
    find(books, id, |endpoint| endpoint.mark_before_number(number), |place| place.number == number)
}

fn find(
    books: &BooksReader,
    id: EndpointId,
    mark: impl Fn(&Endpoint) -> Option<(u64, Sequence)>,
    is_it: impl Fn(&Place) -> bool,
) -> Option<Place> {
    let (mut number, mut cursor) = mark(books.read().webhooks().endpoint(id)?)?;
    loop {
        let books = books.read();
        let endpoint = books.webhooks().endpoint(id)?;
        let (found, looked) = books.feed(endpoint, cursor, (SLICE, SLICE));
        for next in found {
            number = number.checked_add(1)?;
            let place = Place { number, sequence: next.sequence };
            if is_it(&place) {
                return Some(place);
            }
        }
        if looked == cursor {
            return None;
        }
        cursor = looked;
    }
}
