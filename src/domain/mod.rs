//! What is right and wrong about payments and their books.
//!
//! Everything here is a pure function of its arguments: no files, no network, no clock, no randomness, no async.
//! Every other layer asks the domain; the domain asks nobody.
//!
//! Reading order: the vocabulary ([`time`], [`id`], [`money`], [`card_number`], [`event`], [`command`], [`refusal`]),
//! then the rules of one payment ([`payment`]), of the double entry ([`ledger`]), of retries ([`idempotency`]), of who may come in ([`access`]),
//! then [`entry`], the atomic unit that is written down, [`books`], what all entries add up to,
//! [`reconciliation`], how the books are checked, and [`webhook`], how merchants and the operator are told.

#[cfg(feature = "fault-injection")]
pub mod seeded;

pub mod time;

pub mod id;

pub mod money;

pub mod card_number;

pub mod event;

pub mod command;

pub mod refusal;

pub mod payment;

pub mod ledger;

pub mod idempotency;

pub mod access;

pub mod entry;

pub mod books;

pub mod reconciliation;

pub mod webhook;
