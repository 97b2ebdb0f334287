//! A real server: the program itself as a child process, on a free port, with a data folder of its own.
//!
//! It ends with the test that started it, whichever way the test ends.

pub use crate::home::{Folder, disk};
use crate::{
    client::Client,
    home::copy_durably,
    wait::{eventually, patience},
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

pub const MERCHANT_1_KEY: &str = "sk_test_merchant_1";
pub const MERCHANT_2_KEY: &str = "sk_test_merchant_2";
pub const ADMIN_KEY: &str = "ak_test_admin";

/// Two merchants, one admin: those of the shipped configuration and one merchant more.
pub const CONFIG: &str = r#"
[[merchants]]
id = "merchant_1"
keys = [{ name = "test", sha256 = "fe52edf6566f148eb4be7a4f888f61f2d9b00401b5b467a603ce3200d4b4e250" }]

[[merchants]]
id = "merchant_2"
keys = [{ name = "test", sha256 = "6bc2894e9de0b69fc9d585132179fb1a0e8a58d8c663411e839de8573b83edea" }]

[[admins]]
name = "test"
sha256 = "e2528cddbc34f1e0ab9b5a0d0630b7eab94890e843bda8b00583a3125e4e3cff"
"#;

/// Small files, so that a start is quick; and two workers, however few cores there are, so that what goes from one to the
/// other is tested.
pub const SETTINGS: [(&str, &str); 3] = [
    ("STRONGROOM__HTTP__WORKERS", "2"),
    ("STRONGROOM__JOURNAL__SEGMENT_BYTES", "1048576"),
    ("STRONGROOM__JOURNAL__BATCH_BYTES_MAX", "262144"),
];

/// How much of the log is shown when a test fails.
const LINES_SHOWN: usize = 500;

const LISTENING: &str = "listening on http://";
const LISTENING_TLS: &str = "listening on https://";

/// The server. Used as it is, it is merchant_1's client.
pub struct TestServer {
    folder: Folder,
    settings: Vec<(String, String)>,
    running: Option<Running>,
    client: Client,
}

struct Running {
    process: Process,
    address: SocketAddr,
    announced: Vec<String>,
}

impl TestServer {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with environment variables on top of the usual.
    #[track_caller]
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_configured("", settings)
    }

    /// Starts a server with more lines of configuration, and with environment variables on top of the usual.
    #[track_caller]
    pub fn start_configured(lines: &str, settings: &[(&str, &str)]) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let folder = Folder::new();
        fs::write(folder.path("strongroom.toml"), format!("{CONFIG}\n{lines}")).unwrap();
        let mut server = Self {
            folder,
            settings: settings.iter().map(owned).collect(),
            running: None,
            client: Client::new("", ""),
        };
        server.restart();
        server
    }

    /// A server that has not been started yet, on a copy of another one's data folder.
    pub fn on_copy_of(data: &Path, settings: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        copy_durably(data, &folder.data());
        Self {
            folder,
            settings: settings
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            running: None,
            client: Client::new("", ""),
        }
    }

    /// Starts the server again, on the same folder and with the same settings, but most likely another port.
    #[track_caller]
    pub fn restart(&mut self) {
        if let Err(status) = self.try_restart() {
            panic!("the server did not start, {status}:\n{}", self.logs());
        }
    }

    /// [`Self::restart`]; how the process ended if it did not start.
    pub fn try_restart(&mut self) -> Result<(), ExitStatus> {
        assert!(self.running.is_none(), "stop the server first");
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        let running = Running::try_start(&self.folder, settings, &[])?;
        self.client = Client::new(&format!("http://{}", running.address), MERCHANT_1_KEY);
        self.running = Some(running);
        Ok(())
    }

    /// Starts the server and kills it after a while, however far it has come.
    pub fn start_and_kill_after(&self, time: Duration) {
        assert!(self.running.is_none(), "stop the server first");
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        let mut command = self.folder.command(settings, ["--listen", "127.0.0.1:0"]);
        let process = Process::start(command.stdout(Stdio::null()).stderr(self.folder.log()));
        thread::sleep(time);
        drop(process);
        self.folder.cut_power();
    }

    /// Sets an environment variable from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.unset(name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// Leaves an environment variable out from the next start on.
    pub fn unset(&mut self, name: &str) {
        self.settings.retain(|(known, _)| known != name);
    }

    /// Puts more lines into merchant_1's part of the configuration, from the next start on, instead of those of an
    /// earlier call.
    pub fn configure_merchant_1(&self, lines: &str) {
        let own = "id = \"merchant_1\"\n";
        let text = CONFIG.replace(own, &format!("{own}{lines}\n"));
        fs::write(self.folder.path("strongroom.toml"), text).unwrap();
    }

    /// Kills the server (SIGKILL). On a disk that can do that, the power fails too.
    pub fn kill(&mut self) {
        self.running = None;
        self.folder.cut_power();
    }

    #[track_caller]
    fn pid(&self) -> Pid {
        Pid::from_child(&self.running.as_ref().expect("a running server").process.0)
    }

    /// Asks the server to stop (SIGTERM).
    #[track_caller]
    pub fn ask_to_stop(&self) {
        self.running.as_ref().expect("a running server").process.ask_to_stop();
    }

    /// Has the server stand still (SIGSTOP) until [`Self::go_on`].
    #[track_caller]
    pub fn stand_still(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    #[track_caller]
    pub fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// What the system says of the process: the file of this name in its folder of `/proc`.
    #[track_caller]
    pub fn system_says(&self, what: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{what}", self.pid())).unwrap()
    }

    /// From now on the server's memory grows by so many bytes at most.
    #[track_caller]
    pub fn limit_memory(&self, more_bytes: u64) {
        let pages = self.system_says("statm");
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let bytes = pages * u64::try_from(rustix::param::page_size()).unwrap() + more_bytes;
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(Some(self.pid()), Resource::As, limit).unwrap();
    }

    /// How it ended, if it has.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut().expect("a running server").process.0.try_wait().unwrap()
    }

    /// Waits until the server has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let running = self.running.as_mut().expect("a running server");
        let status = running.process.wait();
        self.running = None;
        status
    }

    /// Stops the server as its operator does.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait_for_exit()
    }

    /// The client of the holder of another API key.
    pub fn client(&self, api_key: &str) -> Client {
        Client::new(&format!("http://{}", self.address()), api_key)
    }

    pub fn admin(&self) -> Client {
        self.client(ADMIN_KEY)
    }

    pub fn merchant_2(&self) -> Client {
        self.client(MERCHANT_2_KEY)
    }

    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().expect("a running server").address
    }

    /// What the server said on stdout when it started.
    #[track_caller]
    pub fn announced(&self) -> String {
        let running = self.running.as_ref().expect("a running server");
        running.announced.join("\n")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.data()
    }

    /// Every line of the log so far, of all starts.
    pub fn logs(&self) -> String {
        fs::read_to_string(self.folder.path("log")).unwrap()
    }

    /// Waits until its log has these words: it is written behind the answers.
    #[track_caller]
    pub fn says(&self, words: &str) {
        let is_said = || self.logs().contains(words).then_some(());
        eventually(&format!("the log says: {words}"), is_said);
    }

    /// Starts a second process on this server's data folder, which must end by itself.
    #[track_caller]
    pub fn start_second(&self) -> Output {
        self.folder.run([], ["--listen", "127.0.0.1:0"])
    }

    /// Starts a further server in the same place, with more arguments, which ends with the value.
    #[track_caller]
    pub fn beside(&self, arguments: &[&str]) -> Beside {
        let settings = self.settings.iter();
        let settings = settings.map(|(name, value)| (name.as_str(), value.as_str()));
        Beside(Running::start(&self.folder, settings, arguments))
    }

    /// A path in the folder that the program runs in.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// The program with these arguments and nothing else, where the server lives.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = self.folder.program();
        command.args(arguments);
        command
    }

    /// Runs another command of the program on this server's data folder.
    #[track_caller]
    pub fn tell(&self, arguments: &[&str]) -> Output {
        self.tell_into(arguments, Stdio::piped())
    }

    /// `strongroom verify` finds every hash, link and rule of what is on disk as it must be.
    #[track_caller]
    pub fn verifies(&self) {
        let verified = self.tell(&["verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    }

    /// [`Self::tell`], with somewhere else for what it prints.
    #[track_caller]
    pub fn tell_into(&self, arguments: &[&str], out: impl Into<Stdio>) -> Output {
        let mut command = self.folder.program();
        let data = self.folder.data_as_named();
        command.args(arguments).arg("--data").arg(data).stdout(out).stderr(Stdio::piped());
        command.spawn().unwrap().wait_with_output().unwrap()
    }
}

impl Deref for TestServer {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.logs();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(LINES_SHOWN);
            eprintln!("--- end of the server's log ---\n{}", lines[last..].join("\n"));
        }
    }
}

/// A server beside another one.
pub struct Beside(Running);

impl Beside {
    /// The client of the holder of an API key.
    pub fn client(&self, api_key: &str) -> Client {
        Client::new(&format!("http://{}", self.0.address), api_key)
    }

    /// What it said on stdout when it started.
    pub fn announced(&self) -> String {
        self.0.announced.join("\n")
    }
}

impl Running {
    #[track_caller]
    fn start<'a>(
        folder: &Folder,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        arguments: &[&str],
    ) -> Self {
        Self::try_start(folder, settings, arguments).unwrap_or_else(|status| {
            let log = fs::read_to_string(folder.path("log")).unwrap();
            panic!("the server did not start, {status}:\n{log}")
        })
    }

    /// Starts one; how the process ended if it did before it listened.
    fn try_start<'a>(
        folder: &Folder,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        arguments: &[&str],
    ) -> Result<Self, ExitStatus> {
        let mut command = folder.command(settings, ["--listen", "127.0.0.1:0"]);
        command.args(arguments);
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(folder.log()));
        let lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let (sender, said) = mpsc::channel();
        // Reads to the child's end, so that it never writes to a closed pipe.
        thread::spawn(move || {
            let said = lines.map_while(Result::ok);
            said.map(|line| sender.send(line)).take_while(Result::is_ok).for_each(drop);
        });
        let mut announced = Vec::new();
        while let Ok(line) = said.recv_timeout(patience()) {
            let address = line.strip_prefix(LISTENING).or_else(|| line.strip_prefix(LISTENING_TLS));
            let address = address.map(str::parse);
            announced.push(line);
            if let Some(address) = address {
                return Ok(Self { process, address: address.unwrap(), announced });
            }
        }
        Err(process.wait())
    }
}

/// A `strongroom listen` of a developer.
pub struct Listener {
    _process: Process,
    _folder: Folder,
    url: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    #[track_caller]
    pub fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new();
        let mut command = folder.program();
        let mut process = Process::start(
            command.args(["listen", "--port", "0"]).args(arguments).stdout(Stdio::piped()),
        );
        let said = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let lines: Arc<Mutex<Vec<String>>> = Arc::default();
        let printed = lines.clone();
        thread::spawn(move || {
            said.map_while(Result::ok).for_each(|line| printed.lock().unwrap().push(line));
        });
        let url = eventually("it listens", || {
            let lines = lines.lock().unwrap();
            let address = lines.iter().find_map(|line| line.strip_prefix(LISTENING));
            address.map(|address| format!("http://{address}/"))
        });
        Self { _process: process, _folder: folder, url, lines }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// What it printed so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

/// A child process that ends with its owner.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// Asks it to stop (SIGTERM).
    pub fn ask_to_stop(&self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        eventually("the process ends", || self.0.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        self.0.wait().unwrap();
    }
}

/// The program ended with `code`, says each of the words on stderr, and nothing on stdout.
#[track_caller]
pub fn check_refusal(output: &Output, code: i32, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "no {word} in: {stderr}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}
