//! What clients see of one idempotency key, all at once, is what they would see if their requests came one after the
//! other, in an order that keeps to real time: the first makes the payment, those for the same get its answer, those for
//! something else are refused. On a machine that stands still at times some are turned away, which has done nothing, and
//! some hear nothing, which may have made the payment then or later.
//!
//! `HISTORIES=n` makes n histories instead of 300.

use crate::{
    client::Client,
    server::TestServer,
    wait::{at_once, eventually},
};
use serde_json::json;
use std::time::{Duration, Instant};

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
    /// No answer, or one that does not say what was done.
    Nothing,
}

/// What the answer under whose key stands; not known before somebody has seen it.
type Known<'a> = (i64, Option<&'a [u8]>);

/// Whether some order of `left`, each put where it could have happened, is one that a key allows on which `known` is.
fn is_linearizable(left: &[&Operation], known: Option<Known>) -> bool {
    // What comes first began before anything else had ended. What nobody heard the end of may end at any time.
    let heard = left.iter().filter(|operation| operation.seen != Seen::Nothing);
    let Some(first_end) = heard.map(|operation| operation.ended).min() else { return true };
    let mut could_be_first = (0..left.len()).filter(|place| left[*place].began <= first_end);
    let without = |place: usize| {
        let mut rest = left.to_vec();
        (rest.swap_remove(place), rest)
    };
    let Some((wish, first)) = known else {
        return could_be_first.any(|place| {
            let (next, rest) = without(place);
            match &next.seen {
                Seen::Made(answer) => is_linearizable(&rest, Some((next.wish, Some(answer)))),
                Seen::Nothing => is_linearizable(&rest, Some((next.wish, None))),
                Seen::Replayed(_) | Seen::Refused => false,
            }
        });
    };
    // From here on nothing changes, so any that could be next may be taken.
    let (next, rest) = without(could_be_first.next().expect("the one that ended first"));
    let (fits, first) = match &next.seen {
        Seen::Made(_) => (false, first),
        Seen::Replayed(answer) => {
            (wish == next.wish && first.is_none_or(|first| first == answer), Some(&answer[..]))
        }
        Seen::Refused => (wish != next.wish, first),
        Seen::Nothing => (true, first),
    };
    fits && is_linearizable(&rest, Some((wish, first)))
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
        let operations: Vec<_> = operations.iter().map(made).collect();
        is_linearizable(&operations.iter().collect::<Vec<_>>(), None)
    };
    assert!(judged(&[(1, (0, 9), again.clone()), (1, (1, 8), made.clone())]));
    assert!(judged(&[
        (2, (3, 9), Seen::Refused),
        (1, (0, 4), made.clone()),
        (1, (5, 6), again.clone())
    ]));
    // One that nobody heard the end of made it, then or later, or did not.
    let nothing = Seen::Nothing;
    assert!(judged(&[(1, (0, 1), nothing.clone()), (1, (2, 3), again.clone())]));
    assert!(judged(&[(1, (0, 1), nothing.clone()), (1, (2, 3), made.clone())]));
    assert!(judged(&[(1, (0, 1), nothing.clone()), (2, (2, 3), made.clone())]));
    assert!(judged(&[(1, (0, 1), nothing.clone()), (2, (2, 3), Seen::Refused)]));
    assert!(!judged(&[(2, (0, 1), nothing.clone()), (2, (2, 3), Seen::Refused)]));
    assert!(!judged(&[(1, (0, 1), again.clone()), (1, (2, 3), nothing.clone())]));
    assert!(!judged(&[
        (1, (0, 1), nothing.clone()),
        (1, (2, 3), again.clone()),
        (1, (4, 5), Seen::Replayed(b"b".into()))
    ]));
    // Once it is known to be made, it is not made by another.
    assert!(!judged(&[
        (1, (0, 1), nothing),
        (1, (2, 3), again.clone()),
        (1, (4, 5), made.clone())
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

/// The shortest of the server's deadlines, `http.request_deadline_ms` and `http.head_read_timeout_ms`.
const DEADLINE: Duration = Duration::from_secs(5);

/// Asks under a key for a payment of so much. `None`: turned away, and nothing was done. That, or no answer at all, comes
/// to nobody before the server's deadlines.
fn ask(client: &Client, key: &str, wish: i64) -> Option<Operation> {
    let began = Instant::now();
    let body = json!({"amount": wish, "currency": "USD"}).to_string();
    let answer = client.try_post("/api/payments", key, &body);
    let ended = Instant::now();
    let seen = match answer {
        Err(_) => Seen::Nothing,
        Ok(answer) if answer.status == 201 && answer.is_replay() => Seen::Replayed(answer.body),
        Ok(answer) if answer.status == 201 => Seen::Made(answer.body),
        Ok(answer) => match answer.json["code"].as_str() {
            Some("disk_stalled") => return None,
            Some("outcome_unknown") => Seen::Nothing,
            Some("idempotency_key_in_progress" | "body_too_slow") => {
                assert!(ended - began >= DEADLINE, "turned away early: {}", answer.text());
                return None;
            }
            _ => {
                answer.problem(422, "idempotency_key_reused");
                Seen::Refused
            }
        },
    };
    let is_heard = seen != Seen::Nothing;
    assert!(is_heard || ended - began >= DEADLINE, "no answer under {key}");
    Some(Operation { wish, began, ended, seen })
}

/// [`ask`], until there is an answer that says what was done.
fn ask_until_told(client: &Client, key: &str, wish: i64) -> Operation {
    eventually("an answer", || ask(client, key, wish).filter(|it| it.seen != Seen::Nothing))
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
                operations.push(ask(&client, &format!("key-{history}"), wish));
            }
        }
        operations
    });
    let (mut together, mut turned_away, mut unheard) = (0, 0, 0);
    for history in 0..count {
        let own = clients.iter().flat_map(|client| &client[history * 2..history * 2 + 2]);
        let mut own: Vec<Operation> = own.flatten().cloned().collect();
        let heard = own.iter().filter(|it| it.seen != Seen::Nothing).count();
        (turned_away, unheard) = (turned_away + 12 - own.len(), unheard + own.len() - heard);
        if heard < 12 {
            own.push(ask_until_told(&server, &format!("key-{history}"), 1));
        }
        let own: Vec<&Operation> = own.iter().collect();
        let overlaps =
            |a: &Operation| own.iter().filter(|b| b.began < a.ended && a.began < b.ended).count();
        together += usize::from(own.iter().any(|operation| overlaps(operation) > 1));
        assert!(is_linearizable(&own, None), "key-{history}: {own:#?}");
    }
    println!(
        "{count} histories of 12 requests, {together} with requests at the same time; \
         {turned_away} were turned away, {unheard} heard nothing"
    );
    assert!(together > 0, "never two requests at the same time");
    server.admin().reconciles();
}
