//! The server's own TLS: HTTPS, HTTP/2, a certificate that is replaced while requests are made, and no plain HTTP where
//! others could read it.

use crate::{
    metrics::{LISTEN, value_without_key},
    server::{Folder, MERCHANT_1_KEY, TestServer, check_refusal},
    wait::{Stopping, eventually},
};
use jiff::{ToSpan, Zoned};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    client::Resumption, pki_types::CertificateDer, version,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::UNIX_EPOCH,
};

const PATH: &str = "/api/payments";

/// A certificate for `localhost` of its own making.
pub struct Certificate {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    pub fn new() -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let (cert, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        Self { cert, key, der: own.cert.der().clone() }
    }

    /// One that holds from so many days ago, for so many.
    fn lasting((began_days_ago, days): (i64, i64)) -> Self {
        let date = |days_from_now: i64| {
            let date = Zoned::now().date().checked_add(days_from_now.days()).unwrap();
            let part = |part: i8| u8::try_from(part).unwrap();
            rcgen::date_time_ymd(date.year().into(), part(date.month()), part(date.day()))
        };
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = date(-began_days_ago);
        params.not_after = date(days - began_days_ago);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        Self { cert: own.pem(), key: key.serialize_pem(), der: own.der().clone() }
    }

    fn write(&self, folder: &Path) {
        fs::write(folder.join("cert.pem"), &self.cert).unwrap();
        fs::write(folder.join("key.pem"), &self.key).unwrap();
    }
}

/// A server with this certificate, and the folder that it is read from.
pub fn start(
    certificate: &Certificate,
    settings: &[(&str, &str)],
) -> (TestServer, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    certificate.write(folder.path());
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let files = [("STRONGROOM__HTTP__TLS_CERT", &*cert), ("STRONGROOM__HTTP__TLS_KEY", &*key)];
    let server = TestServer::start_with(&[&files, settings].concat());
    (server, folder)
}

/// What a client trusts and speaks.
pub fn client(
    trusted: &[&Certificate],
    versions: &[&'static SupportedProtocolVersion],
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    trusted.iter().for_each(|certificate| roots.add(certificate.der.clone()).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// Asks for the payments on a connection of its own. Returns the answer, and the certificate that was shown.
fn ask(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(String, CertificateDer<'static>)> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {MERCHANT_1_KEY}\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let shown = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((answer, shown))
}

#[test]
fn https_is_spoken_from_tls_1_2_on_and_nothing_else() {
    let certificate = Certificate::new();
    let (server, _folder) = start(&certificate, &[]);
    assert!(server.announced().contains("listening on https://"), "{}", server.announced());
    for version in [&version::TLS13, &version::TLS12] {
        let config = client(&[&certificate], &[version], &["http/1.1"]);
        let (answer, _) = ask(server.address(), &config).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(answer.ends_with(r#"{"data":[],"next":null}"#), "{answer}");
    }
    let stranger = client(&[&Certificate::new()], &[&version::TLS13], &["http/1.1"]);
    assert!(ask(server.address(), &stranger).is_err());
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    drop(plain.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP"), "no plain HTTP is spoken");
}

#[test]
fn a_certificate_is_replaced_under_load_without_a_failed_request() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let (server, folder) = start(&old, &[]);
    let config = client(&[&old, &new], &[&version::TLS13], &["http/1.1"]);
    let (over, failed) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match ask(server.address(), &config) {
                        Ok((answer, _)) if answer.starts_with("HTTP/1.1 200") => {}
                        other => failed.lock().unwrap().push(format!("{other:?}")),
                    }
                }
            });
        }
        let _stopping = Stopping(&over);
        new.write(folder.path());
        eventually("the new certificate is shown", || {
            let (_, shown) = ask(server.address(), &config).unwrap();
            (shown == new.der).then_some(())
        });
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn a_new_certificate_that_cannot_be_used_is_passed_over_and_raised() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let (server, folder) = start(&old, &[]);
    // The key of another one.
    fs::write(folder.path().join("cert.pem"), &new.cert).unwrap();
    let config = client(&[&old, &new], &[&version::TLS13], &["http/1.1"]);
    server.says("tls.certificate_unusable");
    assert_eq!(ask(server.address(), &config).unwrap().1, old.der);
    fs::remove_file(folder.path().join("cert.pem")).unwrap();
    assert_eq!(ask(server.address(), &config).unwrap().1, old.der);
    new.write(folder.path());
    eventually("the good one is in use", || {
        (ask(server.address(), &config).unwrap().1 == new.der).then_some(())
    });
    server.says("the alarm is over");
}

#[test]
fn a_certificate_that_expires_soon_or_has_is_raised_and_shown_until_it_is_replaced() {
    let soon = Certificate::lasting((88, 90));
    let (server, folder) = start(&soon, &[LISTEN]);
    let left_s = || {
        let until =
            value_without_key(&server, "strongroom_tls_certificate_expires_timestamp_seconds");
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        until - now
    };
    let day_s = 24.0 * 3600.0;
    assert!(left_s() > 0.5 * day_s && left_s() < 3.0 * day_s, "{}", left_s());
    let alarm = || value_without_key(&server, "strongroom_alarm{code=\"tls.certificate_expires\"}");
    eventually("it is raised", || (alarm() == 1.0).then_some(()));
    server.says("the certificate in http.tls_cert expires soon");
    Certificate::lasting((100, 90)).write(folder.path());
    server.says("the certificate in http.tls_cert has expired");
    assert!(left_s() < 0.0);
    Certificate::lasting((1, 90)).write(folder.path());
    eventually("it is over", || (alarm() == 0.0).then_some(()));
    assert!(left_s() > 80.0 * day_s);
}

#[test]
fn connections_that_speak_no_tls_are_counted() {
    let certificate = Certificate::new();
    let (server, _folder) = start(&certificate, &[LISTEN]);
    let mut plain = TcpStream::connect(server.address()).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    drop(plain.read_to_end(&mut Vec::new()));
    let ended = "strongroom_http_connections_ended_total{reason=\"no_tls\"}";
    eventually("it is counted", || (value_without_key(&server, ended) == 1.0).then_some(()));
}

#[test]
fn plain_http_beyond_loopback_and_a_certificate_that_is_none_stop_the_start() {
    let folder = Folder::new();
    let keys = "merchants = []\nadmins = []\n";
    fs::write(folder.path("strongroom.toml"), keys).unwrap();
    let refused = folder.run([], ["--listen", "0.0.0.0:0"]);
    check_refusal(&refused, 2, &["plain HTTP", "http.insecure"]);
    fs::write(folder.path("cert.pem"), "no certificate").unwrap();
    for (cert, said_of) in [("cert.pem", "http.tls_cert"), ("missing.pem", "missing.pem")] {
        let files =
            [("STRONGROOM__HTTP__TLS_CERT", cert), ("STRONGROOM__HTTP__TLS_KEY", "cert.pem")];
        let refused = folder.run(files, ["--listen", "127.0.0.1:0"]);
        check_refusal(&refused, 2, &[said_of]);
    }
    assert!(!folder.path("data").exists(), "nothing was touched");
}
