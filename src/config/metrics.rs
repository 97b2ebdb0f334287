//! Where the numbers about the server are read, and where its traces go.

use super::section::Section;
use actix_web::http::Uri;
use std::net::SocketAddr;

/// Numbers about the server, beside `/metrics` under an admin's key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Where they are shown without a key; `None`: nowhere.
    pub listen: Option<SocketAddr>,
}

impl Metrics {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let allow_remote = section.boolean("allow_remote");
        let allowed = match allow_remote {
            true => "an IP address and a port, or empty",
            false => {
                "a loopback address and a port, such as 127.0.0.1:9464, or empty; any address once \
                      metrics.allow_remote is true"
            }
        };
        let listen = section.text("listen", allowed, |text| match text {
            "" => Some(None),
            text => {
                let address: SocketAddr = text.parse().ok()?;
                let is_near = address.ip().to_canonical().is_loopback();
                (allow_remote || is_near).then_some(Some(address))
            }
        });
        Self { listen: listen.flatten() }
    }
}

/// Following single requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Telemetry {
    /// The URL of the collector, as far as `/v1/traces`; `None`: nothing is followed.
    pub otlp_endpoint: Option<String>,
    /// How many of the requests that come without a trace are followed: 0 none, 1 all.
    pub sample_ratio: f64,
}

impl Telemetry {
    pub(super) fn read(section: &mut Section<'_>) -> Self {
        let allowed = "an absolute http or https URL, such as http://127.0.0.1:4318, or empty";
        let url = section.text("otlp_endpoint", allowed, |text| match text {
            "" => Some(None),
            text => {
                let url: Uri = text.parse().ok()?;
                let is_web = matches!(url.scheme_str(), Some("http" | "https"));
                (is_web && url.query().is_none()).then(|| Some(text.trim_end_matches('/').into()))
            }
        });
        Self { otlp_endpoint: url.flatten(), sample_ratio: section.ratio("sample_ratio") }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{NO_VARIABLES, from_file, one_fault};

    #[test]
    fn metrics_without_a_key_stay_on_the_machine_unless_the_operator_says_otherwise() {
        let metrics = |text: &str| from_file(&format!("[metrics]\n{text}\n")).metrics.listen;
        assert_eq!(metrics(""), None);
        for near in ["127.0.0.1:9464", "[::1]:0"] {
            assert_eq!(metrics(&format!("listen = '{near}'")), near.parse().ok());
        }
        for far in ["0.0.0.0:9464", "[::]:1", "10.0.0.1:1", "9464"] {
            let text = format!("[metrics]\nlisten = '{far}'\n");
            assert_eq!(one_fault(&text, &NO_VARIABLES).key, "metrics.listen", "{far}");
        }
        let far = metrics("listen = '0.0.0.0:9464'\nallow_remote = true");
        assert_eq!(far, "0.0.0.0:9464".parse().ok());
    }

    #[test]
    fn a_collector_of_traces_is_a_url_or_none() {
        let telemetry = |text: &str| {
            from_file(&format!("[telemetry]\notlp_endpoint = '{text}'\n")).telemetry.otlp_endpoint
        };
        assert_eq!(telemetry(""), None);
        assert_eq!(telemetry("http://[::1]:4318/").as_deref(), Some("http://[::1]:4318"));
        for wrong in ["127.0.0.1:4318", "grpc://x", "http://x/?a=b"] {
            let text = format!("[telemetry]\notlp_endpoint = '{wrong}'\n");
            assert_eq!(one_fault(&text, &NO_VARIABLES).key, "telemetry.otlp_endpoint", "{wrong}");
        }
    }

    #[test]
    fn of_requests_all_some_or_none_are_followed() {
        let ratio = |text: &str| format!("[telemetry]\nsample_ratio = {text}\n");
        for (text, wanted) in [("0", 0.0), ("0.25", 0.25), ("1", 1.0), ("1.0", 1.0)] {
            let read = from_file(&ratio(text)).telemetry.sample_ratio;
            assert!((read - wanted).abs() < f64::EPSILON, "{text}");
        }
        for wrong in ["-0.1", "1.1", "2", "nan", "'all'", "true"] {
            let fault = one_fault(&ratio(wrong), &NO_VARIABLES);
            assert_eq!(fault.key, "telemetry.sample_ratio", "{wrong}");
        }
        let variables = [("STRONGROOM__TELEMETRY__SAMPLE_RATIO", "0.5")];
        let read = crate::config::Config::load(None, variables.into_iter()).unwrap();
        assert!((read.telemetry.sample_ratio - 0.5).abs() < f64::EPSILON);
    }
}
