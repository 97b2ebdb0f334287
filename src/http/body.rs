//! Request bodies: one JSON object whose every field is known, given once and in range. All faults are told at once.

use super::{
    Door, Limits,
    query::Query,
    reply::{Fault, Problem},
};
use crate::domain::{card_number::contains_card_number, money::Amount};
use actix_web::{HttpRequest, http::header::CONTENT_LENGTH, web};
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::{
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

/// The most objects and lists within each other, the body itself being the first. No body needs more than two.
const DEPTH_MAX: u8 = 16;

/// The most texts of a list.
const LIST_MAX: usize = 20;

/// Reads a body to its end, within the limits.
pub(super) async fn receive(
    request: &HttpRequest,
    payload: web::Payload,
    limits: Limits,
) -> Result<web::Bytes, Problem> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|length| length.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limits.body_bytes_max) {
        return Err(Problem::body_too_large(limits.body_bytes_max));
    }
    let whole = payload.to_bytes_limited(limits.body_bytes_max);
    match tokio::time::timeout(limits.body_read_timeout, whole).await {
        Err(_) => Err(Problem::body_too_slow()),
        Ok(Err(_)) => Err(Problem::body_too_large(limits.body_bytes_max)),
        Ok(Ok(Err(_))) => Err(Problem::body_cut_off()),
        Ok(Ok(Ok(bytes))) => Ok(bytes),
    }
}

/// A body's fields, taken out one by one. `null` means the same as absent, except for an amount.
pub(super) struct Body {
    fields: Map<String, Value>,
    faults: Vec<Fault>,
    canonical: Vec<u8>,
}

/// A body, and who sent it, as `who` tells. Whoever sends it piece by piece is asked before it comes, since a stranger's is
/// not waited for, and again when it is there: meanwhile the key may have been revoked, or what it may do taken back.
pub(super) async fn receive_from<W>(
    request: &HttpRequest,
    payload: web::Payload,
    door: &Door,
    who: impl Fn() -> Result<W, Problem>,
) -> Result<(W, web::Bytes), Problem> {
    let mut whole = pin!(receive(request, payload, door.limits));
    if let Some(bytes) = at_hand(whole.as_mut()).await {
        return Ok((who()?, bytes?));
    }
    who()?;
    let bytes = whole.await?;
    Ok((who()?, bytes))
}

/// What is there without waiting. A body that came with its head is handed on only after it was asked for, so it is
/// there at the second look.
async fn at_hand<T>(mut awaited: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let mut has_looked = false;
    poll_fn(|cx| match awaited.as_mut().poll(cx) {
        Poll::Ready(there) => Poll::Ready(Some(there)),
        Poll::Pending if has_looked => Poll::Ready(None),
        Poll::Pending => {
            has_looked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

/// The same for a request that takes no query.
pub(super) async fn only<W>(
    request: &HttpRequest,
    payload: web::Payload,
    door: &Door,
    who: impl Fn() -> Result<W, Problem>,
) -> Result<(W, Body), Problem> {
    let who = || {
        let who = who()?;
        Query::of(request).finish()?;
        Ok(who)
    };
    let (who, bytes) = receive_from(request, payload, door, who).await?;
    Ok((who, Body::parse(&bytes)?))
}

impl Body {
    /// Parses a body; an empty one is an empty object.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let value = if bytes.is_empty() {
            Value::Object(Map::new())
        } else {
            let mut json = serde_json::Deserializer::from_slice(bytes);
            let value =
                Strict::BODY.deserialize(&mut json).and_then(|value| json.end().map(|()| value));
            value.map_err(|error| Problem::malformed_json(&error.to_string()))?
        };
        let canonical = serde_json::to_vec(&value).map_err(|_| Problem::internal())?;
        match value {
            Value::Object(fields) => Ok(Self { fields, faults: Vec::new(), canonical }),
            _ => Err(Problem::malformed_json("It must be an object, such as {\"amount\": 4999}.")),
        }
    }

    /// The same for every spelling of the body: fields sorted, no white space.
    pub(super) fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    fn take(&mut self, field: &str) -> Option<Value> {
        self.fields.remove(field).filter(|value| !value.is_null())
    }

    /// Notes that something is wrong with a field.
    pub(super) fn fault(&mut self, field: &str, message: &str) {
        self.faults.push(Fault::new(field, message));
    }

    /// Whether something was wrong with a field.
    pub(super) fn is_faulty(&self, field: &str) -> bool {
        self.faults.iter().any(|fault| fault.is_of(field))
    }

    /// The value if there is one; otherwise notes that it must be there, unless something else was wrong with it.
    pub(super) fn require<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() && !self.is_faulty(field) {
            self.fault(field, "is required");
        }
        value
    }

    /// An amount in minor units.
    pub(super) fn amount(&mut self, field: &str) -> Option<Amount> {
        // Here null is no "left out": a variable that is undefined must not refund everything.
        let value = self.fields.remove(field)?;
        let amount = value.as_i64().and_then(Amount::new);
        if amount.is_none() {
            let message = format!(
                "must be a whole number of minor units from 1 to {}, such as 4999 for 49.99 USD",
                Amount::MAX
            );
            self.fault(field, &message);
        }
        amount
    }

    /// A text of at most `characters_max`.
    pub(super) fn text(&mut self, field: &str, characters_max: usize) -> Option<String> {
        match self.take(field)? {
            Value::String(text) if text.chars().count() <= characters_max => Some(text),
            Value::String(_) => {
                self.fault(field, &format!("must have at most {characters_max} characters"));
                None
            }
            _ => {
                self.fault(field, "must be a string");
                None
            }
        }
    }

    /// What `read` makes of a text, which must be one of what is `allowed`.
    pub(super) fn read<T>(
        &mut self,
        field: &str,
        characters_max: usize,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = read(&self.text(field, characters_max)?);
        if value.is_none() {
            self.fault(field, &format!("must be {allowed}"));
        }
        value
    }

    /// A text, or a whole number as a text.
    pub(super) fn text_or_number(&mut self, field: &str) -> Option<String> {
        match self.take(field)? {
            Value::String(text) => Some(text),
            Value::Number(number) if number.is_u64() => Some(number.to_string()),
            _ => {
                self.fault(field, "must be a string or a whole number");
                None
            }
        }
    }

    /// A text that a person wrote, in which no card number may stand.
    pub(super) fn free_text(&mut self, field: &str, characters_max: usize) -> Option<String> {
        let text = self.text(field, characters_max)?;
        if contains_card_number(&text) {
            self.fault(field, "must not contain a card number");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, field: &str) -> Option<bool> {
        let value = self.take(field)?;
        if !value.is_boolean() {
            self.fault(field, "must be true or false");
        }
        value.as_bool()
    }

    /// A list of texts that `read` can read; else a fault that says what is `allowed`.
    pub(super) fn list<T>(
        &mut self,
        field: &str,
        allowed: &str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Option<Vec<T>> {
        let values = match self.take(field)? {
            Value::Array(values) => values,
            _ => Vec::new(),
        };
        let read = |value: &Value| value.as_str().and_then(&read);
        let list: Option<Vec<T>> = values.iter().map(read).collect();
        let list = list.filter(|list| !list.is_empty() && list.len() <= LIST_MAX);
        if list.is_none() {
            self.fault(field, &format!("must be a list of 1 to {LIST_MAX} of {allowed}"));
        }
        list
    }

    /// Pairs of texts, in the order of their keys.
    pub(super) fn pairs(&mut self, field: &str) -> Vec<(String, String)> {
        const PAIRS_MAX: usize = 50;
        const KEY_CHARACTERS_MAX: usize = 40;
        const VALUE_CHARACTERS_MAX: usize = 500;
        let pairs = match self.take(field) {
            None => return Vec::new(),
            Some(Value::Object(pairs)) => pairs,
            Some(_) => {
                self.fault(field, "must be an object of strings");
                return Vec::new();
            }
        };
        if pairs.len() > PAIRS_MAX {
            self.fault(field, "must have at most 50 pairs");
        }
        let mut read = Vec::with_capacity(pairs.len());
        for (key, value) in pairs {
            if contains_card_number(&key) {
                self.fault(field, "must not contain a card number in a key");
                continue;
            }
            let name = format!("{field}.{key}");
            let fits = (1..=KEY_CHARACTERS_MAX).contains(&key.chars().count());
            if !fits {
                self.fault(field, "keys must have 1 to 40 characters");
            }
            match value {
                Value::String(text) if contains_card_number(&text) => {
                    self.fault(&name, "must not contain a card number");
                }
                Value::String(text) if text.chars().count() <= VALUE_CHARACTERS_MAX => {
                    read.push((key, text));
                }
                Value::String(_) => self.fault(&name, "must have at most 500 characters"),
                _ => self.fault(&name, "must be a string"),
            }
        }
        read
    }

    /// Refuses what is left over and reports all faults.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for field in self.fields.keys() {
            // The name itself might hold what must not be repeated.
            let name = if contains_card_number(field) { "" } else { field };
            self.faults.push(Fault::new(name, "unknown field"));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

/// Any JSON value in which no object names a field twice, and which is not nested too deep.
#[derive(Clone, Copy)]
struct Strict {
    /// How many objects and lists may still be within each other.
    left: u8,
}

impl Strict {
    const BODY: Self = Self { left: DEPTH_MAX };

    fn inside<E: de::Error>(self) -> Result<Self, E> {
        let too_deep = || E::custom(format!("it is nested deeper than {DEPTH_MAX}"));
        self.left.checked_sub(1).map(|left| Self { left }).ok_or_else(too_deep)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let (inside, mut values) = (self.inside()?, Vec::new());
        while let Some(value) = items.next_element_seed(inside)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let (inside, mut object) = (self.inside()?, Map::new());
        while let Some(name) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(inside)?;
            if object.insert(name, value).is_some() {
                return Err(de::Error::custom("a field is given twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // A library that only tests use has numbers read exactly too; the fuzz target `bodies` holds it without that.
    #[test]
    fn a_body_has_one_canonical_form_however_long_its_numbers_are() {
        let long = br#"{"n":11111111111000000000000000000000000000000018158453329200250752}"#;
        let canonical = Body::parse(long).unwrap().canonical;
        assert_eq!(Body::parse(&canonical).unwrap().canonical, canonical);
        let spaced = b" { \"b\" : 1 , \"a\" : [ ] } ";
        assert_eq!(Body::parse(spaced).unwrap().canonical, br#"{"a":[],"b":1}"#);
    }
}
