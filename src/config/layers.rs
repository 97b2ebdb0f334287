//! The shipped defaults, the file and the environment, laid over each other into one table.
//!
//! Called once, by [`super::Config::load`]. Every value remembers where it came from. What the values may be is judged
//! in [`super::section`], never here.

use super::error::ConfigError;
use ::config::{FileFormat, Format, Map, Value, ValueKind};
use std::{collections::BTreeMap, ffi::OsString, fs, io, path::Path};

/// The shipped configuration, in full and with every key explained.
pub const SHIPPED: &str = include_str!("../../config.toml");

/// What the shipped configuration is called.
const DEFAULTS: &str = "the shipped defaults";

/// The file that is read when none is named, if it is there.
const FILE: &str = "config.toml";

/// What an environment variable that configures the server begins with.
const PREFIX: &str = "STRONGROOM__";

/// Keys and their values.
pub(super) type Table = Map<String, Value>;

/// The shipped defaults, under the file, under the environment.
pub(super) fn merge<Name: Into<OsString>, Text: Into<OsString>>(
    path: Option<&Path>,
    environment: impl Iterator<Item = (Name, Text)>,
) -> Result<Table, ConfigError> {
    lay_all(&parse(DEFAULTS, SHIPPED)?, read(path)?, environment)
}

/// A file's text over the defaults, under the environment.
pub(super) fn lay_all<Name: Into<OsString>, Text: Into<OsString>>(
    defaults: &Table,
    file: Option<(String, String)>,
    environment: impl Iterator<Item = (Name, Text)>,
) -> Result<Table, ConfigError> {
    let mut merged = defaults.clone();
    if let Some((origin, text)) = file {
        lay_over(&mut merged, parse(&origin, &text)?);
    }
    for (name, text) in environment {
        if let Some(table) = variable(name.into(), text.into(), defaults) {
            lay_over(&mut merged, table);
        }
    }
    Ok(merged)
}

/// By origin, the full names of the keys that come from there; of the defaults only that all the rest is theirs.
pub(super) fn origins(merged: &Table) -> Vec<(String, Vec<String>)> {
    let mut origins = BTreeMap::new();
    note_origins("", merged, &mut origins);
    if origins.remove(DEFAULTS).is_some() {
        origins.insert(DEFAULTS.to_owned(), vec!["all the rest".to_owned()]);
    }
    let mut origins: Vec<_> = origins.into_iter().collect();
    for (_, keys) in &mut origins {
        keys.sort();
    }
    origins.sort_by_key(|(origin, _)| origin == DEFAULTS);
    origins
}

fn note_origins(path: &str, table: &Table, origins: &mut BTreeMap<String, Vec<String>>) {
    for (key, value) in table {
        let name = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match &value.kind {
            ValueKind::Table(inner) => note_origins(&name, inner, origins),
            _ => {
                origins.entry(value.origin().unwrap_or_default().to_owned()).or_default().push(name)
            }
        }
    }
}

/// The file's name and text; nothing if none was named and the usual one is not there.
fn read(path: Option<&Path>) -> Result<Option<(String, String)>, ConfigError> {
    let file = path.unwrap_or(Path::new(FILE));
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some((file.display().to_string(), text))),
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::Unreadable { path: file.to_path_buf(), source }),
    }
}

pub(super) fn parse(origin: &str, text: &str) -> Result<Table, ConfigError> {
    FileFormat::Toml.parse(Some(&origin.to_owned()), text).map_err(|error| ConfigError::NotToml {
        origin: origin.to_owned(),
        reason: without_source(&error.to_string()),
    })
}

/// The parser's words on one line without the quoted source, which may hold a key that was put in the wrong place.
fn without_source(message: &str) -> String {
    message.lines().filter(|line| !line.contains(" |")).collect::<Vec<_>>().join(": ")
}

/// The table with the one value that an environment variable sets, if it is one of ours.
fn variable(name: OsString, text: OsString, defaults: &Table) -> Option<Table> {
    let name = name.to_string_lossy().into_owned();
    let path = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let keys: Vec<&str> = path.split("__").collect();
    let origin = format!("the environment variable {name}");
    let kind = match text.into_string() {
        Ok(text) => like(default_of(&keys, defaults), text),
        // No key takes it, so it is refused under its name.
        Err(_) => ValueKind::Nil,
    };
    let (first, rest) = keys.split_first()?;
    let value = Value::new(Some(&origin), kind);
    let value = rest.iter().rev().fold(value, |inner, key| {
        Value::new(Some(&origin), Table::from([((*key).to_owned(), inner)]))
    });
    Some(Table::from([((*first).to_owned(), value)]))
}

fn default_of<'a>(keys: &[&str], defaults: &'a Table) -> Option<&'a ValueKind> {
    let (first, rest) = keys.split_first()?;
    let kind = &defaults.get(*first)?.kind;
    match kind {
        ValueKind::Table(table) if !rest.is_empty() => default_of(rest, table),
        _ => rest.is_empty().then_some(kind),
    }
}

/// An environment variable is text; it is read as the type that its key's default has. What cannot be read so stays
/// text and is refused for its type.
fn like(default: Option<&ValueKind>, text: String) -> ValueKind {
    let typed = match default {
        Some(ValueKind::I64(_)) => text.parse().ok().map(ValueKind::I64),
        Some(ValueKind::Float(_)) => text.parse().ok().map(ValueKind::Float),
        Some(ValueKind::Boolean(_)) => text.parse().ok().map(ValueKind::Boolean),
        _ => None,
    };
    typed.unwrap_or(ValueKind::String(text))
}

/// Puts `upper` over `lower`: tables are merged key by key, anything else is replaced whole.
fn lay_over(lower: &mut Table, upper: Table) {
    for (key, value) in upper {
        let below = lower.get_mut(&key).map(|value| &mut value.kind);
        if let (Some(ValueKind::Table(below)), ValueKind::Table(above)) = (below, &value.kind) {
            lay_over(below, above.clone());
        } else {
            lower.insert(key, value);
        }
    }
}
