//! The rules of the configuration, each held against files and environments that keep or break it.

use super::*;
use sha2::{Digest, Sha256};
use std::{fs, iter};

pub(super) const NO_VARIABLES: [(&str, &str); 0] = [];

fn shipped() -> Config {
    from_file("")
}

/// The configuration of a file with this text and no environment.
pub(super) fn from_file(text: &str) -> Config {
    load(text, &NO_VARIABLES).unwrap()
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    load_in(tempfile::tempdir().unwrap().path(), text, environment)
}

fn load_in(folder: &Path, text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let path = folder.join("config.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), environment.iter().copied())
}

/// What the operator is told of a file with this text and this environment, without the name of the folder.
pub(super) fn refusal(text: &str, environment: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = load_in(folder.path(), text, environment).expect_err(text);
    let folder = format!("{}/", folder.path().display());
    error.to_string().replace(&folder, "")
}

pub(super) fn one_fault(text: &str, environment: &[(&str, &str)]) -> Fault {
    match load(text, environment) {
        Err(ConfigError::Refused(faults)) if faults.len() == 1 => faults[0].clone(),
        other => panic!("{text} {environment:?}: {other:?}"),
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

fn sample_key(text: &str) -> ApiKey {
    ApiKey { name: "test".to_owned(), sha256: digest(text) }
}

#[test]
fn the_shipped_configuration_is_the_documented_one() {
    let expected = Config {
        data_dir: "data".into(),
        http: Http {
            listen: ([127, 0, 0, 1], 8080).into(),
            workers: 0,
            body_bytes_max: 65_536,
            body_read_timeout_ms: 10_000,
            request_deadline_ms: 5_000,
            connections_max: 10_000,
            in_flight_max: 1_024,
            drain_grace_ms: 0,
            drain_timeout_ms: 25_000,
            head_read_timeout_ms: 5_000,
            connections_per_address: 1_024,
            trusted_proxies: Vec::new(),
            tls: None,
            insecure: false,
        },
        limits: limits::tests::shipped(),
        payments: Payments { authorization_ttl_ms: 7 * DAY_MS },
        idempotency: Idempotency { retention: Retention::Forever },
        providers: Vec::new(),
        routes: Vec::new(),
        provider: Provider {
            answer_within_ms: 400,
            inquire_after_ms: 1_000,
            sandbox: Sandbox { decline_at: 10_000 },
        },
        journal: Journal {
            segment_bytes: 67_108_864,
            batch_bytes_max: 8_388_608,
            batch_entries_max: 4_096,
            seal_after_ms: 100,
            direct_io: true,
        },
        snapshots: Snapshots { every_ms: 3_600_000, every_bytes: 268_435_456 },
        webhooks: Webhooks {
            schedule_ms: [5, 30, 120, 900, 3_600, 10_800, 21_600, 43_200, 86_400]
                .map(|seconds| seconds * 1_000)
                .to_vec(),
            jitter_percent: 20,
            timeout_ms: 15_000,
            concurrency_per_endpoint: 32,
            in_flight_max: 1_024,
            backlog_per_endpoint: 1_000,
            endpoints_per_merchant: 20,
            disable_after_ms: 5 * DAY_MS,
            progress_every_ms: 250,
            allow_loopback: true,
            allow_networks: Vec::new(),
        },
        reconciliation: Reconciliation {
            every_ms: 1_000,
            full_every_ms: DAY_MS / 24,
            runs_kept: 100,
        },
        alerts: Alerts { webhook: None },
        metrics: Metrics { listen: None },
        telemetry: Telemetry { otlp_endpoint: None, sample_ratio: 1.0 },
        log: Log { level: "info".to_owned(), form: LogForm::Auto },
        merchants: vec![Merchant {
            id: "merchant_1".to_owned(),
            keys: vec![sample_key("sk_test_merchant_1")],
            webhook: None,
        }],
        admins: vec![sample_key("ak_test_admin")],
    };
    assert_eq!(shipped(), expected);
}

/// The shipped file's lines that are no comment, each with the comment right above it.
fn documented_lines() -> Vec<(&'static str, String)> {
    let mut comment = String::new();
    let mut documented = Vec::new();
    for line in SHIPPED.lines() {
        match line.strip_prefix('#') {
            Some(text) => comment.push_str(text),
            None => documented.push((line, std::mem::take(&mut comment))),
        }
    }
    documented
}

#[test]
fn every_key_and_section_of_the_shipped_file_is_explained_right_above_it() {
    for (line, comment) in documented_lines() {
        let needs_none = line.is_empty() || line.starts_with(' ') || line == "]";
        assert!(needs_none || !comment.is_empty(), "{line}");
    }
}

#[test]
fn every_default_is_the_one_its_comment_names() {
    let mut in_list = false;
    for (line, comment) in documented_lines() {
        in_list |= line.starts_with("[[");
        if let (false, Some((_, value))) = (in_list, line.split_once(" = ")) {
            let named = format!("Default: {value}.");
            assert!(comment.ends_with(&named), "{line}: {comment}");
        }
    }
}

#[test]
fn a_file_needs_only_the_keys_it_changes() {
    let config = from_file("data_dir = '/srv/books'\n[http]\nworkers = 3");
    let mut expected = shipped();
    expected.data_dir = "/srv/books".into();
    expected.http.workers = 3;
    assert_eq!(config, expected);
}

#[test]
fn the_environment_goes_over_the_file_and_the_file_over_the_defaults() {
    let config = load(
        "[http]\nworkers = 3\nin_flight_max = 7",
        &[
            ("STRONGROOM__HTTP__WORKERS", "5"),
            ("STRONGROOM__HTTP__LISTEN", "[::1]:0"),
            ("STRONGROOM__PROVIDER__SANDBOX__DECLINE_AT", "500"),
            ("STRONGROOM__JOURNAL__DIRECT_IO", "false"),
            ("STRONGROOM__DATA_DIR", "1234"),
            ("STRONGROOM_SERVICE_HOST", "10.0.0.1"),
            ("PATH", "/bin"),
        ],
    );
    let mut expected = shipped();
    expected.http.workers = 5;
    expected.http.in_flight_max = 7;
    expected.http.listen = "[::1]:0".parse().unwrap();
    expected.provider.sandbox.decline_at = 500;
    expected.journal.direct_io = false;
    expected.data_dir = "1234".into();
    assert_eq!(config.unwrap(), expected);
}

#[test]
fn the_lists_of_a_file_replace_the_shipped_ones_whole() {
    let sha256 = hex::encode(digest("other")).to_uppercase();
    let config = from_file(&format!(
        "admins = []\n[[merchants]]\nid = 'other'\nkeys = [{{ name = 'web', sha256 = '{sha256}' }}]"
    ));
    assert_eq!(config.admins, []);
    assert_eq!(config.merchants.len(), 1);
    assert_eq!(config.merchants[0].id, "other");
    assert_eq!(config.merchants[0].keys[0].sha256, digest("other"));
}

#[test]
fn durations_are_read_with_days_of_24_hours() {
    for (text, ms) in [
        ("366d", 31_622_400_000),
        ("7d", 604_800_000),
        ("24h", 86_400_000),
        ("90s", 90_000),
        ("300ms", 300),
        ("1h 30m", 5_400_000),
        ("1ms", 1),
    ] {
        let config = from_file(&format!(
            "[payments]\nauthorization_ttl = '{text}'\n[idempotency]\nretention = '{text}'"
        ));
        assert_eq!(config.payments.authorization_ttl_ms, ms, "{text}");
        assert_eq!(config.idempotency.retention, Retention::Millis(ms), "{text}");
    }
}

#[test]
fn an_unknown_key_is_refused_by_its_full_name_wherever_it_stands() {
    let merchant = |inside: &str| format!("[[merchants]]\nid = 'm'\n{inside}");
    for (text, key) in [
        ("color = 1", "color"),
        ("[jornal]\nsegment_bytes = 4096", "jornal"),
        ("[journal]\nsegment_byte = 4096", "journal.segment_byte"),
        ("[provider.sandbox]\ndecline = 1", "provider.sandbox.decline"),
        (&merchant("keys = []\nkey = ''"), "merchants[0].key"),
        (
            &merchant(&format!("keys = [{{ name = 'a', sha256 = '{:064}', key = '' }}]", 0)),
            "merchants[0].keys[0].key",
        ),
    ] {
        let fault = one_fault(text, &NO_VARIABLES);
        assert_eq!(fault.key, key);
        assert!(fault.origin.ends_with("/config.toml"), "{fault}");
        assert!(matches!(fault.reason, Reason::Unknown { .. }), "{fault}");
    }
    for (variable, key) in [
        ("STRONGROOM__HTTP__LISTN", "http.listn"),
        ("STRONGROOM__HTTP_LISTEN", "http_listen"),
        ("STRONGROOM__DATA__DIR", "data"),
        ("STRONGROOM__", ""),
    ] {
        let fault = one_fault("", &[(variable, "1")]);
        assert_eq!(fault.key, key);
        assert_eq!(fault.origin, format!("the environment variable {variable}"));
        assert!(matches!(fault.reason, Reason::Unknown { .. }), "{fault}");
    }
}

/// Every whole number: its section and key, the least and the most.
const RANGES: [(&str, &str, i64, i64); 24] = [
    ("http", "workers", 0, 1_024),
    ("http", "body_bytes_max", 1_024, 1_048_576),
    ("http", "body_read_timeout_ms", 10, 600_000),
    ("http", "request_deadline_ms", 10, 600_000),
    ("http", "connections_max", 1, 1_000_000),
    ("http", "in_flight_max", 1, 100_000),
    ("http", "drain_timeout_ms", 0, 3_600_000),
    ("provider", "answer_within_ms", 1, 60_000),
    ("provider", "inquire_after_ms", 1, 60_000),
    ("provider.sandbox", "decline_at", 1, 1_000_000_000_000),
    // The most is what fits the default segment.
    ("journal", "batch_bytes_max", 262_144, 67_100_672),
    ("journal", "batch_entries_max", 1, 65_536),
    ("journal", "seal_after_ms", 1, 60_000),
    ("reconciliation", "every_ms", 10, 3_600_000),
    ("snapshots", "every_bytes", 1_048_576, 1_099_511_627_776),
    ("reconciliation", "runs_kept", 1, 10_000),
    ("webhooks", "jitter_percent", 0, 100),
    ("webhooks", "timeout_ms", 10, 60_000),
    ("webhooks", "concurrency_per_endpoint", 1, 256),
    ("webhooks", "in_flight_max", 2, 65_536),
    ("webhooks", "backlog_per_endpoint", 10, 10_000),
    ("webhooks", "endpoints_per_merchant", 1, 1_000),
    ("webhooks", "progress_every_ms", 10, 60_000),
    // The least is the one that holds the default batch; the smallest of all has a test of its own.
    ("journal", "segment_bytes", 8_400_896, 1_073_741_824),
];

/// What else is refused, whatever its section.
const REFUSED: [(&str, &str, &str); 17] = [
    ("http", "listen", "'localhost:80' '127.0.0.1' '' 80"),
    ("http", "workers", "'2' 2.0 true 2026-11-22 [2]"),
    ("http", "drain_grace", "'61m' '-1s' '1500us' '5' '' 5"),
    ("payments", "authorization_ttl", "'0s' '367d' '-1d' '1month' '1500us' '7' '' 7"),
    ("idempotency", "retention", "'0ms' '3661d' 'ever' '' 24"),
    ("snapshots", "every", "'0s' '999ms' '31d' '1month' '' 3600"),
    ("journal", "segment_bytes", "0 4096 1044480 67108865"),
    ("journal", "direct_io", "1 'true'"),
    ("reconciliation", "full_every", "'99ms' '367d' '-1h' '1month' '' 3600"),
    ("alerts", "webhook_secret", "'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' 1"),
    ("log", "level", "3 'inof'"),
    ("log", "form", "'xml' 'Human' ''"),
    ("provider", "sandbox", "'sandbox'"),
    ("webhooks", "schedule", "'' '5s,' '0s' '31d' '5' 5 ['5s']"),
    ("webhooks", "disable_after", "'59s' '367d' 5 ''"),
    ("webhooks", "allow_loopback", "1 'yes'"),
    ("webhooks", "allow_networks", "'10.0.0.1/8' 'ten' '10.0.0.0/8;fd00::/8' 10"),
];

pub(super) fn refuses(section: &str, key: &str, value: &str) {
    let fault = one_fault(&format!("[{section}]\n{key} = {value}"), &NO_VARIABLES);
    assert_eq!(fault.key, format!("{section}.{key}"), "{value}");
    assert!(matches!(fault.reason, Reason::NotAllowed { .. }), "{fault}");
}

#[test]
fn a_number_is_taken_from_the_least_to_the_most_and_refused_beyond() {
    for (section, key, least, most) in RANGES {
        from_file(&format!("[{section}]\n{key} = {least}"));
        from_file(&format!("[{section}]\n{key} = {most}"));
        refuses(section, key, &(most + 1).to_string());
        refuses(section, key, &(least - 1).to_string());
    }
}

#[test]
fn a_value_of_a_wrong_type_or_out_of_range_is_refused() {
    for (section, key, values) in REFUSED {
        for value in values.split(' ') {
            refuses(section, key, value);
        }
    }
    assert_eq!(one_fault("data_dir = ''", &NO_VARIABLES).key, "data_dir");
    assert_eq!(one_fault("merchants = [1]", &NO_VARIABLES).key, "merchants");
}

#[test]
fn the_largest_batch_fits_the_smallest_segment() {
    let text = "[journal]\nsegment_bytes = 1048576\nbatch_bytes_max = ";
    from_file(&format!("{text}1040384"));
    let fault = one_fault(&format!("{text}1040385"), &NO_VARIABLES);
    assert_eq!(fault.key, "journal.batch_bytes_max");
}

#[test]
fn a_log_level_is_a_level_or_a_filter_with_no_slip_in_it() {
    for level in
        ["off", "INFO", "trace", "info,strongroom::journal=debug", "info,[request{id}]=debug"]
    {
        let config = load("", &[("STRONGROOM__LOG__LEVEL", level)]).unwrap();
        assert_eq!(config.log.level, level);
    }
    for level in ["", "inof", "info,", "info,strongroom=loud", "info strongroom"] {
        let fault = one_fault("", &[("STRONGROOM__LOG__LEVEL", level)]);
        assert_eq!(fault.key, "log.level", "{level}");
    }
    assert_eq!(from_file("[log]\nform = 'json'").log.form, LogForm::Json);
    assert_eq!(one_fault("[log]\nform = 'xml'", &NO_VARIABLES).key, "log.form");
}

/// A file with these merchants, each with keys of these names; a key's number stands for its digest.
fn merchants(merchants: &[(&str, &[(&str, u8)])]) -> String {
    let key =
        |(name, number): &(&str, u8)| format!("{{ name = '{name}', sha256 = '{number:064}' }}");
    let merchant = |(id, keys): &(&str, &[(&str, u8)])| {
        let keys: Vec<String> = keys.iter().map(key).collect();
        format!("[[merchants]]\nid = '{id}'\nkeys = [{}]\n", keys.join(", "))
    };
    merchants.iter().map(merchant).collect()
}

#[test]
fn a_merchants_id_and_a_keys_name_are_plain_short_and_not_admin() {
    let longest = "m".repeat(64);
    from_file(&merchants(&[(&longest, &[("admin", 1)]), ("A-z_9", &[(&longest, 2)])]));
    let too_long = "m".repeat(65);
    for wrong in ["", "a b", "a/b", "größe", &too_long] {
        let fault = one_fault(&merchants(&[(wrong, &[])]), &NO_VARIABLES);
        assert_eq!(fault.key, "merchants[0].id", "{wrong}");
        let fault = one_fault(&merchants(&[("m", &[(wrong, 1)])]), &NO_VARIABLES);
        assert_eq!(fault.key, "merchants[0].keys[0].name", "{wrong}");
    }
    // It would be named in the audit trail like an admin.
    assert_eq!(one_fault(&merchants(&[("admin", &[])]), &NO_VARIABLES).key, "merchants[0].id");
}

#[test]
fn no_two_merchants_names_or_digests_are_alike() {
    from_file(&merchants(&[("a", &[("web", 1), ("app", 2)]), ("b", &[("web", 3)])]));
    for (text, key, first) in [
        (merchants(&[("a", &[]), ("b", &[]), ("a", &[])]), "merchants[2].id", "merchants[0].id"),
        (
            merchants(&[("a", &[("web", 1), ("web", 2)])]),
            "merchants[0].keys[1].name",
            "merchants[0].keys[0].name",
        ),
        (
            merchants(&[("a", &[("web", 1)]), ("b", &[("web", 1)])]),
            "merchants[1].keys[0].sha256",
            "merchants[0].keys[0].sha256",
        ),
        (
            format!("[[admins]]\nname = 'a'\nsha256 = '{:064}'\n", 1)
                + &merchants(&[("a", &[("web", 1)])]),
            "admins[0].sha256",
            "merchants[0].keys[0].sha256",
        ),
    ] {
        let fault = one_fault(&text, &NO_VARIABLES);
        assert_eq!(fault.key, key);
        let first = first.to_owned();
        assert_eq!(fault.reason, Reason::Repeated { first });
    }
}

#[test]
fn a_key_given_where_its_digest_belongs_is_refused_and_not_shown() {
    let key = "sk_live_0123456789";
    for text in [
        format!("[[admins]]\nname = 'a'\nsha256 = '{key}'"),
        format!("[[admins]]\nname = 'a'\nsha256 = {key}"),
        format!("[[admins]]\nname = 'a'\nkey = '{key}'"),
    ] {
        let refusal = refusal(&text, &NO_VARIABLES);
        assert!(!refusal.contains("0123456789"), "{refusal}");
    }
}

#[test]
fn alerts_need_a_url_and_a_secret_neither_of_which_is_ever_shown() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let section = |url: &str, secret: &str| {
        format!("[alerts]\nwebhook_url = '{url}'\nwebhook_secret = '{secret}'")
    };
    let config = from_file(&section("https://hooks.example/s3cr3t", secret));
    let webhook = config.alerts.webhook.clone().unwrap();
    assert_eq!(webhook.url, "https://hooks.example/s3cr3t");
    assert_eq!(webhook.secret.expose(), secret);
    assert!(!format!("{config:?}").contains(&secret[6..]));
    let wrong_urls = ["/s3cr3t", "ftp://h/s3cr3t", "http://", "hooks.example/s3cr3t", "http://a b"];
    for url in wrong_urls {
        let text = section(url, secret);
        assert_eq!(one_fault(&text, &NO_VARIABLES).key, "alerts.webhook_url", "{url}");
        assert!(!refusal(&text, &NO_VARIABLES).contains("s3cr3t"));
    }
    for wrong in ["", "whsec_", "whsec_c2hvcnQ=", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        let text = section("http://127.0.0.1:1/", wrong);
        assert_eq!(one_fault(&text, &NO_VARIABLES).key, "alerts.webhook_secret", "{wrong}");
        assert!(!refusal(&text, &NO_VARIABLES).contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"));
    }
}

#[test]
fn all_faults_are_told_at_once_with_what_was_given_what_is_allowed_and_where_it_stands() {
    let text = "log = 3\n[http]\nworkers = 4096\nbody_bytes_max = 'big'\n[[merchants]]\nid = 'm'";
    let environment = [("STRONGROOM__JOURNAL__SEGMENT_BYTES", "1e9"), ("STRONGROOM__PORT", "1")];
    let expected = "the configuration is refused
  http.body_bytes_max: \"big\" is not allowed; it has to be 1024 to 1048576 (from config.toml)
  http.workers: 4096 is not allowed; it has to be 0 to 1024 (from config.toml)
  journal.segment_bytes: \"1e9\" is not allowed; it has to be a multiple of 4096 from 1048576 to 1073741824 \
(from the environment variable STRONGROOM__JOURNAL__SEGMENT_BYTES)
  log: 3 is not allowed; it has to be a table (from config.toml)
  merchants[0].keys: missing; it has to be a list of tables (from config.toml)
  port: no such key; known: providers, routes, data_dir, http, limits, payments, idempotency, provider, journal, snapshots, reconciliation, \
webhooks, alerts, metrics, telemetry, log, merchants, admins (from the environment variable STRONGROOM__PORT)";
    assert_eq!(refusal(text, &environment), expected);
}

#[test]
fn a_list_cannot_be_set_by_the_environment() {
    for variable in ["STRONGROOM__ADMINS", "STRONGROOM__ADMINS__0__NAME"] {
        let fault = one_fault("", &[(variable, "a")]);
        assert_eq!(fault.key, "admins");
    }
}

#[test]
fn a_variable_that_is_not_utf_8_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let variable = (OsString::from("STRONGROOM__DATA_DIR"), OsString::from_vec(vec![0xff]));
    let error = Config::load(None, iter::once(variable)).unwrap_err();
    let words = "data_dir: text that is not UTF-8 is not allowed";
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn a_named_file_that_cannot_be_read_or_parsed_is_refused_by_its_name() {
    let absent = Path::new("/no/such/file.toml");
    let error = Config::load(Some(absent), NO_VARIABLES.into_iter()).unwrap_err();
    assert_eq!(error.to_string(), "cannot read the configuration file /no/such/file.toml");
    let error = refusal("[http\n", &NO_VARIABLES);
    assert!(error.starts_with("config.toml is not valid TOML: "), "{error}");
    assert!(error.contains("line 1, column 6"), "{error}");
}

#[test]
fn workers_are_as_many_as_the_cores_unless_told() {
    let mut http = shipped().http;
    let cores = thread::available_parallelism().unwrap().get();
    assert_eq!(http.worker_threads(), cores);
    http.workers = 6;
    assert_eq!(http.worker_threads(), 6);
}
