//! Why a configuration is refused, with the facts that an operator needs to put it right.
//!
//! Made by the reading of the configuration; shown by `main`, which then exits with code 2. It never shows a value that
//! may hold a secret.

use std::{fmt, io, net::SocketAddr, path::PathBuf};

/// A configuration that the server does not start with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} is not valid TOML: {reason}")]
    NotToml {
        /// Which file.
        origin: String,
        /// Where and why, without the line itself.
        reason: String,
    },
    /// Keys or values that are not allowed: all of them, in the order of their names.
    #[error("the configuration is refused{}", lines(.0))]
    Refused(Vec<Fault>),
    /// A test key that everybody knows would be reachable from other machines.
    #[error(
        "http.listen: {listen} can be reached from other machines while the well-known test key of {} is configured; \
         put a key made by `strongroom key new` in its place, or listen on a loopback address",
        keys.join(" and ")
    )]
    Exposed {
        /// The address that was to be listened on.
        listen: SocketAddr,
        /// The holders of the test keys, such as `merchant_1/test`.
        keys: Vec<String>,
    },
    /// Keys and payments would go over the network for anyone to read.
    #[error(
        "http.listen: {listen} can be reached from other machines and would be spoken to in plain HTTP; set \
         http.tls_cert and http.tls_key, or listen on a loopback address behind a proxy that speaks TLS, or set \
         http.insecure = true if the network in between is trusted"
    )]
    Plain {
        /// The address that was to be listened on.
        listen: SocketAddr,
    },
    /// A file of the certificate cannot be read.
    #[error("cannot read {}, which http.tls_cert or http.tls_key names", path.display())]
    UnreadableTls {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or its key is not usable.
    #[error("http.tls_cert and http.tls_key cannot be used: {reason}")]
    NoCertificate {
        /// Why, without what stands in the files.
        reason: String,
    },
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(|fault| format!("\n  {fault}")).collect::<String>()
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The key's full name, such as `journal.segment_bytes` or `merchants[0].id`.
    pub key: String,
    /// The file or environment variable it came from.
    pub origin: String,
    /// What is wrong with it.
    pub reason: Reason,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (from {})", self.key, self.reason, self.origin)
    }
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// There is no such key.
    #[error("no such key; known: {}", known.join(", "))]
    Unknown {
        /// The keys that there are.
        known: Vec<&'static str>,
    },
    /// The key has to be there and is not.
    #[error("missing; it has to be {allowed}")]
    Missing {
        /// What it may be.
        allowed: String,
    },
    /// The value is of a wrong type or out of range.
    #[error("{given} is not allowed; it has to be {allowed}")]
    NotAllowed {
        /// What was given.
        given: String,
        /// What it may be.
        allowed: String,
    },
    /// The value has to differ from all others of its kind, and does not.
    #[error("the same value as {first}; no two may be alike")]
    Repeated {
        /// The key that had it first.
        first: String,
    },
}
