//! Strongroom, a payment core: it charges a customer exactly once, writes every cent into a double-entry ledger, and
//! forgets nothing it has ever answered, whatever crashes.
//!
//! # Layout
//!
//! Each layer knows the ones below it and none above; `tests/it/tidy.rs` holds this.
//!
//! | module | what it is |
//! |---|---|
//! | [`commands`] | what the program can be told to do |
//! | [`app`] | start and stop order |
//! | [`http`] | the door: wire form ↔ meaning |
//! | [`pipeline`] | one request, from claim to answer |
//! | [`actors`] | who acts: payments, the ledger, idempotency, the scheduler |
//! | [`wire`] | how things look in answers and webhooks |
//! | [`provider`] | the outside world that moves the money |
//! | [`journal`] | bytes on disk: the one store of truth |
//! | [`domain`] | what is right: pure rules, and the books they add up to |
//! | [`config`], [`clock`], [`tasks`], [`credentials`], [`telemetry`], [`meters`], [`trust`] | the shell's own doors |

/// Whether a bug is seeded here, see `domain/seeded.rs`.
#[cfg(feature = "fault-injection")]
macro_rules! seeded {
    ($bug:ident) => {
        $crate::domain::seeded::is($crate::domain::seeded::Bug::$bug)
    };
}

/// Only tests have seeded bugs.
#[cfg(not(feature = "fault-injection"))]
macro_rules! seeded {
    ($bug:ident) => {
        false
    };
}

pub mod commands;

pub mod app;

pub mod http;

pub mod pipeline;

pub mod actors;

pub mod wire;

pub mod provider;

pub mod journal;

pub mod domain;

pub mod config;

pub mod clock;

pub mod tasks;

pub mod credentials;

pub mod telemetry;

pub mod meters;

pub mod trust;
