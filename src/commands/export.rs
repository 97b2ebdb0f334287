//! `strongroom export`: the ledger in the words of other accounting programs, so that an independent one can agree.
//!
//! The journal is read once and written out as it is read; its hashes are checked on the way, its rules are not: that is
//! what `verify` does. `plain_text` knows the journals of hledger and beancount, `tables` knows CSV and JSON lines.

#[cfg(feature = "fault-injection")]
pub mod fuzzing;
mod plain_text;
mod tables;

use super::offline::{Folder, Moment};
use crate::domain::{
    entry::{Entry, Record},
    id::{DerivedId, Kind, PaymentId, Sequence},
    ledger::{Account, Transaction},
    time::Timestamp,
};
use clap::{Args, ValueEnum};
use std::io::{self, BufWriter, Write};

/// What `export` is told.
#[derive(Args)]
pub struct Export {
    /// In beancount and hledger a debit is positive, as they have it; in csv and jsonl a credit is, as in the API.
    #[arg(long, value_enum)]
    format: Format,
    #[command(flatten)]
    folder: Folder,
    /// Only transactions that touch this account, such as `merchant:merchant_1`.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Only what was booked from this time or entry on, itself included. What the accounts held before is left out.
    #[arg(long, value_name = "TIME|SEQ")]
    from: Option<Moment>,
    /// Only what was booked up to this time or entry, itself included.
    #[arg(long, value_name = "TIME|SEQ")]
    to: Option<Moment>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Plain text for `bean-check`, Fava and others.
    Beancount,
    /// Plain text for `hledger`.
    Hledger,
    /// A line for each leg of each transaction, the pending ones included.
    Csv,
    /// A JSON object for each transaction.
    Jsonl,
}

/// Writes the ledger to stdout.
///
/// # Errors
/// The journal could not be read to its end, or there was nowhere to write to.
pub fn run(arguments: &Export) -> anyhow::Result<()> {
    let journal = arguments.folder.open()?;
    let reader = journal.read()?;
    let mut form: Box<dyn Form> = match arguments.format {
        Format::Beancount => Box::new(plain_text::Beancount::default()),
        Format::Hledger => Box::new(plain_text::Hledger::default()),
        Format::Csv => Box::new(tables::Csv),
        Format::Jsonl => Box::new(tables::JsonLines),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    form.begin(&mut out)?;
    for located in reader {
        for entry in &located?.batch.entries {
            match Booking::of(entry) {
                Some(booking) if arguments.selects(&booking) => form.write(&mut out, &booking)?,
                _ => {}
            }
        }
    }
    form.end(&mut out)?;
    Ok(out.flush()?)
}

impl Export {
    fn selects(&self, booking: &Booking<'_>) -> bool {
        let named = |name: &String| {
            booking.transaction.legs.iter().any(|leg| leg.account.to_string() == *name)
        };
        self.from.is_none_or(|from| from.is_reached_by(booking.sequence, booking.at))
            && self.to.is_none_or(|to| to.holds(booking.sequence, booking.at))
            && self.account.as_ref().is_none_or(named)
    }
}

/// A way to write the ledger down, transaction by transaction.
trait Form {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()>;
    fn write(&mut self, out: &mut dyn Write, booking: &Booking<'_>) -> io::Result<()>;
    fn end(&mut self, out: &mut dyn Write) -> io::Result<()>;
}

/// A transaction of the ledger with the entry that booked it.
struct Booking<'a> {
    sequence: Sequence,
    at: Timestamp,
    payment: PaymentId,
    happened: &'static str,
    transaction: &'a Transaction,
}

impl<'a> Booking<'a> {
    /// `None` if the entry moves and holds nothing.
    fn of(entry: &'a Entry) -> Option<Self> {
        let Record::Payment(record) = &entry.record else {
            return None;
        };
        Some(Self {
            sequence: entry.sequence,
            at: entry.at,
            payment: record.payment,
            happened: record.happened(),
            transaction: record.transaction.as_ref()?,
        })
    }

    fn id(&self) -> DerivedId {
        DerivedId::new(Kind::Transaction, self.at, self.sequence)
    }

    /// Whose payment it is: the merchant that one of the legs belongs to; empty while only the customer's money is in
    /// doubt.
    fn merchant(&self) -> &str {
        let merchant = self.transaction.legs.iter().find_map(|leg| match &leg.account {
            Account::Merchant(merchant) => Some(&**merchant),
            Account::PaymentCustomer(_) | Account::Customer { .. } | Account::InDoubt(_) => None,
        });
        merchant.unwrap_or_default()
    }

    /// Whether money moved, not only a hold.
    fn is_posted(&self) -> bool {
        self.transaction.legs.iter().any(|leg| leg.posted != 0)
    }
}
