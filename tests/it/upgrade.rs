//! An upgrade refuses no connection: the listening socket outlives the process, and requests wait in it for the next one.

use crate::{
    client::{Client, Response},
    server::{ADMIN_KEY, Folder, MERCHANT_1_KEY, Process, check_refusal},
    wait::{Stopping, at_once, eventually},
};
use rustix::net::{AddressFamily, SocketType};
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// Hands the socket on stdin over as descriptor 3.
const ON_STDIN: &str = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; \
                        exec \"$0\" serve --config strongroom.toml";

/// A supervisor as systemd is one: it has the socket, and starts servers on it.
struct Supervisor {
    folder: Folder,
    socket: TcpListener,
    settings: Vec<(&'static str, String)>,
    starts: AtomicUsize,
}

/// A server that was started on the socket.
struct Started {
    process: Process,
    /// Its own log, on disk.
    out: String,
}

impl Supervisor {
    fn new(settings: &[(&'static str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder: Folder::new(), socket, settings, starts: AtomicUsize::new(0) }
    }

    fn client(&self) -> Client {
        Client::new(&self.url(), MERCHANT_1_KEY)
    }

    fn url(&self) -> String {
        format!("http://{}", self.socket.local_addr().unwrap())
    }

    /// Starts a server, which has the socket as its descriptor 3.
    fn start(&self) -> Started {
        let out = format!("out_{}", self.starts.fetch_add(1, Ordering::Relaxed));
        let log = File::options().create(true).append(true).open(self.folder.path("log")).unwrap();
        let socket = OwnedFd::from(self.socket.try_clone().unwrap());
        let mut command = Command::new("sh");
        command
            .args(["-c", ON_STDIN, env!("CARGO_BIN_EXE_strongroom")])
            .current_dir(self.folder.path(""))
            .env_clear()
            .env("STRONGROOM__JOURNAL__SEGMENT_BYTES", "1048576")
            .env("STRONGROOM__JOURNAL__BATCH_BYTES_MAX", "262144")
            .envs(self.settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(socket))
            .stdout(File::create(self.folder.path(&out)).unwrap())
            .stderr(log);
        Started { process: Process::start(&mut command), out }
    }

    #[track_caller]
    fn wait_until_it_serves(&self, started: &Started) {
        eventually("it serves", || {
            let said = fs::read_to_string(self.folder.path(&started.out)).unwrap();
            said.contains("listening on ").then_some(())
        });
    }

    fn logs(&self) -> String {
        fs::read_to_string(self.folder.path("log")).unwrap()
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of the servers ---\n{}", self.logs());
        }
    }
}

impl Started {
    fn ask_to_stop(&self) {
        self.process.ask_to_stop();
    }

    #[track_caller]
    fn wait_for_exit(&mut self) -> ExitStatus {
        self.process.wait()
    }
}

/// What clients were told, by their keys.
#[derive(Default)]
struct Told {
    answers: Mutex<Vec<(String, Response)>>,
    enough: AtomicBool,
}

impl Told {
    fn count(&self) -> usize {
        self.answers.lock().unwrap().len()
    }

    /// Charges under ever new keys until it is enough. Each is sent once and must be done.
    fn charge(&self, client: &Client, number: usize) {
        for round in 0.. {
            if self.enough.load(Ordering::Acquire) {
                return;
            }
            let key = format!("order_{number}_{round}");
            let answer = client.charge(&key, 100).of(201);
            assert!(!answer.is_replay(), "{key} was done before");
            self.answers.lock().unwrap().push((key, answer));
        }
    }

    /// Waits until so many more were told.
    fn wait_for_more(&self, more: usize) {
        let before = self.count();
        eventually("clients are served", || (self.count() >= before + more).then_some(()));
    }
}

#[test]
fn five_upgrades_under_load_refuse_nobody_and_lose_and_double_nothing() {
    let supervisor = Supervisor::new(&[]);
    let mut running = supervisor.start();
    supervisor.wait_until_it_serves(&running);
    let told = Told::default();
    let upgrades = Mutex::new(&mut running);
    at_once(7, |number| match number {
        0 => {
            let _stopping = Stopping(&told.enough);
            let mut running = upgrades.lock().unwrap();
            for round in 0..5 {
                told.wait_for_more(50);
                // Half of the time the next one is there before the last one knows.
                let early = (round % 2 == 1).then(|| supervisor.start());
                running.ask_to_stop();
                let next = early.unwrap_or_else(|| {
                    assert!(running.wait_for_exit().success());
                    supervisor.start()
                });
                supervisor.wait_until_it_serves(&next);
                assert!(running.wait_for_exit().success());
                **running = next;
            }
            told.wait_for_more(50);
        }
        1..=3 => told.charge(&Client::keeping(&supervisor.url(), MERCHANT_1_KEY), number),
        _ => told.charge(&supervisor.client(), number),
    });
    let client = supervisor.client();
    let answers = told.answers.into_inner().unwrap();
    assert_eq!(client.all("/api/payments?limit=100").len(), answers.len());
    for (key, answer) in &answers {
        let again = client.charge(key, 100).of(201);
        assert!(again.is_replay(), "{key}");
        assert_eq!(again.body, answer.body);
    }
    Client::new(&supervisor.url(), ADMIN_KEY).reconciles();
}

#[test]
fn a_server_that_was_given_a_socket_waits_for_the_one_before_and_not_for_ever() {
    // What a stop may take, and 5 seconds.
    let supervisor = Supervisor::new(&[("STRONGROOM__HTTP__DRAIN_TIMEOUT_MS", "500")]);
    let running = supervisor.start();
    supervisor.wait_until_it_serves(&running);
    let mut next = supervisor.start();
    assert_eq!(next.wait_for_exit().code(), Some(5));
    assert!(supervisor.logs().contains("waiting for the process that holds the data folder"));
    supervisor.client().charge("order", 100).of(201);
}

#[test]
fn requests_that_come_while_the_books_are_recovered_wait_for_them() {
    let sign = Folder::new();
    let sign = sign.path("hang");
    let fault = format!("read-hangs-while:{}", sign.display());
    let supervisor = Supervisor::new(&[
        ("STRONGROOM_FAULT", &fault),
        ("STRONGROOM__HTTP__REQUEST_DEADLINE_MS", "60000"),
    ]);
    let mut running = supervisor.start();
    supervisor.wait_until_it_serves(&running);
    let client = supervisor.client();
    let before = client.charge("order", 100).of(201);
    running.process.kill();
    running.wait_for_exit();

    fs::write(&sign, "").unwrap();
    let next = supervisor.start();
    at_once(2, |number| match number {
        0 => assert_eq!(client.charge("order", 100).of(201).body, before.body),
        _ => {
            client.get("/health").of(200);
            client.get("/ready").problem(503, "not_serving");
            fs::remove_file(&sign).unwrap();
        }
    });
    supervisor.wait_until_it_serves(&next);
}

#[test]
fn a_server_that_is_asked_to_stop_while_it_recovers_stops_at_once() {
    let sign = Folder::new();
    let sign = sign.path("hang");
    let fault = format!("read-hangs-while:{}", sign.display());
    let supervisor = Supervisor::new(&[("STRONGROOM_FAULT", &fault)]);
    let mut running = supervisor.start();
    supervisor.wait_until_it_serves(&running);
    running.ask_to_stop();
    assert!(running.wait_for_exit().success());
    fs::write(&sign, "").unwrap();
    let mut next = supervisor.start();
    supervisor.client().get("/health").of(200);
    next.ask_to_stop();
    assert!(next.wait_for_exit().success());
    fs::remove_file(&sign).unwrap();
    let last = supervisor.start();
    supervisor.wait_until_it_serves(&last);
    supervisor.client().charge("order", 100).of(201);
}

#[test]
fn more_than_one_socket_and_one_that_is_none_are_wrong_configuration() {
    let folder = Folder::new();
    for (line, words) in [
        ("exec 3</dev/null 4</dev/null; export LISTEN_PID=$$ LISTEN_FDS=2", "2 sockets"),
        ("exec 3</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1", "no TCP socket"),
    ] {
        let output = Command::new("sh")
            .args(["-c", &format!("{line}; exec \"$0\" serve"), env!("CARGO_BIN_EXE_strongroom")])
            .current_dir(folder.path(""))
            .output()
            .unwrap();
        check_refusal(&output, 2, &[words]);
    }
    // Bound, and nobody listens: as it is with a socket of systemd that has Accept=yes, or none of it.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let output = Command::new("sh")
        .args(["-c", ON_STDIN, env!("CARGO_BIN_EXE_strongroom")])
        .current_dir(folder.path(""))
        .stdin(Stdio::from(socket))
        .output()
        .unwrap();
    check_refusal(&output, 2, &["no TCP socket that listens"]);
    assert!(!folder.path("data").exists(), "nothing was touched");
}

#[test]
fn a_supervisor_is_told_when_the_server_serves_and_when_it_stops() {
    let told = Folder::new();
    let place = told.path("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&place).unwrap();
    socket.set_nonblocking(true).unwrap();
    let supervisor = Supervisor::new(&[("NOTIFY_SOCKET", place.to_str().unwrap())]);
    let hears = |wanted: &str| {
        let mut heard = [0; 64];
        let length = eventually(wanted, || socket.recv(&mut heard).ok());
        assert_eq!(&heard[..length], wanted.as_bytes());
    };
    let mut running = supervisor.start();
    hears("READY=1");
    supervisor.client().charge("order", 100).of(201);
    running.ask_to_stop();
    hears("STOPPING=1");
    assert!(running.wait_for_exit().success());
}
