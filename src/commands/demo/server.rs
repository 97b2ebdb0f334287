//! The server under the demo: this program as a child process.

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const LISTENING: &str = "listening on ";

/// A running server; it is killed when dropped.
pub(super) struct Server {
    process: Child,
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub(super) url: String,
    /// The head of the journal's chain that it verified and told at its start.
    pub(super) chain_head: String,
    /// From the start of the process until it took payments.
    pub(super) took: Duration,
}

impl Server {
    /// Starts this program on `data` with the shipped configuration, in `folder` so that no other one is found.
    pub(super) async fn start(folder: &Path, data: &Path) -> anyhow::Result<Self> {
        let began = Instant::now();
        let mut process = Command::new(std::env::current_exe()?)
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .env("STRONGROOM__LOG__LEVEL", "error")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let stdout = process.stdout.take().context("the server has no stdout")?;
        let said = actix_rt::task::spawn_blocking(move || first_lines(stdout)).await?;
        let told = |prefix: &str| said.iter().find_map(|line| line.strip_prefix(prefix));
        let (Some(url), Some(chain_head)) = (told(LISTENING), told("chain head ")) else {
            bail!("the server did not start: {}", process.wait()?);
        };
        let (url, chain_head) = (url.to_owned(), chain_head.to_owned());
        Ok(Self { process, url, chain_head, took: began.elapsed() })
    }

    /// SIGKILL: the process has no say in it.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits until it has sealed its journal.
    pub(super) fn stop(mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.process), Signal::TERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the server did not stop well: {status}");
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// What the server says until it listens, or until it ends.
fn first_lines(stdout: ChildStdout) -> Vec<String> {
    let mut said = Vec::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let last = line.starts_with(LISTENING);
        said.push(line);
        if last {
            break;
        }
    }
    said
}
