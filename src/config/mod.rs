//! What the operator can set: every section of `config.toml` as a plain, checked struct.
//!
//! `main` loads it once at start and hands the sections to the parts of the server that they are named after. The
//! ranges stand here, beside the keys; `config.toml` explains the keys and is compiled in as the defaults. Nothing here
//! is read again while the server runs, and nothing here has an effect of its own.

mod alerts;
mod error;
mod exposure;
#[cfg(feature = "fault-injection")]
pub mod fuzzing;
mod layers;
mod limits;
mod metrics;
mod network;
mod providers;
mod section;
#[cfg(test)]
mod tests;
mod tls;
mod webhooks;

pub use alerts::{AlertWebhook, Alerts};
pub use error::{ConfigError, Fault, Reason};
pub use layers::SHIPPED;
pub use limits::{Limits, Rate};
pub use metrics::{Metrics, Telemetry};
pub use network::Network;
pub use providers::{Confidential, OutsideProvider, ProviderKind, Route, SANDBOX};
pub(crate) use section::is_name;
pub use tls::{TlsFiles, TlsPair};
pub use webhooks::{MerchantWebhook, Webhooks};

use crate::domain::{idempotency::Retention, money::Amount};
use section::{Section, duration_ms};
use std::{ffi::OsString, net::SocketAddr, path::Path, path::PathBuf, thread};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// How the audit trail names the holder of an admin's key; no merchant may be called so.
pub const ADMIN: &str = "admin";

const MIB: i64 = 1024 * 1024;
const HOUR_MS: u64 = 60 * 60 * 1000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// The configuration, complete and in range.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The folder that holds the journal and all else the server writes.
    pub data_dir: PathBuf,
    /// The HTTP door.
    pub http: Http,
    /// How often clients may ask.
    pub limits: Limits,
    /// The rules of payments.
    pub payments: Payments,
    /// Safe retries.
    pub idempotency: Idempotency,
    /// The embedded payment provider, and how answers of any are waited for.
    pub provider: Provider,
    /// Those that move money outside; no two names alike.
    pub providers: Vec<OutsideProvider>,
    /// Which payments go to which, the first that admits one deciding; the others go to the sandbox.
    pub routes: Vec<Route>,
    /// The journal on disk.
    pub journal: Journal,
    /// Snapshots of the books.
    pub snapshots: Snapshots,
    /// Checking the books against themselves.
    pub reconciliation: Reconciliation,
    /// Telling merchants what happened.
    pub webhooks: Webhooks,
    /// Telling the operator what is wrong.
    pub alerts: Alerts,
    /// Numbers about the server.
    pub metrics: Metrics,
    /// Following single requests.
    pub telemetry: Telemetry,
    /// What the server tells its operator.
    pub log: Log,
    /// Those who take payments; no two ids alike.
    pub merchants: Vec<Merchant>,
    /// The keys that see all merchants' books; no two names alike.
    pub admins: Vec<ApiKey>,
}

impl Config {
    /// Where the configuration that [`Self::load`] takes comes from: each file and variable with the full names of the
    /// keys that it sets, and of the rest that all other keys have their defaults. No values.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn origins<Name: Into<OsString>, Text: Into<OsString>>(
        path: Option<&Path>,
        environment: impl Iterator<Item = (Name, Text)>,
    ) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
        Ok(layers::origins(&layers::merge(path, environment)?))
    }

    /// The defaults, under the file at `path` (or `config.toml` in the working directory, if it is there), under the
    /// variables of `environment` that begin with `STRONGROOM__`.
    ///
    /// Pass [`std::env::vars_os`], which unlike [`std::env::vars`] does not panic at a variable that is not UTF-8.
    /// Does not check the [exposure](Self::exposure), since the command line may still change the address.
    ///
    /// # Errors
    /// When a file cannot be read, or with every key that is unknown, of a wrong type or out of range.
    pub fn load<Name: Into<OsString>, Text: Into<OsString>>(
        path: Option<&Path>,
        environment: impl Iterator<Item = (Name, Text)>,
    ) -> Result<Self, ConfigError> {
        Self::of(layers::merge(path, environment)?)
    }

    /// The configuration that a table holds, or every fault in it.
    fn of(table: layers::Table) -> Result<Self, ConfigError> {
        section::read(table, |root| {
            let providers = root.named("providers", &[SANDBOX], OutsideProvider::read);
            let mut known: Vec<String> = vec![SANDBOX.to_owned()];
            known.extend(providers.iter().map(|provider| provider.name.clone()));
            let routes = root.optional("routes", |root| {
                Some(root.list("routes", |section| Route::read(&known, section)))
            });
            let routes = routes.unwrap_or_default();
            Self {
                data_dir: root
                    .text("data_dir", "the name of a folder", |text| {
                        (!text.is_empty()).then(|| PathBuf::from(text))
                    })
                    .unwrap_or_default(),
                http: root.section("http", Http::read),
                limits: root.section("limits", Limits::read),
                payments: root.section("payments", Payments::read),
                idempotency: root.section("idempotency", Idempotency::read),
                provider: root.section("provider", Provider::read),
                providers,
                routes,
                journal: root.section("journal", Journal::read),
                snapshots: root.section("snapshots", Snapshots::read),
                reconciliation: root.section("reconciliation", Reconciliation::read),
                webhooks: root.section("webhooks", Webhooks::read),
                alerts: root.section("alerts", Alerts::read),
                metrics: root.section("metrics", Metrics::read),
                telemetry: root.section("telemetry", Telemetry::read),
                log: root.section("log", Log::read),
                merchants: root.list("merchants", Merchant::read),
                admins: root.list("admins", ApiKey::read),
            }
        })
    }
}

/// The HTTP door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// The address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Threads that serve requests; 0 means what [`Http::worker_threads`] says.
    pub workers: usize,
    /// The longest request body.
    pub body_bytes_max: usize,
    /// How long a client may take to send its body.
    pub body_read_timeout_ms: u64,
    /// How long a request may wait inside, such as for its twin under the same key.
    pub request_deadline_ms: u64,
    /// Connections held open at once.
    pub connections_max: usize,
    /// Payment commands worked on at once; more get 503.
    pub in_flight_max: usize,
    /// How long a server that is told to stop still takes new connections, not ready any more.
    pub drain_grace_ms: u64,
    /// How long the rest of a stop may take, after the grace.
    pub drain_timeout_ms: u64,
    /// How long a client may take to send the head of a request.
    pub head_read_timeout_ms: u64,
    /// Connections held open at once from one address.
    pub connections_per_address: usize,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// What the server proves itself with; `None`: it speaks plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Whether plain HTTP may be spoken beyond loopback.
    pub insecure: bool,
}

impl Http {
    fn read(section: &mut Section<'_>) -> Self {
        let allowed = "a duration such as \"5s\", 0s to 1h";
        let drain_grace = section.text("drain_grace", allowed, |text| {
            duration_ms(text).filter(|ms| (0..=HOUR_MS).contains(ms))
        });
        Self {
            listen: section.address("listen"),
            workers: section.integer("workers", 0..=1024),
            body_bytes_max: section.integer("body_bytes_max", 1024..=MIB),
            body_read_timeout_ms: section.integer("body_read_timeout_ms", 10..=600_000),
            request_deadline_ms: section.integer("request_deadline_ms", 10..=600_000),
            connections_max: section.integer("connections_max", 1..=1_000_000),
            in_flight_max: section.integer("in_flight_max", 1..=100_000),
            drain_grace_ms: drain_grace.unwrap_or_default(),
            drain_timeout_ms: section.integer("drain_timeout_ms", 0..=3_600_000),
            head_read_timeout_ms: section.integer("head_read_timeout_ms", 10..=600_000),
            connections_per_address: section.integer("connections_per_address", 1..=1_000_000),
            trusted_proxies: section.networks("trusted_proxies"),
            tls: TlsFiles::read(section),
            insecure: section.boolean("insecure"),
        }
    }

    /// How many threads serve requests: `workers`, or for 0 as many as there are cores.
    #[must_use]
    pub fn worker_threads(&self) -> usize {
        match self.workers {
            0 => thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        }
    }
}

/// The rules of payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payments {
    /// How long an authorization holds the customer's money before it expires.
    pub authorization_ttl_ms: u64,
}

impl Payments {
    fn read(section: &mut Section<'_>) -> Self {
        let allowed = "a duration such as \"7d\", \"24h\", \"90s\" or \"300ms\", 1ms to 366d";
        let ttl = section.text("authorization_ttl", allowed, |text| {
            duration_ms(text).filter(|ms| (1..=366 * DAY_MS).contains(ms))
        });
        Self { authorization_ttl_ms: ttl.unwrap_or_default() }
    }
}

/// Safe retries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// How long a key stays used after its answer.
    pub retention: Retention,
}

impl Idempotency {
    fn read(section: &mut Section<'_>) -> Self {
        let allowed = "\"forever\" or a duration such as \"24h\", 1ms to 3660d";
        let retention = section.text("retention", allowed, |text| match text {
            "forever" => Some(Retention::Forever),
            duration => duration_ms(duration)
                .filter(|ms| (1..=3660 * DAY_MS).contains(ms))
                .map(Retention::Millis),
        });
        Self { retention: retention.unwrap_or(Retention::Forever) }
    }
}

/// The payment provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// How long a request waits for the provider before its client is told 202.
    pub answer_within_ms: u64,
    /// When an outcome that stayed unknown is first looked up; later tries are at most a minute apart.
    pub inquire_after_ms: u64,
    /// The embedded provider, which moves no money.
    pub sandbox: Sandbox,
}

impl Provider {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            answer_within_ms: section.integer("answer_within_ms", 1..=60_000),
            inquire_after_ms: section.integer("inquire_after_ms", 1..=60_000),
            sandbox: section.section("sandbox", |sandbox| Sandbox {
                decline_at: sandbox.integer("decline_at", 1..=Amount::MAX + 1),
            }),
        }
    }
}

/// The embedded provider, which moves no money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Amounts of this many minor units and more are declined.
    pub decline_at: i64,
}

/// The journal on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// The size of a segment file: a multiple of [`Journal::BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// The largest batch made durable in one write: it fits a segment with [`Journal::HEAD_BYTES`] to spare.
    pub batch_bytes_max: usize,
    /// The most entries in one batch.
    pub batch_entries_max: usize,
    /// How long after the last batch the journal is sealed.
    pub seal_after_ms: u64,
    /// Whether to write past the page cache where the file system can.
    pub direct_io: bool,
}

impl Journal {
    /// What the size of a segment is a multiple of.
    pub const BLOCK_BYTES: i64 = 4096;

    /// What a segment keeps free beside its largest batch.
    pub const HEAD_BYTES: i64 = 2 * Self::BLOCK_BYTES;

    fn read(section: &mut Section<'_>) -> Self {
        let segments = MIB..=1024 * MIB;
        let allowed = format!("a multiple of 4096 from {} to {}", segments.start(), segments.end());
        let segment_bytes = section.integer_that("segment_bytes", &allowed, |bytes| {
            segments.contains(&bytes) && bytes % Self::BLOCK_BYTES == 0
        });
        let batches = 262_144..=segment_bytes.unwrap_or(*segments.end()) - Self::HEAD_BYTES;
        let allowed = format!("{} to {} (segment_bytes less 8192)", batches.start(), batches.end());
        let batch_bytes_max =
            section.integer_that("batch_bytes_max", &allowed, |bytes| batches.contains(&bytes));
        Self {
            segment_bytes: segment_bytes
                .and_then(|bytes| u64::try_from(bytes).ok())
                .unwrap_or_default(),
            batch_bytes_max: batch_bytes_max.unwrap_or_default(),
            batch_entries_max: section.integer("batch_entries_max", 1..=65_536),
            seal_after_ms: section.integer("seal_after_ms", 1..=60_000),
            direct_io: section.boolean("direct_io"),
        }
    }
}

/// Snapshots of the books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// How long after the last one the next is made.
    pub every_ms: u64,
    /// After how many bytes of journal the next one is made.
    pub every_bytes: u64,
}

impl Snapshots {
    fn read(section: &mut Section<'_>) -> Self {
        let allowed = "a duration such as \"1h\", 1s to 30d";
        let every_ms = section.text("every", allowed, |text| {
            duration_ms(text).filter(|ms| (1_000..=30 * DAY_MS).contains(ms))
        });
        Self {
            every_ms: every_ms.unwrap_or_default(),
            every_bytes: section.integer("every_bytes", MIB..=1024 * 1024 * MIB),
        }
    }
}

/// Checking the books against themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// How long after a check of what is new the next one comes.
    pub every_ms: u64,
    /// How long after a check of everything the next one comes.
    pub full_every_ms: u64,
    /// The finished runs that are kept to be read.
    pub runs_kept: usize,
}

impl Reconciliation {
    fn read(section: &mut Section<'_>) -> Self {
        let allowed = "a duration such as \"1h\", \"7d\" or \"90s\", 100ms to 366d";
        let full_every = section.text("full_every", allowed, |text| {
            duration_ms(text).filter(|ms| (100..=366 * DAY_MS).contains(ms))
        });
        Self {
            every_ms: section.integer("every_ms", 10..=3_600_000),
            full_every_ms: full_every.unwrap_or_default(),
            runs_kept: section.integer("runs_kept", 1..=10_000),
        }
    }
}

/// What the server tells its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level or a filter in the syntax of `tracing_subscriber::EnvFilter`, which takes it.
    pub level: String,
    /// In which form.
    pub form: LogForm,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// One compact line for a reader.
    Human,
    /// One JSON object a line.
    Json,
}

impl Log {
    fn read(section: &mut Section<'_>) -> Self {
        let levels =
            "off, error, warn, info, debug, trace, or a filter such as info,strongroom::http=debug";
        let forms = "\"auto\", \"human\" or \"json\"";
        Self {
            level: section
                .text("level", levels, |text| is_filter(text).then(|| text.to_owned()))
                .unwrap_or_default(),
            form: section
                .text("form", forms, |text| match text {
                    "auto" => Some(LogForm::Auto),
                    "human" => Some(LogForm::Human),
                    "json" => Some(LogForm::Json),
                    _ => None,
                })
                .unwrap_or(LogForm::Auto),
        }
    }
}

/// Whether `text` is a log filter. A bare word has to be a level: the filter's own parser takes any other for the name
/// of a module, so that a slip in `info` would silence everything.
fn is_filter(text: &str) -> bool {
    let bare = |part: &&str| !part.contains(['=', '[', ']', '{', '}']);
    let is_level = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    text.split(',').filter(bare).all(|part| is_level(part.trim()))
        && EnvFilter::builder().parse(text).is_ok()
}

/// One who takes payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merchant {
    /// The name in the API and in the books: 1 to 64 of `A-Z a-z 0-9 _ -`, never [`ADMIN`].
    pub id: String,
    /// The merchant's API keys; no two names alike.
    pub keys: Vec<ApiKey>,
    /// Where it is told what happened, if the configuration says so.
    pub webhook: Option<MerchantWebhook>,
}

impl Merchant {
    fn read(section: &mut Section<'_>) -> Self {
        Self {
            id: section.name("id", &[ADMIN]),
            keys: section.list("keys", ApiKey::read),
            webhook: MerchantWebhook::read(section),
        }
    }
}

/// An API key, of which only the digest is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// The name in the audit trail: 1 to 64 of `A-Z a-z 0-9 _ -`.
    pub name: String,
    /// The SHA-256 of the key's text; no two alike.
    pub sha256: [u8; 32],
}

impl ApiKey {
    fn read(section: &mut Section<'_>) -> Self {
        Self { name: section.name("name", &[]), sha256: section.sha256("sha256") }
    }
}
