//! Query parameters: each one known, given once, of the right form, or the request is refused.

use super::reply::{Fault, Problem};
use crate::domain::{
    books::Cut,
    id::{DerivedId, Kind, PaymentId},
    time::Timestamp,
};
use actix_web::HttpRequest;
use std::borrow::Cow;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 100;

/// The parameters of a request, taken out one by one.
pub(super) struct Query<'r> {
    pairs: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    faults: Vec<Fault>,
}

impl<'r> Query<'r> {
    pub(super) fn of(request: &'r HttpRequest) -> Self {
        Self::parse(request.query_string())
    }

    pub(super) fn parse(query: &'r str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes()).collect();
        Self { pairs, faults: Vec::new() }
    }

    /// The parameter's text, if it is there.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let place = self.pairs.iter().position(|(known, _)| known == name)?;
        Some(self.pairs.remove(place).1.into_owned())
    }

    /// The parameter, if it is there and `read` can read it; else a fault that says what is `allowed`.
    pub(super) fn read<T>(
        &mut self,
        name: &str,
        allowed: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let value = read(&text);
        if value.is_none() {
            self.faults.push(Fault::new(name, &format!("must be {allowed}")));
        }
        value
    }

    pub(super) fn limit(&mut self) -> usize {
        let read = |text: &str| text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        self.read("limit", "a whole number from 1 to 100", read).unwrap_or(LIMIT_DEFAULT)
    }

    pub(super) fn time(&mut self, name: &str) -> Option<Timestamp> {
        self.read(name, "an RFC 3339 time such as 2026-11-22T15:04:05Z", Timestamp::parse)
    }

    /// The moment that `at` names; now if it is not there.
    pub(super) fn cut(&mut self) -> Cut {
        let read = |text: &str| match text.parse() {
            Ok(sequence) => Some(Cut::Sequence(sequence)),
            Err(_) => Timestamp::parse(text).map(Cut::Time),
        };
        self.read("at", "an RFC 3339 time or a sequence", read).unwrap_or(Cut::Now)
    }

    /// The event whose cursor or id stands under `name`.
    pub(super) fn event(&mut self, name: &str) -> Option<DerivedId> {
        self.read(name, "an event's id, such as a cursor from `next`", |text| {
            DerivedId::parse(text).filter(|id| id.kind == Kind::Event)
        })
    }

    pub(super) fn payment(&mut self, name: &str) -> Option<PaymentId> {
        self.read(name, "a cursor from `next`", PaymentId::parse)
    }

    /// Refuses what is left over and reports all faults.
    pub(super) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in &self.pairs {
            self.faults.push(Fault::new(name, "unknown or repeated query parameter"));
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Problem::invalid(self.faults)) }
    }
}

/// Cuts what was read, one more than `limit`, to a page; returns the cursor to go on with, if there is more.
pub(super) fn cut_page<T>(
    rows: &mut Vec<T>,
    limit: usize,
    cursor: impl FnOnce(&T) -> String,
) -> Option<String> {
    let more = rows.len() > limit;
    rows.truncate(limit);
    rows.last().filter(|_| more).map(cursor)
}
