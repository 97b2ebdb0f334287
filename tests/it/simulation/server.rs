//! One life of the server: the real actors, started as the program starts them, on a simulated disk in a simulated world.

use super::{
    bank::Bank,
    world::{LifeClock, World},
};
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};
use strongroom::{
    actors::{
        Engine,
        admission::Admission,
        alarms::Alarms,
        calls::Calls,
        idempotency::IdempotencyHandle,
        ledger::{Fatal, LedgerHandle, Pace},
        registry::Registry,
        scheduler::Scheduler,
    },
    app::recovery::{Recovery, bring_back},
    clock::Clock,
    domain::{idempotency::Retention, money::Currency},
    journal::{
        Folders, JournalError, Options, Report, ahead::by_hand, disk::simulated::SimulatedDisk,
        snapshot,
    },
    pipeline::{self, Done, NotDone, Task},
    provider::{Line, Lines, Pace as LinePace, Routes, Rule, Sandbox},
    tasks,
};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How long a provider's answer is waited for.
pub const ANSWER_WITHIN_MS: u64 = 5_000;
const DEADLINE: Duration = Duration::from_secs(10);
/// The currency of payments that go to the bank; all others go to the sandbox.
pub const OUTSIDE: &str = "EUR";

/// The answers that have come back, by what they are about.
pub type Inbox<T> = Rc<RefCell<Vec<(T, Result<Done, NotDone>)>>>;

pub struct Server {
    pub engine: Arc<Engine>,
    pub folders: Folders,
    pub clock: Arc<LifeClock>,
    pub report: Report,
    fatal: mpsc::UnboundedReceiver<Fatal>,
}

/// How a run's server is set up.
#[derive(Clone, Copy)]
pub struct Setup {
    pub segment_bytes: u64,
    pub in_flight_max: usize,
}

pub fn folders(disk: &SimulatedDisk) -> Folders {
    Folders::all_in(Arc::new(disk.clone()))
}

pub fn options(setup: Setup) -> Options {
    Options {
        segment_bytes: setup.segment_bytes,
        batch_bytes_max: 16 * 1024,
        software: "simulated".into(),
    }
}

/// What a start makes of what is on the disk.
pub fn recover(
    disk: &SimulatedDisk,
    setup: Setup,
    clock: &LifeClock,
) -> Result<Recovery, JournalError> {
    by_hand::turn_on();
    bring_back(folders(disk), options(setup), Uuid::from_u128(7), clock)
}

impl Server {
    /// Starts on `disk`, in the world that the thread has entered.
    pub fn start(
        disk: &SimulatedDisk,
        setup: Setup,
        world: &World,
        bank: &Bank,
    ) -> Result<Self, JournalError> {
        let clock = Arc::new(LifeClock::new(world.time.clone()));
        let recovery = recover(disk, setup, &clock)?;
        let Recovery { journal, books, report, folders, .. } = recovery;
        let space = journal.space();
        let retention = Retention::Forever;
        let pace = Pace {
            batch_entries_max: 8,
            batch_bytes_max: 16 * 1024,
            seal_after: Duration::from_millis(200),
            mailbox_max: 64,
            retention,
            endpoints_max: 4,
        };
        let (sender, fatal) = mpsc::unbounded_channel();
        let (ledger, reader) = LedgerHandle::start(journal, books, pace, sender);
        let shared: Arc<dyn Clock> = clock.clone();
        let engine = Arc::new(Engine {
            books: reader.clone(),
            ledger,
            idempotency: IdempotencyHandle::new(reader, shared.clone(), retention, 64),
            registry: Arc::new(Registry::default()),
            admission: Arc::new(Admission::new(32, space)),
            lines: Arc::new(lines(bank, setup)),
            calls: Calls::new(shared.clone()),
            alarms: Arc::new(Alarms::new(shared.clone(), None)),
            clock: shared,
            answer_within: Duration::from_millis(ANSWER_WITHIN_MS),
            retention,
            stall_max: Duration::from_secs(3600),
        });
        let (inquire_after, tick) = (Duration::from_secs(2), Duration::from_secs(3));
        let scheduler = Scheduler::new(engine.clone(), inquire_after, tick);
        drop(tasks::start(scheduler, |_| ()));
        Ok(Self { engine, folders, clock, report, fatal })
    }

    /// Whether the process has to end.
    pub fn has_failed(&mut self) -> bool {
        self.fatal.try_recv().is_ok()
    }

    /// Sends a request, whose answer goes to the inbox.
    pub fn send<T: 'static>(&self, about: T, task: Task, inbox: &Inbox<T>) {
        let (engine, inbox) = (self.engine.clone(), inbox.clone());
        drop(tasks::spawn(async move {
            let result = pipeline::run(engine, task).await;
            inbox.borrow_mut().push((about, result));
        }));
    }

    /// Makes a snapshot of all that is durable; one that can't be made harms nobody.
    pub fn snapshot(&self) -> bool {
        let through = self.engine.books.read().position().sequence;
        snapshot::take(&self.folders, through, &|| ()).is_ok()
    }
}

fn lines(bank: &Bank, setup: Setup) -> Lines {
    let pace = LinePace {
        in_flight_max: setup.in_flight_max,
        deadline: DEADLINE,
        slow_after: DEADLINE,
        failures_max: 8,
        rest: Duration::from_secs(1),
    };
    let outside = |name: &str| {
        let (name, bank): (Arc<str>, _) = (name.into(), bank.named(name));
        let line = Line::outside(name.clone(), bank.terms(), pace, move || bank);
        (name, Arc::new(line))
    };
    let sandbox: (Arc<str>, _) =
        ("sandbox".into(), Arc::new(Line::Inside(Box::new(Sandbox::new(1_000_000)))));
    let lines: BTreeMap<_, _> = [outside("first"), outside("second"), sandbox].into();
    let rule = Rule {
        currency: Currency::for_payment(OUTSIDE),
        providers: vec!["first".into(), "second".into()],
        ..Rule::default()
    };
    Lines::new(lines, Routes { rules: vec![rule], otherwise: "sandbox".into() })
}
