//! A merchant's web server that gets webhooks, and can misbehave in every way that is known.

use crate::wait::eventually;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What the receiver does with a request that it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// Answers with this status and these header lines.
    Answer(u16, &'static str),
    /// Answers 200 after this long.
    Slow(Duration),
    /// Never answers, but keeps the connection.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes the connection without a word.
    CloseEarly,
    /// Announces a body and closes before it came.
    CutOff,
    /// Answers what is no HTTP.
    Garbage,
    /// Answers with a body that does not end.
    Endless,
    /// Answers with a body that comes a byte at a time and does not end.
    Dawdle,
    /// Answers by the payment's amount: 500 for this one, 200 for all others.
    FailAmount(i64),
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Got {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn kind(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    pub fn payment(&self) -> String {
        self.json()["data"]["id"].as_str().unwrap().to_owned()
    }

    pub fn sequence(&self) -> u64 {
        self.json()["sequence"].as_u64().unwrap()
    }

    /// Seconds since 1970 that the signature is of.
    pub fn timestamp(&self) -> u64 {
        self.header("webhook-timestamp").parse().unwrap()
    }

    /// As the official library sees it.
    pub fn verify(&self, secret: &str) -> Result<(), standardwebhooks::WebhookError> {
        let mut headers = ureq::http::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, self.header(name).parse().unwrap());
        }
        standardwebhooks::Webhook::new(secret).unwrap().verify(&self.body, &headers)
    }
}

/// The receiver. It serves until the test ends.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    conduct: Mutex<Conduct>,
    got: Mutex<Vec<Got>>,
    open: AtomicUsize,
}

impl Receiver {
    pub fn start() -> Self {
        Self::start_with(Conduct::Answer(200, ""))
    }

    pub fn start_with(conduct: Conduct) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            conduct: Mutex::new(conduct),
            got: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (connection, shared) = (connection.unwrap(), serving.clone());
                thread::spawn(move || {
                    shared.open.fetch_add(1, Ordering::SeqCst);
                    // However it ends, the next connection is served.
                    drop(shared.serve(&connection));
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves like this from the next request on.
    pub fn conduct(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
    }

    /// Everything that came so far.
    pub fn got(&self) -> Vec<Got> {
        self.shared.got.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.got.lock().unwrap().len()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Waits until so many requests came.
    #[track_caller]
    pub fn wait_for(&self, count: usize) -> Vec<Got> {
        eventually(&format!("{count} webhooks"), || {
            let got = self.got();
            (got.len() >= count).then_some(got)
        })
    }
}

impl Shared {
    fn serve(&self, connection: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut out = connection;
        while let Some(got) = read_request(&mut reader)? {
            let json: Value = serde_json::from_slice(&got.body).unwrap_or_default();
            let amount = json["data"]["amount"].as_i64();
            // Before the request is shown: a test that sees it may change the conduct.
            let conduct = self.conduct.lock().unwrap().clone();
            self.got.lock().unwrap().push(got);
            match conduct {
                Conduct::Answer(status, headers) => answer(out, status, headers)?,
                Conduct::Slow(pause) => {
                    thread::sleep(pause);
                    answer(out, 200, "")?;
                }
                Conduct::Hang => {
                    // Until the other side gives up.
                    let mut rest = Vec::new();
                    reader.read_to_end(&mut rest)?;
                    return Ok(());
                }
                Conduct::Reset => {
                    rustix::net::sockopt::set_socket_linger(connection, Some(Duration::ZERO))?;
                    return Ok(());
                }
                Conduct::CloseEarly => return Ok(()),
                Conduct::CutOff => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")?;
                    return Ok(());
                }
                Conduct::Garbage => {
                    out.write_all(b"220 mail.example ESMTP ready\r\n\r\n")?;
                    return Ok(());
                }
                Conduct::Endless => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    loop {
                        out.write_all(b"1000\r\n")?;
                        out.write_all(&[b'x'; 0x1000])?;
                        out.write_all(b"\r\n")?;
                    }
                }
                Conduct::Dawdle => {
                    out.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    loop {
                        out.write_all(b"1\r\nx\r\n")?;
                        thread::sleep(Duration::from_millis(50));
                    }
                }
                Conduct::FailAmount(bad) => {
                    answer(out, if amount == Some(bad) { 500 } else { 200 }, "")?;
                }
            }
        }
        Ok(())
    }
}

fn answer(mut out: &TcpStream, status: u16, headers: &str) -> std::io::Result<()> {
    let body = if status == 204 { "" } else { "ok" };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    out.write_all(head.as_bytes())
}

/// The next request of a connection; `None` at its end.
pub fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Got>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Got { path, headers, body }))
}

/// Seconds since 1970.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
