//! The fold of everything about endpoints.

use super::*;
use uuid::Uuid;

fn id(number: u128) -> EndpointId {
    EndpointId::new(Uuid::from_u128(number))
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn secret(byte: u8) -> Secret {
    Secret::new(&[byte; 32]).unwrap()
}

fn settings(pattern: &str) -> Settings {
    Settings {
        url: "https://shop.example".into(),
        filter: Filter::new(vec![Pattern::parse(pattern).unwrap()]).unwrap(),
        description: None,
    }
}

fn record(event: WebhookEvent) -> WebhookRecord {
    WebhookRecord { actor: "m/test".into(), event }
}

fn created(number: u128, merchant: &str, pattern: &str) -> WebhookRecord {
    record(WebhookEvent::Created(Box::new(Created {
        endpoint: id(number),
        merchant: merchant.into(),
        settings: settings(pattern),
        secret: secret(1),
        origin: Origin::Api,
    })))
}

#[test]
fn each_endpoint_numbers_what_it_admits_from_its_making_on_without_gaps() {
    let mut all = Webhooks::default();
    all.note("m", EventType::Completed, 1);
    all.apply(created(1, "m", "*"), 2, at(2));
    all.apply(created(2, "m", "payment.failed"), 3, at(3));
    all.apply(created(3, "other", "*"), 4, at(4));
    for (sequence, kind) in
        [(5, EventType::Completed), (6, EventType::Failed), (7, EventType::Completed)]
    {
        all.note("m", kind, sequence);
    }
    let admitted =
        |all: &Webhooks| [1, 2, 3].map(|number| all.endpoint(id(number)).unwrap().admitted);
    assert_eq!(admitted(&all), [3, 1, 0]);
    let changed = WebhookEvent::Updated { endpoint: id(2), settings: settings("payment.*") };
    all.apply(record(changed), 8, at(8));
    all.note("m", EventType::Completed, 9);
    assert_eq!(admitted(&all), [4, 2, 0]);
    let second = all.endpoint(id(2)).unwrap();
    assert!(!second.admits(7, EventType::Completed), "by the filter that held then");
    assert!(second.admits(6, EventType::Failed));
    assert!(second.admits(9, EventType::Completed));
    assert!(!second.admits(2, EventType::Failed), "before its making");
}

#[test]
fn a_number_is_found_from_the_nearest_mark() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    // Every other entry makes an event.
    for number in 1..=2 * MARK_EVERY + 5 {
        all.note("m", EventType::Completed, number * 2);
    }
    let endpoint = all.endpoint(id(1)).unwrap();
    assert_eq!(endpoint.mark_before_entry(2), Some((0, 1)));
    assert_eq!(endpoint.mark_before_entry(2 * MARK_EVERY + 1), Some((0, 1)));
    let second = Some((MARK_EVERY, 2 * MARK_EVERY + 1));
    assert_eq!(endpoint.mark_before_entry(2 * MARK_EVERY + 2), second);
    assert_eq!(endpoint.mark_before_number(MARK_EVERY), Some((0, 1)));
    assert_eq!(endpoint.mark_before_number(MARK_EVERY + 1), second);
    assert_eq!(endpoint.mark_before_entry(1), None);
    assert_eq!(endpoint.mark_before_number(0), None);
}

#[test]
fn during_a_rotation_both_secrets_sign_and_then_only_the_new_one() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    let rotated =
        WebhookEvent::Rotated { endpoint: id(1), secret: secret(2), old_until: at(1_000) };
    all.apply(record(rotated), 2, at(2));
    let endpoint = all.endpoint(id(1)).unwrap();
    assert_eq!(endpoint.signing_secrets(at(999)), [secret(2), secret(1)]);
    assert_eq!(endpoint.signing_secrets(at(1_000)), [secret(2)]);
}

#[test]
fn whoever_rotates_twice_can_still_verify_with_the_first_secret() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    let mut rotate = |byte: u8, now: u64| {
        let old_until = at(now + 1_000);
        let rotated = WebhookEvent::Rotated { endpoint: id(1), secret: secret(byte), old_until };
        all.apply(record(rotated), u64::from(byte), at(now));
        all.endpoint(id(1)).unwrap().clone()
    };
    rotate(2, 10);
    let twice = rotate(3, 20);
    assert_eq!(twice.signing_secrets(at(21)), [secret(3), secret(2), secret(1)]);
    assert_eq!(twice.signing_secrets(at(1_010)), [secret(3), secret(2)]);
    assert_eq!(rotate(4, 2_000).signing_secrets(at(2_001)), [secret(4), secret(3)]);
    let often = (5..30).map(|byte| rotate(byte, 2_100)).last().unwrap();
    assert_eq!(often.signing_secrets(at(2_101)).len(), 1 + OLD_SECRETS_MAX);
    assert_eq!(rotate(31, 3_100).old_secrets, [(secret(29), at(4_100))], "the others are over");
}

#[test]
fn what_cannot_follow_is_refused() {
    let mut all = Webhooks::default();
    let enabled = record(WebhookEvent::Enabled { endpoint: id(1) });
    assert_eq!(all.check(&enabled, 2), Err(Misfit::NoSuchEndpoint(id(1))));
    all.apply(created(1, "m", "*"), 1, at(1));
    assert_eq!(all.check(&enabled, 2), Ok(()));
    assert_eq!(all.check(&created(1, "m", "*"), 2), Err(Misfit::EndpointExists(id(1))));
    all.apply(created(2, "m", "*"), 2, at(2));
    let full = Misfit::TooManyEndpoints { merchant: "m".into(), count: 2 };
    assert_eq!(all.check(&created(3, "m", "*"), 2), Err(full));
    assert_eq!(all.check(&created(3, "other", "*"), 2), Ok(()));
    all.apply(record(WebhookEvent::Deleted { endpoint: id(1) }), 3, at(3));
    assert_eq!(all.check(&created(3, "m", "*"), 2), Ok(()));
    assert_eq!(all.of_merchant("m").count(), 1);
}

#[test]
fn a_merchant_with_all_its_endpoints_keeps_no_configured_one_out() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    let mut configured = created(2, "m", "*");
    if let WebhookEvent::Created(created) = &mut configured.event {
        created.origin = Origin::Config;
    }
    assert_eq!(all.check(&configured, 1), Ok(()));
}

#[test]
fn a_stored_fold_goes_on_as_if_it_had_never_been_stored() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    all.note("m", EventType::Completed, 2);
    let stored = serde_json::to_string(&all).unwrap();
    let mut restored: Webhooks = serde_json::from_str(&stored).unwrap();
    assert_eq!(all, restored);
    for fold in [&mut all, &mut restored] {
        fold.note("m", EventType::Failed, 3);
        fold.apply(record(WebhookEvent::Deleted { endpoint: id(9) }), 4, at(4));
    }
    assert_eq!(all, restored);
}

#[test]
fn a_filter_can_be_changed_only_so_often() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    let changed = |sequence: u64| {
        let pattern = if sequence.is_multiple_of(2) { "payment.failed" } else { "*" };
        record(WebhookEvent::Updated { endpoint: id(1), settings: settings(pattern) })
    };
    let most = u64::try_from(FILTERS_MAX).unwrap();
    for sequence in 0..=most {
        all.apply(changed(1), sequence, at(sequence));
    }
    let filter = Some(settings("*").filter);
    assert_eq!(all.endpoint(id(1)).unwrap().filter(), filter.as_ref(), "it is the same still");
    for sequence in 2..=most {
        assert_eq!(all.check(&changed(sequence), 2), Ok(()), "{sequence}");
        all.apply(changed(sequence), sequence, at(sequence));
    }
    assert_eq!(all.check(&changed(most + 1), 2), Err(Misfit::TooManyFilters(id(1))));
    let numbering = all.endpoint(id(1)).unwrap().numbering();
    let admitted = [1, 2, 3, 4].map(|sequence| numbering.admits(sequence, EventType::Completed));
    assert_eq!(admitted, [false, true, false, true]);
    assert_eq!(all.check(&record(WebhookEvent::Enabled { endpoint: id(1) }), 2), Ok(()));
}

#[test]
fn what_waits_for_an_endpoint_is_what_was_not_looked_at_and_what_is_open() {
    let mut all = Webhooks::default();
    all.apply(created(1, "m", "*"), 1, at(1));
    (2..=6).for_each(|sequence| all.note("m", EventType::Completed, sequence));
    let waiting = |all: &Webhooks| all.endpoint(id(1)).unwrap().waiting();
    assert_eq!(waiting(&all), 5);
    let progressed = Change {
        endpoint: id(1),
        generation: 0,
        through: 3,
        cursor: 4,
        open: vec![(2, Open::new(3))],
        closed: vec![],
        died: vec![],
        delivered: 2,
        failed: 0,
        failing_since: None,
    };
    all.apply(record(WebhookEvent::Progressed(vec![progressed])), 7, at(7));
    assert_eq!(waiting(&all), 3);
}

#[test]
fn a_courier_sees_by_the_revision_whether_it_has_to_look_again() {
    let mut all = Webhooks::default();
    let mut last = all.revision();
    let mut grew = |all: &Webhooks| {
        let grew = all.revision() > last;
        last = all.revision();
        grew
    };
    all.apply(created(1, "m", "payment.failed"), 1, at(1));
    assert!(grew(&all));
    all.note("m", EventType::Completed, 2);
    assert!(!grew(&all), "nobody wants it");
    all.note("m", EventType::Failed, 3);
    assert!(grew(&all));
    all.apply(record(WebhookEvent::Progressed(vec![])), 4, at(4));
    assert!(!grew(&all), "couriers report it themselves");
    let before = all.endpoint(id(1)).unwrap().revision;
    all.apply(record(WebhookEvent::Enabled { endpoint: id(1) }), 5, at(5));
    assert!(grew(&all) && all.endpoint(id(1)).unwrap().revision > before);
    assert_eq!(all.endpoint(id(1)).unwrap().updated_at, at(5));
}

#[test]
fn merchants_are_told_why_an_endpoint_gets_nothing_in_one_word() {
    use DisabledBecause::{Asked, Failing, Gone};
    assert_eq!([Asked, Gone, Failing].map(DisabledBecause::name), ["requested", "gone", "failing"]);
}
