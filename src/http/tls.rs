//! The server's own certificate: read at the start, and again whenever its files change, without a restart.
//!
//! Connections that are open keep the certificate that they were made with. A new one that cannot be used is passed over:
//! the one before goes on, and an alarm stands.

use super::Door;
use crate::config::{ConfigError, TlsFiles, TlsPair};
use actix_web::web;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The alarm that stands while the files hold nothing usable.
const UNUSABLE: &str = "tls.certificate_unusable";

/// The certificate in use.
pub struct Certificate {
    files: TlsFiles,
    /// As it was at the start.
    loaded: TlsPair,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// The certificate that the files hold now.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, ConfigError> {
        let pair = files.load()?;
        let current = RwLock::new(Arc::new(usable(&pair)?));
        Ok(Self { files: files.clone(), loaded: pair, current })
    }

    /// TLS 1.2 and 1.3 with this certificate, and HTTP/2 for whoever wants it.
    pub(super) fn config(self: &Arc<Self>) -> Result<ServerConfig, rustls::Error> {
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
        let mut config = builder.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files again and again, for ever.
    pub(super) async fn watch(self: Arc<Self>, door: web::Data<Door>) {
        let mut seen: Option<TlsPair> = None;
        let mut unusable: Option<String> = None;
        loop {
            actix_rt::time::sleep(EVERY).await;
            let own = self.clone();
            let Ok(found) = web::block(move || own.files.load()).await else { continue };
            let in_use = seen.as_ref().unwrap_or(&self.loaded);
            let known = found.as_ref().is_ok_and(|found| found == in_use);
            if known && unusable.is_none() {
                continue;
            }
            let outcome = found.and_then(|pair| self.take(&pair).map(|()| pair));
            let alarms = door.core.get().map(|core| &core.alarms);
            match outcome {
                Ok(pair) => {
                    seen = Some(pair);
                    unusable = None;
                    tracing::info!("the certificate was read again and is in use");
                    alarms.inspect(|alarms| alarms.clear(UNUSABLE));
                }
                Err(error) => {
                    let why = error.to_string();
                    // The two files are seldom replaced at one moment: said when it is still so a moment later, once.
                    let again = unusable.as_ref() == Some(&why);
                    let standing = alarms.filter(|alarms| {
                        again && alarms.all().iter().all(|alarm| alarm.code != UNUSABLE)
                    });
                    let detail = format!("{why}; the certificate from before stays in use");
                    standing.inspect(|alarms| alarms.raise(UNUSABLE, &detail));
                    unusable = Some(why);
                }
            }
        }
    }

    fn take(&self, pair: &TlsPair) -> Result<(), ConfigError> {
        let new = Arc::new(usable(pair)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate with its key, if the two belong together.
fn usable(pair: &TlsPair) -> Result<CertifiedKey, ConfigError> {
    let refused = |reason: String| ConfigError::NoCertificate { reason };
    let chain = CertificateDer::pem_slice_iter(&pair.cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| refused("the certificate is not PEM".to_owned()))?;
    if chain.is_empty() {
        return Err(refused("there is no certificate in the file".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&pair.key)
        .map_err(|_| refused("there is no private key in PEM in the file".to_owned()))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| refused(error.to_string()))
}
