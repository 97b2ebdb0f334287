//! The rules of a payment's life, as tables a banker could review.

use super::*;
use crate::domain::{
    event::{Decline, Note},
    id::PaymentId,
    money::Currency,
};
use uuid::Uuid;

const AMOUNT: i64 = 100;
const HOLD_MS: u64 = 1000;

fn details(capture: CaptureMode) -> Arc<Details> {
    Arc::new(Details {
        id: PaymentId::new(Uuid::from_u128(7)),
        merchant: "m".into(),
        amount: Amount::new(AMOUNT).unwrap(),
        currency: Currency::for_payment("EUR").unwrap(),
        capture,
        payment_method: "tok_visa".into(),
        customer: None,
        description: None,
        metadata: Box::default(),
        provider: "sandbox".into(),
        hold_ms: HOLD_MS,
    })
}

fn amount(minor_units: i64) -> Option<Amount> {
    Some(Amount::new(minor_units).unwrap())
}

fn approved() -> Outcome {
    Outcome::Approved { reference: "r".into() }
}

fn refund_of(minor_units: Option<i64>) -> Command {
    Command::Refund { amount: minor_units.and_then(amount), reason: None }
}

/// Carries commands out one after the other, a second apart from 0; all must be allowed.
fn after(commands: Vec<Command>) -> Payment {
    let mut payment = match commands.first() {
        Some(Command::Submit { details, .. } | Command::Initiate(details)) => {
            Payment::pending(details.clone(), None)
        }
        _ => Payment::pending(details(CaptureMode::Manual), None),
    };
    for command in commands {
        let at = Timestamp::from_millis(u64::from(payment.version));
        let event = decide(&payment, command, at).unwrap();
        payment.apply(&event, at, u64::from(payment.version) + 1);
    }
    payment
}

fn submit(capture: CaptureMode, outcome: Option<Outcome>) -> Command {
    Command::Submit { details: details(capture), outcome }
}

fn payment_in(status: Status) -> Payment {
    let held = || submit(CaptureMode::Manual, Some(approved()));
    let taken = || submit(CaptureMode::Automatic, Some(approved()));
    let declined = Outcome::Declined(Decline::CardDeclined);
    let payment = match status {
        Status::Pending => after(vec![]),
        Status::Processing => after(vec![submit(CaptureMode::Manual, None)]),
        Status::Authorized => after(vec![held()]),
        Status::Completed => after(vec![taken()]),
        Status::PartiallyRefunded => after(vec![taken(), refund_of(Some(1))]),
        Status::Refunded => after(vec![taken(), refund_of(None)]),
        Status::Voided => after(vec![held(), Command::Void]),
        Status::Expired => {
            let mut payment = after(vec![held()]);
            payment.apply(&Event::Expired, Timestamp::from_millis(HOLD_MS), 2);
            payment
        }
        Status::Failed => after(vec![submit(CaptureMode::Manual, Some(declined))]),
    };
    assert_eq!(payment.status, status);
    payment
}

/// What becomes of a manual payment in each status under each command; `!` marks a refusal and the state refused.
const MOVES: &str = "
                        submit       settle       capture     void      expire    refund
    pending             authorized   !authorized  !completed  !voided   !expired  !refunded
    processing          !processing  authorized   !completed  !voided   !expired  !refunded
    authorized          !processing  !authorized  completed   voided    expired   !refunded
    completed           !processing  !completed   !completed  !voided   !expired  refunded
    partially_refunded  !processing  !completed   !completed  !voided   !expired  refunded
    refunded            !processing  !completed   !completed  !voided   !expired  !refunded
    voided              !processing  !authorized  !completed  !voided   !expired  !refunded
    expired             !processing  !authorized  !completed  !voided   !expired  !refunded
    failed              !processing  !authorized  !completed  !voided   !expired  !refunded
";

fn command_named(name: &str) -> Command {
    match name {
        "submit" => submit(CaptureMode::Manual, Some(approved())),
        "settle" => Command::Settle(approved()),
        "capture" => Command::Capture(None),
        "void" => Command::Void,
        "expire" => Command::Expire,
        "refund" => refund_of(None),
        other => panic!("no command {other}"),
    }
}

#[test]
fn every_pair_of_status_and_command_is_a_move_or_a_refusal_that_names_both_states() {
    let mut lines = MOVES.lines().map(str::split_whitespace).filter(|l| l.clone().count() > 0);
    let commands: Vec<&str> = lines.next().unwrap().collect();
    let now = Timestamp::from_millis(HOLD_MS * 2);
    let mut statuses = 0;
    for mut line in lines {
        let from = Status::parse(line.next().unwrap()).unwrap();
        let payment = payment_in(from);
        for (name, expected) in commands.iter().zip(line) {
            let decided = decide(&payment, command_named(name), now);
            let found = match decided {
                Ok(event) => {
                    let mut next = payment.clone();
                    next.apply(&event, now, 9);
                    next.status.name().to_owned()
                }
                Err(Refusal::InvalidTransition { from: named, to }) => {
                    assert_eq!(named, from);
                    format!("!{}", to.name())
                }
                Err(other) => panic!("{} {name}: {other}", from.name()),
            };
            assert_eq!(found, *expected, "{} {name}", from.name());
        }
        statuses += 1;
    }
    assert_eq!(statuses, Status::ALL.len());
    assert_eq!(commands.len(), 6);
}

#[test]
fn a_capture_takes_up_to_what_is_held_and_releases_the_rest() {
    let held = payment_in(Status::Authorized);
    assert_eq!(held.capturable(), AMOUNT);
    let now = Timestamp::from_millis(1);
    let captured = |wanted| decide(&held, Command::Capture(amount(wanted)), now);
    for (wanted, released) in [(1, 99), (99, 1), (100, 0)] {
        let amount = amount(wanted).unwrap();
        assert_eq!(captured(wanted), Ok(Event::Captured { amount, released }));
    }
    assert!(matches!(captured(101), Err(Refusal::OverCapture { .. })));
    let mut payment = held.clone();
    payment.apply(&captured(60).unwrap(), now, 2);
    assert_eq!((payment.captured, payment.capturable()), (60, 0));
    assert_eq!(payment.refundable(), amount(60));
    assert_eq!(payment.expires_at, None);
}

#[test]
fn refunds_never_exceed_what_was_captured() {
    let taken = || submit(CaptureMode::Automatic, Some(approved()));
    let payment = after(vec![taken(), refund_of(Some(60))]);
    assert_eq!(payment.status, Status::PartiallyRefunded);
    let now = Timestamp::from_millis(9);
    let more = decide(&payment, refund_of(Some(41)), now);
    assert!(
        matches!(more, Err(Refusal::OverRefund { refundable, .. }) if Some(refundable) == amount(40))
    );
    let payment = after(vec![taken(), refund_of(Some(60)), refund_of(None)]);
    assert_eq!((payment.status, payment.refunded), (Status::Refunded, AMOUNT));
    assert_eq!(payment.refunds.len(), 2);
    let held = submit(CaptureMode::Manual, Some(approved()));
    let partly = after(vec![held, Command::Capture(amount(30)), refund_of(None)]);
    assert_eq!((partly.status, partly.refunded), (Status::Refunded, 30));
}

const OUTSIDE: &str = "outside";

fn ask(change: Command) -> Command {
    Command::Ask { provider: OUTSIDE.into(), change: Box::new(change) }
}

fn answer(attempt: Sequence, outcome: Outcome, evidence: Evidence) -> Command {
    Command::Answer { attempt, outcome, evidence }
}

fn declined(decline: Decline) -> Outcome {
    Outcome::DeclinedBy { decline, code: "code".into() }
}

/// Applies one more command, which must be allowed.
fn then(mut payment: Payment, command: Command) -> Payment {
    let at = Timestamp::from_millis(u64::from(payment.version));
    let event = decide(&payment, command, at).unwrap();
    payment.apply(&event, at, u64::from(payment.version) + 1);
    payment
}

#[test]
fn what_became_of_an_attempt_is_booked_once_and_only_evidence_that_can_be_true_changes_it() {
    let initiated = || after(vec![Command::Initiate(details(CaptureMode::Automatic))]);
    let approve = |evidence| answer(1, approved(), evidence);
    let decline = |evidence| answer(1, declined(Decline::CardDeclined), evidence);
    let webhook = || Evidence::Webhook("evt_1".into());
    let person = || Evidence::Person("seen".into());
    let now = Timestamp::from_millis(9);
    let completed = then(initiated(), approve(Evidence::Reply));
    let failed = then(initiated(), decline(Evidence::LookUp));
    assert_eq!((completed.status, failed.status), (Status::Completed, Status::Failed));
    assert!(completed.provider_reference.is_some() && failed.failure.is_some());
    for (payment, command) in [
        (&completed, approve(webhook())),
        (&completed, decline(webhook())),
        (&completed, decline(person())),
        (&failed, decline(person())),
        (&failed, approve(webhook())),
        (&failed, approve(Evidence::LookUp)),
    ] {
        let refused = decide(payment, command, now);
        assert!(matches!(refused, Err(Refusal::AnsweredAlready { .. })), "{refused:?}");
    }
    let corrected = then(failed, approve(person()));
    assert_eq!((corrected.status, corrected.captured), (Status::Completed, AMOUNT));
    assert_eq!(corrected.failure, None);
    let unknown = decide(&corrected, answer(7, approved(), person()), now);
    assert_eq!(unknown, Err(Refusal::NoSuchAttempt { attempt: 7 }));
}

#[test]
fn a_hold_that_something_is_out_about_takes_nothing_else_and_does_not_lapse() {
    let held = || after(vec![submit(CaptureMode::Manual, Some(approved()))]);
    let later = Timestamp::from_millis(HOLD_MS * 2);
    for (change, operation) in [(Command::Capture(amount(30)), "capture"), (Command::Void, "void")]
    {
        let out = then(held(), ask(change));
        assert_eq!((out.status, out.capturable(), out.held()), (Status::Authorized, 0, AMOUNT));
        assert!(!out.has_lapsed(later));
        for refused in [
            Command::Capture(None),
            Command::Void,
            Command::Expire,
            ask(Command::Capture(None)),
            ask(Command::Void),
        ] {
            let refused = decide(&out, refused, later);
            assert_eq!(refused, Err(Refusal::AnswerOut { operation }));
        }
        let free = then(out, answer(2, declined(Decline::ProviderRejected), Evidence::Reply));
        assert_eq!((free.status, free.capturable()), (Status::Authorized, AMOUNT));
        assert!(free.has_lapsed(later));
    }
    let captured = then(
        then(held(), ask(Command::Capture(amount(30)))),
        answer(2, approved(), Evidence::LookUp),
    );
    assert_eq!((captured.status, captured.captured), (Status::Completed, 30));
}

#[test]
fn a_refund_in_doubt_counts_as_given_back_until_evidence_says_otherwise() {
    let taken = after(vec![submit(CaptureMode::Automatic, Some(approved()))]);
    let out = then(then(taken, ask(refund_of(Some(60)))), ask(refund_of(Some(30))));
    assert_eq!((out.status, out.refunded, out.refunds_out()), (Status::Completed, 0, 90));
    let now = Timestamp::from_millis(9);
    let more = decide(&out, ask(refund_of(Some(11))), now);
    assert!(
        matches!(more, Err(Refusal::OverRefund { refundable, .. }) if Some(refundable) == amount(10))
    );
    let failed = then(out, answer(2, declined(Decline::ProviderRejected), Evidence::LateReply));
    assert_eq!((failed.refundable(), failed.status), (amount(70), Status::Completed));
    assert_eq!(failed.refunds[0].standing, Standing::Failed);
    let partly = then(failed, answer(3, approved(), Evidence::LookUp));
    assert_eq!((partly.status, partly.refunded), (Status::PartiallyRefunded, 30));
    let all = then(then(partly, ask(refund_of(None))), answer(6, approved(), Evidence::Reply));
    assert_eq!((all.status, all.refunded), (Status::Refunded, AMOUNT));
    // The bank sends the last one back.
    let back = answer(6, declined(Decline::ProcessingError), Evidence::Webhook("evt_1".into()));
    let back = then(all, back);
    assert_eq!((back.status, back.refunded), (Status::PartiallyRefunded, 30));
    assert_eq!(back.refundable(), amount(70));
    let whole = after(vec![submit(CaptureMode::Automatic, Some(approved())), ask(refund_of(None))]);
    let none_left = decide(&whole, ask(refund_of(None)), now);
    assert_eq!(none_left, Err(Refusal::AnswerOut { operation: "refund" }));
}

#[test]
fn only_a_certain_failure_that_the_card_is_not_to_blame_for_lets_another_provider_be_asked() {
    let initiated = after(vec![Command::Initiate(details(CaptureMode::Manual))]);
    let reroute = |outcome| Command::Reroute {
        attempt: 1,
        outcome,
        evidence: Evidence::Reply,
        next: "other".into(),
    };
    let now = Timestamp::from_millis(1);
    for outcome in [approved(), declined(Decline::CardDeclined), declined(Decline::NotProcessed)] {
        let refused = decide(&initiated, reroute(outcome), now);
        assert!(matches!(refused, Err(Refusal::InvalidTransition { .. })), "{refused:?}");
    }
    let rerouted = then(initiated, reroute(declined(Decline::ProviderUnavailable)));
    assert_eq!((rerouted.status, &*rerouted.provider), (Status::Processing, "other"));
    let standings: Vec<_> = rerouted.attempts.iter().map(|attempt| attempt.standing).collect();
    assert_eq!(standings, [Standing::Failed, Standing::Out]);
    let held = then(rerouted, answer(2, approved(), Evidence::Reply));
    assert_eq!((held.status, &*held.provider, held.failure), (Status::Authorized, "other", None));
}

#[test]
fn a_person_can_say_that_what_failed_was_done_only_while_it_could_have_been() {
    let failed = || declined(Decline::ProviderRejected);
    let found_done = |attempt| answer(attempt, approved(), Evidence::Person("seen".into()));
    let now = Timestamp::from_millis(9);
    let refused = |payment: &Payment, attempt| {
        let refused = decide(payment, found_done(attempt), now);
        assert!(matches!(refused, Err(Refusal::AnsweredAlready { .. })), "{refused:?}");
    };
    // A capture: while the hold is there and nothing is out about it.
    let held = after(vec![submit(CaptureMode::Manual, Some(approved()))]);
    let declined_capture =
        then(then(held, ask(Command::Capture(None))), answer(2, failed(), Evidence::Reply));
    let captured = then(declined_capture.clone(), found_done(2));
    assert_eq!((captured.status, captured.captured), (Status::Completed, AMOUNT));
    let voiding = then(declined_capture.clone(), ask(Command::Void));
    refused(&voiding, 2);
    refused(&then(declined_capture, Command::Void), 2);
    // A refund: while as much is left.
    let taken = after(vec![submit(CaptureMode::Automatic, Some(approved()))]);
    let declined_refund =
        then(then(taken, ask(refund_of(Some(60)))), answer(2, failed(), Evidence::Reply));
    let forty = then(declined_refund.clone(), refund_of(Some(40)));
    assert_eq!(then(forty, found_done(2)).refunded, AMOUNT);
    refused(&then(declined_refund, refund_of(Some(41))), 2);
    // An authorization: while no other was given.
    let next = "other".into();
    let (outcome, evidence) = (declined(Decline::ProviderUnavailable), Evidence::Reply);
    let reroute = Command::Reroute { attempt: 1, outcome, evidence, next };
    let rerouted = then(after(vec![Command::Initiate(details(CaptureMode::Manual))]), reroute);
    refused(&rerouted, 1);
    refused(&then(rerouted, answer(2, approved(), Evidence::Reply)), 1);
}

#[test]
fn so_much_is_kept_on_record_and_what_lets_go_of_a_hold_leaves_room_for_what_takes_money() {
    let full = |payment: &Payment, command| {
        let refused = decide(payment, command, Timestamp::default());
        assert_eq!(refused, Err(Refusal::TooMuchOnRecord { count: 250 }));
    };
    let mut held = after(vec![submit(CaptureMode::Manual, Some(approved()))]);
    let mut noted = held.clone();
    for (change, until) in [(Command::Void, 200), (Command::Capture(None), 250)] {
        while held.attempts.len() < until {
            held = then(held, ask(change.clone()));
            let attempt = held.attempts.last().unwrap().sequence;
            held = then(held, answer(attempt, declined(Decline::NotProcessed), Evidence::Reply));
        }
        full(&held, ask(change));
    }
    let note = || Command::Note(Note::Reviewed { what: "looked at".into() });
    while noted.notes.len() < 250 {
        noted = then(noted, note());
    }
    full(&noted, note());
}

#[test]
fn what_is_out_in_the_ledger_is_settled_by_its_attempt_and_no_other_way() {
    let initiated = after(vec![Command::Initiate(details(CaptureMode::Automatic))]);
    let now = Timestamp::from_millis(9);
    let refused = decide(&initiated, Command::Settle(approved()), now);
    let (from, to) = (Status::Processing, Status::Completed);
    assert_eq!(refused, Err(Refusal::InvalidTransition { from, to }));
    // Nobody else is asked to give money back.
    let taken = after(vec![submit(CaptureMode::Automatic, Some(approved()))]);
    let out = then(taken, ask(refund_of(Some(60))));
    let (outcome, evidence) = (declined(Decline::ProviderUnavailable), Evidence::Reply);
    let reroute = Command::Reroute { attempt: 2, outcome, evidence, next: "other".into() };
    assert!(matches!(decide(&out, reroute, now), Err(Refusal::InvalidTransition { .. })));
}

#[test]
fn what_is_noted_stands_until_evidence_or_a_person_settles_it() {
    let initiated = after(vec![Command::Initiate(details(CaptureMode::Automatic))]);
    let undecided = Command::Note(Note::Undecided { attempt: 1, what: "nobody knows".into() });
    let contradicted = || {
        let evidence = Evidence::Webhook("evt_1".into());
        Command::Note(Note::Contradicted { evidence, what: "took 5".into() })
    };
    let noted = then(initiated, undecided);
    assert_eq!(noted.unsettled_notes().count(), 1);
    let known = then(noted, answer(1, approved(), Evidence::LookUp));
    assert_eq!(known.unsettled_notes().count(), 0);
    let noted = then(known, contradicted());
    assert_eq!(noted.unsettled_notes().count(), 1);
    let reviewed = then(noted, Command::Note(Note::Reviewed { what: "a test".into() }));
    assert_eq!((reviewed.unsettled_notes().count(), reviewed.notes.len()), (0, 3));
}

#[test]
fn a_hold_lapses_when_its_time_is_over_and_not_before() {
    let held = payment_in(Status::Authorized);
    let until = Timestamp::from_millis(HOLD_MS);
    assert_eq!(held.expires_at, Some(until));
    let before = Timestamp::from_millis(HOLD_MS - 1);
    assert!(!held.has_lapsed(before) && held.has_lapsed(until));
    assert_eq!(decide(&held, Command::Expire, before), Err(Refusal::StillHeld { until }));
    assert_eq!(decide(&held, Command::Expire, until), Ok(Event::Expired));
    // A provider outside is asked to let go, no earlier.
    assert_eq!(decide(&held, ask(Command::Expire), before), Err(Refusal::StillHeld { until }));
    let Ok(Event::Asked { ask, reason: None }) = decide(&held, ask(Command::Expire), until) else {
        panic!("it is not asked");
    };
    assert_eq!(ask.action, Action::Expire);
}

#[test]
fn a_payment_is_dated_by_its_first_event_and_changed_by_its_last() {
    let made = payment_in(Status::Completed);
    assert_eq!((made.created_at, made.updated_at), (Timestamp::default(), Timestamp::default()));
    let refunded = payment_in(Status::PartiallyRefunded);
    assert_eq!(refunded.created_at, Timestamp::default());
    assert_eq!(refunded.updated_at, Timestamp::from_millis(1));
    let details = details(CaptureMode::Automatic);
    let event = Event::Submitted { details: details.clone(), outcome: Some(approved()) };
    let mut later = Payment::pending(details, None);
    later.apply(&event, Timestamp::from_millis(9), 1);
    assert_eq!(later.created_at, Timestamp::from_millis(9));
}

#[test]
fn the_moves_of_an_event_are_those_of_the_diagram() {
    let moves = |payment: &Payment, event: &Event| -> Vec<String> {
        let moves = payment.transitions(event).into_iter();
        moves
            .map(|(from, to)| format!("{}>{}", from.map_or("-", Status::name), to.name()))
            .collect()
    };
    let charge = |outcome| Event::Submitted { details: details(CaptureMode::Automatic), outcome };
    let pending = Payment::pending(details(CaptureMode::Automatic), None);
    assert_eq!(
        moves(&pending, &charge(Some(approved()))),
        ["->pending", "pending>processing", "processing>completed"]
    );
    assert_eq!(moves(&pending, &charge(None)), ["->pending", "pending>processing"]);
    let processing = payment_in(Status::Processing);
    assert_eq!(moves(&processing, &Event::Settled(approved())), ["processing>authorized"]);
    assert_eq!(moves(&payment_in(Status::Authorized), &Event::Voided), ["authorized>voided"]);
}

#[test]
fn evidence_says_whose_words_it_is_if_it_is_in_words() {
    for evidence in [Evidence::Reply, Evidence::LateReply, Evidence::LookUp] {
        assert_eq!(evidence.text(), None, "{evidence:?}");
    }
    assert_eq!(Evidence::Webhook("evt_1".into()).text(), Some("evt_1"));
    assert_eq!(Evidence::Person("I called them".into()).text(), Some("I called them"));
}
