//! The restart-recovery demo, and that it would notice a loss.

use std::process::{Command, Output};

fn demo(faults: &[(&str, &str)]) -> (Output, String) {
    let folder = tempfile::tempdir().unwrap();
    let ran = Command::new(env!("CARGO_BIN_EXE_strongroom"))
        .args(["demo", "--rounds", "4", "--rate", "400", "--seed", "11"])
        .current_dir(folder.path())
        .env_clear()
        .env("STRONGROOM__JOURNAL__SEGMENT_BYTES", "16777216")
        .env("STRONGROOM__JOURNAL__BATCH_BYTES_MAX", "262144")
        .envs(faults.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8(ran.stdout.clone()).unwrap();
    (ran, said)
}

/// The figure in the row that begins with `name`.
fn figure(said: &str, name: &str) -> u64 {
    let row = said.lines().find_map(|line| line.trim_start().strip_prefix(name));
    let row = row.unwrap_or_else(|| panic!("no row {name} in\n{said}"));
    row.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn the_demo_kills_a_server_and_finds_all_that_was_acknowledged() {
    let (ran, said) = demo(&[]);
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert_eq!(figure(&said, "kills"), 4);
    let acknowledged = figure(&said, "requests acknowledged");
    assert!(acknowledged > 50, "{said}");
    assert_eq!(figure(&said, "found again, byte for byte"), acknowledged);
    for finding in [
        "lost",
        "answered differently",
        "doubled",
        "with wrong amounts",
        "currencies out of balance",
    ] {
        assert_eq!(figure(&said, finding), 0, "{said}");
    }
}

#[test]
fn the_demo_fails_when_a_disk_forgets_what_it_said_was_written() {
    let (ran, said) = demo(&[("STRONGROOM_FAULT", "writes-lost-after:40")]);
    assert_eq!(ran.status.code(), Some(1), "{said}");
    assert!(figure(&said, "lost") > 0, "{said}");
}
