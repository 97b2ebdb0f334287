//! What clients see of one idempotency key, all at once, is what they would see if their requests came one after the
//! other, in an order that keeps to real time: the first makes the payment, those for the same get its answer, those for
//! something else are refused.
//!
//! `HISTORIES=n` makes n histories instead of 300.

use crate::{server::TestServer, wait::at_once};
use std::time::Instant;

/// A request under the key, and what came of it.
#[derive(Clone, Debug)]
struct Operation {
    /// Which payment it was to make.
    wish: i64,
    began: Instant,
    ended: Instant,
    seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Made(Vec<u8>),
    Replayed(Vec<u8>),
    Refused,
}

/// Whether some order of `left`, each put where it could have happened, is one that a key allows on which `known` is.
fn is_linearizable(left: &[Operation], known: Option<&(i64, Vec<u8>)>) -> bool {
    // What comes first began before anything else had ended.
    let Some(first_end) = left.iter().map(|operation| operation.ended).min() else { return true };
    let mut could_be_first = (0..left.len()).filter(|place| left[*place].began <= first_end);
    let without = |place: usize| {
        let mut rest = left.to_vec();
        (rest.swap_remove(place), rest)
    };
    let Some((wish, first)) = known else {
        return could_be_first.any(|place| match without(place) {
            (Operation { wish, seen: Seen::Made(answer), .. }, rest) => {
                is_linearizable(&rest, Some(&(wish, answer)))
            }
            _ => false,
        });
    };
    // From here on nothing changes, so any that could be next may be taken.
    let (next, rest) = without(could_be_first.next().expect("the one that ended first"));
    let fits = match &next.seen {
        Seen::Made(_) => false,
        Seen::Replayed(answer) => *wish == next.wish && first == answer,
        Seen::Refused => *wish != next.wish,
    };
    fits && is_linearizable(&rest, known)
}

fn operation(wish: i64, (began, ended): (u64, u64), seen: Seen, start: Instant) -> Operation {
    let after = |millis| start + std::time::Duration::from_millis(millis);
    Operation { wish, began: after(began), ended: after(ended), seen }
}

#[test]
fn a_history_that_no_order_explains_is_told_from_one_that_some_order_does() {
    let start = Instant::now();
    let (made, again) = (Seen::Made(b"a".into()), Seen::Replayed(b"a".into()));
    let judged = |operations: &[(i64, (u64, u64), Seen)]| {
        let made = |(wish, span, seen): &(i64, (u64, u64), Seen)| {
            operation(*wish, *span, seen.clone(), start)
        };
        is_linearizable(&operations.iter().map(made).collect::<Vec<_>>(), None)
    };
    assert!(judged(&[(1, (0, 9), again.clone()), (1, (1, 8), made.clone())]));
    assert!(judged(&[
        (2, (3, 9), Seen::Refused),
        (1, (0, 4), made.clone()),
        (1, (5, 6), again.clone())
    ]));
    // Made twice; answered otherwise; refused for the same; answered for another; known before it was made; never made.
    let other = Seen::Replayed(b"b".into());
    assert!(!judged(&[(1, (0, 9), made.clone()), (1, (1, 8), made.clone())]));
    assert!(!judged(&[(1, (0, 9), made.clone()), (1, (1, 8), other)]));
    assert!(!judged(&[(1, (0, 9), made.clone()), (1, (1, 8), Seen::Refused)]));
    assert!(!judged(&[(1, (0, 9), made.clone()), (2, (1, 8), again.clone())]));
    assert!(!judged(&[(1, (0, 1), again.clone()), (1, (2, 8), made.clone())]));
    assert!(!judged(&[(2, (0, 1), Seen::Refused), (1, (2, 8), made)]));
    assert!(!judged(&[(1, (0, 1), again)]));
}

#[test]
fn what_all_clients_see_of_a_key_could_have_come_one_after_the_other() {
    let count = std::env::var("HISTORIES").map_or(300, |count| count.parse().unwrap());
    let server = TestServer::start();
    // Each goes through all keys, twice under each, so that some are at one together and some come late.
    let clients = at_once(6, |number| {
        let client = server.client("sk_test_merchant_1");
        let mut operations = Vec::with_capacity(count * 2);
        for history in 0..count {
            for again in 0..2 {
                // Mostly the same payment, now and then another one.
                let wish = if (history * 7 + number * 5 + again * 3) % 11 < 3 { 2 } else { 1 };
                let began = Instant::now();
                let answer = client.charge(&format!("key-{history}"), wish);
                let seen = match (answer.status, answer.is_replay()) {
                    (201, false) => Seen::Made(answer.body),
                    (201, true) => Seen::Replayed(answer.body),
                    _ => {
                        answer.problem(422, "idempotency_key_reused");
                        Seen::Refused
                    }
                };
                operations.push(Operation { wish, began, ended: Instant::now(), seen });
            }
        }
        operations
    });
    let mut together = 0;
    for history in 0..count {
        let own = clients.iter().flat_map(|client| &client[history * 2..history * 2 + 2]);
        let own: Vec<Operation> = own.cloned().collect();
        let overlaps =
            |a: &Operation| own.iter().filter(|b| b.began < a.ended && a.began < b.ended).count();
        together += usize::from(own.iter().any(|operation| overlaps(operation) > 1));
        assert!(is_linearizable(&own, None), "key-{history}: {own:#?}");
    }
    println!("{count} histories of 12 requests, {together} with requests at the same time");
    assert!(together > 0, "never two requests at the same time");
    server.admin().reconciles();
}
