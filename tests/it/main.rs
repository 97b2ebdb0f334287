//! The integration tests: the real program, run as its operator runs it and asked over HTTP.
//!
//! `server` starts and stops it, `home` is where it lives, `client` talks to it, `clock` is what it goes by, `record` what its clients remember, `pager` is whom it calls, `stripe_double` who moves its money (`shop`: with a server), `wait` waits for what is to come and
//! lets many threads go at once. Every other file holds the rules of one theme; a test's name is the rule.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking and tells why on stderr"
)]

mod client;
mod clock;
mod home;
mod pager;
mod receiver;
mod record;
mod server;
mod shop;
mod snapshots;
mod stripe_double;
mod travel;
mod wait;

mod access;
mod backup;
mod calls;
mod corruption;
mod crash;
mod crowd;
mod demo;
mod details;
mod door;
mod faults;
mod gate;
mod hostile;
mod http2;
mod idempotency;
mod keys;
mod ledger;
mod limits;
mod listen;
mod lists;
mod metrics;
mod model;
mod openapi;
mod outcomes;
mod payments;
mod process;
mod proof;
mod provider_chaos;
mod provider_doubt;
mod provider_news;
mod provider_truth;
mod quickstart;
mod rates;
mod reconciliation;
mod running;
mod secrets;
mod simulation;
mod slow;
mod stopped;
mod tidy;
mod tls;
mod traces;
mod upgrade;
mod webhook_endpoints;
mod webhook_recovery;
mod webhook_tls;
mod webhooks;
