//! The demo's clients, and their record of what they asked for and were told: the only witness outside the server.

use super::server::Server;
use awc::{Client, http::header};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

const CLIENTS: u32 = 8;
const MERCHANT_KEY: &str = "sk_test_merchant_1";
const ADMIN_KEY: &str = "ak_test_admin";
const CURRENCIES: [&str; 3] = ["USD", "JPY", "KWD"];
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Every request of the demo.
#[derive(Default)]
pub(super) struct Record {
    pub(super) asked: Vec<Asked>,
    /// How often a client asked again under a key that had been answered.
    pub(super) retries: usize,
    /// Retries whose answer was not the first one, byte for byte.
    pub(super) changed: Vec<String>,
}

/// One request, named by its idempotency key.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) key: String,
    pub(super) body: Value,
    /// The answer's status and bytes; `None` while nothing is acknowledged.
    pub(super) told: Option<(u16, Vec<u8>)>,
}

impl Record {
    pub(super) fn acknowledged(&self) -> usize {
        self.asked.iter().filter(|asked| asked.told.is_some()).count()
    }
}

impl Asked {
    fn new(path: &str, key: String, body: Value) -> Self {
        Self { path: path.to_owned(), key, body, told: None }
    }

    /// The id of the payment that was made or changed.
    pub(super) fn payment(&self) -> Option<String> {
        let (_, body) = self.told.as_ref()?;
        let payment: Value = serde_json::from_slice(body).ok()?;
        payment.get("id")?.as_str().map(str::to_owned)
    }

    /// Asks. Only a 200 or 201 is an acknowledgement; anything else leaves the outcome open.
    pub(super) async fn send(&mut self, http: &Client, url: &str) {
        let told = post(http, &format!("{url}{}", self.path), &self.key, &self.body).await;
        self.told = told.filter(|(status, _)| matches!(status, 200 | 201));
    }
}

/// A client that gives a slow answer its time.
pub(super) fn http() -> Client {
    Client::builder().timeout(ANSWER_WITHIN).finish()
}

/// Sends as the merchant; `None` if the answer did not arrive whole.
pub(super) async fn post(
    http: &Client,
    url: &str,
    key: &str,
    body: &Value,
) -> Option<(u16, Vec<u8>)> {
    let request = http.post(url).bearer_auth(MERCHANT_KEY).insert_header(("Idempotency-Key", key));
    let mut answer = request.send_json(body).await.ok()?;
    Some((answer.status().as_u16(), answer.body().await.ok()?.to_vec()))
}

/// Reads as the admin.
pub(super) async fn get(http: &Client, url: &str) -> Option<Value> {
    let request =
        http.get(url).insert_header((header::AUTHORIZATION, format!("Bearer {ADMIN_KEY}")));
    let body = request.send().await.ok()?.body().limit(1 << 20).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Lets the clients work for as long as the server `lives`, then kills it under them.
pub(super) async fn work(
    server: Server,
    record: &mut Record,
    random: &mut StdRng,
    (round, rate, lives): (u32, u32, Duration),
) -> anyhow::Result<()> {
    let shared = Rc::new(RefCell::new(std::mem::take(record)));
    let end = Instant::now() + lives;
    let pause = Duration::from_secs(1).saturating_mul(CLIENTS) / rate;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let client = DemoClient {
            http: http(),
            url: server.url.clone(),
            name: format!("round{round}-client{number}"),
            random: StdRng::seed_from_u64(random.random()),
            record: shared.clone(),
        };
        clients.push(actix_rt::spawn(client.work(pause)));
    }
    actix_rt::time::sleep_until(end.into()).await;
    server.kill()?;
    // What they wait for now stays without an answer.
    for client in clients {
        client.abort();
        drop(client.await);
    }
    *record = shared.take();
    Ok(())
}

struct DemoClient {
    http: Client,
    url: String,
    name: String,
    random: StdRng,
    record: Rc<RefCell<Record>>,
}

impl DemoClient {
    async fn work(mut self, pause: Duration) {
        for number in 0u32.. {
            let key = |what: &str| format!("{}-{number}-{what}", self.name);
            let manual = self.random.random_bool(0.4);
            let amount = self.random.random_range(1_000..10_000);
            let currency = CURRENCIES.get(self.random.random_range(0..CURRENCIES.len()));
            let capture = if manual { "manual" } else { "automatic" };
            let body = json!({"amount": amount, "currency": currency, "capture": capture});
            let mut steps = Vec::new();
            if manual {
                steps.push(("capture", key("capture"), amount - 300));
            }
            if self.random.random_bool(0.3) {
                steps.push(("refund", key("refund"), 500));
            }
            let pay = Asked::new("/api/payments", key("pay"), body);
            let Some(payment) = self.ask(pay, pause).await else { continue };
            for (command, key, amount) in steps {
                let path = format!("/api/payments/{payment}/{command}");
                let asked = Asked::new(&path, key, json!({"amount": amount}));
                if self.ask(asked, pause).await.is_none() {
                    break;
                }
            }
            if self.random.random_bool(0.3) {
                self.retry(pause).await;
            }
        }
    }

    /// Notes the request before it is sent and the answer when it is there. Returns the payment.
    async fn ask(&mut self, asked: Asked, pause: Duration) -> Option<String> {
        let place = self.record.borrow().asked.len();
        self.record.borrow_mut().asked.push(asked.clone());
        let mut asked = asked;
        asked.send(&self.http, &self.url).await;
        let payment = asked.payment();
        if let Some(noted) = self.record.borrow_mut().asked.get_mut(place) {
            *noted = asked;
        }
        actix_rt::time::sleep(pause).await;
        payment
    }

    /// Asks again under a key that was answered: the answer must be the same, byte for byte.
    async fn retry(&mut self, pause: Duration) {
        let known = self.record.borrow().asked.len();
        let place = self.random.random_range(0..known.max(1));
        let first = self.record.borrow().asked.get(place).cloned();
        let Some(first) = first.filter(|asked| asked.told.is_some()) else { return };
        let mut again = first.clone();
        again.send(&self.http, &self.url).await;
        if again.told.is_some() {
            self.record.borrow_mut().retries += 1;
            if again.told != first.told {
                self.record.borrow_mut().changed.push(first.key);
            }
        }
        actix_rt::time::sleep(pause).await;
    }
}
