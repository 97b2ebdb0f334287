//! The README's quickstart, run as it stands there, output included.
//!
//! `…` in an expected output stands for anything. `curl` is run by this test's own client, so that the suite needs no
//! program but the toolchain; with `QUICKSTART_CURL=1` a shell runs the very lines instead.

use crate::{client::Client, server::TestServer};
use regex::Regex;
use std::{fs, path::Path, process::Command};

const PORTAL: &str = "http://127.0.0.1:8080";

struct Step {
    command: String,
    output: String,
}

/// The commands of all `console` blocks, each with what it is said to print.
fn steps() -> Vec<Step> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in readme.lines() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { command: command.to_owned(), output: String::new() });
                }
                None => {
                    let step = steps.last_mut().expect("a command before its output");
                    step.output.push_str(line);
                    step.output.push('\n');
                }
            },
            (false, _) => {}
        }
    }
    steps
}

fn assert_printed(step: &Step, printed: &str) {
    let expected = step.output.trim_end().split('…').map(regex::escape).collect::<Vec<_>>();
    let expected = Regex::new(&format!("(?s)^{}$", expected.join(".*"))).unwrap();
    let printed = printed.replace("\r\n", "\n");
    assert!(
        expected.is_match(printed.trim_end()),
        "$ {}\nthe README says:\n{}\nit printed:\n{printed}",
        step.command,
        step.output
    );
}

/// Runs a `curl` line by a shell if asked to, else by the suite's own client.
fn curl(server: &TestServer, line: &str) -> String {
    let url = format!("http://{}", server.address());
    if std::env::var_os("QUICKSTART_CURL").is_some() {
        let ran = Command::new("sh").args(["-c", &line.replace(PORTAL, &url)]).output().unwrap();
        assert!(ran.status.success(), "$ {line}\n{}", String::from_utf8_lossy(&ran.stderr));
        return String::from_utf8(ran.stdout).unwrap();
    }
    let (mut headers, mut path, mut body) = (Vec::new(), String::new(), None);
    let (mut method, mut with_head) = ("GET".to_owned(), false);
    let words = shell_words::split(line).unwrap();
    let mut words = words.into_iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "-s" => {}
            "-si" => with_head = true,
            "-X" => method = words.next().unwrap(),
            "-H" => {
                let header = words.next().unwrap();
                let (name, value) = header.split_once(": ").unwrap();
                headers.push((name.to_owned(), value.to_owned()));
            }
            "-d" => {
                body = words.next();
                method = "POST".to_owned();
            }
            word => path = word.strip_prefix(PORTAL).expect("a URL").to_owned(),
        }
    }
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let client = Client::new(&url, "");
    let answer =
        client.send(&method, &path, &headers, body.as_ref().map(String::as_bytes)).unwrap();
    let mut printed = String::new();
    if with_head {
        let reason = if answer.status == 201 { "Created" } else { "OK" };
        printed.push_str(&format!("HTTP/1.1 {} {reason}\n", answer.status));
        for (name, value) in &answer.headers {
            printed.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        printed.push('\n');
    }
    printed + &answer.text()
}

#[test]
fn the_quickstart_does_what_the_readme_says() {
    let mut server: Option<TestServer> = None;
    let steps = steps();
    for step in &steps {
        let line = step.command.as_str();
        if line == "cargo run --release" {
            match &mut server {
                None => server = Some(TestServer::start()),
                Some(server) => server.restart(),
            }
            let server = server.as_ref().unwrap();
            let announced =
                server.announced().replace(&server.address().to_string(), "127.0.0.1:8080");
            assert_printed(step, &announced);
        } else if line.starts_with("kill -9") {
            server.as_mut().unwrap().kill();
        } else if line.starts_with("curl ") {
            assert_printed(step, &curl(server.as_ref().unwrap(), line));
        } else {
            panic!("the README has a command that this test cannot run: {line}");
        }
    }
    assert!(steps.len() >= 6, "only {} commands were found in the README", steps.len());
}
