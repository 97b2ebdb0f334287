//! The server's own certificate: read at the start, and again whenever its files change, without a restart.
//!
//! Connections that are open keep the certificate that they were made with. A new one that cannot be used is passed over:
//! the one before goes on, and an alarm stands. So it does when the one in use soon expires, or has.

use super::Door;
use crate::{
    actors::alarms::Alarms,
    clock::{Clock, SystemClock},
    config::{ConfigError, TlsFiles, TlsPair},
    domain::time::Timestamp,
};
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
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(1);

/// The alarm that stands while the files hold nothing usable.
const UNUSABLE: &str = "tls.certificate_unusable";

/// The alarm that stands while the certificate in use has less than [`Validity::left_min_ms`] left.
const EXPIRES: &str = "tls.certificate_expires";

/// The certificate in use.
pub struct Certificate {
    files: TlsFiles,
    /// As it was at the start.
    loaded: TlsPair,
    current: RwLock<Current>,
}

#[derive(Clone)]
struct Current {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: Timestamp,
    until: Timestamp,
}

impl Validity {
    /// With how much left it should have been replaced: a week, or of one that is made for a few days a quarter.
    fn left_min_ms(self) -> u64 {
        const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1000;
        WEEK_MS.min(self.until.millis_since(self.from) / 4)
    }

    /// What is wrong with it at this time, if something is.
    fn fault(self, now: Timestamp) -> Option<&'static str> {
        match self.until.millis().checked_sub(now.millis()) {
            None | Some(0) => Some("has expired: clients refuse the connection; it held until"),
            Some(left) if left < self.left_min_ms() => Some("expires soon: it holds until"),
            Some(_) => None,
        }
    }
}

impl Certificate {
    /// The certificate that the files hold now.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Self, ConfigError> {
        let pair = files.load()?;
        let current = RwLock::new(usable(&pair)?);
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

    /// Until when the one in use holds.
    pub(super) fn expires(&self) -> Timestamp {
        self.current().validity.until
    }

    /// Looks at the files again and again, for ever.
    pub(super) async fn watch(self: Arc<Self>, door: web::Data<Door>) {
        let mut seen: Option<TlsPair> = None;
        let mut unusable: Option<String> = None;
        let mut said = None;
        loop {
            actix_rt::time::sleep(EVERY).await;
            if let Some(core) = door.core.get() {
                self.tell_of_its_end(&core.alarms, &mut said);
            }
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

    /// Raises or clears the alarm when something other holds than what was `said` last.
    fn tell_of_its_end(&self, alarms: &Alarms, said: &mut Option<(&'static str, Timestamp)>) {
        let validity = self.current().validity;
        let fault = validity.fault(SystemClock::default().now()).map(|it| (it, validity.until));
        match (&fault, &said) {
            (Some((what, until)), _) if fault != *said => {
                let detail = format!("the certificate in http.tls_cert {what} {until}; replace it");
                alarms.raise(EXPIRES, &detail);
            }
            (None, Some(_)) => alarms.clear(EXPIRES),
            _ => {}
        }
        *said = fault;
    }

    fn take(&self, pair: &TlsPair) -> Result<(), ConfigError> {
        let new = usable(pair)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The certificate with its key, if the two belong together.
fn usable(pair: &TlsPair) -> Result<Current, ConfigError> {
    let refused = |reason: String| ConfigError::NoCertificate { reason };
    let chain = CertificateDer::pem_slice_iter(&pair.cert).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|_| refused("the certificate is not PEM".to_owned()))?;
    let own = chain.first();
    let own = own.ok_or_else(|| refused("there is no certificate in the file".to_owned()))?;
    let validity = validity(own).ok_or_else(|| refused("it is no certificate".to_owned()))?;
    let key = PrivateKeyDer::from_pem_slice(&pair.key)
        .map_err(|_| refused("there is no private key in PEM in the file".to_owned()))?;
    let key = CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|error| refused(error.to_string()))?;
    Ok(Current { key: Arc::new(key), validity })
}

fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let time = |time: ASN1Time| {
        let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
        Timestamp::from_millis(seconds.saturating_mul(1000))
    };
    let validity = certificate.validity();
    Some(Validity { from: time(validity.not_before), until: time(validity.not_after) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_told_of_a_week_before_its_end_or_in_its_last_quarter() {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let fault = |lasts_days: u64, left_ms: i64| {
            let from = Timestamp::from_millis(1_000 * DAY_MS);
            let until = from.plus_millis(lasts_days * DAY_MS);
            let now = until.millis().checked_sub_signed(left_ms).unwrap();
            Validity { from, until }.fault(Timestamp::from_millis(now))
        };
        let day = i64::try_from(DAY_MS).unwrap();
        for (lasts_days, left_ms, said) in [
            (90, 7 * day, None),
            (90, 7 * day - 1, Some("expires soon")),
            (4, day, None),
            (4, day - 1, Some("expires soon")),
            (4, 1, Some("expires soon")),
            (4, 0, Some("has expired")),
            (4, -day, Some("has expired")),
        ] {
            let fault = fault(lasts_days, left_ms);
            let is_said = said.is_none_or(|said| fault.is_some_and(|it| it.starts_with(said)));
            assert!(
                is_said && said.is_some() == fault.is_some(),
                "{lasts_days} {left_ms} {fault:?}"
            );
        }
    }
}
