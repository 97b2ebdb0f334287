//! Reading one table of the merged configuration into a typed section.
//!
//! Called by [`super::Config::load`]. Each key is taken out of the table with the range it must lie in; what is left at
//! the end is unknown. A fault is noted and reading goes on with a stand-in, so that all faults are told at once; a
//! value read beside a fault never leaves [`read`].

use super::{
    error::{ConfigError, Fault, Reason},
    layers::Table,
    network::Network,
};
use ::config::{Value, ValueKind};
use jiff::{SpanRelativeTo, fmt::friendly::SpanParser};
use std::{collections::BTreeMap, net::SocketAddr, ops::RangeInclusive};

/// Keys whose value may be a secret that was put in the wrong place; it is not shown.
const NEVER_SHOWN: [&str; 5] = ["secret_key", "sha256", "tls_key", "webhook_secret", "webhook_url"];

/// The most characters of a wrong value that are shown.
const SHOWN_CHARS_MAX: usize = 100;

/// What `reader` makes of the whole configuration, or every fault in it.
pub(super) fn read<T>(
    table: Table,
    reader: impl FnOnce(&mut Section<'_>) -> T,
) -> Result<T, ConfigError> {
    let mut findings = Findings::default();
    let value = Section::read(&mut findings, String::new(), (String::new(), table), reader);
    if findings.faults.is_empty() {
        return Ok(value);
    }
    findings.faults.sort_by(|a, b| a.key.cmp(&b.key));
    Err(ConfigError::Refused(findings.faults))
}

/// What was found wrong, and the values that must not come twice.
#[derive(Default)]
struct Findings {
    faults: Vec<Fault>,
    /// By scope and value, the key that had it first.
    distinct: BTreeMap<(String, String), String>,
}

/// A table that is being read.
pub(super) struct Section<'a> {
    path: String,
    origin: String,
    table: Table,
    known: Vec<&'static str>,
    findings: &'a mut Findings,
}

impl Section<'_> {
    fn read<T>(
        findings: &mut Findings,
        path: String,
        (origin, table): (String, Table),
        reader: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let mut section = Section { path, origin, table, known: Vec::new(), findings };
        let value = reader(&mut section);
        section.refuse_what_is_left();
        value
    }

    fn refuse_what_is_left(&mut self) {
        for (key, value) in std::mem::take(&mut self.table) {
            let known = self.known.clone();
            self.fault(&key, origin(&value), Reason::Unknown { known });
        }
    }

    /// The table under `key`.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        reader: impl FnOnce(&mut Section<'_>) -> T,
    ) -> T {
        let path = self.name_of(key);
        match self.take(key, "a table", table) {
            Some(table) => Section::read(self.findings, path, table, reader),
            // That it is no table has been noted; that the stand-in lacks every key is no news.
            None => Section::read(&mut Findings::default(), path, Default::default(), reader),
        }
    }

    /// The list of tables under `key`.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        reader: impl Fn(&mut Section<'_>) -> T,
    ) -> Vec<T> {
        let path = self.name_of(key);
        let tables = self.take(key, "a list of tables", |value| match &value.kind {
            ValueKind::Array(values) => values.iter().map(table).collect::<Option<Vec<_>>>(),
            _ => None,
        });
        let numbered = tables.unwrap_or_default().into_iter().enumerate();
        numbered
            .map(|(index, table)| {
                Section::read(self.findings, format!("{path}[{index}]"), table, &reader)
            })
            .collect()
    }

    /// The tables under `key`, each under a name of its own, in the order of the names. `reserved` may be nobody's.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        reserved: &[&str],
        reader: impl Fn(&str, &mut Section<'_>) -> T,
    ) -> Vec<T> {
        if !self.has(key) {
            return Vec::new();
        }
        let path = self.name_of(key);
        let tables = self.take(key, "a table of tables", |value| match &value.kind {
            ValueKind::Table(tables) => Some(tables.clone()),
            _ => None,
        });
        let mut tables: Vec<_> = tables.unwrap_or_default().into_iter().collect();
        tables.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut read = Vec::new();
        for (name, value) in tables {
            let path = format!("{path}.{name}");
            // Names in environment variables come in lower case.
            let lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
            let fits = is_name(&name) && lower && !reserved.contains(&name.as_str());
            match table(&value).filter(|_| fits) {
                Some(table) => {
                    read.push(Section::read(self.findings, path, table, |section| {
                        reader(&name, section)
                    }));
                }
                None => {
                    let allowed = "a table under a name of 1 to 64 of a-z 0-9 _ and -";
                    let allowed = format!("{allowed}, and not {}", reserved.join(", "));
                    let given = shown(key, &value.kind);
                    let reason = Reason::NotAllowed { given, allowed };
                    self.findings.faults.push(Fault { key: path, origin: origin(&value), reason });
                }
            }
        }
        read
    }

    /// What `read` makes of `key` if it is there.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self) -> Option<T>,
    ) -> Option<T> {
        if self.has(key) { read(self) } else { None }
    }

    /// The whole number under `key`.
    pub(super) fn integer<N: TryFrom<i64> + Default>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> N {
        let allowed = format!("{} to {}", range.start(), range.end());
        self.integer_that(key, &allowed, |number| range.contains(&number)).unwrap_or_default()
    }

    /// The whole number under `key`, if there is one.
    pub(super) fn optional_integer<N: TryFrom<i64> + Default>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<N> {
        self.optional(key, |section| Some(section.integer(key, range)))
    }

    /// The whole number under `key`, if it `fits`.
    pub(super) fn integer_that<N: TryFrom<i64>>(
        &mut self,
        key: &'static str,
        allowed: &str,
        fits: impl FnOnce(i64) -> bool,
    ) -> Option<N> {
        self.take(key, allowed, |value| match &value.kind {
            ValueKind::I64(number) if fits(*number) => N::try_from(*number).ok(),
            _ => None,
        })
    }

    /// The share under `key`, from none (0) to all (1).
    pub(super) fn ratio(&mut self, key: &'static str) -> f64 {
        self.take(key, "0.0 to 1.0", |value| match &value.kind {
            ValueKind::Float(ratio) if (0.0..=1.0).contains(ratio) => Some(*ratio),
            ValueKind::I64(0) => Some(0.0),
            ValueKind::I64(1) => Some(1.0),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// The `true` or `false` under `key`.
    pub(super) fn boolean(&mut self, key: &'static str) -> bool {
        self.take(key, "true or false", |value| match &value.kind {
            ValueKind::Boolean(boolean) => Some(*boolean),
            _ => None,
        })
        .unwrap_or_default()
    }

    /// What `parse` makes of the text under `key`.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        self.take(key, allowed, |value| match &value.kind {
            ValueKind::String(text) => parse(text),
            _ => None,
        })
    }

    /// Whether `key` is there, for keys that may be left out.
    pub(super) fn has(&mut self, key: &'static str) -> bool {
        let is_there = self.table.contains_key(key);
        if !is_there {
            self.known.push(key);
        }
        is_there
    }

    /// The IP address and port under `key`.
    pub(super) fn address(&mut self, key: &'static str) -> SocketAddr {
        let allowed = "an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
        self.text(key, allowed, |text| text.parse().ok())
            .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The ranges of addresses under `key`, one after the other with commas between them.
    pub(super) fn networks(&mut self, key: &'static str) -> Vec<Network> {
        let allowed = "ranges such as \"10.1.0.0/16, fd00:1::/32\", or nothing";
        let networks = self.text(key, allowed, |text| {
            let ranges = text.split(',').map(str::trim).filter(|range| !range.is_empty());
            ranges.map(Network::parse).collect()
        });
        networks.unwrap_or_default()
    }

    /// The name under `key`, unlike that of any other in the same list.
    pub(super) fn name(&mut self, key: &'static str, reserved: &[&str]) -> String {
        let mut allowed = "1 to 64 of A-Z a-z 0-9 _ and -".to_owned();
        for name in reserved {
            allowed.push_str(&format!(", and not {name:?}"));
        }
        let list = self.path.rsplit_once('[').map(|(list, _)| list.to_owned());
        self.distinct(key, &list.unwrap_or_default(), &allowed, |text| {
            let fits = is_name(text) && !reserved.contains(&text);
            fits.then(|| (text.to_owned(), text.to_owned()))
        })
        .unwrap_or_default()
    }

    /// The SHA-256 under `key`, unlike any other.
    pub(super) fn sha256(&mut self, key: &'static str) -> [u8; 32] {
        self.distinct(key, "sha256", "64 hexadecimal digits", |text| {
            let mut digest = [0; 32];
            hex::decode_to_slice(text, &mut digest).ok()?;
            Some((digest, hex::encode(digest)))
        })
        .unwrap_or_default()
    }

    /// What `parse` makes of the text under `key`, if the form it gives for comparison is new to `scope`.
    fn distinct<T>(
        &mut self,
        key: &'static str,
        scope: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<(T, String)>,
    ) -> Option<T> {
        let origin = self.table.get(key).map(origin).unwrap_or_default();
        let (value, form) = self.text(key, allowed, parse)?;
        let place = self.name_of(key);
        let seen = &mut self.findings.distinct;
        match seen.insert((scope.to_owned(), form), place) {
            None => {}
            Some(first) => self.fault(key, origin, Reason::Repeated { first }),
        }
        Some(value)
    }

    /// What `parse` makes of the value of `key`; a fault if that is nothing.
    fn take<T>(
        &mut self,
        key: &'static str,
        allowed: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let allowed = allowed.to_owned();
        let Some(value) = self.table.remove(key) else {
            self.fault(key, self.origin.clone(), Reason::Missing { allowed });
            return None;
        };
        let parsed = parse(&value);
        if parsed.is_none() {
            let given = shown(key, &value.kind);
            self.fault(key, origin(&value), Reason::NotAllowed { given, allowed });
        }
        parsed
    }

    fn fault(&mut self, key: &str, origin: String, reason: Reason) {
        let key = self.name_of(key);
        self.findings.faults.push(Fault { key, origin, reason });
    }

    fn name_of(&self, key: &str) -> String {
        match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        }
    }
}

/// Reads a duration such as `7d`, `1h 30m` or `300ms` as whole milliseconds; a day is 24 hours.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let span = SpanParser::new().parse_span(text).ok()?;
    let days_are_24_hours = SpanRelativeTo::days_are_24_hours();
    let duration = span.to_duration(days_are_24_hours).ok()?;
    let whole = duration.subsec_nanos() % 1_000_000 == 0;
    u64::try_from(duration.as_millis()).ok().filter(|_| whole)
}

/// Whether the text can be a name of an operator's own: 1 to 64 of `A-Z a-z 0-9 _ -`.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

/// The table that `value` is, with where it came from.
fn table(value: &Value) -> Option<(String, Table)> {
    match &value.kind {
        ValueKind::Table(table) => Some((origin(value), table.clone())),
        _ => None,
    }
}

fn origin(value: &Value) -> String {
    value.origin().unwrap_or_default().to_owned()
}

/// A wrong value as an operator may see it.
fn shown(key: &str, kind: &ValueKind) -> String {
    match kind {
        ValueKind::String(text) if NEVER_SHOWN.contains(&key) => {
            format!("a text of {} characters", text.chars().count())
        }
        ValueKind::String(text) => {
            let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
            format!("{start:?}")
        }
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Nil => "text that is not UTF-8".to_owned(),
        number_or_boolean => number_or_boolean.to_string(),
    }
}
