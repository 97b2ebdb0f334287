//! House rules that a compiler does not hold.

use regex::Regex;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each layer may use the ones to its right.
const LAYERS: [&str; 7] = ["commands", "app", "http", "pipeline", "actors", "journal", "domain"];
/// Doors of the shell: any layer of it may use them, the domain may not.
const SHELL: [&str; 7] =
    ["config", "clock", "tasks", "credentials", "telemetry", "meters", "trust"];

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn layer_of(path: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let inside = path.strip_prefix(root).unwrap();
    let first = inside.iter().next().unwrap().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a file names after `crate::`, in one line or in braces.
fn uses(text: &str) -> Vec<String> {
    let single = Regex::new(r"crate::([a-z_]+)").unwrap();
    let mut names: Vec<String> = single.captures_iter(text).map(|c| c[1].to_owned()).collect();
    for (start, _) in text.match_indices("crate::{") {
        let (mut depth, mut word, mut fresh) = (0, String::new(), true);
        for character in text[start + "crate::".len()..].chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => fresh = true,
                'a'..='z' | '_' if depth == 1 && fresh => word.push(character),
                _ => {}
            }
            if !matches!(character, 'a'..='z' | '_') && !word.is_empty() {
                names.push(std::mem::take(&mut word));
                fresh = false;
            }
            if depth == 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn imports_go_down_the_layers_only() {
    let rank = |name: &str| match name {
        "provider" | "wire" => LAYERS.iter().position(|layer| *layer == "journal"),
        name => LAYERS.iter().position(|layer| *layer == name),
    };
    let mut checked = 0;
    for (path, text) in sources("src") {
        let layer = layer_of(&path);
        let Some(own) = rank(&layer) else { continue };
        for used in uses(&text).into_iter().filter(|used| *used != layer) {
            let shell = SHELL.contains(&used.as_str());
            let allowed = match rank(&used) {
                Some(below) => below > own,
                None => shell && layer != "domain",
            };
            assert!(allowed, "{} uses crate::{used}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} imports were found");
}

#[test]
fn the_domain_knows_no_clock_no_files_no_network_and_no_tasks() {
    let absent = [
        "SystemTime",
        "Instant::now",
        "std::fs",
        "std::net",
        "async ",
        "tokio",
        "actix",
        "now_v7",
        "std::env",
    ];
    for (path, text) in sources("src/domain") {
        for word in absent {
            assert!(!text.contains(word), "{} mentions {word}", path.display());
        }
    }
}

#[test]
fn only_the_journal_touches_files_and_only_its_codec_knows_bincode() {
    for (path, text) in sources("src") {
        let name = path.to_str().unwrap();
        // The clock's double is moved by a file.
        let in_journal = name.contains("src/journal/") || name.ends_with("src/clock/moved.rs");
        // The kernel's own figures in /proc are no files of ours.
        let in_proc = name.ends_with("src/meters/process.rs");
        assert!(
            in_journal || in_proc || name.contains("src/config") || !text.contains("std::fs"),
            "{name} touches files"
        );
        let is_codec = name.ends_with("journal/entry.rs");
        assert!(is_codec || !text.contains("bincode::"), "{name} knows the codec");
    }
}

#[test]
fn the_wall_clock_is_asked_in_one_place() {
    for (path, text) in sources("src") {
        let asks = text.contains("SystemTime::now");
        assert!(!asks || path.ends_with("src/clock.rs"), "{} asks the clock", path.display());
    }
}

#[test]
fn every_file_says_what_it_owns_and_stays_readable() {
    let unfinished = Regex::new(r"\b(TODO|FIXME)\b").unwrap();
    for (path, text) in sources("src").into_iter().chain(sources("tests")).chain(sources("benches"))
    {
        let name = path.display();
        assert!(text.starts_with("//!"), "{name} does not begin with what it owns");
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines");
        assert!(path.ends_with("tidy.rs") || !unfinished.is_match(&text), "{name} is unfinished");
        let prefixed = format!("fn {}_", "test");
        assert!(!text.contains(&prefixed), "{name}: a test's name is its rule");
        let ignored = format!("#[{}", "ignore");
        assert!(!text.contains(&ignored), "{name} has a test that does not run");
    }
}

#[test]
fn paths_named_in_the_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = Regex::new(r"`((?:src|tests|benches|data|docs|\.ci)/[A-Za-z0-9_./-]+)`").unwrap();
    let mut named = 0;
    let documents = "README.md API.md ARCHITECTURE.md TESTING.md CHANGELOG.md docs/why.md docs/stripe.md data/README.md";
    for document in documents.split(' ') {
        let text = fs::read_to_string(root.join(document)).unwrap();
        for name in path.captures_iter(&text).map(|captures| captures[1].to_owned()) {
            // What the server writes at run time is described, not kept.
            let written = ["data/LOCK", "data/journal", "data/pepper"]
                .iter()
                .any(|own| name.starts_with(own));
            assert!(written || root.join(&name).exists(), "{document} names {name}");
            named += 1;
        }
    }
    assert!(named > 10);
}

#[test]
fn tests_named_in_the_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = ["ARCHITECTURE.md", "TESTING.md", "docs/why.md"];
    let text = documents.map(|document| fs::read_to_string(root.join(document)).unwrap()).concat();
    let all: String =
        sources("src").into_iter().chain(sources("tests")).map(|(_, text)| text).collect();
    // A name of four words or more in backticks is a test's.
    let name = Regex::new(r"`([a-z0-9]+(?:_[a-z0-9]+){3,})`").unwrap();
    let named: Vec<&str> = name.captures_iter(&text).map(|c| c.get(1).unwrap().as_str()).collect();
    for name in &named {
        assert!(all.contains(&format!("fn {name}(")), "a document names {name}");
    }
    assert!(named.len() > 20, "only {} tests are named", named.len());
}

#[test]
fn every_file_of_the_suite_is_part_of_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let main = fs::read_to_string(folder.join("main.rs")).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || main.contains(&format!("\nmod {module};")),
            "{name} is left out"
        );
    }
}
