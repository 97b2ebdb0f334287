//! Whom this machine trusts: the one configuration of TLS for everything that calls others.
//!
//! Webhooks, alerts, providers and traces use it. It knows nothing of whom they call.

use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, LazyLock};

/// TLS for calls to others, with trust in whom this machine trusts: read when it is first asked for.
#[must_use]
pub fn tls() -> Arc<ClientConfig> {
    static TLS: LazyLock<Arc<ClientConfig>> = LazyLock::new(load);
    TLS.clone()
}

fn load() -> Arc<ClientConfig> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (trusted, _) = roots.add_parsable_certificates(found.certs);
    if trusted == 0 {
        tracing::warn!(
            "no certificate authorities were found on this machine, so no provider, webhook or alert can be reached by \
             https: install the package ca-certificates"
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map(|versions| versions.with_root_certificates(roots));
    // The provider has every version that is asked for, so the other way is never gone.
    let roots_of_none = |_| ClientConfig::builder().with_root_certificates(RootCertStore::empty());
    let mut config = config.unwrap_or_else(roots_of_none).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
