//! The keys that everybody knows stay on the machine, and so does plain HTTP.
//!
//! Called before a start with the address it is about to listen on, whether that came from the file, the environment or the
//! command line.

use super::{ADMIN, ApiKey, Config, ConfigError};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// The keys of the shipped configuration.
const SHIPPED_KEYS: [&str; 2] = ["sk_test_merchant_1", "ak_test_admin"];

impl Config {
    /// Whether the server may listen on `listen`: on a loopback address always, elsewhere only without the test keys of
    /// the shipped configuration, and by TLS unless plain HTTP was asked for.
    ///
    /// # Errors
    /// [`ConfigError::Exposed`], with the holders of the test keys, or [`ConfigError::Plain`].
    pub fn exposure(&self, listen: SocketAddr) -> Result<(), ConfigError> {
        if listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        let shipped = SHIPPED_KEYS.map(|key| <[u8; 32]>::from(Sha256::digest(key)));
        let keys: Vec<String> = self
            .holders()
            .filter(|(_, key)| shipped.contains(&key.sha256))
            .map(|(holder, key)| format!("{holder}/{}", key.name))
            .collect();
        if !keys.is_empty() {
            return Err(ConfigError::Exposed { listen, keys });
        }
        match self.http.tls.is_some() || self.http.insecure {
            true => Ok(()),
            false => Err(ConfigError::Plain { listen }),
        }
    }

    /// Every API key with its holder: a merchant's id, or `admin`.
    fn holders(&self) -> impl Iterator<Item = (&str, &ApiKey)> {
        let of_merchants = self.merchants.iter().flat_map(|merchant| {
            let keys = merchant.keys.iter();
            keys.map(|key| (merchant.id.as_str(), key))
        });
        of_merchants.chain(self.admins.iter().map(|key| (ADMIN, key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsFiles;

    #[test]
    fn a_shipped_test_key_keeps_the_server_on_loopback() {
        let exposure = |config: &Config, listen: &str| config.exposure(listen.parse().unwrap());
        let shipped = Config::load(None, std::iter::empty::<(String, String)>()).unwrap();
        for loopback in ["127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(exposure(&shipped, loopback).is_ok(), "{loopback}");
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let error = exposure(&shipped, open).unwrap_err().to_string();
            assert!(error.contains("merchant_1/test and admin/test"), "{error}");
        }
        // Under whatever name, and of whichever holder.
        let mut config = shipped;
        config.http.insecure = true;
        config.admins.clear();
        config.merchants[0].keys[0].name = "mine".to_owned();
        assert!(exposure(&config, "0.0.0.0:1").is_err());
        config.merchants[0].keys[0].sha256 = Sha256::digest("a key of our own").into();
        assert!(exposure(&config, "0.0.0.0:1").is_ok());
    }

    #[test]
    fn plain_http_stays_on_loopback_unless_it_is_asked_for() {
        let mut config = Config::load(None, std::iter::empty::<(String, String)>()).unwrap();
        config.admins.clear();
        config.merchants.clear();
        let mut refused = |listen: &str, change: fn(&mut Config)| {
            change(&mut config);
            let refused = config.exposure(listen.parse().unwrap());
            refused.is_err_and(|error| matches!(error, ConfigError::Plain { .. }))
        };
        assert!(refused("0.0.0.0:1", |_| {}));
        assert!(refused("[2001:db8::1]:1", |_| {}));
        assert!(!refused("127.0.0.1:1", |_| {}));
        assert!(!refused("0.0.0.0:1", |config| config.http.insecure = true));
        let files = |config: &mut Config| {
            config.http.insecure = false;
            config.http.tls = Some(TlsFiles { cert: "c".into(), key: "k".into() });
        };
        assert!(!refused("0.0.0.0:1", files));
    }
}
