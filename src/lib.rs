//! Strongroom.
pub mod domain;

pub mod clock;

pub mod config;

pub mod credentials;

pub mod telemetry;
