//! The export is read back: in each of the four forms every transaction is there, with its amounts, and sums to zero.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use strongroom::{
    commands::export::fuzzing::written,
    domain::{
        entry::{Entry, Record},
        ledger::Transaction,
        money::Currency,
    },
};
use strongroom_fuzz::{Desk, Wish};

fuzz_target!(|wishes: Vec<Wish<'_>>| {
    let mut desk = Desk::default();
    wishes.iter().for_each(|wish| desk.take(wish));
    let entries: Vec<Entry> = desk.batches.into_iter().flat_map(|batch| batch.entries).collect();
    let booked: Vec<&Transaction> = entries.iter().filter_map(booked).collect();
    let texts = written(&entries).expect("memory takes it");
    let [hledger, beancount, csv, json] = texts.map(|text| String::from_utf8(text).expect("UTF-8"));
    plain(&hledger, &booked, "    ");
    plain(&beancount, &booked, "  ");
    let wanted = booked.iter().flat_map(|it| {
        it.legs.iter().map(|leg| (leg.account.to_string(), leg.posted, leg.pending))
    });
    let wanted: Vec<_> = wanted.collect();
    assert_eq!(rows(&csv), wanted);
    assert_eq!(objects(&json), wanted);
});

fn booked(entry: &Entry) -> Option<&Transaction> {
    match &entry.record {
        Record::Payment(record) => record.transaction.as_ref(),
        _ => None,
    }
}

/// Postings are the lines that are set in and say an amount; only those of held money are comments.
fn plain(text: &str, booked: &[&Transaction], set_in: &str) {
    let legs = booked.iter().flat_map(|it| it.legs.iter().map(move |leg| (*it, leg)));
    let mut lines = text.lines().filter_map(|line| {
        let line = line.strip_prefix("; ").unwrap_or(line).strip_prefix(set_in)?;
        let (name, amount) = line.split_once("  ")?;
        (!amount.contains('=')).then_some((name, amount))
    });
    for (transaction, leg) in legs {
        let (name, amount) = lines.next().expect("a posting for each leg");
        assert!(!name.contains(' '), "a name that ends early");
        let posted = amount.split(' ').next().unwrap_or_default();
        assert_eq!(units(posted, transaction.currency), -i128::from(leg.posted));
        let held = amount.split_once("pending: ").map_or("0", |(_, held)| held);
        let held = held.split(' ').next().unwrap_or_default();
        assert_eq!(units(held, transaction.currency), -i128::from(leg.pending));
    }
    assert_eq!(lines.next(), None, "a posting that nobody made");
}

/// A decimal number in minor units.
fn units(text: &str, currency: Currency) -> i128 {
    let places = usize::from(currency.exponent());
    let (negative, text) = (text.starts_with('-'), text.trim_start_matches('-'));
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part:0<places$}");
    let units: i128 = digits.parse().expect("digits");
    if negative { -units } else { units }
}

/// The legs of a CSV text, by RFC 4180.
fn rows(text: &str) -> Vec<(String, i64, i64)> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            other => field.push(other),
        }
    }
    assert!(row.is_empty() && field.is_empty(), "a row that does not end");
    let leg = |row: &Vec<String>| {
        assert_eq!(row.len(), 10);
        let currency = Currency::from_code(&row[7]).expect("a currency");
        let amount = |text| i64::try_from(units(text, currency)).expect("in range");
        (row[5].clone(), amount(&row[8]), amount(&row[9]))
    };
    rows.iter().skip(1).map(leg).collect()
}

/// The legs of a text of JSON lines.
fn objects(text: &str) -> Vec<(String, i64, i64)> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let legs = lines.flat_map(|line| line["legs"].as_array().cloned().expect("legs"));
    let leg = |leg: Value| {
        let account = leg["accountId"].as_str().expect("a name").to_owned();
        let units = |name| leg[name].as_i64().expect("minor units");
        (account, units("postedMinorUnits"), units("pendingMinorUnits"))
    };
    legs.map(leg).collect()
}
