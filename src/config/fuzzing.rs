//! The door for fuzzing the configuration: a file and an environment that are text, over the shipped defaults.

use super::{
    Config, ConfigError,
    layers::{self, SHIPPED},
};
use std::sync::OnceLock;

/// What a start would make of a file with this text and of these variables.
///
/// # Errors
/// As [`Config::load`].
pub fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    static DEFAULTS: OnceLock<layers::Table> = OnceLock::new();
    let defaults = match DEFAULTS.get() {
        Some(defaults) => defaults,
        None => DEFAULTS.get_or_init(|| layers::parse("defaults", SHIPPED).unwrap_or_default()),
    };
    let file = Some(("fuzzed.toml".to_owned(), file.to_owned()));
    Config::of(layers::lay_all(defaults, file, environment.iter().copied())?)
}
