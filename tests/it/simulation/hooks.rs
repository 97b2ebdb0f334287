//! Webhooks: a courier that goes by the real queue, an endpoint that misbehaves, and its record of what it got.

use super::clients::MERCHANT;
use super::server::Server;
use rand::{RngExt, rngs::SmallRng};
use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};
use strongroom::{
    clock::Clock,
    domain::{
        id::{EndpointId, PaymentId, Sequence},
        time::Timestamp,
        webhook::{
            Change, Created, Due, Filter, Origin, Queue, Schedule, Secret, Settings, Terms, Try,
            TryResult, WebhookEvent, WebhookRecord,
        },
    },
    tasks,
    wire::{EventBody, Told},
};
use uuid::Uuid;

/// What the merchant's endpoint has taken.
#[derive(Default)]
pub struct Endpoint {
    /// Each event's body as it first came.
    bodies: BTreeMap<Sequence, String>,
    /// The last event of each payment that was taken.
    last: HashMap<PaymentId, Sequence>,
    pub taken: u64,
}

pub fn endpoint_id() -> EndpointId {
    EndpointId::new(Uuid::from_u128(9))
}

impl Endpoint {
    /// It takes an event: in order per payment, and an event that came before is the same again.
    fn take(&mut self, due: &Due, body: String) {
        self.taken += 1;
        match self.bodies.get(&due.sequence) {
            Some(first) => assert_eq!(*first, body, "event {} has changed", due.sequence),
            None => {
                let last = self.last.insert(due.payment, due.sequence).unwrap_or_default();
                assert!(
                    last < due.sequence,
                    "event {} of {} came after {last}",
                    due.sequence,
                    due.payment
                );
                self.bodies.insert(due.sequence, body);
            }
        }
    }

    pub fn has(&self, sequence: Sequence) -> bool {
        self.bodies.contains_key(&sequence)
    }

    /// Every event that was ever taken.
    pub fn sequences(&self) -> impl Iterator<Item = Sequence> + '_ {
        self.bodies.keys().copied()
    }
}

/// The courier of one life.
pub struct Courier {
    queue: Queue,
    under_way: Vec<Due>,
    taken_back: Rc<RefCell<Vec<Change>>>,
}

fn terms() -> Terms {
    Terms {
        schedule: Schedule { waits_ms: vec![500; 1000], jitter_percent: 0 },
        concurrency: 4,
        backlog: 16,
        disable_after_ms: u64::MAX,
    }
}

impl Courier {
    /// Goes on where the books say, or has the endpoint made.
    pub fn start(server: &Server) -> Option<Self> {
        let books = server.engine.books.read();
        let Some(endpoint) = books.webhooks().endpoint(endpoint_id()) else {
            record(server, WebhookEvent::Created(Box::new(created())), None);
            return None;
        };
        let payment_of = |sequence| books.event(sequence).map(|event| event.history.details.id);
        let queue = Queue::new(endpoint_id(), terms(), endpoint.progress.clone(), payment_of);
        Some(Self { queue, under_way: Vec::new(), taken_back: Rc::default() })
    }

    /// Begins what is due.
    pub fn begin(&mut self, server: &Server) {
        let now = server.clock.now();
        let books = server.engine.books.read();
        books.feed_into(&mut self.queue, endpoint_id(), now, 64);
        self.under_way.extend(std::iter::from_fn(|| self.queue.next(now)));
    }

    /// Ends one of the tries that are under way: taken and said so, taken and not said, or not taken.
    pub fn end_one(
        &mut self,
        server: &Server,
        endpoint: &mut Endpoint,
        dice: &mut SmallRng,
        good: bool,
    ) {
        if self.under_way.is_empty() {
            return;
        }
        let due = self.under_way.swap_remove(dice.random_range(0..self.under_way.len()));
        let (is_taken, is_said) = match dice.random_range(0..10) {
            _ if good => (true, true),
            0 => (true, false),
            1..3 => (false, false),
            _ => (true, true),
        };
        if is_taken {
            let books = server.engine.books.read();
            let event = books.event(due.sequence).expect("an event is on the books");
            let (told, payment) = (Told::of(&event), event.payment());
            let body = EventBody::of(&told, &payment, Some(due.number));
            endpoint.take(&due, serde_json::to_string(&body).unwrap());
        }
        let result = if is_said { TryResult::Answered(200) } else { TryResult::TimedOut };
        let now = server.clock.now();
        let tried = Try { at: now, latency_ms: 1, result };
        self.queue.finish(due, tried, None, (now, 0));
    }

    /// Has the progress journaled; lazily, so what is lost is sent again.
    pub fn report(&mut self, server: &Server) {
        for change in self.taken_back.take() {
            self.queue.take_back(change);
        }
        if let Some(change) = self.queue.report() {
            let event = WebhookEvent::Progressed(vec![change.clone()]);
            record(server, event, Some((change, self.taken_back.clone())));
        }
    }

    /// Whether nothing waits.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.queue.progress().open.is_empty()
    }
}

fn created() -> Created {
    Created {
        endpoint: endpoint_id(),
        merchant: MERCHANT.into(),
        settings: Settings {
            url: "https://shop.example/hooks".into(),
            filter: Filter::everything(),
            description: None,
        },
        secret: Secret::from_random([7; 32]),
        origin: Origin::Config,
    }
}

type TakenBack = Rc<RefCell<Vec<Change>>>;

fn record(server: &Server, event: WebhookEvent, report: Option<(Change, TakenBack)>) {
    let engine = server.engine.clone();
    drop(tasks::spawn(async move {
        let record = WebhookRecord { actor: "system/webhooks".into(), event };
        let now: Timestamp = engine.clock.now();
        let done = engine.ledger.record_webhook(record, now).await;
        if let (Err(_), Some((change, taken_back))) = (done, report) {
            taken_back.borrow_mut().push(change);
        }
    }));
}
