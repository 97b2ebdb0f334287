//! What a search and a list together say of a PaymentIntent that an attempt may have made.

use super::*;

#[actix_rt::test]
async fn what_the_search_does_not_find_is_looked_for_in_the_list() {
    let call = authorize();
    let page = |ids: &[&str], more| list(ids, &call, more);
    let first = "GET /v1/payment_intents?created%5Bgte%5D=1794999700&limit=100";
    let second =
        "GET /v1/payment_intents?created%5Bgte%5D=1794999700&starting_after=other_2&limit=100";
    let none = || page(&[], false);
    let endless = || (0..10).map(|_| page(&["other_1"], true));

    let says = vec![
        none(),
        page(&["other_1", "other_2"], true),
        page(&["pi_1"], false),
        intent("succeeded", 50_000),
    ];
    let (stripe, heard) = provider(says);
    assert_eq!(stripe.look_up(&call).await, done("pi_1", 500));
    assert_eq!(lines(&heard)[1..], [first, second, "GET /v1/payment_intents/pi_1"]);

    for says in [
        vec![none(), page(&["other_1"], false)],
        vec![no(404, ""), page(&["other_1"], false)],
        vec![no(404, ""), no(400, ""), none()],
    ] {
        let (stripe, _heard) = provider(says);
        assert_eq!(stripe.look_up(&call).await, Answer::Absent);
    }
    // Only the search is whole: it counts once it can't be behind any more.
    let quiet_for = SEARCH_BEHIND_MAX;
    for has_a_list in [true, false] {
        let says = || match has_a_list {
            true => [none()].into_iter().chain(endless()).collect(),
            false => vec![none(), no(404, ""), no(404, "")],
        };
        let (stripe, _heard) = provider(says());
        assert_eq!(stripe.look_up(&Call { quiet_for, ..call.clone() }).await, Answer::Absent);
        let (stripe, _heard) = provider(says());
        let quiet_for = quiet_for - Duration::from_millis(1);
        let answer = stripe.look_up(&Call { quiet_for, ..call.clone() }).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
    for says in [
        vec![no(500, "")],
        vec![no(429, "rate_limit")],
        vec![Say::Close],
        vec![none(), no(500, "")],
        vec![no(404, ""), no(404, ""), no(404, "")],
        vec![no(404, ""), page(&[], true)],
        [no(404, "")].into_iter().chain(endless()).collect(),
    ] {
        let (stripe, _heard) = provider(says);
        let answer = stripe.look_up(&call).await;
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
}
