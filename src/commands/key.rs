//! `strongroom key`: API keys.

use crate::{
    credentials::{KeyKind, new_key},
    domain::access::Mode,
};
use clap::Subcommand;
use std::io::{self, Write};

/// What can be done about keys.
#[derive(Subcommand)]
pub enum Key {
    /// Make a new API key. Prints the key, which is stored nowhere, and the line for the configuration.
    ///
    /// Keys of the configuration are for live payments; those for test payments are made by the API.
    New {
        /// For an admin, who sees all merchants.
        #[arg(long)]
        admin: bool,
        /// What the key is called in the audit trail.
        #[arg(long, default_value = "default", value_name = "NAME", value_parser = plain_name)]
        name: String,
    },
}

/// A name as the configuration takes it.
fn plain_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(plain);
    if fits { Ok(text.to_owned()) } else { Err("1 to 64 of A-Z, a-z, 0-9, _ and -".to_owned()) }
}

/// Prints a new key on stdout, and what to do with it on stderr.
///
/// # Errors
/// There was no randomness, or nowhere to print to.
pub fn run(key: &Key) -> anyhow::Result<()> {
    match key {
        Key::New { admin, name } => print_new_key(*admin, name),
    }
}

fn print_new_key(admin: bool, name: &str) -> anyhow::Result<()> {
    let kind = if admin { KeyKind::Admin } else { KeyKind::Merchant(Mode::Live) };
    let key = new_key(kind)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{}", key.secret.expose())?;
    writeln!(io::stderr(), "The key is shown this once. For the configuration:")?;
    if admin {
        writeln!(out, "[[admins]]\nname = \"{name}\"\nsha256 = \"{}\"", key.sha256)?;
    } else {
        writeln!(out, "{{ name = \"{name}\", sha256 = \"{}\" }}", key.sha256)?;
        writeln!(io::stderr(), "It goes between the brackets of the merchant's `keys`.")?;
    }
    Ok(())
}
