//! The operator's pager: takes each connection's one message, keeps it, and answers as it was told to.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};
use ureq::http::{HeaderMap, HeaderName, HeaderValue};

const DEADLINE: Duration = Duration::from_secs(30);

pub struct Pager {
    address: SocketAddr,
    messages: mpsc::Receiver<Message>,
}

/// One request.
pub struct Message {
    /// Its first line.
    pub request: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Pager {
    /// Answers with these statuses in turn, then with the last of them for ever.
    pub fn start(statuses: &'static [u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (keep, messages) = mpsc::channel();
        let last = statuses.last().copied().unwrap();
        let statuses = statuses.iter().copied().chain(std::iter::repeat(last));
        thread::spawn(move || {
            for (stream, status) in listener.incoming().zip(statuses) {
                if keep.send(take(stream.unwrap(), status)).is_err() {
                    return;
                }
            }
        });
        Self { address, messages }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next message, which must come.
    #[track_caller]
    pub fn next(&self) -> Message {
        self.messages.recv_timeout(DEADLINE).expect("a message")
    }
}

fn take(stream: TcpStream, status: u16) -> Message {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let request = line();
    let mut headers = HeaderMap::new();
    loop {
        let line = line();
        let Some((name, value)) = line.split_once(": ") else { break };
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let length = headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.into_inner().write_all(answer.as_bytes()).unwrap();
    Message { request, headers, body }
}
