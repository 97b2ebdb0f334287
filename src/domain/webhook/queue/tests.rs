//! The courier's rules, walked through with a clock that is only a number.

use super::*;
use crate::domain::webhook::TryResult;
use proptest::prelude::*;
use uuid::Uuid;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HOUR_MS: u64 = 60 * 60 * 1000;

fn terms() -> Terms {
    let minutes = |count: u64| count * 60_000;
    let waits_ms = vec![
        5_000,
        30_000,
        minutes(2),
        minutes(15),
        HOUR_MS,
        3 * HOUR_MS,
        6 * HOUR_MS,
        12 * HOUR_MS,
        24 * HOUR_MS,
    ];
    Terms {
        schedule: Schedule { waits_ms, jitter_percent: 0 },
        concurrency: 8,
        backlog: 20,
        disable_after_ms: 5 * DAY_MS,
    }
}

fn payment(number: u64) -> PaymentId {
    PaymentId::new(Uuid::from_u128(u128::from(number)))
}

fn endpoint() -> EndpointId {
    EndpointId::new(Uuid::nil())
}

/// Entry 10 n makes an event of payment n; entry 10 n + k too.
fn payment_of(sequence: Sequence) -> Option<PaymentId> {
    Some(payment(sequence / 10))
}

fn upcoming(sequence: Sequence) -> Upcoming {
    Upcoming { sequence, payment: payment(sequence / 10) }
}

/// A queue, its endpoint's time, and what the endpoint got.
struct Desk {
    queue: Queue,
    now: Timestamp,
}

impl Desk {
    fn new() -> Self {
        let queue = Queue::new(endpoint(), terms(), Progress::after(0), payment_of);
        Self { queue, now: Timestamp::from_millis(1_000_000) }
    }

    fn with(sequences: &[Sequence]) -> Self {
        let mut desk = Self::new();
        for sequence in sequences {
            desk.queue.take(upcoming(*sequence), desk.now);
        }
        desk
    }

    fn advance(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
    }

    /// Everything that can be sent now, by entry.
    fn due(&mut self) -> Vec<Due> {
        std::iter::from_fn(|| self.queue.next(self.now)).collect()
    }

    fn finish(&mut self, due: Due, result: TryResult) -> Verdict {
        let tried = Try { at: self.now, latency_ms: 1, result };
        self.queue.finish(due, tried, None, (self.now, 0))
    }

    fn succeed(&mut self, due: Due) {
        assert_eq!(self.finish(due, TryResult::Answered(200)), Verdict::Delivered);
    }

    fn fail(&mut self, due: Due) -> Verdict {
        self.finish(due, TryResult::Answered(500))
    }

    /// Lets the time go on to the next moment at which there is something to do.
    fn sleep(&mut self) {
        self.now = self.queue.wakes_at(self.now).unwrap();
    }
}

fn sequences(due: &[Due]) -> Vec<Sequence> {
    due.iter().map(|due| due.sequence).collect()
}

#[test]
fn an_event_is_tried_by_the_whole_schedule_of_two_days_and_is_then_a_dead_letter() {
    let mut desk = Desk::with(&[10]);
    let began = desk.now;
    let mut tried_at = Vec::new();
    loop {
        let due = desk.due();
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].attempt, tried_at.len() + 1);
        tried_at.push(desk.now.millis_since(began) / 1000);
        match desk.fail(due[0]) {
            Verdict::Again(at) => {
                assert!(desk.due().is_empty(), "not before its time");
                desk.sleep();
                assert_eq!(desk.now, at);
            }
            Verdict::Dead => break,
            other => panic!("{other:?}"),
        }
    }
    let minutes = |minutes: u64| minutes * 60;
    let expected = [0, 5, 35, 155, 1_055, 4_655, 15_455, 37_055, 80_255, 166_655];
    assert_eq!(tried_at, expected);
    assert!(tried_at[9] > minutes(46 * 60) && tried_at[9] < minutes(47 * 60));
    let progress = desk.queue.progress();
    assert_eq!(progress.dead[&1].tries.len(), 10);
    assert!(progress.open.is_empty());
}

#[test]
fn an_event_waits_for_the_one_before_of_its_payment_while_other_payments_go_on() {
    let mut desk = Desk::with(&[10, 11, 20, 12]);
    let due = desk.due();
    assert_eq!(sequences(&due), [10, 20]);
    desk.fail(due[0]);
    desk.succeed(due[1]);
    assert!(desk.due().is_empty(), "11 and 12 wait for 10");
    desk.sleep();
    let again = desk.due();
    assert_eq!(sequences(&again), [10]);
    desk.succeed(again[0]);
    let next = desk.due();
    assert_eq!(sequences(&next), [11]);
    desk.succeed(next[0]);
    assert_eq!(sequences(&desk.due()), [12]);
}

#[test]
fn a_dead_letter_lets_the_next_event_of_its_payment_go() {
    let mut desk = Desk::with(&[10, 11]);
    loop {
        let due = desk.due();
        assert_eq!(sequences(&due), [10]);
        if desk.fail(due[0]) == Verdict::Dead {
            break;
        }
        desk.sleep();
    }
    assert_eq!(sequences(&desk.due()), [11]);
}

#[test]
fn no_more_is_sent_at_once_than_allowed_and_success_widens_it() {
    let events: Vec<Sequence> = (1..=20).map(|number| number * 10).collect();
    let mut desk = Desk::with(&events);
    let mut at_once = Vec::new();
    loop {
        let due = desk.due();
        if due.is_empty() {
            break;
        }
        at_once.push(due.len());
        due.into_iter().for_each(|due| desk.succeed(due));
    }
    assert_eq!(at_once, [4, 8, 8]);
}

#[test]
fn an_endpoint_that_is_down_gets_few_new_events_and_all_that_waits_once_it_is_back() {
    let mut desk = Desk::new();
    let mut entry = 0;
    let mut taken = 0;
    let began = desk.now;
    while desk.now.millis_since(began) < HOUR_MS {
        for _ in 0..desk.queue.wants(desk.now) {
            entry += 10;
            taken += 1;
            desk.queue.take(upcoming(entry), desk.now);
        }
        for due in desk.due() {
            desk.fail(due);
        }
        desk.advance(1_000);
    }
    assert!(taken <= terms().backlog, "{taken} were held at once");
    // The next retry that succeeds is the sign.
    let due = loop {
        if let Some(due) = desk.queue.next(desk.now) {
            break due;
        }
        desk.sleep();
    };
    desk.succeed(due);
    let mut delivered = 1;
    loop {
        let due = desk.due();
        if due.is_empty() {
            break;
        }
        delivered += due.len();
        due.into_iter().for_each(|due| desk.succeed(due));
    }
    assert_eq!(delivered, taken, "all of it without another wait");
    assert_eq!(desk.queue.progress().failing_since, None);
    assert!(desk.queue.wants(desk.now) > 1);
}

#[test]
fn what_is_held_is_bounded_however_long_an_endpoint_is_down() {
    let mut desk = Desk::new();
    let mut entry = 0;
    let began = desk.now;
    while desk.now.millis_since(began) < 2 * DAY_MS {
        for _ in 0..desk.queue.wants(desk.now) {
            entry += 10;
            desk.queue.take(upcoming(entry), desk.now);
        }
        assert!(desk.queue.progress().open.len() <= terms().backlog);
        for due in desk.due() {
            desk.fail(due);
        }
        desk.advance(60_000);
    }
    assert!(entry / 10 >= 20, "it was filled");
}

#[test]
fn an_endpoint_that_fails_for_five_days_is_to_be_disabled_and_one_success_starts_the_count_anew() {
    let mut desk = Desk::with(&[10, 20]);
    let due = desk.due();
    desk.fail(due[0]);
    desk.advance(4 * DAY_MS);
    desk.succeed(due[1]);
    let again = desk.due();
    desk.advance(DAY_MS);
    assert!(matches!(desk.fail(again[0]), Verdict::Again(_)), "it was not failing in between");
    desk.sleep();
    let again = desk.due();
    desk.advance(5 * DAY_MS);
    assert_eq!(desk.fail(again[0]), Verdict::FailingTooLong);
}

#[test]
fn an_endpoint_that_answers_410_wants_nothing_more() {
    let mut desk = Desk::with(&[10]);
    let due = desk.due();
    assert_eq!(desk.finish(due[0], TryResult::Answered(410)), Verdict::Gone);
}

#[test]
fn an_endpoint_that_is_gone_and_cannot_be_disabled_yet_is_left_alone_and_takes_up_no_more() {
    let mut desk = Desk::with(&[10]);
    for _ in 0..30 {
        let due = desk.due();
        assert_eq!(desk.finish(due[0], TryResult::Answered(410)), Verdict::Gone);
        assert_eq!(desk.due(), [], "it is not tried again at once");
        desk.now = desk.queue.wakes_at(desk.now).unwrap();
    }
    assert_eq!(desk.queue.progress().open[&1].tries.len(), 10, "as many as the schedule has");
    let due = desk.due();
    desk.finish(due[0], TryResult::Answered(410));
    desk.queue.bring_forward();
    assert_eq!(sequences(&desk.due()), [10], "first thing when it is enabled");
}

#[test]
fn a_dead_letter_that_is_redelivered_before_it_was_reported_is_not_reported_dead() {
    let mut desk = Desk::with(&[10]);
    while desk.queue.progress().dead.is_empty() {
        let due = desk.due();
        desk.finish(due[0], TryResult::Answered(500));
        desk.now = desk.now.plus_millis(24 * HOUR_MS);
    }
    desk.queue.reopen(1, upcoming(10));
    let due = desk.due();
    assert_eq!(desk.finish(due[0], TryResult::Answered(200)), Verdict::Delivered);
    let mut books = Progress::after(0);
    books.apply(desk.queue.report().unwrap());
    assert_eq!((books.open.len(), books.dead.len()), (0, 0));
}

#[test]
fn an_endpoint_that_asks_for_time_gets_it() {
    let mut desk = Desk::with(&[10]);
    let due = desk.due();
    let tried = Try { at: desk.now, latency_ms: 1, result: TryResult::Answered(429) };
    let verdict = desk.queue.finish(due[0], tried, Some(90_000), (desk.now, 0));
    assert_eq!(verdict, Verdict::Again(desk.now.plus_millis(90_000)));
}

#[test]
fn what_was_tried_before_a_replay_no_longer_counts_and_keeps_its_payment_in_order() {
    let mut desk = Desk::with(&[10, 20]);
    let due = desk.due();
    desk.queue.rewind((1, 5), payment_of);
    assert_eq!(desk.queue.in_flight(), 2, "they are under way all the same");
    desk.queue.take(upcoming(10), desk.now);
    desk.queue.take(upcoming(30), desk.now);
    let next = desk.due();
    assert_eq!(sequences(&next), [30], "10 is still under way from before");
    assert_eq!(desk.finish(due[0], TryResult::Answered(200)), Verdict::Stale);
    assert_eq!(sequences(&desk.due()), [10]);
}

#[test]
fn a_replay_keeps_what_was_delivered_before_it_and_not_reported_yet() {
    let mut desk = Desk::with(&[10, 20, 30, 40]);
    let mut durable = Progress::after(0);
    durable.apply(desk.queue.report().unwrap());
    for due in desk.due() {
        desk.succeed(due);
    }
    durable.rewind(3, 25);
    desk.queue.rewind((3, 25), payment_of);
    assert_eq!(desk.queue.progress().through, 2);
    durable.apply(desk.queue.report().unwrap());
    assert_eq!(&durable, desk.queue.progress());
    assert!(durable.open.is_empty(), "1 and 2 were delivered");
}

#[test]
fn a_delivered_event_can_be_sent_again_and_one_that_is_under_way_is_not_sent_twice() {
    let mut desk = Desk::with(&[10, 20]);
    let due = desk.due();
    desk.succeed(due[0]);
    desk.queue.reopen(1, upcoming(10));
    desk.queue.reopen(2, upcoming(20));
    desk.queue.reopen(3, upcoming(30));
    let again = desk.due();
    assert_eq!(sequences(&again), [10]);
    assert_eq!(again[0].attempt, 1);
    assert_eq!(desk.queue.in_flight(), 2, "30 comes by itself");
}

#[test]
fn what_died_before_the_event_that_a_replay_goes_back_to_is_reported_and_no_other() {
    let mut desk = Desk::with(&[10, 20, 30]);
    while desk.queue.progress().dead.len() < 3 {
        for due in desk.due() {
            desk.fail(due);
        }
        desk.advance(24 * HOUR_MS);
    }
    desk.queue.rewind((2, 15), payment_of);
    let report = desk.queue.report().unwrap();
    assert_eq!(report.died.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1]);
    assert_eq!((report.generation, report.through, report.cursor), (1, 1, 15));
}

#[test]
fn an_endpoint_is_healthy_from_a_success_until_a_failure() {
    let mut desk = Desk::with(&[10, 20, 30]);
    assert!(!desk.queue.is_healthy(), "nobody knows yet");
    let due = desk.due();
    desk.succeed(due[0]);
    assert!(desk.queue.is_healthy());
    desk.fail(due[1]);
    assert!(!desk.queue.is_healthy());
    desk.succeed(due[2]);
    assert!(desk.queue.is_healthy());
    desk.queue.seen(90);
    desk.queue.seen(80);
    assert_eq!(desk.queue.progress().cursor, 90, "what was looked at stays so");
}

#[test]
fn a_failure_halves_how_many_are_sent_at_once_down_to_one() {
    let mut desk = Desk::with(&[10, 20, 30, 40, 50]);
    for at_once in [2, 1] {
        let due = desk.queue.next(desk.now).unwrap();
        desk.fail(due);
        let due = desk.due();
        assert_eq!(due.len(), at_once);
        for due in due {
            desk.fail(due);
        }
    }
}

#[test]
fn the_more_waits_or_is_under_way_the_less_is_taken_from_the_journal() {
    let mut desk = Desk::with(&[10, 20, 30, 40, 50]);
    for _ in 0..3 {
        desk.queue.next(desk.now).unwrap();
    }
    assert_eq!(desk.queue.wants(desk.now), 3, "of 8, 3 are under way and 2 wait");
    desk.queue.next(desk.now).unwrap();
    assert_eq!(desk.queue.wakes_at(desk.now), None, "50 has to wait for a place");
}

#[test]
fn an_endpoint_that_is_down_gets_a_new_event_each_tenth_of_its_time_down_within_bounds() {
    let mut desk = Desk::with(&[10, 20, 30, 40, 50, 60, 70, 80]);
    for _ in 0..DOWN_AFTER {
        let due = desk.queue.next(desk.now).unwrap();
        desk.fail(due);
    }
    let down_since = desk.now;
    let minutes = |count: u64| count * 60_000;
    for (entry, down_for, wait) in
        [(90, 0, 5_000), (100, minutes(90), minutes(10)), (110, minutes(600), minutes(15))]
    {
        desk.now = down_since.plus_millis(down_for);
        desk.queue.take(upcoming(entry), desk.now);
        let again = desk.now.plus_millis(wait);
        // Tenths of a millisecond do not count.
        let before = desk.now.plus_millis(wait - 2);
        assert_eq!((desk.queue.wants(before), desk.queue.wants(again)), (0, 1), "{entry}");
    }
    desk.queue.next(desk.now).unwrap();
    // With one under way there is no place for another try, so only the new event is waited for.
    let new = desk.now.plus_millis(minutes(15));
    let before = desk.now.plus_millis(minutes(15) - 1);
    assert_eq!(desk.queue.wakes_at(before), Some(new));
    assert_eq!(desk.queue.wakes_at(new), None, "it waits for an event");
}

#[test]
fn a_report_tells_what_is_open_and_what_was_reported_open_and_is_settled() {
    let mut desk = Desk::with(&[10, 20]);
    let due = desk.due();
    let report = |desk: &mut Desk| {
        let report = desk.queue.report().unwrap();
        let open: Vec<u64> = report.open.iter().map(|(number, _)| *number).collect();
        (open, report.closed)
    };
    desk.succeed(due[0]);
    assert_eq!(report(&mut desk), (vec![2], vec![]), "nobody knows that 1 was ever open");
    desk.succeed(due[1]);
    assert_eq!(report(&mut desk), (vec![], vec![2]));
    assert_eq!(desk.queue.report(), None);
}

proptest! {
    /// Whatever happens: of a payment's events one is tried at a time and in order, and the reports add up to what the
    /// courier knows, also when some of them could not be journaled at once.
    #[test]
    fn order_holds_and_reports_add_up(script in prop::collection::vec(0u8..10, 1..400)) {
        let mut desk = Desk::new();
        let mut durable = Progress::after(0);
        let (mut entry, mut under_way): (u64, Vec<Due>) = (0, Vec::new());
        let mut settled: BTreeMap<PaymentId, Sequence> = BTreeMap::new();
        for step in script {
            match step {
                0..=2 if desk.queue.wants(desk.now) > 0 => {
                    entry += u64::from(step) * 4 + 1;
                    desk.queue.take(upcoming(entry), desk.now);
                }
                3..=5 => under_way.extend(desk.queue.next(desk.now)),
                6 | 7 if !under_way.is_empty() => {
                    let due = under_way.remove(0);
                    let last = settled.get(&due.payment).copied().unwrap_or(0);
                    prop_assert!(due.sequence > last, "{} after {last}", due.sequence);
                    let ok = step == 6;
                    let verdict = if ok { desk.finish(due, TryResult::Answered(204)) } else { desk.fail(due) };
                    if matches!(verdict, Verdict::Delivered | Verdict::Dead) {
                        settled.insert(due.payment, due.sequence);
                    }
                }
                8 => desk.advance(HOUR_MS),
                9 => match desk.queue.report() {
                    Some(report) if entry % 3 == 0 => desk.queue.take_back(report),
                    Some(report) => durable.apply(report),
                    None => {}
                },
                _ => {}
            }
            let mut lanes: Vec<PaymentId> = under_way.iter().map(|due| due.payment).collect();
            lanes.sort();
            lanes.dedup();
            prop_assert_eq!(lanes.len(), under_way.len(), "one at a time");
        }
        if let Some(report) = desk.queue.report() {
            durable.apply(report);
        }
        prop_assert_eq!(&durable, desk.queue.progress());
    }
}
