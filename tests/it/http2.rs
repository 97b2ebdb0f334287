//! HTTP/2: what it is spoken for, and what a client can pile up by it.

use crate::{
    metrics::{LISTEN, value_without_key},
    server::{MERCHANT_1_KEY, TestServer},
    tls::{Certificate, client, start},
    wait::eventually,
};
use h2::{
    Reason, SendStream,
    client::{Builder, ResponseFuture, SendRequest},
};
use rustls::version;
use serde_json::{Value, json};
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{net::TcpStream, runtime::Handle};

/// The most requests at once on one connection.
const AT_ONCE_MAX: usize = 128;

type Bytes = actix_web::web::Bytes;

/// A connection, which a thread of its own drives.
struct Connection {
    runtime: Handle,
    sender: SendRequest<Bytes>,
    driver: JoinHandle<Result<(), h2::Error>>,
    /// How many requests at once the server wants at most.
    announced: Arc<AtomicUsize>,
}

impl Connection {
    fn open(server: &TestServer, certificate: &Certificate, builder: &Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = client(&[certificate], &[&version::TLS13], &["h2", "http/1.1"]);
        let (sender, mut connection) = runtime.block_on(async {
            let stream = TcpStream::connect(server.address()).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(config);
            let stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            builder.handshake(stream).await.unwrap()
        });
        let announced: Arc<AtomicUsize> = Arc::default();
        let (told, handle) = (announced.clone(), runtime.handle().clone());
        let driver = thread::spawn(move || {
            runtime.block_on(poll_fn(move |cx| {
                let driven = Pin::new(&mut connection).poll(cx);
                told.store(connection.max_concurrent_send_streams(), Ordering::Relaxed);
                driven
            }))
        });
        Self { runtime: handle, sender, driver, announced }
    }

    /// Sends the head of a request, which has a body to come unless it `ends`.
    fn begin(
        &mut self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        ends: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("Authorization", format!("Bearer {MERCHANT_1_KEY}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        self.runtime.block_on(async {
            let mut sender = self.sender.clone().ready().await?;
            sender.send_request(request, ends)
        })
    }

    /// The answer's status and body.
    fn finish(&self, answer: ResponseFuture) -> Result<(u16, Vec<u8>), h2::Error> {
        self.runtime.block_on(async {
            let (head, mut body) = answer.await?.into_parts();
            let mut bytes = Vec::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk?;
                body.flow_control().release_capacity(chunk.len())?;
                bytes.extend_from_slice(&chunk);
            }
            Ok((head.status.as_u16(), bytes))
        })
    }

    fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<(u16, Vec<u8>), h2::Error> {
        let (answer, _) = self.begin(("GET", path), headers, true)?;
        self.finish(answer)
    }

    fn charge(&mut self, key: &str, body: &Value) -> (ResponseFuture, SendStream<Bytes>) {
        let post = ("POST", "/api/payments");
        let (answer, mut sending) = self.begin(post, &[("Idempotency-Key", key)], false).unwrap();
        sending.send_data(body.to_string().into(), true).unwrap();
        (answer, sending)
    }
}

#[test]
fn http_2_is_spoken_to_whoever_asks_for_it() {
    let certificate = Certificate::new();
    let (server, _folder) = start(&certificate, &[]);
    let mut connection = Connection::open(&server, &certificate, &Builder::new());
    let body = json!({"amount": 100, "currency": "USD"});
    for number in 0..20 {
        let (answer, _) = connection.charge(&format!("order_{number}"), &body);
        assert_eq!(connection.finish(answer).unwrap().0, 201, "order_{number}");
    }
    let (status, page) = connection.get("/api/openapi.json", &[]).unwrap();
    assert_eq!(status, 200);
    let page: Value = serde_json::from_slice(&page).unwrap();
    assert_eq!(page["openapi"], "3.1.0", "a long answer comes whole");
    let (status, body) = connection
        .begin(("HEAD", "/health"), &[], true)
        .map(|(answer, _)| connection.finish(answer).unwrap())
        .unwrap();
    assert_eq!((status, body.len()), (405, 0));
}

#[test]
fn a_head_that_is_too_large_is_a_problem_and_one_beyond_measure_is_not_read() {
    let certificate = Certificate::new();
    let (server, _folder) = start(&certificate, &[]);
    let mut connection = Connection::open(&server, &certificate, &Builder::new());
    let large = "h".repeat(20_000);
    let (status, problem) = connection.get("/health", &[("x-large", &large)]).unwrap();
    assert_eq!(status, 431);
    assert!(String::from_utf8(problem).unwrap().contains("headers_too_large"));
    let larger = "h".repeat(100_000);
    let refused = connection.get("/health", &[("x-large", &larger)]);
    assert!(refused.map_or(true, |(status, _)| status == 431));
    let mut another = Connection::open(&server, &certificate, &Builder::new());
    assert_eq!(another.get("/health", &[]).unwrap().0, 200);
}

#[test]
fn a_client_that_reads_no_answers_is_held_to_so_many_at_once() {
    let certificate = Certificate::new();
    let (server, _folder) = start(&certificate, &[]);
    // No room for any answer, and the server has to say by itself how many there may be.
    let mut builder = Builder::new();
    builder.initial_window_size(0).initial_max_send_streams(1);
    let mut connection = Connection::open(&server, &certificate, &builder);
    eventually("the server says how many", || {
        (connection.announced.load(Ordering::Relaxed) == AT_ONCE_MAX).then_some(())
    });
    // Others go on.
    let mut another = Connection::open(&server, &certificate, &Builder::new());
    let unread: Vec<_> = (0..AT_ONCE_MAX)
        .map(|_| connection.begin(("GET", "/docs"), &[], true).unwrap().0)
        .collect();
    assert_eq!(another.get("/health", &[]).unwrap().0, 200);
    drop(unread);
}

#[test]
fn requests_that_a_client_gives_up_at_once_count_for_as_long_as_they_are_worked_on() {
    let certificate = Certificate::new();
    let settings = [LISTEN, ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "60000")];
    let (server, _folder) = start(&certificate, &settings);
    let mut connection = Connection::open(&server, &certificate, &Builder::new());
    let body = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_timeout"});
    let in_flight = || value_without_key(&server, "strongroom_commands_in_flight");
    for number in 0..AT_ONCE_MAX {
        let (answer, mut sending) = connection.charge(&format!("order_{number}"), &body);
        let begun = f64::from(u32::try_from(number + 1).unwrap());
        eventually("it is worked on", || (in_flight() == begun).then_some(()));
        sending.send_reset(Reason::CANCEL);
        drop(answer);
    }
    let refused = connection.get("/health", &[]).unwrap_err();
    assert_eq!(refused.reason(), Some(Reason::REFUSED_STREAM));
    let mut another = Connection::open(&server, &certificate, &Builder::new());
    assert_eq!(another.get("/health", &[]).unwrap().0, 200);
}

#[test]
fn a_body_that_trickles_in_is_cut_off_and_those_beside_it_are_answered() {
    let certificate = Certificate::new();
    let (server, _folder) =
        start(&certificate, &[("STRONGROOM__HTTP__BODY_READ_TIMEOUT_MS", "300")]);
    let mut connection = Connection::open(&server, &certificate, &Builder::new());
    let post = ("POST", "/api/payments");
    let (mut answer, mut sending) =
        connection.begin(post, &[("Idempotency-Key", "slow")], false).unwrap();
    let status = eventually("it is cut off", || {
        drop(sending.send_data(" ".into(), false));
        let (status, _) = connection.get("/api/payments", &[]).unwrap();
        assert_eq!(status, 200);
        let moment = Duration::from_millis(1);
        let answered = connection
            .runtime
            .block_on(async { tokio::time::timeout(moment, &mut answer).await.ok() });
        answered.map(|answer| answer.unwrap().status().as_u16())
    });
    assert_eq!(status, 408);
}

#[test]
fn who_is_connected_is_told_to_go_elsewhere_when_the_server_drains_and_is_answered_first() {
    let certificate = Certificate::new();
    let settings = [
        ("STRONGROOM__HTTP__DRAIN_GRACE", "1h"),
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "4000"),
    ];
    let (mut server, _folder) = start(&certificate, &settings);
    let mut idle = Connection::open(&server, &certificate, &Builder::new());
    let mut busy = Connection::open(&server, &certificate, &Builder::new());
    assert_eq!(idle.get("/health", &[]).unwrap().0, 200);
    let mut opened = Connection::open(&server, &certificate, &Builder::new());
    let body = json!({"amount": 100, "currency": "USD", "paymentMethod": "tok_timeout"});
    let (answer, _) = busy.charge("order", &body);
    eventually("it is worked on", || {
        let (_, found) = opened.get("/api/idempotency/order", &[]).unwrap();
        String::from_utf8(found).unwrap().contains("in_progress").then_some(())
    });
    server.ask_to_stop();
    drop(idle.driver.join().unwrap());
    assert_eq!(busy.finish(answer).unwrap().0, 202);
    drop(busy.driver.join().unwrap());
    // The second one ends the grace.
    assert!(server.terminate().success());
}
