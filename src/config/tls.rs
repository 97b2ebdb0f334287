//! The files with which the server proves who it is.
//!
//! They are named in the configuration and, unlike it, are read again while the server runs.

use super::{ConfigError, section::Section};
use std::{fs, io, path::PathBuf};

/// Where the certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate with those that vouch for it, in PEM.
    pub cert: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

/// What the two files hold, as it is. It has no `Debug`, so that the key is not logged by accident.
#[derive(PartialEq, Eq)]
pub struct TlsPair {
    /// The certificate's file.
    pub cert: Vec<u8>,
    /// The key's file.
    pub key: Vec<u8>,
}

impl TlsFiles {
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        let cert = section
            .text("tls_cert", "a file name, or empty for plain HTTP", |text| Some(text.to_owned()));
        let wanted = cert.as_ref().is_some_and(|cert| !cert.is_empty());
        let allowed = match wanted {
            true => "a file name",
            false => "empty as long as http.tls_cert is",
        };
        let key = section
            .text("tls_key", allowed, |text| (wanted != text.is_empty()).then(|| text.to_owned()));
        let (cert, key) = cert.zip(key).filter(|_| wanted)?;
        Some(Self { cert: cert.into(), key: key.into() })
    }

    /// Reads both files.
    ///
    /// # Errors
    /// [`ConfigError::UnreadableTls`], with the file.
    pub fn load(&self) -> Result<TlsPair, ConfigError> {
        let read = |path: &PathBuf| {
            let unreadable =
                |source: io::Error| ConfigError::UnreadableTls { path: path.clone(), source };
            fs::read(path).map_err(unreadable)
        };
        Ok(TlsPair { cert: read(&self.cert)?, key: read(&self.key)? })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{from_file, one_fault};

    #[test]
    fn a_certificate_comes_with_its_key_or_not_at_all() {
        assert_eq!(from_file("").http.tls, None);
        let both = from_file("[http]\ntls_cert = 'c.pem'\ntls_key = 'k.pem'").http.tls.unwrap();
        assert_eq!((both.cert, both.key), ("c.pem".into(), "k.pem".into()));
        for one in ["tls_cert = 'c.pem'", "tls_key = 'k.pem'"] {
            let fault = one_fault(&format!("[http]\n{one}"), &[]);
            assert_eq!(fault.key, "http.tls_key", "{one}");
        }
    }
}
