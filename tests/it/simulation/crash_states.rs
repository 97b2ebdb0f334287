//! Crash states: short sequences of operations, a power failure at every call of the disk, and after each what the device
//! may then hold: every subset of what was not synced where that is little, some where it is much. Each is started on.
//!
//! `CRASH_STATES=n` goes on until so many were made.

use super::{
    clients::{MERCHANT, key_of},
    server::{Setup, folders, recover},
    world::{LifeClock, Time},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{sync::Arc, time::Instant};
use strongroom::{
    app::recovery::Recovery,
    clock::Clock,
    domain::{
        books::Books,
        command::Command,
        entry::{Hash, PaymentRecord, Record},
        event::{CaptureMode, Details, Event, Outcome},
        id::{PaymentId, Sequence},
        idempotency::{Fingerprint, Operation, Request, Retention},
        ledger,
        money::{Amount, Currency},
        payment::{self, Form, Payment},
    },
    journal::{
        Writer,
        ahead::by_hand,
        disk::simulated::{Fault, SimulatedDisk},
        snapshot,
    },
};
use uuid::Uuid;

const SETUP: Setup = Setup { segment_bytes: 64 * 1024, in_flight_max: 1 };
/// Up to so many things that are not synced, every subset is tried.
const FEW: usize = 8;
/// In the start on each so manieth state the power fails again.
const TWICE_EVERY: u64 = 64;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The process ends, and the next one starts.
    Start,
    /// A charge of one sector.
    Charge,
    /// Three charges of several sectors in one batch.
    Batch,
    /// A refund of the last charge.
    Refund,
    Seal,
    Snapshot,
    /// The thread that prepares segments gets its turn.
    Prepare,
}

const STEPS: [Step; 7] = [
    Step::Start,
    Step::Charge,
    Step::Batch,
    Step::Refund,
    Step::Seal,
    Step::Snapshot,
    Step::Prepare,
];

/// What has been done before.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// A start and a charge.
    Little,
    /// The segment is full but for one block.
    NearlyFull,
    /// Two segments and a snapshot over the first: the next snapshot archives it.
    Snapshot,
}

const BEFORE: [Before; 4] = [Before::Nothing, Before::Little, Before::NearlyFull, Before::Snapshot];

/// What the outside world was told.
#[derive(Clone, Default)]
struct Told {
    /// The last entry of each batch and its hash.
    batches: Vec<(Sequence, Hash)>,
    /// Payments as they were answered, by the number of their key.
    payments: Vec<(usize, Payment)>,
    /// How many charges were asked for.
    asked: usize,
    epoch: u64,
}

/// A process, or what is left of one.
struct Life {
    disk: SimulatedDisk,
    told: Told,
    clock: LifeClock,
    running: Option<(Writer, Books)>,
}

impl Life {
    fn new(disk: SimulatedDisk, told: Told) -> Self {
        let clock = LifeClock::new(Time::new(1_763_823_845_000));
        Self { disk, told, clock, running: None }
    }

    /// Does a step; `None` if the disk failed in it.
    fn step(&mut self, step: Step) -> Option<()> {
        match step {
            Step::Start => {
                self.running = None;
                let Recovery { journal, books, report, .. } =
                    recover(&self.disk, SETUP, &self.clock).ok()?;
                self.told.epoch = report.epoch;
                self.told.batches.push((report.last_sequence, report.chain_head));
                self.running = Some((journal, books));
            }
            Step::Prepare => by_hand::prepare(),
            Step::Snapshot => {
                let through = self.running.as_ref()?.1.position().sequence;
                snapshot::take(&folders(&self.disk), through, &|| ()).ok()?;
            }
            Step::Seal => self.append(vec![Record::Sealed], Vec::new())?,
            Step::Charge => self.charge(1, 1)?,
            Step::Batch => self.charge(3, 700)?,
            Step::Refund => self.refund()?,
        }
        (!self.disk.is_off()).then_some(())
    }

    /// A start, after which everybody is told all that the books hold.
    fn show_everything(&mut self) {
        self.step(Step::Start).expect("a start");
        let (_, books) = self.running.take().unwrap();
        for number in 0..self.told.asked {
            let now = self.clock.now();
            let answered = books.answered(MERCHANT, &key_of(number), Retention::Forever, now);
            let payment = answered.map(|it| it.history.payment_at(it.version));
            self.told.payments.extend(payment.map(|payment| (number, payment)));
        }
    }

    fn charge(&mut self, count: usize, length: usize) -> Option<()> {
        let (mut records, mut made) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let number = self.told.asked;
            self.told.asked += 1;
            let details = details(number, length);
            let outcome = Some(Outcome::Approved { reference: "r".into() });
            let before = Payment::pending(details.clone(), Some(key_of(number)));
            let event = Event::Submitted { details, outcome };
            records.push(record(&before, event, number, Operation::Create));
            made.push((number, before));
        }
        self.append(records.into_iter().map(Record::Payment).collect(), made)
    }

    fn refund(&mut self) -> Option<()> {
        let number = self.told.asked;
        let Some((_, last)) = self.told.payments.last() else { return Some(()) };
        let before = self.running.as_ref()?.1.history(last.details.id)?.payment();
        let command = Command::Refund { amount: Amount::new(1), reason: None };
        let event = payment::decide(&before, command, self.clock.now()).ok()?;
        self.told.asked += 1;
        let record = record(&before, event, number, Operation::Refund);
        self.append(vec![Record::Payment(record)], vec![(number, before)])
    }

    /// Writes a batch, books it, and tells of it: in this order.
    fn append(&mut self, records: Vec<Record>, made: Vec<(usize, Payment)>) -> Option<()> {
        let (writer, books) = self.running.as_mut()?;
        let batch = writer.append(records, self.clock.now()).ok()?;
        self.told.batches.push((writer.last_sequence(), writer.chain_head()));
        books.apply(batch);
        for (number, before) in made {
            let payment = books.history(before.details.id)?.payment();
            self.told.payments.push((number, payment));
        }
        Some(())
    }
}

fn details(number: usize, length: usize) -> Arc<Details> {
    let id = PaymentId::new(Uuid::from_u128(u128::try_from(number).unwrap() << 80 | 7));
    Arc::new(Details {
        id,
        merchant: MERCHANT.into(),
        amount: Amount::new(100).unwrap(),
        currency: Currency::for_payment("EUR").unwrap(),
        capture: CaptureMode::Automatic,
        payment_method: "tok_visa".into(),
        customer: None,
        description: Some("d".repeat(length).into()),
        metadata: Box::default(),
        provider: "sandbox".into(),
        hold_ms: 1,
    })
}

fn record(before: &Payment, event: Event, number: usize, operation: Operation) -> PaymentRecord {
    PaymentRecord {
        payment: before.details.id,
        version: before.version + 1,
        actor: "shop/key".into(),
        transaction: ledger::transaction(&before.details, &event),
        event,
        request: Some(Request {
            key: key_of(number),
            fingerprint: Fingerprint::of("POST", "/", b"{}"),
            operation,
        }),
        form: Form::default(),
    }
}

fn prepared(before: Before) -> (SimulatedDisk, Told) {
    let mut life = Life::new(SimulatedDisk::default(), Told::default());
    let steps: Vec<Step> = match before {
        Before::Nothing => vec![],
        Before::Little => vec![Step::Start, Step::Charge],
        Before::NearlyFull => {
            let mut steps = vec![Step::Start, Step::Prepare];
            steps.extend([Step::Charge; 13]);
            steps
        }
        Before::Snapshot => {
            let mut steps = vec![Step::Start, Step::Prepare];
            steps.extend([Step::Charge; 15]);
            steps.extend([Step::Snapshot, Step::Prepare, Step::Charge]);
            steps
        }
    };
    for step in steps {
        life.step(step).unwrap();
    }
    (life.disk.copy(), life.told)
}

/// A start on what is left must know all that was told, and nothing that was not asked for.
fn check(disk: SimulatedDisk, told: &Told) {
    let clock = LifeClock::new(Time::new(1_763_823_846_000));
    let recovered = recover(&disk, SETUP, &clock);
    let Recovery { books, report, .. } = recovered.unwrap_or_else(|why| panic!("no start: {why}"));
    assert!(report.epoch > told.epoch, "the writer's epoch has not grown");
    for (sequence, hash) in &told.batches {
        assert_eq!(books.block_hash(*sequence), Some(*hash), "entry {sequence} is another one");
    }
    for (number, payment) in &told.payments {
        let answered = books.answered(MERCHANT, &key_of(*number), Retention::Forever, clock.now());
        let answered = answered.expect("a key that was answered");
        assert_eq!(answered.history.payment_at(answered.version), *payment);
    }
    assert!(books.payment_count() <= told.asked, "a payment that nobody asked for");
}

/// How many states were made, and of how many sequences.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub sequences: u64,
    /// Calls at which something failed.
    pub crashes: u64,
    pub states: u64,
    /// Of those, the ones that a second failure left, in the start on what the first one left.
    pub twice: u64,
}

/// Every crash in the last step of one sequence after what was done before; those in earlier steps are a shorter
/// sequence's. The power fails at a call; or a sync fails there, the process ends and the next one starts on what the
/// cache shows, and then the power fails.
fn crashes(before: &(SimulatedDisk, Told), steps: &[Step], samples: u64, count: &mut Count) {
    let Some((last, earlier)) = steps.split_last() else { return };
    for fault in [Fault::PowerFails, Fault::SyncFails] {
        for call in 1.. {
            let mut life = Life::new(before.0.copy(), before.1.clone());
            if steps.first() != Some(&Step::Start) {
                life.step(Step::Start).expect("a start");
            }
            if earlier.iter().any(|step| life.step(*step).is_none()) {
                return;
            }
            if (call, fault) == (1, Fault::PowerFails) {
                count.sequences += 1;
            }
            let calls = life.disk.calls();
            life.disk.fail_at(call, fault);
            let _failed = life.step(*last);
            if life.disk.calls() - calls < call {
                break;
            }
            count.crashes += 1;
            life.running = None;
            if fault == Fault::SyncFails {
                life = Life::new(life.disk.copy(), life.told);
                life.show_everything();
            }
            lose_power(&life, samples, count);
        }
    }
}

/// All that the device may hold when the power fails now.
fn lose_power(life: &Life, samples: u64, count: &mut Count) {
    let unsynced = life.disk.unsynced();
    if unsynced <= FEW {
        for subset in 0..1_u64 << unsynced {
            start_on(life.disk.crash_with(|number| subset >> number & 1 == 1), &life.told, count);
        }
        return;
    }
    let mut dice = SmallRng::seed_from_u64(count.states);
    for sample in 0..samples {
        let tenths = u32::try_from(sample % 11).unwrap();
        let left = life.disk.crash_with(|_| dice.random_ratio(tenths, 10));
        start_on(left, &life.told, count);
    }
}

/// Starts on what the device holds; and now and then the power fails in that too, at each call and with nothing, all or
/// some of it done.
fn start_on(left: SimulatedDisk, told: &Told, count: &mut Count) {
    count.states += 1;
    let again = count.states.is_multiple_of(TWICE_EVERY).then(|| left.copy());
    check(left, told);
    let Some(left) = again else { return };
    for call in 1.. {
        let mut life = Life::new(left.copy(), told.clone());
        life.disk.fail_at(call, Fault::PowerFails);
        if life.step(Step::Start).is_some() {
            break;
        }
        let mut dice = SmallRng::seed_from_u64(count.states);
        for tenths in [0, 5, 10] {
            check(life.disk.crash_with(|_| dice.random_ratio(tenths, 10)), told);
            count.states += 1;
            count.twice += 1;
        }
    }
}

/// The `number`th sequence of so many steps; `None` if there are fewer.
fn sequence(length: u32, mut number: usize) -> Option<Vec<Step>> {
    if number >= STEPS.len().pow(length) {
        return None;
    }
    let mut next = || {
        let step = STEPS[number % STEPS.len()];
        number /= STEPS.len();
        step
    };
    Some((0..length).map(|_| next()).collect())
}

/// Makes states until there are as many: of all sequences of one step, then of two, and so on, after each beginning. Of
/// `parts` that share the work this is the part number `part`.
pub fn enumerate(states: u64, (part, parts): (usize, usize), count: &mut Count) {
    let begun = BEFORE.map(prepared);
    for length in 1.. {
        let samples = if length < 3 { 11 } else { 110 };
        for number in (part..).step_by(parts) {
            let Some(steps) = sequence(length, number) else { break };
            for before in &begun {
                crashes(before, &steps, samples, count);
                if count.states >= states {
                    return;
                }
            }
        }
    }
}

#[test]
fn whatever_a_power_failure_leaves_of_short_sequences_starts_with_all_that_was_told() {
    let states = super::number_or_give_way("CRASH_STATES", 12_000);
    let began = Instant::now();
    let threads = super::threads();
    let counts = super::in_all_threads(|thread| {
        let part = (usize::try_from(thread).unwrap(), usize::try_from(threads).unwrap());
        let mut count = Count::default();
        enumerate(states.div_ceil(threads), part, &mut count);
        count
    });
    let mut sum = Count::default();
    for count in counts {
        sum.sequences += count.sequences;
        sum.crashes += count.crashes;
        sum.states += count.states;
        sum.twice += count.twice;
    }
    println!("{sum:?} in {:?}", began.elapsed());
    assert!(sum.states >= states && sum.sequences > 30 && sum.twice > 0, "{sum:?}");
}
