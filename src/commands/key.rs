//! `strongroom key`: API keys.

use crate::credentials::{KeyKind, new_key};
use clap::Subcommand;
use std::io::{self, Write};

/// What can be done about keys.
#[derive(Subcommand)]
pub enum Key {
    /// Make a new API key. Prints the key, which is stored nowhere, and the line for the configuration.
    New {
        /// For an admin, who sees all merchants.
        #[arg(long, conflicts_with = "live")]
        admin: bool,
        /// For live payments (`sk_live_…`) instead of test payments (`sk_test_…`).
        #[arg(long)]
        live: bool,
        /// What the key is called in the audit trail.
        #[arg(long, default_value = "default", value_name = "NAME")]
        name: String,
    },
}

/// Prints a new key on stdout, and what to do with it on stderr.
///
/// # Errors
/// There was no randomness, or nowhere to print to.
pub fn run(key: &Key) -> anyhow::Result<()> {
    match key {
        Key::New { admin, live, name } => print_new_key(*admin, *live, name),
    }
}

fn print_new_key(admin: bool, live: bool, name: &str) -> anyhow::Result<()> {
    let kind = if admin { KeyKind::Admin } else { KeyKind::Merchant { live } };
    let key = new_key(kind)?;
    let place =
        if admin { "a line of its own under `[[admins]]`" } else { "the merchant's `keys`" };
    let mut out = io::stdout().lock();
    writeln!(out, "key:    {}", key.secret.expose())?;
    writeln!(out, "config: {{ name = \"{name}\", sha256 = \"{}\" }}", key.sha256)?;
    writeln!(io::stderr(), "The key is shown this once. Put the config part into {place}.")?;
    Ok(())
}
