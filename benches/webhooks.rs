//! Deliveries per second to healthy receivers on loopback, and what 100 dead or hanging endpoints among 1,000 do to the
//! others: `cargo bench --bench webhooks`. It runs the real server; receivers share the machine with it.

#![allow(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::float_arithmetic,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a measurement fails by panicking and tells its figures on stdout"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use strongroom::domain::time::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpStream;
use ureq::Agent;

const KEY: &str = "Bearer sk_test_merchant_1";

fn main() {
    for (endpoints, charges) in [(1, 20_000), (10, 4_000), (100, 400)] {
        throughput(endpoints, charges);
    }
    let healthy = mixed(900, 0);
    let mixed = mixed(1_000, 100);
    println!("the 99th percentile is {:.2} times that without them", mixed / healthy.max(1.0));
}

/// As fast as the charges and the receivers allow.
fn throughput(endpoints: usize, charges: usize) {
    let server = Server::start();
    let receiver = Receiver::start(false);
    (0..endpoints).for_each(|number| server.endpoint(&receiver.url(number)));
    let began = Instant::now();
    let clients = 4;
    thread::scope(|scope| {
        for client in 0..clients {
            let server = &server;
            scope.spawn(move || (0..charges / clients).for_each(|_| server.charge(client)));
        }
    });
    let charged = began.elapsed();
    receiver.wait_for(endpoints * charges);
    let took = began.elapsed().as_secs_f64();
    println!(
        "{endpoints} endpoints, {charges} charges in {:.2} s: {} deliveries in {took:.2} s, {:.0} per second, {} MB resident",
        charged.as_secs_f64(),
        endpoints * charges,
        (endpoints * charges) as f64 / took,
        server.resident_mb()
    );
}

/// So many endpoints get 100 events each, at a pace; `bad` of them are dead or hang. Returns the healthy ones' 99th
/// percentile in milliseconds.
fn mixed(endpoints: usize, bad: usize) -> f64 {
    const EVENTS: usize = 100;
    let server = Server::start();
    let (receiver, hanging) = (Receiver::start(false), Receiver::start(true));
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for number in 0..endpoints {
        match number {
            _ if number >= bad => server.endpoint(&receiver.url(number)),
            _ if number.is_multiple_of(2) => server.endpoint(&hanging.url(number)),
            _ => server.endpoint(&format!("http://{dead}/{number}")),
        }
    }
    let pause = Duration::from_millis(300);
    for _ in 0..EVENTS {
        server.charge(0);
        thread::sleep(pause);
    }
    receiver.wait_for((endpoints - bad) * EVENTS);
    let mut latencies = receiver.latencies_ms();
    latencies.sort_unstable();
    let percentile = |share: usize| latencies[latencies.len() * share / 1000 - 1];
    println!(
        "{endpoints} endpoints, {bad} bad, {} deliveries at {:.0} per second: p50 {} ms, p99 {} ms, p99.9 {} ms, {} MB resident",
        latencies.len(),
        (endpoints - bad) as f64 / pause.as_secs_f64(),
        percentile(500),
        percentile(990),
        percentile(999),
        server.resident_mb()
    );
    percentile(990) as f64
}

struct Server {
    process: Child,
    url: String,
    agent: Agent,
    _folder: TempDir,
    keys: std::sync::atomic::AtomicUsize,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_strongroom"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data", "data"])
            .current_dir(folder.path())
            .env("STRONGROOM__WEBHOOKS__ENDPOINTS_PER_MERCHANT", "1000")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = |line: String| line.strip_prefix("listening on ").map(str::to_owned);
        let url = lines.map_while(Result::ok).find_map(said).expect("the server starts");
        let agent = Agent::config_builder().proxy(None).build().into();
        Self { process, url, agent, _folder: folder, keys: Default::default() }
    }

    fn post(&self, path: &str, key: &str, body: &str) {
        let request = self.agent.post(format!("{}{path}", self.url));
        let request = request.header("Authorization", KEY).header("Idempotency-Key", key);
        request.send(body).unwrap().into_body().read_to_vec().unwrap();
    }

    fn endpoint(&self, url: &str) {
        self.post("/api/webhook-endpoints", "k", &format!(r#"{{"url": "{url}"}}"#));
    }

    fn charge(&self, client: usize) {
        let number = self.keys.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let body = r#"{"amount": 4999, "currency": "USD", "description": "Order #12345"}"#;
        self.post("/api/payments", &format!("{client}-{number}"), body);
    }

    fn resident_mb(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// A receiver with a thread of its own: answers 204 at once, or never.
struct Receiver {
    address: SocketAddr,
    latencies: Arc<Mutex<Vec<u32>>>,
}

impl Receiver {
    fn start(hangs: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let latencies: Arc<Mutex<Vec<u32>>> = Arc::default();
        let noted = latencies.clone();
        thread::spawn(move || {
            actix_rt::System::new().block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (connection, _) = listener.accept().await.unwrap();
                    actix_rt::spawn(serve(connection, noted.clone(), hangs));
                }
            });
        });
        Self { address, latencies }
    }

    fn url(&self, number: usize) -> String {
        format!("http://{}/{number}", self.address)
    }

    fn wait_for(&self, count: usize) {
        while self.latencies.lock().unwrap().len() < count {
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn latencies_ms(&self) -> Vec<u32> {
        self.latencies.lock().unwrap().clone()
    }
}

async fn serve(connection: TcpStream, latencies: Arc<Mutex<Vec<u32>>>, hangs: bool) {
    let mut buffer: Vec<u8> = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        connection.readable().await.unwrap();
        match connection.try_read(&mut chunk) {
            Ok(0) => return,
            Ok(read) => buffer.extend(&chunk[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        let text = std::str::from_utf8(&buffer).unwrap();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() < length.parse::<usize>().unwrap() || hangs {
            continue;
        }
        let at = body.split("\"timestamp\":\"").nth(1).unwrap().split('"').next().unwrap();
        let at = Timestamp::parse(at).unwrap().millis();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        latencies.lock().unwrap().push(now.saturating_sub(at) as u32);
        buffer.clear();
        if connection.try_write(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}
