//! What clients asked for and were told: a record of their own, outside the server and sharing no code with it, and the
//! server's books held against it.

use crate::{
    client::{Client, Response},
    server::{MERCHANT_1_KEY, TestServer},
    wait::{Stopping, at_once, eventually},
};
use rand::RngExt;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const CLIENTS: usize = 6;
const CURRENCIES: [&str; 2] = ["EUR", "USD"];
/// How many ask at once when all that was told is asked for again.
const ASKING_AGAIN: usize = 4;

/// One command, which may have been sent more than once under its key.
#[derive(Clone)]
struct Asked {
    path: String,
    key: String,
    body: Value,
    /// The answer's status and bytes; `None` if nobody heard one.
    told: Option<(u16, Vec<u8>)>,
}

impl Asked {
    /// Sends it, by two clients at once if it has a twin. A connection that dies leaves the answer open, as does
    /// "not now" and "unknown, ask again".
    fn send(mut self, client: &Client, twin: bool) -> Self {
        let text = self.body.to_string();
        let ask = || {
            let answer = client.try_post(&self.path, &self.key, &text).ok();
            answer.filter(|answer| answer.status != 503).map(|a| (a.status, a.body))
        };
        let answers = if twin { at_once(2, |_| ask()) } else { vec![ask()] };
        for answer in answers.into_iter().flatten() {
            let told = self.told.get_or_insert_with(|| answer.clone());
            assert_eq!(*told, answer, "twins under {} were told different things", self.key);
        }
        self
    }

    fn payment(&self) -> Option<Value> {
        let (_, body) = self.told.as_ref()?;
        serde_json::from_slice(body).ok()
    }

    fn payment_id(&self) -> Option<String> {
        self.payment()?["id"].as_str().map(str::to_owned)
    }

    fn amount(&self) -> i64 {
        self.body["amount"].as_i64().unwrap_or(0)
    }

    /// What is left of the path behind the payment: `payments`, `capture`, `void` or `refund`.
    fn command(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }
}

/// What a payment must come to by the record: captured, refunded, held.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    captured: i64,
    refunded: i64,
    held: i64,
}

/// Every command of every client, with what its client was told.
#[derive(Default)]
pub struct Record {
    asked: Mutex<Vec<Asked>>,
    /// Commands that nobody heard an answer to and that turned out done, and not done.
    pub unheard: (usize, usize),
}

impl Record {
    /// The same record, to be continued by another.
    pub fn copy(&self) -> Self {
        Self { asked: Mutex::new(self.asked.lock().unwrap().clone()), unheard: self.unheard }
    }

    /// How many commands were sent.
    pub fn commands(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// How many payments were acknowledged.
    pub fn acknowledged(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|it| it.command() == "payments" && it.told.is_some()).count()
    }

    /// Lets clients work under keys that start with `name` until `enough` commands were sent, then has `end` done while
    /// they go on, and stops them. Returns what `end` returned.
    pub fn while_clients_work<T>(
        &self,
        (client, name): (&Client, &str),
        enough: usize,
        end: impl FnOnce() -> T,
    ) -> T {
        let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for number in 0..CLIENTS {
                let (stop, sent) = (&stop, &sent);
                let name = format!("{name}-{number}");
                scope.spawn(move || {
                    for number in 0.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        self.live(client, &format!("{name}-{number}"), sent);
                    }
                });
            }
            let _stopping = Stopping(&stop);
            eventually("enough commands were sent", || {
                (sent.load(Ordering::SeqCst) >= enough).then_some(())
            });
            end()
        })
    }

    /// Charges once, and returns the answer.
    #[track_caller]
    pub fn charge(&self, client: &Client, key: &str) -> Response {
        let body = json!({"amount": 100, "currency": "USD"});
        let answer = client.pay_in_time(key, &body);
        let told = (answer.status != 503).then(|| (answer.status, answer.body.clone()));
        let (path, key) = ("/api/payments".to_owned(), key.to_owned());
        self.asked.lock().unwrap().push(Asked { path, key, body, told });
        answer
    }

    /// One payment's life, until an answer is missing.
    fn live(&self, client: &Client, name: &str, sent: &AtomicUsize) {
        let mut random = rand::rng();
        let body = payment(&mut random);
        let (total, manual) = (body["amount"].as_i64().unwrap(), body["capture"] == "manual");
        let send = |path: &str, step: &str, body: Value| {
            let key = format!("{name}-{step}");
            let asked = Asked { path: path.to_owned(), key, body, told: None };
            let asked = asked.send(client, rand::rng().random_ratio(1, 4));
            let id = asked.payment_id();
            if id.is_none() {
                // Whoever gets no answer does not ask again at once.
                thread::sleep(Duration::from_millis(50));
            }
            self.asked.lock().unwrap().push(asked);
            sent.fetch_add(1, Ordering::SeqCst);
            id
        };
        let declined = body["paymentMethod"] == "tok_declined";
        let Some(id) = send("/api/payments", "pay", body) else { return };
        if declined {
            return;
        }
        let path = |command: &str| format!("/api/payments/{id}/{command}");
        let mut left = total;
        if manual {
            let (command, body) = match random.random_range(0..4) {
                0 => return,
                1 => ("void", json!({})),
                _ => {
                    left = random.random_range(50..=total);
                    ("capture", json!({"amount": left}))
                }
            };
            if send(&path(command), command, body).is_none() || command == "void" {
                return;
            }
        }
        for part in 0..random.random_range(0..3) {
            let amount = random.random_range(1..=left / 3);
            let body = json!({"amount": amount});
            if send(&path("refund"), &format!("refund{part}"), body).is_none() {
                return;
            }
        }
    }

    /// Holds the server against the record: whatever was not heard is asked for again under its key and becomes part of
    /// it, whatever was told must be told again byte for byte, and the books must be the sum of it, no more and no less.
    pub fn prove(&mut self, server: &TestServer) {
        self.settle(server);
        let asked = self.asked.lock().unwrap();
        let url = format!("http://{}", server.address());
        at_once(ASKING_AGAIN, |number| {
            let client = Client::keeping(&url, MERCHANT_1_KEY);
            for asked in asked.iter().skip(number).step_by(ASKING_AGAIN) {
                let again = answered(&client, asked);
                assert!(again.is_replay(), "{} was done and then forgotten", asked.key);
                let told = Some((again.status, again.body));
                assert_eq!(told, asked.told, "{} was told differently", asked.key);
            }
        });
        check_books(server, &asked);
    }

    /// Whoever was told nothing asks again under the same key, as clients are told to.
    fn settle(&mut self, server: &TestServer) {
        let mut asked = self.asked.lock().unwrap();
        for asked in asked.iter_mut().filter(|asked| asked.told.is_none()) {
            let answer = answered(server, asked);
            assert!(
                [200, 201].contains(&answer.status),
                "{} can't be done any more: {}",
                asked.key,
                String::from_utf8_lossy(&answer.body)
            );
            if answer.is_replay() {
                self.unheard.0 += 1;
            } else {
                self.unheard.1 += 1;
            }
            asked.told = Some((answer.status, answer.body));
        }
    }
}

/// The answer once the server takes commands, asked for again where a connection was closed meanwhile.
fn answered(client: &Client, asked: &Asked) -> Response {
    eventually("an answer", || {
        let answer = client.try_post(&asked.path, &asked.key, &asked.body.to_string()).ok();
        answer.filter(|answer| answer.status != 503)
    })
}

/// What a client wants: small and large, at once or later, in two currencies, now and then with a card that is declined.
fn payment(random: &mut impl RngExt) -> Value {
    let mut body = json!({
        "amount": random.random_range(100..9_000),
        "currency": CURRENCIES[random.random_range(0..2)],
        "capture": if random.random_ratio(2, 3) { "automatic" } else { "manual" },
    });
    if random.random_ratio(1, 12) {
        body["paymentMethod"] = json!("tok_declined");
    }
    if random.random_ratio(1, 3) {
        let pairs =
            (0..random.random_range(1..40)).map(|it| (format!("key_{it}"), "v".repeat(400)));
        body["metadata"] = pairs.map(|(name, value)| (name, json!(value))).collect();
    }
    body
}

/// The books against the record, by payment, by account and in sum.
#[track_caller]
fn check_books(server: &TestServer, asked: &[Asked]) {
    let mut expected: BTreeMap<String, Sums> = BTreeMap::new();
    for asked in asked {
        let sums = expected.entry(asked.payment_id().unwrap()).or_default();
        let declined = asked.body["paymentMethod"] == "tok_declined";
        match asked.command() {
            "payments" if declined => assert_eq!(asked.payment().unwrap()["status"], "failed"),
            "payments" if asked.body["capture"] == "manual" => sums.held += asked.amount(),
            "payments" => sums.captured += asked.amount(),
            "capture" => (sums.captured, sums.held) = (asked.amount(), 0),
            "void" => sums.held = 0,
            "refund" => sums.refunded += asked.amount(),
            other => panic!("{other}"),
        }
    }
    let payments = server.all("/api/payments?limit=100");
    let key = |payment: &Value| payment["idempotencyKey"].as_str().unwrap().to_owned();
    let keys: BTreeSet<String> = payments.iter().map(key).collect();
    assert_eq!(keys.len(), payments.len(), "a key made two payments");
    assert_eq!(payments.len(), expected.len(), "payments that nobody asked for, or lost ones");
    let mut balances: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
    for payment in &payments {
        let figure = |name: &str| payment[name].as_i64().unwrap();
        let found = Sums {
            captured: figure("amountCaptured"),
            refunded: figure("amountRefunded"),
            held: figure("amountCapturable"),
        };
        assert_eq!(Some(&found), expected.get(payment["id"].as_str().unwrap()), "{payment:#}");
        let balance = balances.entry(payment["currency"].as_str().unwrap()).or_default();
        *balance = (balance.0 + found.captured - found.refunded, balance.1 + found.held);
    }
    for currency in CURRENCIES {
        let expected = balances.get(currency).copied().unwrap_or_default();
        assert_eq!(server.balance("merchant:merchant_1", currency), expected, "{currency}");
    }
    let trial = server.admin().get("/api/ledger").of(200).json;
    for total in trial["totals"].as_array().unwrap() {
        assert_eq!((&total["balance"], &total["pending"]), (&json!(0), &json!(0)), "{trial:#}");
    }
    server.admin().reconciles();
    server.verifies();
}
