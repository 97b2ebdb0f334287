//! Strongroom.
pub mod domain;
