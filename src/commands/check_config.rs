//! `strongroom check-config`: whether a server would start with this configuration, and where it comes from.

use super::serve::{Loaded, Settings, not_a_backup};
use crate::config::{Config, SANDBOX};
use clap::Args;
use std::io::{self, Write};

/// What `check-config` is told: the same as `serve`.
#[derive(Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    settings: Settings,
}

/// Prints what a server would go by, without a value that may be secret. Touches no data.
///
/// # Errors
/// A start would be refused, with every fault.
pub(super) fn run(arguments: &CheckConfig) -> anyhow::Result<()> {
    let Loaded { config, inherited, .. } = arguments.settings.load()?;
    not_a_backup(&config)?;
    let path = arguments.settings.config.as_deref();
    let mut out = io::stdout().lock();
    for (origin, keys) in Config::origins(path, std::env::vars_os())? {
        writeln!(out, "from {origin}: {}", keys.join(", "))?;
    }
    let handed_over = if inherited.is_some() { ", a socket that was handed over" } else { "" };
    writeln!(out, "listens on {}{handed_over}", config.http.listen)?;
    writeln!(out, "data in {}/", config.data_dir.display())?;
    let keys: usize = config.merchants.iter().map(|merchant| merchant.keys.len()).sum();
    let (merchants, admins) = (config.merchants.len(), config.admins.len());
    writeln!(out, "merchants: {merchants} with {keys} keys; admin keys: {admins}")?;
    let providers = config.providers.iter().map(|provider| provider.name.as_str());
    let providers: Vec<&str> = providers.chain([SANDBOX]).collect();
    writeln!(out, "providers: {}; routes: {}", providers.join(", "), config.routes.len())?;
    writeln!(out, "a server would start with this configuration")?;
    Ok(())
}
