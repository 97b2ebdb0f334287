//! A payment provider that fails in every way that is known: Stripe's PaymentIntents, refunds, idempotency keys and
//! signed events on 127.0.0.1. Its books are what a core is held against: they change under one lock, and no fault
//! changes what they say. Here are its faults and its door; `payments`
//! holds the rules of the money, `wire` is HTTP in and out.

mod payments;
mod wire;

use crate::wait::eventually;
use payments::{judge, lie};
use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::Duration,
};
use wire::{Hook, Request, event, http, refusal, say};

/// What goes wrong with one POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The effect is there, and kept for the key, at once; the answer comes after this long.
    LateAfterEffect(Duration),
    /// Effect and answer come after this long; until then the key is in use.
    LateBeforeEffect(Duration),
    /// As `LateAfterEffect`, until it is let go.
    HeldAfterEffect,
    /// As `LateBeforeEffect`, until it is let go.
    HeldBeforeEffect,
    ResetAfterEffect,
    ResetBeforeEffect,
    /// 500, which is kept for the key.
    ErrorAfterEffect,
    /// 500. Nothing is kept for the key, here and in the next two.
    ErrorBeforeEffect,
    /// 409: the key is said to be in use.
    Conflict,
    /// 429.
    TooMany,
    /// The answer's amounts are off by this much, replayed ones too. Lookups and events tell the truth.
    LieAboutAmount(i64),
    /// A web page is answered. The right answer is kept for the key.
    Garbage,
    /// A new refund is `pending`, a new payment `processing`. Captures and cancels never are.
    Pending,
}

impl Fault {
    fn any(random: &mut Random) -> Self {
        let late = Duration::from_millis(30 + random.below(871));
        match random.below(12) {
            0 => Self::LateAfterEffect(late),
            1 => Self::LateBeforeEffect(late),
            2 => Self::ResetAfterEffect,
            3 => Self::ResetBeforeEffect,
            4 => Self::ErrorAfterEffect,
            5 => Self::ErrorBeforeEffect,
            6 => Self::Conflict,
            7 => Self::TooMany,
            8 => Self::LieAboutAmount(1),
            9 => Self::LieAboutAmount(-1),
            10 => Self::Garbage,
            _ => Self::Pending,
        }
    }
}

/// The provider. It serves until it is dropped.
pub struct StripeDouble {
    address: SocketAddr,
    books: Arc<Mutex<Books>>,
}

impl StripeDouble {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let books = Arc::<Mutex<Books>>::default();
        let serving = books.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, books) = (connection.unwrap(), serving.clone());
                if books.lock().unwrap().dropped {
                    return;
                }
                // However it ends, the next connection is served.
                thread::spawn(move || drop(serve(&books, &connection)));
            }
        });
        Self { address, books }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next POSTs that are no replays take these faults in turn, before any that `misbehave` draws.
    pub fn next(&self, faults: &[Fault]) {
        self.books().faults.extend(faults);
    }

    /// So many percent of the POSTs that are no replays take a fault of any kind (late by 30 to 900 ms), and half as
    /// many lookups answer 500.
    pub fn misbehave(&self, seed: u64, percent: u64) {
        let mut books = self.books();
        (books.luck, books.fault_percent) = (Random(seed), percent);
    }

    /// While down, new connections are closed at once, and old ones are reset by their next request.
    pub fn down(&self, down: bool) {
        self.books().down = down;
    }

    /// If not, every GET answers 500.
    pub fn answers_lookups(&self, yes: bool) {
        self.books().blind = !yes;
    }

    /// While it hangs, no request is answered.
    pub fn hang(&self, hangs: bool) {
        self.books().hangs = hangs;
    }

    /// Lets so many requests go that are held, as soon as they are.
    pub fn let_go(&self, count: usize) {
        self.books().let_go += count;
        eventually("they were held", || {
            let books = self.books();
            (books.held >= books.let_go).then_some(())
        });
    }

    /// Waits until so many more requests came.
    pub fn wait_for_more(&self, count: usize) {
        let enough = self.books().requests.len() + count;
        eventually("it is asked", || (self.books().requests.len() >= enough).then_some(()));
    }

    /// Every POST is refused by a rule that asks for no key, and the search is behind: it finds nothing.
    pub fn refuse_everything(&self) {
        self.books().refuses = true;
    }

    /// Somebody captures the hold of a payment in the dashboard; nobody is told.
    pub fn capture_by_hand(&self, payment: &str) {
        let mut books = self.books();
        let mut intents = books.intents.iter_mut();
        let is_it = |intent: &&mut Value| intent["metadata"]["strongroom_payment"] == payment;
        let intent = intents.find(is_it).expect("a payment");
        assert_eq!(intent["status"], "requires_capture");
        intent["status"] = "succeeded".into();
        intent["amount_received"] = intent["amount"].clone();
        intent["amount_capturable"] = 0.into();
    }

    /// As if a day had passed: a key is new again, unless its request is still being executed.
    pub fn forget_keys(&self) {
        self.books().keys.retain(|_, known| known.1.is_none());
    }

    /// Its clock runs ahead of the machine's by so much.
    pub fn clock_ahead(&self, ms: u64) {
        self.books().ahead_ms = ms;
    }

    /// From now on every effect is told to `url` by so many copies of its event.
    pub fn tell(&self, url: &str, secret: &str, copies: usize) {
        let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let address = host.to_socket_addrs().unwrap().next().unwrap();
        self.books().hook =
            Some(Hook { address, path: path.into(), secret: secret.into(), copies });
    }

    /// Sends one event of a new id now, and returns the status that its receiver answers.
    pub fn send_event(&self, kind: &str, object: &Value) -> u16 {
        let id = self.books().next_event_id();
        self.send_raw(&id, kind, object)
    }

    /// As `send_event`, of this id.
    pub fn send_raw(&self, id: &str, kind: &str, object: &Value) -> u16 {
        let hook = self.books().hook.clone().expect("someone to tell");
        let now_s = self.books().now_s();
        hook.send(&event(id, kind, object, now_s), now_s).expect("an answer to the event")
    }

    pub fn intents(&self) -> Vec<Value> {
        self.books().intents.clone()
    }

    pub fn refunds(&self) -> Vec<Value> {
        self.books().refunds.clone()
    }

    /// The first payment with this in its metadata.
    pub fn intent_of(&self, key: &str, value: &str) -> Option<Value> {
        self.books().intents_of(key, value).first().cloned()
    }

    /// Ends a pending refund as `succeeded` or `failed`, or lets a succeeded one fail after all.
    pub fn settle_refund(&self, id: &str, status: &str) {
        let mut books = self.books();
        let refund = books.refunds.iter_mut().find(|refund| refund["id"] == id).unwrap();
        let before = refund["status"].as_str().unwrap();
        assert!(
            matches!(
                (before, status),
                ("pending", "succeeded") | ("pending" | "succeeded", "failed")
            ),
            "{id} is {before}, and cannot become {status}"
        );
        refund["status"] = status.into();
        let refund = refund.clone();
        books.announce("refund.updated", &refund);
        if status == "failed" {
            books.announce("refund.failed", &refund);
        }
    }

    /// Ends a `processing` payment by its issuer's yes or no.
    pub fn settle_intent(&self, id: &str, succeeded: bool) {
        let mut books = self.books();
        let at = books.open(id, &["processing"]).expect("a processing payment");
        let method = if succeeded { "pm_card_visa" } else { "pm_card_chargeDeclined" };
        assert!(judge(&mut books.intents[at], method).is_ok());
        books.tell_state(at);
    }

    /// How often a request of this key had an effect.
    pub fn executions(&self) -> BTreeMap<String, usize> {
        self.books().executions.clone()
    }

    /// Method, path and idempotency key of each request, in the order of arrival.
    pub fn requests(&self) -> Vec<(String, String, Option<String>)> {
        self.books().requests.clone()
    }
}

impl Drop for StripeDouble {
    fn drop(&mut self) {
        // After a panic under the lock no connection is served anyway.
        if let Ok(mut books) = self.books.lock() {
            (books.down, books.dropped, books.hangs) = (true, true, false);
        }
        // Wakes the thread that accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn serve(books: &Mutex<Books>, mut connection: &TcpStream) -> io::Result<()> {
    if books.lock().unwrap().down {
        return Ok(());
    }
    let mut reader = BufReader::new(connection.try_clone()?);
    while let Some(request) = Request::read(&mut reader)? {
        while books.lock().unwrap().hangs {
            thread::sleep(Duration::from_millis(20));
        }
        let Some(answer) = reply(books, &request) else {
            return Ok(rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO))?);
        };
        connection.write_all(answer.as_bytes())?;
        if request.header("connection") == "close" {
            break;
        }
    }
    Ok(())
}

/// The whole answer; `None` resets the connection. Sleeps outside the lock, so that no other request is late.
fn reply(books: &Mutex<Books>, request: &Request) -> Option<String> {
    let admitted = books.lock().unwrap().admit(request);
    let fault = match admitted {
        Ok(fault) => fault,
        Err(reply) => return reply,
    };
    match fault {
        Fault::LateBeforeEffect(pause) => thread::sleep(pause),
        Fault::HeldBeforeEffect => wait_to_be_let_go(books),
        _ => {}
    }
    let answer = books.lock().unwrap().execute(request, fault);
    match fault {
        Fault::ResetAfterEffect => return None,
        Fault::Garbage => return Some(http(200, "<html>")),
        Fault::LateAfterEffect(pause) => thread::sleep(pause),
        Fault::HeldAfterEffect => wait_to_be_let_go(books),
        _ => {}
    }
    Some(answer)
}

fn wait_to_be_let_go(books: &Mutex<Books>) {
    let place = {
        let mut books = books.lock().unwrap();
        books.held += 1;
        books.held
    };
    while books.lock().is_ok_and(|books| books.let_go < place && !books.dropped) {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Everything that the provider knows. All of it changes under one lock.
#[derive(Default)]
struct Books {
    intents: Vec<Value>,
    refunds: Vec<Value>,
    /// What was sent first with a key, and the answer once it is executed.
    keys: BTreeMap<String, (String, Option<String>)>,
    executions: BTreeMap<String, usize>,
    requests: Vec<(String, String, Option<String>)>,
    faults: VecDeque<Fault>,
    fault_percent: u64,
    luck: Random,
    shuffle: Random,
    blind: bool,
    hangs: bool,
    /// How many requests have been held, and how many may go.
    held: usize,
    let_go: usize,
    refuses: bool,
    down: bool,
    dropped: bool,
    hook: Option<Hook>,
    events: u64,
    ahead_ms: u64,
}

/// A status and a body.
type Said = (u16, Value);

impl Books {
    /// Replies to what has no effect. For all else returns its fault; from then on its key is in use.
    fn admit(&mut self, request: &Request) -> Result<Fault, Option<String>> {
        let Request { method, path, key, sent, .. } = request;
        if self.down {
            return Err(None);
        }
        self.requests.push((method.clone(), path.clone(), key.clone()));
        let no = |status, code| Err(Some(say(&refusal(status, code, ""))));
        if !request.header("authorization").starts_with("Bearer sk_") {
            return no(401, "unauthorized");
        }
        if method != "POST" {
            let fails = self.blind || self.luck.below(200) < self.fault_percent;
            let found = self.look_up(request).unwrap_or_else(|refusal| refusal);
            return if fails { no(500, "api_error") } else { Err(Some(say(&found))) };
        }
        if self.refuses {
            return no(400, "parameter_invalid");
        }
        match key.as_ref().and_then(|key| self.keys.get(key)) {
            None => {}
            Some((first, _)) if first != sent => return no(400, "idempotency_key_reused"),
            Some((_, None)) => return no(409, "idempotency_key_in_use"),
            Some((_, Some(answer))) => {
                return Err(Some(answer.replacen("\n", "\nIdempotent-Replayed: true\r\n", 1)));
            }
        }
        let fault = self.next_fault();
        match fault {
            Fault::ResetBeforeEffect => return Err(None),
            Fault::ErrorBeforeEffect => return no(500, "api_error"),
            Fault::Conflict => return no(409, "idempotency_key_in_use"),
            Fault::TooMany => return no(429, "rate_limit"),
            _ => self.keys.extend(key.clone().map(|key| (key, (sent.clone(), None)))),
        }
        Ok(fault)
    }

    fn next_fault(&mut self) -> Fault {
        match self.faults.pop_front() {
            Some(fault) => fault,
            None if self.luck.below(100) < self.fault_percent => Fault::any(&mut self.luck),
            None => Fault::None,
        }
    }

    /// Does what was asked, and keeps the answer for the key in the same breath.
    fn execute(&mut self, request: &Request, fault: Fault) -> String {
        let done = self.perform(request, fault);
        let effects = usize::from(done.is_ok());
        let mut said = done.unwrap_or_else(|refusal| refusal);
        match fault {
            Fault::ErrorAfterEffect => said = refusal(500, "api_error", ""),
            Fault::LieAboutAmount(by) => lie(&mut said.1, by),
            _ => {}
        }
        let answer = say(&said);
        if let Some(key) = &request.key {
            self.keys.get_mut(key).unwrap().1 = Some(answer.clone());
            *self.executions.entry(key.clone()).or_default() += effects;
        }
        answer
    }
}

/// splitmix64.
#[derive(Default)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
