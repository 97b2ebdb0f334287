//! The ledger as plain-text accounting: for hledger and for beancount.
//!
//! Both write a debit as a positive amount, so customers are assets and merchants liabilities. Money that is only held
//! stands in comments. At the end stand the sums of the merchants' and named customers' accounts as assertions, so that
//! a file from which a whole transaction was lost is refused too, not only one with a lost line.

use super::{Booking, Form};
use crate::domain::{
    ledger::{Account, Leg},
    money::Currency,
    time::Timestamp,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io::{self, Write},
};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// `hledger` 1.25 or newer.
#[derive(Default)]
pub(super) struct Hledger {
    sums: Sums,
    declared: BTreeSet<Currency>,
}

impl Form for Hledger {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "; The ledger of a Strongroom journal. Debits are positive.")?;
        writeln!(out, "decimal-mark .\naccount customer  ; type: A\naccount merchant  ; type: L")
    }

    fn write(&mut self, out: &mut dyn Write, booking: &Booking<'_>) -> io::Result<()> {
        let currency = booking.transaction.currency;
        if self.declared.insert(currency) {
            let places = usize::from(currency.exponent());
            writeln!(out, "\ncommodity 1000.{:0<places$} {currency}", "")?;
        }
        let Booking { sequence, at, payment, happened, .. } = booking;
        let (comment, id) = (comment_unless_posted(booking), booking.id());
        writeln!(
            out,
            "\n{comment}{} * ({payment}) {happened}  ; sequence: {sequence}, time: {at}, transaction: {id}",
            date(*at)
        )?;
        for leg in &booking.transaction.legs {
            let (amount, pending) = (debit(leg.posted, currency), pending(leg, currency));
            writeln!(out, "{comment}    {}  {amount}{pending}", hledger_name(&leg.account))?;
        }
        self.sums.add(booking);
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let date = date(self.sums.last_at);
        for ((account, currency), sum) in &self.sums.posted {
            let (zero, sum) = (currency.decimal(0), currency.decimal(-sum));
            writeln!(out, "\n{date} * sum of this export")?;
            let name = hledger_name(account);
            writeln!(out, "    {name}  {zero} {currency} = {sum} {currency}")?;
        }
        Ok(())
    }
}

/// `bean-check` 2.3.5 or newer.
#[derive(Default)]
pub(super) struct Beancount {
    sums: Sums,
    /// Accounts that have been opened; with the sums, the only thing that grows with the export.
    opened: HashSet<Account>,
}

impl Form for Beancount {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "; The ledger of a Strongroom journal. Debits are positive.")?;
        writeln!(out, "option \"title\" \"Strongroom\"")?;
        writeln!(out, "; To the last minor unit.\noption \"inferred_tolerance_multiplier\" \"0\"")
    }

    fn write(&mut self, out: &mut dyn Write, booking: &Booking<'_>) -> io::Result<()> {
        let Booking { sequence, at, payment, happened, transaction } = booking;
        let (date, currency) = (date(*at), transaction.currency);
        let (comment, id) = (comment_unless_posted(booking), booking.id());
        writeln!(out)?;
        for leg in transaction.legs.iter().filter(|_| booking.is_posted()) {
            if self.opened.insert(leg.account.clone()) {
                writeln!(out, "{date} open {}", beancount_name(&leg.account))?;
            }
        }
        writeln!(out, "{comment}{date} * \"{happened}\" ^{payment}")?;
        writeln!(out, "{comment}  sequence: {sequence}\n{comment}  time: \"{at}\"")?;
        writeln!(out, "{comment}  transaction: \"{id}\"")?;
        for leg in &transaction.legs {
            let (amount, pending) = (debit(leg.posted, currency), pending(leg, currency));
            writeln!(out, "{comment}  {}  {amount}{pending}", beancount_name(&leg.account))?;
        }
        self.sums.add(booking);
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        // An assertion holds for the beginning of its day.
        let date = date(self.sums.last_at.plus_millis(DAY_MS));
        writeln!(out)?;
        for ((account, currency), sum) in &self.sums.posted {
            let (name, sum) = (beancount_name(account), currency.decimal(-sum));
            writeln!(out, "{date} balance {name}  {sum} ~ 0 {currency}")?;
        }
        Ok(())
    }
}

/// What the accounts that many payments move add up to in this export. The one account per payment is left out: there
/// are as many as payments, and the merchant's sum misses whatever theirs would.
#[derive(Default)]
struct Sums {
    posted: BTreeMap<(Account, Currency), i128>,
    last_at: Timestamp,
}

impl Sums {
    fn add(&mut self, booking: &Booking<'_>) {
        for leg in booking.transaction.legs.iter().filter(|leg| leg.posted != 0) {
            if !matches!(leg.account, Account::PaymentCustomer(_)) {
                let account = (leg.account.clone(), booking.transaction.currency);
                *self.posted.entry(account).or_default() += i128::from(leg.posted);
            }
        }
        self.last_at = booking.at;
    }
}

/// The day in UTC, as `2026-11-22`.
fn date(at: Timestamp) -> String {
    at.to_string().chars().take(10).collect()
}

fn comment_unless_posted(booking: &Booking<'_>) -> &'static str {
    if booking.is_posted() { "" } else { "; " }
}

/// A figure of the ledger, where a credit is positive, as these programs have it.
fn debit(amount: i64, currency: Currency) -> String {
    format!("{} {currency}", currency.decimal(-i128::from(amount)))
}

fn pending(leg: &Leg, currency: Currency) -> String {
    match leg.pending {
        0 => String::new(),
        amount => format!("  ; pending: {}", debit(amount, currency)),
    }
}

/// The name in the API; a named customer's with its merchant's, for two of one name are two accounts.
fn hledger_name(account: &Account) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.@+".contains(&byte);
    match account {
        Account::PaymentCustomer(payment) => format!("customer:{payment}"),
        Account::Customer { merchant, customer } => {
            format!("customer:{}:{}", escape(merchant, '%', plain), escape(customer, '%', plain))
        }
        Account::Merchant(merchant) => format!("merchant:{}", escape(merchant, '%', plain)),
        Account::InDoubt(provider) => format!("in_doubt:{}", escape(provider, '%', plain)),
    }
}

/// The parts of a name begin with a capital and hold letters, digits and dashes only. So `X-` stands before each, and a
/// dash and two hexadecimal digits for every other byte.
fn beancount_name(account: &Account) -> String {
    let part = |name: &str| format!("X-{}", escape(name, '-', |byte| byte.is_ascii_alphanumeric()));
    match account {
        Account::PaymentCustomer(payment) => {
            format!("Assets:Customer:{}", part(&payment.to_string()))
        }
        Account::Customer { merchant, customer } => {
            format!("Assets:Customer:{}:{}", part(merchant), part(customer))
        }
        Account::Merchant(merchant) => format!("Liabilities:Merchant:{}", part(merchant)),
        Account::InDoubt(provider) => format!("Assets:In-Doubt:{}", part(provider)),
    }
}

/// The text with every byte that is not plain as the sign and two hexadecimal digits. The sign itself must not be plain:
/// then no two texts look alike, and each can be read back.
fn escape(text: &str, sign: char, plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("{sign}{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unescape(text: &str, sign: char) -> String {
        let mut parts = text.split(sign);
        let mut bytes = parts.next().unwrap().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(part[2..].bytes());
        }
        String::from_utf8(bytes).unwrap()
    }

    fn customer(merchant: &str, customer: &str) -> Account {
        Account::Customer { merchant: merchant.into(), customer: customer.into() }
    }

    #[test]
    fn names_hold_only_what_each_program_allows() {
        let strange = customer("m_1", "a:b;(c) d\"%-é");
        assert_eq!(hledger_name(&strange), "customer:m_1:a%3Ab%3B%28c%29%20d%22%25-%C3%A9");
        assert_eq!(
            beancount_name(&strange),
            "Assets:Customer:X-m-5F1:X-a-3Ab-3B-28c-29-20d-22-25-2D-C3-A9"
        );
        assert_eq!(hledger_name(&Account::Merchant("m_1".into())), "merchant:m_1");
    }

    proptest! {
        #[test]
        fn every_name_can_be_read_back_so_no_two_accounts_are_called_alike(
            merchant in "[A-Za-z0-9_-]{1,9}",
            name in "[!-~]{1,20}|\\PC{1,9}",
        ) {
            let account = customer(&merchant, &name);
            let (hledger, beancount) = (hledger_name(&account), beancount_name(&account));
            let parts: Vec<&str> = hledger.split(':').collect();
            prop_assert_eq!(parts.len(), 3);
            prop_assert_eq!(unescape(parts[1], '%'), merchant.clone());
            prop_assert_eq!(unescape(parts[2], '%'), name.clone());
            let parts: Vec<&str> = beancount.split(':').collect();
            prop_assert_eq!(parts.len(), 4);
            prop_assert_eq!(unescape(parts[2].strip_prefix("X-").unwrap(), '-'), merchant);
            prop_assert_eq!(unescape(parts[3].strip_prefix("X-").unwrap(), '-'), name);
        }
    }
}
