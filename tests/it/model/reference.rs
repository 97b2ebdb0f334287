//! A naive model of payments and books, written from API.md and ARCHITECTURE.md alone. It uses nothing of the server:
//! plain numbers, lists, and balances that are added up anew from how each payment stands.

use std::collections::{BTreeMap, HashMap};

/// What a provider says when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Done,
    Declined,
    /// Nothing that can be relied on.
    Nothing,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Create { amount: i64, manual: bool, outside: bool },
    Capture(Option<i64>),
    Void,
    Expire,
    Refund(Option<i64>),
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The payment as it stood then, the first time or again.
    Answer(View),
    /// The code of a problem.
    Refused(&'static str),
}

/// A payment as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub status: &'static str,
    pub captured: i64,
    pub refunded: i64,
    pub capturable: i64,
    /// Amount and status.
    pub refunds: Vec<(i64, &'static str)>,
    /// Operation, amount and status.
    pub attempts: Vec<(&'static str, i64, &'static str)>,
}

#[derive(Clone, Debug)]
pub struct Payment {
    pub merchant: usize,
    pub amount: i64,
    outside: bool,
    lapses_at: u64,
    /// Of the hold, without refunds.
    status: &'static str,
    captured: i64,
    asked: Vec<Asked>,
    /// Types of events, oldest first.
    pub events: Vec<&'static str>,
}

/// Something that was asked of a provider.
#[derive(Clone, Copy, Debug)]
struct Asked {
    operation: &'static str,
    amount: i64,
    state: &'static str,
}

/// Under an account's name: posted and pending.
pub type Balances = BTreeMap<String, (i64, i64)>;

#[derive(Default)]
pub struct Model {
    pub payments: Vec<Payment>,
    /// By merchant and key: the request, and the answer that was given.
    keys: HashMap<(usize, u8), (String, usize, View)>,
    pub now: u64,
}

pub const HOLD_MS: u64 = 50;

impl Payment {
    fn out(&self, operations: &[&str]) -> bool {
        self.asked.iter().any(|it| it.state == "pending" && operations.contains(&it.operation))
    }

    fn refunds(&self, state: &str) -> i64 {
        let refunds = self.asked.iter().filter(|it| it.operation == "refund" && it.state == state);
        refunds.map(|it| it.amount).sum()
    }

    fn hold_is_asked_about(&self) -> bool {
        self.out(&["capture", "void", "expiry"])
    }

    fn status(&self) -> &'static str {
        match (self.status, self.refunds("succeeded")) {
            ("completed", 0) => "completed",
            ("completed", given) if given == self.captured => "refunded",
            ("completed", _) => "partially_refunded",
            (other, _) => other,
        }
    }

    pub fn view(&self) -> View {
        let refunds = self.asked.iter().filter(|it| it.operation == "refund");
        let holds = self.status == "authorized" && !self.hold_is_asked_about();
        View {
            status: self.status(),
            captured: self.captured,
            refunded: self.refunds("succeeded"),
            capturable: if holds { self.amount } else { 0 },
            refunds: refunds.map(|it| (it.amount, it.state)).collect(),
            attempts: self.asked.iter().map(|it| (it.operation, it.amount, it.state)).collect(),
        }
    }

    /// The amount that the wish is about, or why not.
    fn judge(&self, wish: Wish, now: u64) -> Result<(&'static str, i64), &'static str> {
        let about_hold = |operation, amount| match (self.status, self.hold_is_asked_about()) {
            ("authorized", false) => Ok((operation, amount)),
            ("authorized", true) => Err("operation_pending"),
            _ => Err("invalid_transition"),
        };
        match wish {
            Wish::Create { .. } => unreachable!("a payment is made once"),
            Wish::Capture(amount) => {
                let (operation, amount) = about_hold("capture", amount.unwrap_or(self.amount))?;
                let fits = amount <= self.amount;
                if fits { Ok((operation, amount)) } else { Err("amount_exceeds_capturable") }
            }
            Wish::Void => about_hold("void", self.amount),
            Wish::Expire if self.status == "authorized" && now < self.lapses_at => {
                Err("still_authorized")
            }
            Wish::Expire => about_hold("expiry", self.amount),
            Wish::Refund(amount) => {
                if !matches!(self.status(), "completed" | "partially_refunded") {
                    return Err("invalid_transition");
                }
                let left = self.captured - self.refunds("succeeded") - self.refunds("pending");
                let amount = amount.unwrap_or(left);
                match (left, amount <= left) {
                    (0, _) => Err("operation_pending"),
                    (_, true) => Ok(("refund", amount)),
                    (_, false) => Err("amount_exceeds_refundable"),
                }
            }
        }
    }

    /// The answer to what was asked as number `place` is known.
    fn hear(&mut self, place: usize, done: bool, now: u64) {
        let was_done = self.asked[place].state == "succeeded";
        self.asked[place].state = if done { "succeeded" } else { "failed" };
        let Asked { operation, amount, .. } = self.asked[place];
        let event = match (operation, done) {
            ("charge", true) => {
                (self.status, self.captured) = ("completed", amount);
                "payment.completed"
            }
            ("authorization", true) => {
                (self.status, self.lapses_at) = ("authorized", now + HOLD_MS);
                "payment.authorized"
            }
            ("charge" | "authorization", false) => {
                self.status = "failed";
                "payment.failed"
            }
            ("capture", true) => {
                (self.status, self.captured) = ("completed", amount);
                "payment.completed"
            }
            ("capture", false) => "payment.capture_failed",
            ("void", true) => {
                self.status = "voided";
                "payment.voided"
            }
            ("void", false) => "payment.void_failed",
            ("expiry", true) => {
                self.status = "expired";
                "payment.expired"
            }
            ("expiry", false) => return,
            (_, true) if self.status() == "refunded" => "payment.refunded",
            (_, true) => "payment.partially_refunded",
            (_, false) => "payment.refund_failed",
        };
        assert!(!was_done || event == "payment.refund_failed");
        self.events.push(event);
    }
}

impl Model {
    /// A request of a merchant under a key, and what its provider says at once. `about`: which payment.
    pub fn request(
        &mut self,
        (merchant, key): (usize, Option<u8>),
        about: usize,
        wish: Wish,
        said: Said,
    ) -> Reply {
        let request = format!("{about} {wish:?}");
        if let Some(key) = key
            && let Some((before, _, answer)) = self.keys.get(&(merchant, key))
        {
            return match *before == request {
                true => Reply::Answer(answer.clone()),
                false => Reply::Refused("idempotency_key_reused"),
            };
        }
        let asked = match wish {
            Wish::Create { amount, manual, outside } => {
                let (status, lapses_at, captured) = ("processing", 0, 0);
                let (asked, events) = (Vec::new(), Vec::new());
                self.payments.push(Payment {
                    merchant,
                    amount,
                    outside,
                    lapses_at,
                    status,
                    captured,
                    asked,
                    events,
                });
                Ok((if manual { "authorization" } else { "charge" }, amount))
            }
            change => self.payments[about].judge(change, self.now),
        };
        let (operation, amount) = match asked {
            Ok(asked) => asked,
            Err(code) => return Reply::Refused(code),
        };
        let now = self.now;
        let payment = &mut self.payments[about];
        payment.asked.push(Asked { operation, amount, state: "pending" });
        // The sandbox always knows, and declines nothing but new payments.
        let said = match (payment.outside, said, operation) {
            (true, said, _) => said,
            (false, Said::Declined, "charge" | "authorization") => Said::Declined,
            (false, _, _) => Said::Done,
        };
        let place = payment.asked.len() - 1;
        match said {
            Said::Nothing => {}
            said => payment.hear(place, said == Said::Done, now),
        }
        let view = payment.view();
        if let Some(key) = key {
            self.keys.insert((merchant, key), (request, about, view.clone()));
        }
        Reply::Answer(view)
    }

    /// What the provider tells later about one of the things that it was asked. Whether it is heard.
    pub fn late(&mut self, about: usize, place: usize, done: bool) -> bool {
        let now = self.now;
        let payment = &mut self.payments[about];
        let heard = match (payment.asked[place].state, payment.asked[place].operation, done) {
            ("pending", _, _) => true,
            // A bank may send a refund back.
            ("succeeded", "refund", false) => true,
            _ => false,
        };
        if heard {
            payment.hear(place, done, now);
        }
        heard
    }

    /// Every account, added up from how the payments stand; those with nothing are left out.
    pub fn balances(&self, customer: impl Fn(usize) -> String) -> Balances {
        let mut balances = Balances::new();
        for (number, payment) in self.payments.iter().enumerate() {
            let mut add = |name: String, posted: i64, pending: i64| {
                let balance = balances.entry(name).or_insert((0, 0));
                (balance.0, balance.1) = (balance.0 + posted, balance.1 + pending);
            };
            let taken = payment.captured - payment.refunds("succeeded");
            let made_out = payment.out(&["charge", "authorization"]);
            let held = payment.status == "authorized";
            let hold_in_doubt = held && payment.hold_is_asked_about();
            let back_in_doubt = payment.refunds("pending");
            let doubt = if made_out || hold_in_doubt { payment.amount } else { 0 } + back_in_doubt;
            let held_for_merchant = if held && !hold_in_doubt { payment.amount } else { 0 };
            let merchant_pending = held_for_merchant - back_in_doubt;
            add(format!("merchant:m{}", payment.merchant), taken, merchant_pending);
            add("in_doubt:outside".into(), 0, doubt);
            add(customer(number), -taken, -(merchant_pending + doubt));
        }
        balances.retain(|_, balance| *balance != (0, 0));
        balances
    }
}
