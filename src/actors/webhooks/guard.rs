//! Where webhooks may go: to public addresses, by https, and nowhere else (OWASP: server-side request forgery).
//!
//! A merchant chooses the URL, the server connects from inside. So the name is resolved here, every address that it has
//! must be public, and the connection goes to the very addresses that were checked. This is done when an endpoint is
//! made and again for each connection: a name that changes its mind is caught.

use crate::config::{self, Network};
use actix_tls::connect::Resolve;
use actix_web::http::Uri;
use std::{
    error::Error,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use thiserror::Error;

/// How long a name may take to be looked up.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// The longest URL of an endpoint.
const URL_BYTES_MAX: usize = 2048;

/// What the IANA registries of special-purpose addresses hold, and what is no unicast. Of IPv6 only 2000::/3 is public
/// at all, so what lies outside of it stands here only to be named.
const SPECIAL: [(&str, &str); 32] = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by a carrier"),
    ("127.0.0.0/8", "this machine"),
    ("169.254.0.0/16", "link-local, such as a cloud's metadata"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "AS112"),
    ("192.52.193.0/24", "AMT"),
    ("192.88.99.0/24", "6to4 relays"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "AS112"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("::1/128", "this machine"),
    ("::ffff:0:0/96", "an IPv4 address inside an IPv6 one"),
    ("64:ff9b::/96", "an IPv4 address inside an IPv6 one (NAT64)"),
    ("64:ff9b:1::/48", "an IPv4 address inside an IPv6 one (NAT64)"),
    ("100::/64", "discarded"),
    ("2001::/23", "protocol assignments, such as Teredo"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "an IPv4 address inside an IPv6 one (6to4)"),
    ("2620:4f:8000::/48", "AS112"),
    ("3fff::/20", "for documentation"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("ff00::/8", "multicast"),
];

/// Why a webhook may not go there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The text is no URL of a web server.
    #[error(
        "must be an absolute https URL such as https://shop.example/webhooks, of at most 2048 characters"
    )]
    NotAUrl,
    /// A name and password stand in it.
    #[error("must hold no user name or password")]
    UserInfo,
    /// Plain HTTP.
    #[error("must be https{}", if *.loopback { ", unless it is on this machine" } else { "" })]
    NotSecure {
        /// Whether plain HTTP is allowed on this machine.
        loopback: bool,
    },
    /// The name has no address.
    #[error("{host} cannot be resolved")]
    Unresolved {
        /// The name.
        host: String,
    },
    /// An address is not public. Which one is not said: merchants read this, and names inside are none of theirs.
    #[error("leads to an address that is not public: {what}")]
    NotPublic {
        /// What it is.
        what: &'static str,
    },
}

/// A URL that may be asked for, as far as can be told without resolving it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The whole URL.
    pub uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

/// Looks names up; a test has a double.
pub trait Names: Send + Sync {
    /// All addresses of a name, each with this port.
    fn addresses(&self, host: String, port: u16) -> Addresses;
}

/// What a look-up finds, once it does.
pub type Addresses = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The names that this machine knows.
pub struct SystemNames;

impl Names for SystemNames {
    fn addresses(&self, host: String, port: u16) -> Addresses {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Who says where webhooks may go.
#[derive(Clone)]
pub struct Guard {
    special: Arc<[(Network, &'static str)]>,
    allowed: Arc<[Network]>,
    allow_loopback: bool,
    names: Arc<dyn Names>,
}

impl Guard {
    /// A guard by the operator's exceptions.
    #[must_use]
    pub fn new(config: &config::Webhooks, names: Arc<dyn Names>) -> Self {
        let special = SPECIAL.iter();
        let special = special.filter_map(|(range, what)| Some((Network::parse(range)?, *what)));
        Self {
            special: special.collect(),
            allowed: config.allow_networks.as_slice().into(),
            allow_loopback: config.allow_loopback,
            names,
        }
    }

    /// Reads a URL. An address that stands in it is checked at once, a name by [`Guard::resolve`].
    ///
    /// # Errors
    /// Why nothing may be sent there.
    pub fn target(&self, url: &str) -> Result<Target, Refused> {
        // The same parser as the client's, so that both see the same host.
        let uri: Uri = url.parse().map_err(|_| Refused::NotAUrl)?;
        let plain = url.len() <= URL_BYTES_MAX && !url.contains('#');
        let authority = uri.authority().filter(|_| plain).ok_or(Refused::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(Refused::UserInfo);
        }
        let (is_secure, port) = match uri.scheme_str() {
            Some("https") => (true, 443),
            Some("http") if self.allow_loopback => (false, 80),
            Some("http") => return Err(Refused::NotSecure { loopback: false }),
            _ => return Err(Refused::NotAUrl),
        };
        let port = match authority.as_str().rsplit_once(':') {
            Some((_, digits)) if !digits.ends_with(']') => {
                digits.parse().ok().filter(|port| *port != 0).ok_or(Refused::NotAUrl)?
            }
            _ => port,
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Refused::NotAUrl);
        }
        if let Ok(address) = host.parse() {
            self.check(address, is_secure)?;
        }
        Ok(Target { uri, host, port, is_secure })
    }

    /// Every address of the target, all of them checked.
    ///
    /// # Errors
    /// Why nothing may be sent there.
    pub async fn resolve(&self, target: &Target) -> Result<Vec<SocketAddr>, Refused> {
        let unresolved = || Refused::Unresolved { host: target.host.clone() };
        let found = match target.host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, target.port)],
            Err(_) => {
                let looking = self.names.addresses(target.host.clone(), target.port);
                let found = tokio::time::timeout(RESOLVED_WITHIN, looking).await;
                found.map_err(|_| unresolved())?.map_err(|_| unresolved())?
            }
        };
        for address in &found {
            self.check(address.ip(), target.is_secure)?;
        }
        if found.is_empty() { Err(unresolved()) } else { Ok(found) }
    }

    fn check(&self, address: IpAddr, is_secure: bool) -> Result<(), Refused> {
        if self.allow_loopback && address.is_loopback() {
            return Ok(());
        }
        if !is_secure {
            return Err(Refused::NotSecure { loopback: self.allow_loopback });
        }
        if self.allowed.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        let special = self.special.iter().find(|(network, _)| network.contains(address));
        let is_public = match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => v6.octets()[0] & 0b1110_0000 == 0b0010_0000,
        };
        match special {
            Some((_, what)) => Err(Refused::NotPublic { what }),
            None if !is_public => Err(Refused::NotPublic { what: "not assigned" }),
            None => Ok(()),
        }
    }
}

/// Resolves for a client, and hands only checked addresses on.
pub(super) struct Checked {
    pub(super) guard: Guard,
    pub(super) target: Target,
}

type Lookup<'a> = Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Box<dyn Error>>> + 'a>>;

impl Resolve for Checked {
    fn lookup<'a>(&'a self, _: &'a str, _: u16) -> Lookup<'a> {
        // There is one target for each client, and no redirects.
        Box::pin(async { Ok(self.guard.resolve(&self.target).await?) })
    }
}

#[cfg(test)]
mod tests;
