//! What an operator wants to know before a start, and what a running server keeps from other users of the machine.

use crate::backup::large_payment;
use crate::server::{ADMIN_KEY, Folder, MERCHANT_1_KEY, TestServer, check_refusal};
use crate::shop::ASKS_NEVER;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// `check-config` in a folder with this configuration file.
fn check(lines: &str, settings: &[(&str, &str)], arguments: &[&str]) -> (Folder, Output) {
    let folder = Folder::new();
    fs::write(folder.path("config.toml"), lines).unwrap();
    let output = folder
        .program()
        .arg("check-config")
        .args(arguments)
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    assert!(!folder.path("data").exists(), "nothing was touched");
    (folder, output)
}

#[test]
fn check_config_says_what_is_taken_from_where_and_touches_nothing() {
    let port = ("STRONGROOM__HTTP__LISTEN", "127.0.0.1:1");
    let secret = ("STRONGROOM__PROVIDERS__BANK__SECRET_KEY", "sk_of_the_bank");
    let file = "data_dir = \"elsewhere\"\n[providers.bank]\nkind = \"stripe\"\n";
    let (_folder, output) = check(file, &[port, secret], &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for line in [
        "from config.toml: data_dir, providers.bank.kind",
        "from the environment variable STRONGROOM__HTTP__LISTEN: http.listen",
        "from the shipped defaults: all the rest",
        "listens on 127.0.0.1:1",
        "data in elsewhere/",
        "merchants: 1 with 1 keys; admin keys: 1",
        "providers: bank, sandbox; routes: 0",
    ] {
        assert!(said.lines().any(|said| said == line), "no {line} in:\n{said}");
    }
    assert!(!said.contains(secret.1), "{said}");
    let (_folder, output) = check("", &[], &["--config", "strongroom.toml", "--listen", "[::1]:7"]);
    assert!(text(&output.stdout).contains("listens on [::1]:7"));
    assert!(text(&output.stdout).contains("from strongroom.toml: admins, merchants"));
}

#[test]
fn check_config_refuses_what_a_start_would_refuse() {
    for (file, settings, words) in [
        ("[http]\nlistn = 1", vec![], "http.listn"),
        ("", vec![("STRONGROOM__HTTP__WORKERS", "many")], "http.workers"),
        ("[http", vec![], "config.toml"),
        ("", vec![("STRONGROOM__HTTP__LISTEN", "0.0.0.0:1")], "merchant_1/test"),
    ] {
        let (_folder, output) = check(file, &settings, &[]);
        check_refusal(&output, 2, &[words]);
    }
    let server = TestServer::start();
    server.charge("order", 100).of(201);
    assert!(server.tell(&["backup", "copy"]).status.success());
    let checked = server.program(&["check-config", "--data", "copy"]).output().unwrap();
    assert_eq!(checked.status.code(), Some(2), "a server writes to no backup");
}

/// Every file and folder from `place` down that is not for its owner alone.
fn open_to_others(place: &Path, open: &mut Vec<(PathBuf, u32)>) -> usize {
    let mode = place.metadata().unwrap().permissions().mode() & 0o777;
    let wanted = if place.is_dir() { 0o700 } else { 0o600 };
    if mode != wanted {
        open.push((place.to_owned(), mode));
    }
    if !place.is_dir() {
        return 1;
    }
    let inside = fs::read_dir(place).unwrap();
    inside.map(|inside| open_to_others(&inside.unwrap().path(), open)).sum()
}

#[test]
fn what_the_server_writes_is_for_its_owner_alone() {
    let mut server = TestServer::start();
    let snapshot = || server.admin().post("/api/snapshot", "", &json!({})).of(200);
    for round in 0..3 {
        for number in 0..260 {
            server.charge(&format!("{round}_{number}"), 100).of(201);
        }
        snapshot();
    }
    assert!(server.tell(&["backup", "copy"]).status.success());
    let restored = server.program(&["restore", "copy", "--data", "restored"]).output().unwrap();
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    assert!(fs::read_dir(server.data().join("archive")).unwrap().count() > 0);
    let mut open = Vec::new();
    for (folder, at_least) in [("data", 7), ("copy", 4), ("restored", 3)] {
        let files = open_to_others(&server.path(folder), &mut open);
        assert!(files >= at_least, "only {files} files in {folder}");
    }
    assert_eq!(open, []);

    // A folder that an operator made for it.
    assert!(server.terminate().success());
    fs::set_permissions(server.data(), PermissionsExt::from_mode(0o755)).unwrap();
    server.restart();
    open_to_others(&server.data(), &mut open);
    assert_eq!(open, []);
}

#[test]
fn a_server_that_has_started_grows_in_small_pages() {
    let status = TestServer::start().system_says("status");
    let huge = status.lines().find_map(|line| line.strip_prefix("THP_enabled:"));
    // Kernels before 5.0 do not say.
    assert_eq!(huge.map_or("0", str::trim), "0");
}

#[test]
fn no_memory_of_the_server_is_dumped_to_disk() {
    let limits = TestServer::start().system_says("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    let words: Vec<&str> = core.split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{core}");
}

#[test]
fn the_process_is_alive_whatever_the_disk_and_the_provider_do() {
    let folder = Folder::new();
    let sign = folder.path("full");
    let full = format!("full-while:{}", sign.display());
    let server = TestServer::start_with(&[
        ("STRONGROOM_FAULT", &full),
        ("STRONGROOM__PROVIDER__ANSWER_WITHIN_MS", "1"),
        ASKS_NEVER,
    ]);
    fs::write(&sign, "").unwrap();
    let mut large = large_payment("v");
    large["paymentMethod"] = "tok_timeout".into();
    let small = json!({"amount": 1, "currency": "USD", "paymentMethod": "tok_timeout"});
    for (size, body) in [("large", large), ("small", small)] {
        let full = (0..500).map(|number| server.pay_in_time(&format!("{size}_{number}"), &body));
        let full = full.into_iter().find(|answer| answer.status != 202).unwrap();
        full.problem(503, "storage_full");
    }
    server.get("/ready").problem(503, "storage_full");
    for key in [MERCHANT_1_KEY, ADMIN_KEY, "nobody"] {
        let health = server.client(key).get("/health").of(200);
        assert_eq!(health.json, json!({"status": "ok"}));
    }
}
