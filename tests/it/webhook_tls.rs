//! Webhooks over TLS: to whom the machine trusts, under the name that was asked for, and to nobody else.

use crate::{
    receiver::{Got, Receiver, read_request},
    server::TestServer,
};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
};

/// A receiver with a certificate of its own making for `localhost`.
struct Secure {
    address: SocketAddr,
    /// What came, with the name that the connection asked for.
    got: mpsc::Receiver<(Option<String>, Got)>,
    certificate: String,
}

impl Secure {
    fn start() -> Self {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(own.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::channel();
        let config = Arc::new(config);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (config, sender) = (config.clone(), sender.clone());
                // A client that does not trust the certificate goes away.
                thread::spawn(move || serve(connection.unwrap(), config, &sender).ok());
            }
        });
        Self { address, got, certificate: own.cert.pem() }
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/hook", self.address.port())
    }
}

fn serve(
    connection: TcpStream,
    config: Arc<ServerConfig>,
    sender: &mpsc::Sender<(Option<String>, Got)>,
) -> std::io::Result<()> {
    let tls = ServerConnection::new(config).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(tls, connection));
    while let Some(got) = read_request(&mut stream)? {
        let name = stream.get_ref().conn.server_name().map(str::to_owned);
        sender.send((name, got)).unwrap();
        stream.get_mut().write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
        stream.get_mut().flush()?;
    }
    Ok(())
}

/// What a test of an endpoint at this URL says.
#[track_caller]
fn try_out(server: &TestServer, url: &str) -> Value {
    let made = server.post("/api/webhook-endpoints", "", &json!({"url": url})).of(201);
    let path = format!("/api/webhook-endpoints/{}/test", made.id());
    server.post(&path, "", &json!({})).of(200).json
}

#[test]
fn a_trusted_endpoint_is_reached_over_tls_under_its_own_name() {
    let receiver = Secure::start();
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("authority.pem");
    fs::write(&trusted, &receiver.certificate).unwrap();
    let server = TestServer::start_with(&[("SSL_CERT_FILE", trusted.to_str().unwrap())]);
    let told = try_out(&server, &receiver.url("localhost"));
    assert_eq!((&told["delivered"], &told["statusCode"]), (&json!(true), &json!(204)), "{told}");
    let (name, got) = receiver.got.recv().unwrap();
    assert_eq!(name.as_deref(), Some("localhost"));
    assert_eq!(got.header("host"), format!("localhost:{}", receiver.address.port()));
    // The certificate is another name's.
    let told = try_out(&server, &receiver.url("127.0.0.1"));
    assert_eq!((&told["delivered"], &told["error"]), (&json!(false), &json!("tls_failed")));
}

#[test]
fn nothing_is_sent_to_whom_nobody_vouches_for_or_who_speaks_no_tls() {
    let (receiver, plain) = (Secure::start(), Receiver::start());
    let server = TestServer::start();
    let told = try_out(&server, &receiver.url("localhost"));
    assert_eq!((&told["delivered"], &told["error"]), (&json!(false), &json!("tls_failed")));
    assert!(receiver.got.try_recv().is_err());
    let told = try_out(&server, &plain.url().replace("http:", "https:"));
    // It closes before or in the middle of the handshake.
    let failed = ["tls_failed", "connection_failed"].map(|error| json!(error));
    assert!(told["delivered"] == false && failed.contains(&told["error"]), "{told}");
    assert_eq!(plain.count(), 0);
}
