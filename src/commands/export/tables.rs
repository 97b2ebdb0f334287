//! The ledger as tables for programs: CSV (RFC 4180, lines ended by a line feed) and JSON lines.
//!
//! Signs and account names are those of the API: a credit is positive. A customer's name is unique only together with
//! the merchant beside it.

use super::{Booking, Form};
use serde::Serialize;
use std::{
    borrow::Cow,
    io::{self, Write},
};

/// A line for each leg.
pub(super) struct Csv;

impl Form for Csv {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "sequence,time,transactionId,paymentId,event,accountId,merchantId,currency,posted,pending"
        )
    }

    fn write(&mut self, out: &mut dyn Write, booking: &Booking<'_>) -> io::Result<()> {
        let Booking { sequence, at, payment, happened, transaction } = booking;
        let (id, currency) = (booking.id(), transaction.currency);
        let merchant = field(booking.merchant());
        for leg in &transaction.legs {
            let account = leg.account.to_string();
            let account = field(&account);
            let posted = currency.decimal(leg.posted.into());
            let pending = currency.decimal(leg.pending.into());
            writeln!(
                out,
                "{sequence},{at},{id},{payment},{happened},{account},{merchant},{currency},{posted},{pending}"
            )?;
        }
        Ok(())
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// Quoted if it would be more than one field otherwise.
fn field(text: &str) -> Cow<'_, str> {
    match text.contains([',', '"', '\n', '\r']) {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

/// An object for each transaction.
pub(super) struct JsonLines;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TransactionLine<'a> {
    sequence: u64,
    time: String,
    transaction_id: String,
    payment_id: String,
    event: &'static str,
    merchant_id: &'a str,
    currency: &'static str,
    legs: Vec<LegObject>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LegObject {
    account_id: String,
    /// As people write it.
    posted: String,
    pending: String,
    /// As the API has it.
    posted_minor_units: i64,
    pending_minor_units: i64,
}

impl Form for JsonLines {
    fn begin(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, out: &mut dyn Write, booking: &Booking<'_>) -> io::Result<()> {
        let currency = booking.transaction.currency;
        let legs = booking.transaction.legs.iter().map(|leg| LegObject {
            account_id: leg.account.to_string(),
            posted: currency.decimal(leg.posted.into()),
            pending: currency.decimal(leg.pending.into()),
            posted_minor_units: leg.posted,
            pending_minor_units: leg.pending,
        });
        let line = TransactionLine {
            sequence: booking.sequence,
            time: booking.at.to_string(),
            transaction_id: booking.id().to_string(),
            payment_id: booking.payment.to_string(),
            event: booking.happened,
            merchant_id: booking.merchant(),
            currency: currency.code(),
            legs: legs.collect(),
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)
    }

    fn end(&mut self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_that_holds_a_comma_or_a_quote_is_quoted() {
        assert_eq!(field("customer:alice"), "customer:alice");
        assert_eq!(field("customer:a,\"b\""), "\"customer:a,\"\"b\"\"\"");
    }
}
