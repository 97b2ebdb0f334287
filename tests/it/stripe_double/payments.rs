//! What the double's requests do to its books: payments, captures, cancels and refunds, by Stripe's rules, and who is
//! told.

use super::{
    Books, Fault, Said,
    wire::{Request, event, refusal},
};
use serde_json::{Value, json};
use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

impl Books {
    pub(super) fn perform(&mut self, request: &Request, fault: Fault) -> Result<Said, Said> {
        match *request.route() {
            ["payment_intents"] => self.create(request, fault),
            ["payment_intents", id, "capture"] => self.capture(id, request),
            ["payment_intents", id, "cancel"] => self.cancel(id),
            ["refunds"] => self.refund(request, fault),
            _ => Err(refusal(404, "resource_missing", "")),
        }
    }

    pub(super) fn look_up(&self, request: &Request) -> Result<Said, Said> {
        let list = |data| Ok((200, json!({"object": "list", "data": data, "has_more": false})));
        match *request.route() {
            ["payment_intents", "search"] => {
                let query: Vec<&str> = request.text("query")?.split('\'').collect();
                let ["metadata[", key, "]:", value, ""] = *query else {
                    return Err(refusal(400, "parameter_invalid", "query"));
                };
                let data = if self.refuses { vec![] } else { self.intents_of(key, value) };
                Ok((200, json!({"object": "search_result", "data": data, "has_more": false})))
            }
            ["payment_intents"] => list(self.intents.clone()),
            ["refunds"] => list(self.refunds_of(request.text("payment_intent")?)),
            ["payment_intents", id] => Ok((200, self.intents[find(&self.intents, id)?].clone())),
            ["refunds", id] => Ok((200, self.refunds[find(&self.refunds, id)?].clone())),
            _ => Err(refusal(404, "resource_missing", "")),
        }
    }

    pub(super) fn intents_of(&self, key: &str, value: &str) -> Vec<Value> {
        self.intents.iter().filter(|intent| intent["metadata"][key] == value).cloned().collect()
    }

    fn refunds_of(&self, intent: &str) -> Vec<Value> {
        self.refunds.iter().filter(|refund| refund["payment_intent"] == intent).cloned().collect()
    }

    fn create(&mut self, request: &Request, fault: Fault) -> Result<Said, Said> {
        request.choice("confirm", &["true"])?;
        request.choice("payment_method_types[0]", &["card"])?;
        let capture_method = request.choice("capture_method", &["automatic", "manual"])?;
        let mut intent = json!({
            "id": format!("pi_{}", self.intents.len() + 1), "object": "payment_intent",
            "amount": request.amount("amount")?, "amount_capturable": 0, "amount_received": 0,
            "currency": request.text("currency")?, "capture_method": capture_method,
            "status": "processing", "metadata": request.metadata(), "last_payment_error": null,
            "created": self.now_s(),
        });
        let mut judged = intent.clone();
        judge(&mut judged, request.text("payment_method")?)?;
        if fault != Fault::Pending {
            intent = judged;
        }
        self.intents.push(intent);
        Ok(self.tell_state(self.intents.len() - 1))
    }

    /// The payment, if it is in one of these states.
    pub(super) fn open(&self, id: &str, states: &[&str]) -> Result<usize, Said> {
        let at = find(&self.intents, id)?;
        let open = states.iter().any(|state| self.intents[at]["status"] == *state);
        open.then_some(at).ok_or_else(|| refusal(400, "payment_intent_unexpected_state", ""))
    }

    fn capture(&mut self, id: &str, request: &Request) -> Result<Said, Said> {
        let at = self.open(id, &["requires_capture"])?;
        let amount = request.amount("amount_to_capture")?;
        if self.intents[at]["amount_capturable"].as_i64() < Some(amount) {
            return Err(refusal(400, "amount_too_large", "amount_to_capture"));
        }
        self.intents[at]["amount_capturable"] = 0.into();
        self.intents[at]["amount_received"] = amount.into();
        self.intents[at]["status"] = "succeeded".into();
        Ok(self.tell_state(at))
    }

    fn cancel(&mut self, id: &str) -> Result<Said, Said> {
        let states = ["requires_capture", "requires_action", "requires_payment_method"];
        let at = self.open(id, &states)?;
        self.intents[at]["amount_capturable"] = 0.into();
        self.intents[at]["status"] = "canceled".into();
        Ok(self.tell_state(at))
    }

    /// A pending refund takes its money as a succeeded one does; a failed one gives it back.
    fn refund(&mut self, request: &Request, fault: Fault) -> Result<Said, Said> {
        let (of, amount) = (request.text("payment_intent")?, request.amount("amount")?);
        let intent = &self.intents[self.open(of, &["succeeded"])?];
        let mut left = intent["amount_received"].as_i64().unwrap();
        for refund in self.refunds_of(of).iter().filter(|refund| refund["status"] != "failed") {
            left -= refund["amount"].as_i64().unwrap();
        }
        if amount > left {
            let code = if left == 0 { "charge_already_refunded" } else { "amount_too_large" };
            return Err(refusal(400, code, "amount"));
        }
        let status = if fault == Fault::Pending { "pending" } else { "succeeded" };
        let refund = json!({
            "id": format!("re_{}", self.refunds.len() + 1), "object": "refund", "amount": amount,
            "currency": intent["currency"], "payment_intent": of, "status": status,
            "metadata": request.metadata(), "created": self.now_s(),
        });
        self.refunds.push(refund.clone());
        self.announce("refund.created", &refund);
        Ok((200, refund))
    }

    /// Tells a payment's new state to the hook, and returns it as the answer.
    pub(super) fn tell_state(&mut self, at: usize) -> Said {
        let intent = self.intents[at].clone();
        let kind = match intent["status"].as_str().unwrap() {
            // The customer is asked by the answer alone.
            "requires_action" => return (200, intent),
            "requires_capture" => "amount_capturable_updated",
            "requires_payment_method" => "payment_failed",
            status => status,
        };
        self.announce(&format!("payment_intent.{kind}"), &intent);
        if kind != "payment_failed" {
            return (200, intent);
        }
        let mut error = intent["last_payment_error"].clone();
        error["payment_intent"] = intent;
        (402, json!({ "error": error }))
    }

    pub(super) fn announce(&mut self, kind: &str, object: &Value) {
        let Some(hook) = self.hook.clone() else { return };
        let (id, now_s) = (self.next_event_id(), self.now_s());
        let event = event(&id, kind, object, now_s);
        for _ in 0..hook.copies {
            // So that events overtake each other.
            let pause = Duration::from_millis(self.shuffle.below(51));
            let (hook, event) = (hook.clone(), event.clone());
            thread::spawn(move || {
                thread::sleep(pause);
                hook.send_until_taken(&event, now_s);
            });
        }
    }

    pub(super) fn next_event_id(&mut self) -> String {
        self.events += 1;
        format!("evt_p_{}", self.events)
    }

    pub(super) fn now_s(&self) -> u64 {
        let now = SystemTime::now() + Duration::from_millis(self.ahead_ms);
        now.duration_since(UNIX_EPOCH).unwrap().as_secs()
    }
}

/// What becomes of a new payment by its method.
pub(super) fn judge(intent: &mut Value, method: &str) -> Result<(), Said> {
    let (code, why) = match method {
        "pm_card_visa" if intent["capture_method"] == "manual" => {
            intent["status"] = "requires_capture".into();
            intent["amount_capturable"] = intent["amount"].clone();
            return Ok(());
        }
        "pm_card_visa" => {
            intent["status"] = "succeeded".into();
            intent["amount_received"] = intent["amount"].clone();
            return Ok(());
        }
        "pm_card_authenticationRequired" => {
            intent["status"] = "requires_action".into();
            return Ok(());
        }
        "pm_card_chargeDeclined" => ("card_declined", "generic_decline"),
        "pm_card_chargeDeclinedInsufficientFunds" => ("card_declined", "insufficient_funds"),
        "pm_card_chargeDeclinedProcessingError" => ("processing_error", "processing_error"),
        _ => return Err(refusal(400, "resource_missing", "payment_method")),
    };
    let message = format!("Your card was declined: {why}");
    intent["status"] = "requires_payment_method".into();
    intent["last_payment_error"] =
        json!({"type": "card_error", "code": code, "decline_code": why, "message": message});
    Ok(())
}

fn find(objects: &[Value], id: &str) -> Result<usize, Said> {
    let at = objects.iter().position(|object| object["id"] == id);
    at.ok_or_else(|| refusal(404, "resource_missing", "id"))
}

pub(super) fn lie(object: &mut Value, by: i64) {
    for name in ["amount", "amount_received", "amount_capturable"] {
        if let Some(truth) = object[name].as_i64().filter(|truth| *truth != 0) {
            object[name] = (truth + by).into();
        }
    }
}
