//! Every way to an inside address that is known, each refused.

use super::*;
use std::sync::Mutex;

/// Names whose addresses change with each look-up.
#[derive(Default)]
struct Fickle(Mutex<Vec<Vec<&'static str>>>);

impl Names for Fickle {
    fn addresses(&self, _: String, port: u16) -> Addresses {
        let mut answers = self.0.lock().unwrap();
        let addresses = if answers.is_empty() { Vec::new() } else { answers.remove(0) };
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), port);
        Box::pin(std::future::ready(Ok(addresses.into_iter().map(address).collect())))
    }
}

fn guard_with(allow_loopback: bool, networks: &[&str], answers: &[&[&'static str]]) -> Guard {
    let shipped =
        crate::config::Config::load(None, std::iter::empty::<(String, String)>()).unwrap();
    let mut config = shipped.webhooks;
    config.allow_loopback = allow_loopback;
    config.allow_networks = networks.iter().map(|range| Network::parse(range).unwrap()).collect();
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    Guard::new(&config, Arc::new(Fickle(Mutex::new(answers))))
}

fn strict() -> Guard {
    guard_with(false, &[], &[])
}

#[test]
fn every_special_range_is_known_and_each_end_of_it_refused() {
    let guard = strict();
    assert_eq!(guard.special.len(), SPECIAL.len());
    for (first, last) in [
        ("0.0.0.0", "0.255.255.255"),
        ("10.0.0.0", "10.255.255.255"),
        ("100.64.0.0", "100.127.255.255"),
        ("127.0.0.0", "127.255.255.255"),
        ("169.254.0.0", "169.254.169.254"),
        ("172.16.0.0", "172.31.255.255"),
        ("192.0.0.0", "192.0.0.255"),
        ("192.0.2.0", "192.0.2.255"),
        ("192.88.99.0", "192.88.99.255"),
        ("192.168.0.0", "192.168.255.255"),
        ("198.18.0.0", "198.19.255.255"),
        ("198.51.100.0", "198.51.100.255"),
        ("203.0.113.0", "203.0.113.255"),
        ("224.0.0.0", "239.255.255.255"),
        ("240.0.0.0", "255.255.255.255"),
        ("::", "::1"),
        ("::ffff:10.0.0.1", "::ffff:127.0.0.1"),
        ("::ffff:8.8.8.8", "::ffff:169.254.169.254"),
        ("::127.0.0.1", "::8.8.8.8"),
        ("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe"),
        ("64:ff9b:1::a00:1", "64:ff9b:1:ffff::1"),
        ("100::1", "100::ffff"),
        ("2001::1", "2001:1ff:ffff::1"),
        ("2001:db8::1", "2001:db8:ffff::1"),
        ("2002:7f00:1::1", "2002:a00:1::1"),
        ("3fff::1", "3fff:fff::1"),
        ("fc00::1", "fdff::1"),
        ("fd00:ec2::254", "fd00::1"),
        ("fe80::1", "febf::1"),
        ("fec0::1", "ff02::1"),
        ("4000::1", "5f00::1"),
        ("8000::1", "e000::1"),
    ] {
        for address in [first, last] {
            let refused = guard.check(address.parse().unwrap(), true);
            assert!(matches!(refused, Err(Refused::NotPublic { .. })), "{address}: {refused:?}");
        }
    }
}

#[test]
fn what_lies_right_beside_a_special_range_is_public() {
    for address in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.0",
        "192.0.3.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2003::1",
        "2606:4700::1111",
        "2a00:1450::1",
    ] {
        assert_eq!(strict().check(address.parse().unwrap(), true), Ok(()), "{address}");
    }
}

#[test]
fn a_url_is_https_absolute_and_holds_no_credentials() {
    let refused = |url: &str| strict().target(url).unwrap_err();
    for url in [
        "",
        "shop.example",
        "//shop.example/hook",
        "/hook",
        "ftp://shop.example",
        "file:///etc/passwd",
        "https://",
        "https:///hook",
        "https://shop.example/hook#part",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://shop.example:/",
        "https://exa mple.com",
        &format!("https://shop.example/{}", "x".repeat(2048)),
    ] {
        assert_eq!(refused(url), Refused::NotAUrl, "{url}");
    }
    for url in
        ["https://user@shop.example", "https://user:word@shop.example/", "https://:@127.0.0.1"]
    {
        assert_eq!(refused(url), Refused::UserInfo, "{url}");
    }
    assert_eq!(refused("http://shop.example"), Refused::NotSecure { loopback: false });
    for url in ["https://127.0.0.1/", "https://[::1]:8443/", "https://[::ffff:10.0.0.1]/"] {
        assert!(matches!(refused(url), Refused::NotPublic { .. }), "{url}");
    }
    for url in ["https://shop.example", "https://shop.example:8443/a?b=c", "https://8.8.8.8/x"] {
        assert!(strict().target(url).is_ok(), "{url}");
    }
}

#[actix_rt::test]
async fn one_inside_address_among_public_ones_is_enough_to_refuse() {
    let guard = guard_with(false, &[], &[&["93.184.216.34", "10.0.0.7"], &[]]);
    let target = guard.target("https://shop.example").unwrap();
    assert!(matches!(guard.resolve(&target).await, Err(Refused::NotPublic { .. })));
    assert!(matches!(guard.resolve(&target).await, Err(Refused::Unresolved { .. })));
}

#[actix_rt::test]
async fn a_name_that_changes_its_answer_is_caught_at_the_next_connection() {
    let guard = guard_with(false, &[], &[&["93.184.216.34"], &["169.254.169.254"]]);
    let target = guard.target("https://shop.example:8443").unwrap();
    let client = Checked { guard: guard.clone(), target };
    let first = client.lookup("shop.example", 8443).await.unwrap();
    assert_eq!(first, ["93.184.216.34:8443".parse().unwrap()]);
    let second = client.lookup("shop.example", 8443).await.unwrap_err();
    let told = second.to_string();
    assert!(told.contains("not public") && !told.contains("169.254"), "{told}");
}

#[actix_rt::test]
async fn odd_spellings_of_addresses_are_resolved_and_then_refused() {
    let config = crate::config::Config::load(None, std::iter::empty::<(String, String)>()).unwrap();
    let strict = crate::config::Webhooks { allow_loopback: false, ..config.webhooks };
    let guard = Guard::new(&strict, Arc::new(SystemNames));
    for host in ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "localhost."] {
        let refused = match guard.target(&format!("https://{host}/")) {
            Ok(target) => guard.resolve(&target).await.map(drop),
            Err(refused) => Err(refused),
        };
        // A system that does not take the spelling does not resolve it.
        let inside = matches!(refused, Err(Refused::NotPublic { .. } | Refused::Unresolved { .. }));
        assert!(inside, "{host}: {refused:?}");
    }
}

#[actix_rt::test]
async fn loopback_and_networks_inside_are_open_only_if_the_operator_says_so() {
    let answers: &[&[&str]] = &[&["127.0.0.1"], &["93.184.216.34"], &["10.1.2.3"], &["10.2.0.1"]];
    let guard = guard_with(true, &["10.1.0.0/16"], answers);
    let plain = guard.target("http://localhost:3000/hook").unwrap();
    assert_eq!(guard.resolve(&plain).await.unwrap().len(), 1);
    assert_eq!(guard.resolve(&plain).await, Err(Refused::NotSecure { loopback: true }));
    let secure = guard.target("https://inside.example").unwrap();
    assert_eq!(guard.resolve(&secure).await.unwrap().len(), 1);
    assert!(matches!(guard.resolve(&secure).await, Err(Refused::NotPublic { .. })));
}
