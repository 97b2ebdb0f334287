//! The rules of a payment's life, as tables a banker could review.

use super::*;
use crate::domain::{id::PaymentId, money::Currency};
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
        Some(Command::Submit { details, .. }) => Payment::pending(details.clone(), None),
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

#[test]
fn a_hold_lapses_when_its_time_is_over_and_not_before() {
    let held = payment_in(Status::Authorized);
    let until = Timestamp::from_millis(HOLD_MS);
    assert_eq!(held.expires_at, Some(until));
    let before = Timestamp::from_millis(HOLD_MS - 1);
    assert!(!held.has_lapsed(before) && held.has_lapsed(until));
    assert_eq!(decide(&held, Command::Expire, before), Err(Refusal::StillHeld { until }));
    assert_eq!(decide(&held, Command::Expire, until), Ok(Event::Expired));
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
