//! The provider misbehaves at random, the server is killed at random, clients retry: at the end both books agree.

use crate::{
    client::{Client, Response},
    server::MERCHANT_1_KEY,
    shop::{ANSWERS_SOON, Shop},
    wait::eventually,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const CLIENTS: usize = 8;

/// How many payments are made; `CHAOS=` for more.
fn payments() -> usize {
    env::var("CHAOS").map_or(160, |text| text.parse().unwrap())
}

fn seed() -> u64 {
    env::var("SEED").map_or_else(|_| rand::random(), |text| text.parse().unwrap())
}

/// A client of a server that is killed and started again on other ports.
#[derive(Clone)]
struct Retrying {
    url: Arc<Mutex<String>>,
    /// By key: the path, the body, and the first answer.
    answers: Arc<Mutex<BTreeMap<String, Answered>>>,
}

type Answered = (String, Value, Response);

impl Retrying {
    /// Asks under one key until there is an answer that says what was done, and keeps it.
    fn post(&self, path: &str, key: &str, body: &Value) -> Response {
        let answer = eventually("an answer", || {
            let client = Client::new(&self.url.lock().unwrap(), MERCHANT_1_KEY);
            let answer = client.try_post(path, key, &body.to_string()).ok();
            let again = |answer: &Response| {
                answer.status >= 500 || answer.json["code"] == "idempotency_key_in_progress"
            };
            let answer = answer.filter(|answer| !again(answer));
            if answer.is_none() {
                thread::sleep(Duration::from_millis(20));
            }
            answer
        });
        let kept = (path.to_owned(), body.clone(), answer.clone());
        if !matches!(answer.status, 409 | 422) {
            self.answers.lock().unwrap().insert(key.to_owned(), kept);
        }
        answer
    }

    /// One payment's life, as far as the provider lets it get.
    fn live(&self, number: usize) {
        let capture = if number.is_multiple_of(3) { "manual" } else { "automatic" };
        let method =
            if number.is_multiple_of(11) { "pm_card_chargeDeclined" } else { "pm_card_visa" };
        let amount = 100 + i64::try_from(number).unwrap();
        let body = json!({
            "amount": amount, "currency": "USD", "capture": capture, "paymentMethod": method,
        });
        let made = self.post("/api/payments", &format!("{number}-make"), &body);
        assert!(matches!(made.status, 201 | 202), "{}", made.text());
        let path = |change: &str| format!("/api/payments/{}/{change}", made.id());
        match number % 6 {
            0 => drop(self.post(
                &path("capture"),
                &format!("{number}-capture"),
                &json!({"amount": 60}),
            )),
            3 => drop(self.post(&path("void"), &format!("{number}-void"), &json!({}))),
            1 => {
                for part in 0..3 {
                    let body = json!({"amount": 40});
                    self.post(&path("refund"), &format!("{number}-refund-{part}"), &body);
                }
            }
            _ => {}
        }
    }
}

/// Has the double finish what it says it works on.
fn settle_what_is_pending(shop: &Shop) {
    for refund in shop.stripe.refunds() {
        if refund["status"] == "pending" {
            let id = refund["id"].as_str().unwrap();
            shop.stripe.settle_refund(id, if id.ends_with('3') { "failed" } else { "succeeded" });
        }
    }
    for intent in shop.stripe.intents() {
        if intent["status"] == "processing" {
            let id = intent["id"].as_str().unwrap();
            shop.stripe.settle_intent(id, !id.ends_with('3'));
        }
    }
}

#[track_caller]
fn check_no_failure_was_charged(shop: &Shop) {
    let intents = shop.stripe.intents().into_iter();
    let intents: BTreeMap<String, Value> = intents
        .map(|it| (it["metadata"]["strongroom_payment"].as_str().unwrap().to_owned(), it))
        .collect();
    for payment in shop.all("/api/payments") {
        let intent = intents.get(payment["id"].as_str().unwrap());
        let charged = intent.is_some_and(|it| {
            matches!(it["status"].as_str(), Some("succeeded" | "requires_capture"))
        });
        assert!(payment["status"] != "failed" || !charged, "failed, and charged: {payment:#}");
    }
}

#[test]
fn kill_9_and_faults_of_the_provider_at_random_lose_no_money_double_none_and_leave_nothing_in_doubt()
 {
    let seed = seed();
    println!("SEED={seed}");
    let mut shop = Shop::start_with(
        "failures_max = 1000000\nin_flight_max = 1000\ndeadline_ms = 2000",
        &[ANSWERS_SOON],
    );
    shop.tell(2);
    shop.stripe.misbehave(seed, 35);
    let url = |shop: &Shop| format!("http://{}", shop.server.address());
    let retrying = Retrying { url: Arc::new(Mutex::new(url(&shop))), answers: Arc::default() };
    let (next, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let total = payments();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (retrying, next) = (retrying.clone(), next.clone());
                scope.spawn(move || {
                    loop {
                        let number = next.fetch_add(1, Ordering::SeqCst);
                        if number >= total {
                            return;
                        }
                        retrying.live(number);
                    }
                })
            })
            .collect();
        let done_by = done.clone();
        scope.spawn(move || {
            clients.into_iter().for_each(|client| client.join().unwrap());
            done_by.store(true, Ordering::SeqCst);
        });
        let mut kills = 0;
        while !done.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(700));
            shop.server.kill();
            shop.server.restart();
            *retrying.url.lock().unwrap() = url(&shop);
            shop.tell(2);
            kills += 1;
        }
        println!("{kills} kills, {total} payments");
    });
    shop.stripe.misbehave(0, 0);
    settle_what_is_pending(&shop);
    // The next start asks at once about whatever is out.
    shop.server.kill();
    shop.server.restart();
    shop.tell(2);
    eventually("nothing is in doubt", || {
        settle_what_is_pending(&shop);
        let trial = shop.admin().get("/api/ledger").of(200).json;
        trial["inDoubt"].as_array().unwrap().is_empty().then_some(())
    });
    shop.agrees();
    check_no_failure_was_charged(&shop);
    let answers = retrying.answers.lock().unwrap();
    assert!(answers.len() >= total);
    let made = answers.keys().filter(|key| key.ends_with("-make")).count();
    assert_eq!((made, shop.all("/api/payments").len()), (total, total));
    for (key, (path, body, first)) in answers.iter() {
        let again = shop.post(path, key, body);
        assert!(again.is_replay(), "{key}");
        assert_eq!((again.status, again.text()), (first.status, first.text()), "{key}");
    }
}
