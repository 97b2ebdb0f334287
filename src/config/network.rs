//! Ranges of IP addresses, as an operator writes them: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

/// A range of addresses: those whose first `prefix` bits are those of `base`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u32,
}

impl Network {
    /// Reads an address, or an address and a prefix length. `None` if it is neither, or if bits behind the prefix are
    /// set, which mostly is a slip.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let bits = if base.is_ipv4() { 32 } else { 128 };
        let prefix = length.map_or(Some(bits), |length| {
            let plain = length.bytes().all(|byte| byte.is_ascii_digit());
            length.parse().ok().filter(|prefix| plain && *prefix <= bits)
        })?;
        let network = Self { base, prefix };
        (network.masked(base) == network.masked_bits(base, 128)).then_some(network)
    }

    /// Whether `address` lies in it. An IPv4 address never lies in a range of IPv6 ones, nor the other way round.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.base.is_ipv4() == address.is_ipv4() && self.masked(address) == self.masked(self.base)
    }

    fn masked(&self, address: IpAddr) -> u128 {
        self.masked_bits(address, self.prefix)
    }

    /// The first `prefix` bits of an address, at the top of the number.
    fn masked_bits(&self, address: IpAddr, prefix: u32) -> u128 {
        let bits = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => Ipv6Addr::to_bits(v6),
        };
        let behind = 128u32.saturating_sub(prefix);
        bits & u128::MAX.checked_shl(behind).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_the_addresses_of_its_prefix() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "::1", "0.0.0.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("64:ff9b::/96", "64:ff9b::a00:1", "64:ff9b:1::a00:1"),
        ] {
            let network = Network::parse(range).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{range} {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{range} {outside}");
            assert!(network.to_string().starts_with(range), "{network}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "fe80::1/10",
            "ten",
            "10/8",
        ] {
            assert_eq!(Network::parse(wrong), None, "{wrong}");
        }
    }
}
