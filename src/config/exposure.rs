//! The keys that everybody knows stay on the machine.
//!
//! Called by `main` with the address it is about to listen on, whether that came from the file, the environment or the
//! command line.

use super::{ADMIN, ApiKey, Config, ConfigError};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// The keys of the shipped configuration.
const SHIPPED_KEYS: [&str; 2] = ["sk_test_merchant_1", "ak_test_admin"];

impl Config {
    /// Whether the server may listen on `listen`: on a loopback address always, elsewhere only without the test keys of
    /// the shipped configuration.
    ///
    /// # Errors
    /// [`ConfigError::Exposed`], with the holders of the test keys.
    pub fn exposure(&self, listen: SocketAddr) -> Result<(), ConfigError> {
        let shipped = SHIPPED_KEYS.map(|key| <[u8; 32]>::from(Sha256::digest(key)));
        let keys: Vec<String> = self
            .holders()
            .filter(|(_, key)| shipped.contains(&key.sha256))
            .map(|(holder, key)| format!("{holder}/{}", key.name))
            .collect();
        if keys.is_empty() || listen.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(ConfigError::Exposed { listen, keys })
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
        config.admins.clear();
        config.merchants[0].keys[0].name = "mine".to_owned();
        assert!(exposure(&config, "0.0.0.0:1").is_err());
        config.merchants[0].keys[0].sha256 = Sha256::digest("a key of our own").into();
        assert!(exposure(&config, "0.0.0.0:1").is_ok());
    }
}
