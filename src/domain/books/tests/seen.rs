//! What operators and merchants look at: doubts, deeds, strays, lists, accounts.

use super::*;
use crate::domain::{
    access::{AccessEvent, AccessRecord},
    event::Action,
    id::{EndpointId, Kind},
    webhook::{
        Created, EventType, Filter as Wanted, Origin, Pattern, Progress, Queue, Schedule, Secret,
        Settings, Terms, WebhookEvent, WebhookRecord,
    },
};

fn millis(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn submit(number: u8) -> Command {
    Command::Submit { details: details(number, 300), outcome: Some(approved()) }
}

fn ask(provider: &str, change: Command) -> Command {
    Command::Ask { provider: provider.into(), change: Box::new(change) }
}

fn refund(units: i64) -> Command {
    Command::Refund { amount: Amount::new(units), reason: None }
}

fn access(actor: &str, event: AccessEvent) -> Record {
    Record::Access(AccessRecord { actor: actor.into(), event })
}

fn endpoint() -> EndpointId {
    EndpointId::new(Uuid::from_u128(1))
}

fn made_endpoint(actor: &str) -> Record {
    let made = Created {
        endpoint: endpoint(),
        merchant: "south".into(),
        settings: Settings {
            url: "https://shop.example".into(),
            filter: Wanted::new(vec![Pattern::Exactly(EventType::Completed)]).unwrap(),
            description: None,
        },
        secret: Secret::new(&[1; 32]).unwrap(),
        origin: Origin::Api,
    };
    let event = WebhookEvent::Created(Box::new(made));
    Record::Webhook(WebhookRecord { actor: actor.into(), event })
}

#[test]
fn what_is_in_doubt_is_added_up_by_provider_and_currency_since_the_oldest() {
    let mut desk = Desk::default();
    // Payments 1 and 7 are in JPY and taken at once, 3 is in EUR.
    for (number, command, at) in [
        (5, submit(5), 1),
        (1, submit(1), 1),
        (7, submit(7), 2),
        (3, Command::Initiate(details(3, 300)), 3),
        (7, ask("one", refund(30)), 4),
        (1, ask("one", refund(40)), 5),
        (1, ask("one", refund(5)), 6),
        (1, ask("two", refund(6)), 7),
    ] {
        assert!(desk.command(number, command, at));
    }
    let doubts: Vec<_> = desk.books.doubts().into_iter().collect();
    let doubt = |provider: &str, currency, amount, attempts, since| {
        let place = (provider.into(), Currency::for_payment(currency).unwrap());
        (place, Doubt { amount, attempts, since: Some(millis(since)) })
    };
    let expected = [
        doubt("one", "JPY", 75, 3, 4),
        doubt("sandbox", "EUR", 300, 1, 3),
        doubt("two", "JPY", 6, 1, 7),
    ];
    assert_eq!(doubts, expected);
    let waiting: Vec<_> = desk.books.in_doubt().map(|history| history.details.id).collect();
    assert_eq!((waiting, desk.books.in_doubt_count()), (vec![id(1), id(7), id(3)], 3));
}

#[test]
fn a_payment_that_was_noted_waits_for_a_person_and_its_hold_does_not_lapse_meanwhile() {
    let mut desk = Desk::default();
    assert!(desk.command(4, submit(4), 1) && desk.command(2, submit(2), 2));
    let lapsed = |books: &Books, at| -> Vec<PaymentId> {
        books.lapsed(millis(at)).map(|history| history.details.id).collect()
    };
    assert_eq!((lapsed(&desk.books, 50), desk.books.in_review_count()), (vec![], 0));
    assert_eq!(lapsed(&desk.books, 51), [id(4)]);
    assert_eq!(lapsed(&desk.books, 52), [id(4), id(2)]);
    let evidence = Evidence::Webhook("evt_1".into());
    let note = Command::Note(Note::Contradicted { evidence, what: "it says otherwise".into() });
    assert!(desk.command(4, note, 3));
    assert_eq!((lapsed(&desk.books, 52), desk.books.in_review_count()), (vec![id(2)], 1));
    assert!(desk.command(2, ask("one", Command::Void), 4));
    assert_eq!(lapsed(&desk.books, 52), [], "nor does one that something is out about");
    let needs = |needs| {
        let filter = Filter { needs_review: Some(needs), ..Filter::default() };
        let page = desk.books.list(&filter, None, 9).unwrap();
        page.histories.iter().map(|history| history.details.id).collect::<Vec<_>>()
    };
    assert_eq!((needs(true), needs(false)), (vec![id(4)], vec![id(2)]));
}

#[test]
fn what_admins_did_is_listed_newest_first_and_what_others_did_is_not() {
    let mut desk = Desk::default();
    let merchant = AccessEvent::MerchantMade { id: "east".into(), name: None };
    desk.write(access("admin/key_1", merchant), millis(1));
    desk.write(made_endpoint("south/key_2"), millis(2));
    desk.write(made_endpoint("admin/key_1"), millis(3));
    assert!(desk.command(2, submit(2), 4));
    let payment = desk.books.history(id(2)).unwrap().payment();
    let voided = payment::decide(&payment, Command::Void, millis(5)).unwrap();
    let by_admin = PaymentRecord { actor: "admin/key_1".into(), ..record(&payment, voided) };
    desk.write(Record::Payment(by_admin), millis(5));
    let held = Payment::pending(details(4, 300), None);
    let submitted = Event::Submitted { details: details(4, 300), outcome: Some(approved()) };
    let by_admin = PaymentRecord { actor: "admin/key_1".into(), ..record(&held, submitted) };
    desk.write(Record::Payment(by_admin), millis(6));
    let deeds = |before| {
        let deeds = desk.books.deeds(before);
        deeds.map(|deed| (deed.sequence, deed.action, deed.subject)).collect::<Vec<_>>()
    };
    let all = [
        (6, "payment authorized".to_owned(), id(4).to_string()),
        (5, "payment voided".to_owned(), id(2).to_string()),
        (3, "webhook endpoint created".to_owned(), endpoint().to_string()),
        (1, "merchant made".to_owned(), "east".to_owned()),
    ];
    assert_eq!(deeds(Sequence::MAX), all);
    assert_eq!(deeds(5), all[2..]);
    assert_eq!(deeds(1), []);
    assert!(desk.books.deeds(9).all(|deed| &*deed.actor == "admin/key_1"));
    assert!(desk.books.access().merchant("east").is_some());
}

#[test]
fn money_of_no_payment_is_known_again_by_its_event_or_by_what_was_said_of_it() {
    let stray = |provider: &str, event: &str, reference: &str, what: &str| Stray {
        provider: provider.into(),
        event: event.into(),
        reference: reference.into(),
        what: what.into(),
    };
    let mut desk = Desk::default();
    desk.write(Record::Stray(stray("p", "evt_0", "r_0", "took 5")), millis(1));
    for (known, other) in [
        (true, stray("p", "evt_0", "r_9", "gave 9")),
        (true, stray("p", "evt_9", "r_0", "took 5")),
        (false, stray("q", "evt_0", "r_0", "took 5")),
        (false, stray("p", "evt_9", "r_0", "gave 9")),
        (false, stray("p", "evt_9", "r_9", "took 5")),
    ] {
        assert_eq!(desk.books.knows_stray(&other), known, "{other:?}");
    }
    // The last thousand are remembered.
    let numbered = |number: u64| stray("p", &format!("evt_{number}"), &number.to_string(), "");
    for number in 1..=1000 {
        assert!(desk.books.knows_stray(&stray("p", "evt_0", "", "")));
        desk.write(Record::Stray(numbered(number)), millis(2));
    }
    assert!(!desk.books.knows_stray(&stray("p", "evt_0", "", "")), "the oldest leaves");
    assert!(desk.books.knows_stray(&numbered(1)) && desk.books.knows_stray(&numbered(1000)));
}

#[test]
fn an_account_is_seen_by_its_merchant_and_by_admins() {
    let mut desk = Desk::default();
    // Payment 1 is of a customer without a name, payment 3 of `anna`; both are the merchant `south`'s.
    assert!(desk.command(1, submit(1), 1) && desk.command(3, submit(3), 2));
    assert!(desk.command(1, ask("one", refund(30)), 3));
    let seen = |name: &str, merchant| desk.books.accounts_named(name, merchant).len();
    let (own, annas) = (format!("customer:{}", id(1)), format!("customer:{}", id(3)));
    for (name, admin, south, north) in [
        ("merchant:south", 1, 1, 0),
        ("merchant:north", 0, 0, 0),
        ("in_doubt:one", 1, 0, 0),
        ("in_doubt:two", 0, 0, 0),
        ("customer:anna", 1, 1, 0),
        ("customer:bert", 0, 0, 0),
        (&own, 1, 1, 0),
        (&annas, 0, 0, 0),
        ("anna", 0, 0, 0),
    ] {
        let found = (seen(name, None), seen(name, Some("south")), seen(name, Some("north")));
        assert_eq!(found, (admin, south, north), "{name}");
    }
}

#[test]
fn an_accounts_lines_go_on_behind_the_last_one_that_was_seen() {
    let mut desk = Desk::default();
    assert!(desk.command(1, submit(1), 1));
    assert!(desk.command(1, refund(10), 2) && desk.command(1, refund(20), 3));
    let accounts = [Account::PaymentCustomer(id(1)), Account::Merchant("south".into())];
    for (account, index, sign) in accounts
        .into_iter()
        .zip([0, 1])
        .zip([-1, 1])
        .map(|((account, index), sign)| (account, index, sign))
    {
        let lines: Vec<Line> = desk.books.lines(&account, Cut::Now, None).collect();
        let amounts: Vec<i64> = lines.iter().map(|line| line.amount * sign).collect();
        assert_eq!(amounts, [-20, -10, 300]);
        let kinds = |line: &Line| (line.id.kind, line.id.index, line.transaction.kind);
        assert!(lines.iter().all(|it| kinds(it) == (Kind::LedgerEntry, index, Kind::Transaction)));
        let sequences: Vec<Sequence> = lines.iter().map(|line| line.sequence).collect();
        assert_eq!(sequences, [3, 2, 1]);
        for (place, line) in lines.iter().enumerate() {
            let before = Some((line.sequence, line.id.index));
            let rest: Vec<Line> = desk.books.lines(&account, Cut::Now, before).collect();
            assert_eq!(rest, lines[place + 1..]);
        }
    }
}

#[test]
fn a_payment_as_of_then_is_what_its_events_up_to_then_made() {
    let mut desk = Desk::default();
    assert!(desk.command(2, submit(2), 7) && desk.command(2, Command::Void, 9));
    let history = desk.books.history(id(2)).unwrap();
    let status = |cut| history.payment_as_of(cut).map(|payment| payment.status);
    assert_eq!(status(Cut::Time(millis(6))), None);
    assert_eq!(status(Cut::Time(millis(8))), Some(Status::Authorized));
    assert_eq!(status(Cut::Sequence(2)), Some(Status::Voided));
}

#[test]
fn a_payment_is_the_providers_who_was_asked_last_to_authorize_it() {
    let mut desk = Desk::default();
    assert!(desk.command(3, Command::Initiate(details(3, 300)), 1));
    let provider = |books: &Books| books.history(id(3)).unwrap().provider().to_string();
    assert_eq!(provider(&desk.books), "sandbox");
    for (next, at) in [("two", 2), ("three", 3)] {
        let decline = Decline::ProviderUnavailable;
        let outcome = Outcome::DeclinedBy { decline, code: "c".into() };
        let evidence = Evidence::Reply;
        // The last attempt, by its place.
        let reroute = Command::Reroute { attempt: at, outcome, evidence, next: next.into() };
        assert!(desk.command(3, reroute, at) && provider(&desk.books) == next, "{next}");
    }
    assert!(desk.books.in_doubt().all(|it| it.payment().attempts.len() == 3));
}

#[test]
fn a_courier_gets_what_its_endpoint_wants_and_no_more_than_it_looks_at() {
    let mut desk = Desk::default();
    desk.write(made_endpoint("admin/key_1"), millis(1));
    // Those of odd numbers are the merchant `south`'s, and completed.
    for number in 0..8 {
        assert!(desk.command(number, submit(number), u64::from(number) + 2));
    }
    assert!(desk.command(1, refund(10), 20));
    let terms = Terms {
        schedule: Schedule { waits_ms: vec![5], jitter_percent: 0 },
        concurrency: 8,
        backlog: 20,
        disable_after_ms: 1000,
    };
    let mut queue = Queue::new(endpoint(), terms.clone(), Progress::after(1), |_| None);
    let feed = |queue: &mut Queue, scan| {
        let got_on = desk.books.feed_into(queue, endpoint(), millis(30), scan);
        (got_on, queue.progress().through, queue.progress().cursor)
    };
    assert_eq!(feed(&mut queue, 0), (false, 0, 1), "it looked at nothing");
    assert_eq!(feed(&mut queue, 3), (true, 3, 7));
    assert_eq!(feed(&mut queue, 3), (true, 4, 10), "a refund is not wanted, but looked at");
    assert_eq!(feed(&mut queue, 3), (false, 4, 10), "there is nothing more");
    let up_to_the_last = Progress { through: 4, ..Progress::after(9) };
    let mut has_all = Queue::new(endpoint(), terms, up_to_the_last, |_| None);
    assert_eq!(feed(&mut has_all, 3), (false, 4, 9), "what it does not want is not looked at");
    queue.rewind((1, 1), |_| None);
    assert_eq!(feed(&mut queue, 3), (false, 0, 1), "the books know of no replay");
    let first = |time| desk.books.first_event_at("south", millis(time));
    assert_eq!((first(0), first(3), first(4), first(21)), (Some(3), Some(3), Some(5), None));
    let of_south = EventFilter { merchant: Some("south".into()), types: None };
    let list = |direction| -> Vec<Sequence> {
        let (found, on) = desk.books.events(&of_south, direction, (9, 9));
        assert_eq!(on, None);
        found.iter().map(|event| event.step.sequence).collect()
    };
    assert_eq!(list(Direction::NewestFirst { before: 9 }), [7, 5, 3]);
    assert_eq!(list(Direction::OldestFirst { after: 7 }), [9, 10]);
    assert!(desk.reconcile().balanced(), "each endpoint is told of as many events as it wants");
}

#[test]
fn a_hold_that_something_is_out_about_is_in_doubt_as_a_whole() {
    let out = |action| {
        let mut desk = Desk::default();
        assert!(desk.command(2, submit(2), 1) && desk.command(2, ask("one", action), 2));
        let payment = desk.books.history(id(2)).unwrap().payment();
        let attempt = payment.out().next().unwrap();
        (attempt.ask.action, attempt.in_doubt(&payment.details))
    };
    let (capture, held) = out(Command::Capture(Amount::new(100)));
    assert!(matches!(capture, Action::Capture { released: 200, .. }));
    assert_eq!((held, out(Command::Void).1), (300, 300));
}

#[test]
fn an_account_counts_once_in_each_currency_that_it_was_used_in() {
    let mut desk = Desk::default();
    // Payment 1 has a customer of its own, 3 and 9 are of `anna`: 1 in JPY, 3 and 9 in EUR.
    for number in [1, 3, 9] {
        assert!(desk.command(number, submit(number), 1));
    }
    assert!(desk.command(1, refund(10), 2) && desk.command(1, refund(10), 3));
    let counted = desk.books.trial_balance().iter();
    let counted: Vec<_> =
        counted.map(|((kind, currency), total)| (*kind, currency.code(), total.accounts)).collect();
    let (customer, merchant) = (AccountKind::Customer, AccountKind::Merchant);
    let expected =
        [(customer, "EUR", 1), (customer, "JPY", 1), (merchant, "EUR", 1), (merchant, "JPY", 1)];
    assert_eq!(counted, expected);
    let south = desk.books.account_book(&Account::Merchant("south".into())).unwrap();
    let posted: Vec<i128> = south.balances().values().map(|balance| balance.posted).collect();
    assert_eq!(posted, [600, 280]);
}

#[test]
fn what_cannot_follow_about_access_and_webhooks_is_refused_and_what_is_kept_is_kept_as_it_was() {
    let mut desk = Desk::default();
    let made = || AccessEvent::MerchantMade { id: "east".into(), name: None };
    desk.write(access("admin/key_1", made()), millis(1));
    desk.write(made_endpoint("south/key_2"), millis(2));
    let again = AccessRecord { actor: "admin/key_1".into(), event: made() };
    assert!(matches!(desk.books.check_access(&again), Err(Breach::Access(_))));
    let Record::Webhook(endpoint) = made_endpoint("south/key_2") else { panic!("another record") };
    assert!(matches!(desk.books.check_webhook(&endpoint, 9), Err(Breach::Webhook(_))));
    let kept = |sequence, record| desk.books.keeps(&Entry { sequence, at: millis(1), record });
    assert!(kept(1, access("admin/key_1", made())));
    assert!(!kept(1, access("admin/key_9", made())) && !kept(3, access("admin/key_1", made())));
}

#[test]
fn names_that_repeat_in_histories_are_held_once() {
    let mut desk = Desk::default();
    for number in [1, 3] {
        assert!(desk.command(number, submit(number), 1));
        assert!(desk.command(number, ask("one", refund(10)), 2));
    }
    let [one, other] = [1, 3].map(|number| desk.books.history(id(number)).unwrap());
    let names = |history: &History| {
        let Event::Asked { ask, .. } = &history.steps()[1].event else { panic!("another event") };
        let details = &history.details;
        let of_details = [&details.merchant, &details.provider, &details.payment_method];
        let others = [&history.steps()[1].actor, &ask.provider];
        of_details.into_iter().chain(others).cloned().collect::<Vec<Arc<str>>>()
    };
    assert!(names(one).iter().zip(&names(other)).all(|(a, b)| Arc::ptr_eq(a, b)));
}

#[test]
fn accountants_are_told_what_was_held_and_what_was_taken() {
    let happened = |number, change: Option<Command>| {
        let mut desk = Desk::default();
        assert!(desk.command(number, submit(number), 1));
        assert!(change.is_none_or(|change| desk.command(number, change, 2)));
        let batch = desk.batches.last().unwrap();
        let Record::Payment(record) = &batch.entries[0].record else { panic!("another record") };
        record.happened()
    };
    assert_eq!(happened(1, None), "charged");
    assert_eq!(happened(2, None), "authorized");
    assert_eq!(happened(2, Some(Command::Capture(None))), "captured");
    assert_eq!(happened(1, Some(ask("one", refund(10)))), "refund asked for");
}

#[test]
fn a_merchant_is_told_what_each_step_came_to_whatever_happened_later() {
    let answer = |attempt, outcome| {
        let evidence = Evidence::Reply;
        Command::Answer { attempt, outcome, evidence }
    };
    let no = || Outcome::DeclinedBy { decline: Decline::ProviderRejected, code: "c".into() };
    let told = |number, commands: &[Command]| -> Vec<Option<EventType>> {
        let mut desk = Desk::default();
        for (command, at) in commands.iter().zip([1, 2, 3, 4, 5, 60, 61]) {
            assert!(desk.command(number, command.clone(), at), "{command:?}");
        }
        let history = desk.books.history(id(number)).unwrap();
        assert_eq!(history.event_at(commands.len()), None);
        assert!(history.payment().created_under.is_some());
        (0..commands.len()).map(|number| history.event_at(number)).collect()
    };
    let capture = || ask("one", Command::Capture(None));
    let (void, expire) = (ask("one", Command::Void), ask("one", Command::Expire));
    // Attempts are named by their place: the hold is the first.
    let held = [submit(2), capture(), answer(1, no()), void, answer(2, no()), expire];
    let held = told(2, &[&held[..], &[answer(3, no())]].concat());
    let (authorized, failed) = (EventType::Authorized, EventType::CaptureFailed);
    let expected = [Some(authorized), None, Some(failed), None, Some(EventType::VoidFailed)];
    assert_eq!((&held[..5], &held[5..]), (&expected[..], &[None, None][..]));
    let initiate = Command::Initiate(details(1, 300));
    let back = || ask("one", refund(10));
    let taken = [initiate, answer(0, approved()), back(), answer(1, no()), back()];
    let taken = told(1, &[&taken[..], &[answer(2, approved())]].concat());
    let completed = Some(EventType::Completed);
    let returned = [Some(EventType::RefundFailed), None, Some(EventType::PartiallyRefunded)];
    assert_eq!((&taken[..3], &taken[3..]), (&[None, completed, None][..], &returned[..]));
}

#[test]
fn a_hold_lapses_by_when_the_provider_gave_it_and_not_by_what_was_answered_later() {
    let mut desk = Desk::default();
    let answer = |attempt, outcome| {
        let evidence = Evidence::LookUp;
        Command::Answer { attempt, outcome, evidence }
    };
    let no = Outcome::DeclinedBy { decline: Decline::ProviderRejected, code: "c".into() };
    let expires_at = |desk: &Desk| desk.books.history(id(2)).unwrap().expires_at();
    assert!(desk.command(2, Command::Initiate(details(2, 300)), 1));
    assert_eq!(expires_at(&desk), None);
    assert!(desk.command(2, answer(0, approved()), 5));
    assert_eq!(expires_at(&desk), Some(millis(55)));
    assert!(desk.command(2, ask("one", Command::Void), 7) && desk.command(2, answer(1, no), 9));
    assert_eq!(expires_at(&desk), Some(millis(55)));
}

#[test]
fn a_key_is_answered_with_all_that_became_known_while_its_client_waited() {
    let told = |commands: &[Command]| {
        let mut desk = Desk::default();
        for command in [&[Command::Initiate(details(1, 300))], commands].concat() {
            assert!(desk.command(1, command.clone(), 1), "{command:?}");
        }
        let key = Key::new(&format!("{}-1", id(1))).unwrap();
        let answered = desk.books.answered("south", &key, Retention::Forever, Timestamp::default());
        answered.map(|answered| answered.version)
    };
    let answer = |attempt, evidence| Command::Answer { attempt, outcome: approved(), evidence };
    let outcome = Outcome::DeclinedBy { decline: Decline::ProcessingError, code: "c".into() };
    let rerouted = |evidence| {
        let outcome = outcome.clone();
        Command::Reroute { attempt: 0, outcome, evidence, next: "two".into() }
    };
    let denied = |evidence| Command::Note(Note::Contradicted { evidence, what: "another".into() });
    let undecided = Command::Note(Note::Undecided { attempt: 1, what: "silence".into() });
    for (version, commands) in [
        (1, vec![]),
        (2, vec![answer(0, Evidence::Reply)]),
        (1, vec![answer(0, Evidence::LookUp)]),
        (3, vec![rerouted(Evidence::Reply), answer(1, Evidence::Reply)]),
        (2, vec![rerouted(Evidence::Reply), answer(1, Evidence::LateReply)]),
        (1, vec![rerouted(Evidence::LateReply), answer(1, Evidence::Reply)]),
        (3, vec![answer(0, Evidence::Reply), denied(Evidence::Reply)]),
        (2, vec![answer(0, Evidence::Reply), denied(Evidence::Webhook("evt_1".into()))]),
        (1, vec![undecided]),
    ] {
        assert_eq!(told(&commands), Some(version), "{commands:?}");
    }
}
