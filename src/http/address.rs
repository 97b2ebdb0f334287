//! Where a request comes from: the address that limits by address count.

use crate::config::Network;
use actix_web::http::header::{HeaderMap, HeaderName};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Who counts as one: an IPv4 address, or an IPv6 network of 64 bits, which is the least that a subscriber gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & NETWORK)),
            v4 => v4,
        })
    }
}

/// Whether a proxy at this address is believed.
pub(super) fn is_trusted(address: IpAddr, trusted: &[Network]) -> bool {
    trusted.iter().any(|network| network.contains(address.to_canonical()))
}

/// Whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// Its address, as far as anybody vouches for it.
    pub(super) address: IpAddr,
    /// Whether it is a program on this machine that asks for itself. Whatever a header says of it, it is not.
    pub(super) is_near: bool,
}

/// Whoever asks: the `peer`, or who trusted proxies say. Each proxy adds the address that it was asked from on the right;
/// so the rightmost one that is not a trusted proxy is the last that anybody vouches for. What stands to its left is the
/// client's own, and may be anything.
pub(super) fn asker(peer: IpAddr, headers: &HeaderMap, trusted: &[Network]) -> Asker {
    let peer = peer.to_canonical();
    let forwards = is_trusted(peer, trusted) && headers.contains_key(X_FORWARDED_FOR);
    if !forwards {
        return Asker { address: peer, is_near: peer.is_loopback() };
    }
    let lines: Vec<&[u8]> = headers.get_all(X_FORWARDED_FOR).map(|line| line.as_bytes()).collect();
    let mut hops = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
    let mut address = peer;
    while is_trusted(address, trusted) {
        match hops.next().map(hop) {
            Some(Some(before)) => address = before.to_canonical(),
            // Nobody, or something that is no address: what the proxy itself did counts as its own.
            Some(None) | None => break,
        }
    }
    Asker { address, is_near: false }
}

/// The address of a hop. Some proxies add the port.
fn hop(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim();
    let with_port = || text.parse().ok().map(|hop: SocketAddr| hop.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok();
    text.parse().ok().or_else(with_port).or_else(|| in_brackets().map(IpAddr::V6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn seen(peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
        }
        asker(peer.parse().unwrap(), &headers, &trusted).address.to_string()
    }

    #[test]
    fn the_rightmost_address_that_is_no_trusted_proxy_is_the_clients() {
        for (peer, lines, client) in [
            ("192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["1.1.1.1", "203.0.113.9,10.9.9.9 , fd00::1"], "203.0.113.9"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.9, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", &[""], "10.0.0.1"),
            // Some proxies add the port.
            ("10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.0.0.1", &["[2001:db8::9]:4711"], "2001:db8::9"),
            ("10.0.0.1", &["[2001:db8::9]"], "2001:db8::9"),
            ("10.0.0.1", &["1.1.1.1, ::ffff:203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9:99999"], "10.0.0.1"),
            ("10.0.0.1", &["[203.0.113.9]"], "10.0.0.1"),
            // What the client itself has written is looked at by nobody, not even whether it is text.
            ("10.0.0.1", &["\u{e9}\u{e9}, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["\u{e9}", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", &["203.0.113.9, \u{e9}"], "10.0.0.1"),
        ] {
            assert_eq!(seen(peer, lines), client, "{peer} {lines:?}");
        }
    }

    #[test]
    fn only_who_asks_for_itself_is_near() {
        let trusted = [Network::parse("127.0.0.0/8").unwrap()];
        let near = |peer: &str, line: Option<&str>, trusted: &[Network]| {
            let mut headers = HeaderMap::new();
            if let Some(line) = line {
                headers.append(X_FORWARDED_FOR, HeaderValue::from_str(line).unwrap());
            }
            asker(peer.parse().unwrap(), &headers, trusted).is_near
        };
        assert!(near("127.0.0.1", None, &trusted));
        assert!(near("::ffff:127.0.0.1", None, &[]));
        // Without trusted proxies the header is nobody's word, and whoever sends it is on this machine.
        assert!(near("::1", Some("203.0.113.9"), &[]));
        assert!(!near("192.0.2.1", None, &trusted));
        for claimed in ["127.0.0.1", "::1", "unknown", "", "203.0.113.9, 127.0.0.1", "\u{e9}"] {
            assert!(!near("127.0.0.1", Some(claimed), &trusted), "{claimed}");
        }
    }

    #[test]
    fn of_ipv6_a_network_of_64_bits_counts_as_one() {
        let origin = |text: &str| Origin::of(text.parse().unwrap());
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff::2"));
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
    }
}
