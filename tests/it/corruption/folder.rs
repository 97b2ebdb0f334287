//! A data folder with something of everything in it, on a simulated disk, and what it held when it was last acknowledged.

use std::sync::Arc;
use strongroom::{
    domain::{
        access::{AccessEvent, AccessRecord},
        books::{Books, Cut, Direction, EventFilter, Position},
        command::Command,
        entry::{Batch, PaymentRecord, Record},
        event::{CaptureMode, Decline, Details, Evidence, Note, Outcome},
        id::{EndpointId, PaymentId, Sequence},
        idempotency::{Fingerprint, Key, Operation, Request, Retention},
        ledger,
        money::{Amount, Currency},
        payment::{self, Form, Payment},
        time::Timestamp,
        webhook::{
            Created, Filter, Origin, Pattern, Secret, Settings, WebhookEvent, WebhookRecord,
        },
    },
    journal::{
        Folders, JournalError, Options, Recovered,
        disk::{Disk, simulated::SimulatedDisk},
        recover, snapshot,
    },
    wire::{EventBody, PaymentBody, Told},
};
use uuid::Uuid;

/// A disk, and what was acknowledged on it.
pub struct Folder {
    pub disk: SimulatedDisk,
    pub truth: Truth,
    /// Earlier contents of its files, oldest first.
    pub past: Vec<(String, Vec<u8>)>,
}

/// Everything that anybody was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truth {
    pub position: Position,
    pub told: String,
}

/// How the server ended that wrote the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By kill -9, right after an answer.
    Killed,
    /// By its own will: sealed, with a snapshot.
    Closed,
}

pub fn folders(disk: &SimulatedDisk) -> Folders {
    Folders::all_in(Arc::new(disk.clone()))
}

/// A start as the server makes it: the newest good snapshot, the journal behind it, and the answers of both.
pub struct Start {
    pub truth: Truth,
    pub torn: bool,
    pub damaged_snapshots: usize,
}

/// The books right before the entry that a start adds.
pub fn start(disk: &SimulatedDisk) -> Result<Start, JournalError> {
    let folders = folders(disk);
    let loaded = snapshot::load(&folders, Sequence::MAX)?;
    let (mut books, mut last) = (loaded.books, None);
    let covered = books.position();
    let mut visit = |batch: &Batch| match last.replace(batch.clone()) {
        Some(before) => books.replay(&before),
        None => Ok(()),
    };
    let recovered = recover(&folders, options(), at(1_000_000), covered, &mut visit)?;
    let opened = last.expect("the start's own batch");
    assert!(matches!(opened.entries[0].record, Record::Opened { .. }) && opened.entries.len() == 1);
    let truth = truth(&books);
    books.replay(&opened).unwrap();
    let torn = recovered.report.torn.is_some();
    Ok(Start { truth, torn, damaged_snapshots: loaded.refused.len() })
}

/// What every client, merchant and operator could ask of these books.
pub fn truth(books: &Books) -> Truth {
    let mut told = format!("{:?}", books.digest());
    let mut say = |text: String| {
        told.push('\n');
        told.push_str(&text);
    };
    for history in books.histories(0) {
        for step in history.steps() {
            let Some(request) = &step.request else { continue };
            let merchant = &history.details.merchant;
            let answered = books.answered(merchant, &request.key, Retention::Forever, at(0));
            let answered = answered.expect("a key that was used is known");
            assert_eq!(answered.request.fingerprint, request.fingerprint);
            let payment = answered.history.payment_at(answered.version);
            say(serde_json::to_string(&PaymentBody::of(&payment)).unwrap());
        }
    }
    for book in books.account_books(0) {
        let balances = books.balances(&book.account, Cut::Now);
        say(format!("{} {balances:?}", book.account));
    }
    let filter = EventFilter { merchant: None, types: None };
    let (events, _) = books.events(&filter, Direction::OldestFirst { after: 0 }, (1000, 1000));
    for event in events {
        let (payment, told) = (event.payment(), Told::of(&event));
        say(serde_json::to_string(&EventBody::of(&told, &payment, None)).unwrap());
    }
    for endpoint in books.webhooks().endpoints() {
        say(format!("{} {:?} {}", endpoint.url, endpoint.filter(), endpoint.waiting()));
    }
    Truth { position: books.position(), told }
}

impl Folder {
    /// Segments of 64 KiB, each with `payments` payments of every kind, up to `segments` of them; two snapshots, and
    /// what both cover in the archive.
    pub fn build(segments: u64, payments: u64, ended: Ended) -> Self {
        let disk = SimulatedDisk::default();
        let mut server = Server::open(&disk);
        for segment in 1..=segments {
            for number in 0..payments {
                server.live(segment * 1000 + number);
            }
            if segment == segments {
                break;
            }
            let full = server.journal.writer.position().file;
            while server.journal.writer.position().file == full {
                let filling = Record::Opened { epoch: 1, software: "x".repeat(20_000).into() };
                server.write(vec![filling]);
            }
            if segment + 2 >= segments {
                server.take_snapshot();
            }
        }
        if ended == Ended::Closed {
            server.write(vec![Record::Sealed]);
            server.take_snapshot();
        }
        let (truth, past) = (truth(&server.books), server.past);
        Self { disk: server.disk, truth, past }
    }
}

/// A server's writing part.
struct Server {
    disk: SimulatedDisk,
    books: Books,
    journal: Recovered,
    now: u64,
    past: Vec<(String, Vec<u8>)>,
}

impl Server {
    fn open(disk: &SimulatedDisk) -> Self {
        let mut books = Books::default();
        let mut visit = |batch: &Batch| books.replay(batch);
        let journal = recover(&folders(disk), options(), at(0), Position::default(), &mut visit);
        let journal = journal.unwrap();
        let mut server = Self { disk: disk.clone(), books, journal, now: 1, past: Vec::new() };
        server.write(vec![endpoint()]);
        server
    }

    fn write(&mut self, records: Vec<Record>) {
        self.remember();
        self.now += 1;
        let batch = loop {
            match self.journal.writer.append(records.clone(), at(self.now)) {
                Ok(batch) => break batch,
                // The next segment is being prepared.
                Err(JournalError::NoSpace { .. }) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        self.books.replay(&batch).unwrap();
    }

    fn take_snapshot(&mut self) {
        self.remember();
        snapshot::take(&folders(&self.disk), self.books.position().sequence, &|| ())
            .unwrap()
            .unwrap();
    }

    /// Keeps what the files hold, where it will be something else.
    fn remember(&mut self) {
        for name in self.disk.list().unwrap() {
            let content = self.disk.bytes_of(&name).unwrap();
            let known = self.past.iter().rev().find(|(other, _)| *other == name);
            if known.is_none_or(|(_, before)| *before != content) {
                self.past.push((name, content));
            }
        }
    }

    /// Four payments and what becomes of them, in two batches, and what an admin did.
    fn live(&mut self, number: u64) {
        let approved = || Outcome::Approved { reference: format!("ref_{number}").into() };
        let declined = || Outcome::Declined(Decline::InsufficientFunds);
        let [charged, held, asked, failed] = [0, 1, 2, 3].map(|kind| details(number * 4 + kind));
        let submit = |details: &Arc<Details>, outcome| Command::Submit {
            details: details.clone(),
            outcome: Some(outcome),
        };
        let mut batch = Vec::new();
        for (details, command) in [
            (&charged, submit(&charged, approved())),
            (&held, submit(&held, approved())),
            (&asked, Command::Initiate(asked.clone())),
            (&failed, submit(&failed, declined())),
        ] {
            batch.push(self.record(details, command));
        }
        self.write(batch);
        let amount = Amount::new(300);
        let refund = Command::Refund { amount, reason: Some("größer".into()) };
        let attempt = self.books.history(asked.id).unwrap().payment().attempts[0].sequence;
        let answer = match number % 3 {
            0 => Command::Note(Note::Undecided { attempt, what: "no trace".into() }),
            _ => Command::Answer { attempt, outcome: approved(), evidence: Evidence::LookUp },
        };
        let mut batch = vec![
            self.record(&charged, refund),
            self.record(&held, Command::Capture(amount)),
            self.record(&asked, answer),
        ];
        let event = AccessEvent::Asked(format!("snapshot {number}").into());
        batch.push(Record::Access(AccessRecord { actor: "admin/ops".into(), event }));
        self.write(batch);
    }

    fn record(&self, details: &Arc<Details>, command: Command) -> Record {
        let before = match self.books.history(details.id) {
            Some(history) => history.payment(),
            None => Payment::pending(details.clone(), None),
        };
        let event = payment::decide(&before, command, at(self.now)).unwrap();
        let version = before.version + 1;
        let key = Key::new(&format!("{}-{version}", details.id)).unwrap();
        let fingerprint = Fingerprint::of("POST", "/api/payments", key.as_str().as_bytes());
        let operation = if version == 1 { Operation::Create } else { Operation::Refund };
        let told_by_provider = version > 1 && before.provider == "outside".into();
        let request = Request { key, fingerprint, operation };
        Record::Payment(PaymentRecord {
            payment: details.id,
            version,
            actor: "north/main".into(),
            transaction: ledger::transaction(details, &event),
            event,
            request: (!told_by_provider).then_some(request),
            form: Form::default(),
        })
    }
}

fn details(number: u64) -> Arc<Details> {
    let of = |names: [&'static str; 3]| names[usize::try_from(number % 3).unwrap()];
    let id = (u128::from(number) << 80) | 0x7000_8000_0000_0000_0000 | u128::from(number);
    Arc::new(Details {
        id: PaymentId::new(Uuid::from_u128(id)),
        merchant: if number.is_multiple_of(5) { "south" } else { "north" }.into(),
        amount: Amount::new(1000).unwrap(),
        currency: Currency::for_payment(of(["EUR", "JPY", "KWD"])).unwrap(),
        capture: if number % 4 == 1 { CaptureMode::Manual } else { CaptureMode::Automatic },
        payment_method: "tok_visa".into(),
        customer: number.is_multiple_of(2).then(|| "anna".into()),
        description: (number % 4 == 1).then(|| "a description".into()),
        metadata: [("order".into(), number.to_string().into())].into(),
        provider: if number % 4 == 2 { "outside" } else { "sandbox" }.into(),
        hold_ms: 1_000_000,
    })
}

fn endpoint() -> Record {
    let settings = Settings {
        url: "https://shop.example/hook".into(),
        filter: Filter::new(vec![Pattern::Everything]).unwrap(),
        description: None,
    };
    let created = Created {
        endpoint: EndpointId::new(Uuid::from_u128(7)),
        merchant: "north".into(),
        settings,
        secret: Secret::new(&[7; 32]).unwrap(),
        origin: Origin::Api,
    };
    let event = WebhookEvent::Created(Box::new(created));
    Record::Webhook(WebhookRecord { actor: "north/main".into(), event })
}

pub fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_763_823_845_000 + millis)
}

fn options() -> Options {
    Options { segment_bytes: 64 * 1024, batch_bytes_max: 32 * 1024, software: "0.1.0".into() }
}
