//! The problems of whoever asks too much or too often.

use super::{Problem, Standing, codes};

impl Problem {
    pub(in crate::http) fn uri_too_long(part: &str, bytes_max: usize) -> Self {
        let detail = format!("A {part} may have at most {bytes_max} bytes.");
        Self::new(&codes::URI_TOO_LONG, &detail)
    }

    pub(in crate::http) fn headers_too_large(count_max: usize, bytes_max: usize) -> Self {
        let detail =
            format!("A request may have at most {count_max} headers, {bytes_max} bytes together.");
        Self::new(&codes::HEADERS_TOO_LARGE, &detail)
    }

    pub(in crate::http) fn rate_limited(standing: Standing, retry_after_s: u32) -> Self {
        let detail = "Nothing was done and no key was used up. Ask again after `Retry-After`.";
        let problem = Self::new(&codes::RATE_LIMITED, detail);
        let standing = Some(Box::new(standing));
        Self { standing, retry_after_s: Some(retry_after_s), ..problem }
    }

    /// The answer as it goes over the wire, for a connection that no request is read from.
    pub(in crate::http) fn to_http(&self) -> Vec<u8> {
        let body = serde_json::to_string(&self.document()).unwrap_or_default();
        let retry_after = self.retry_after_s.unwrap_or(1);
        format!(
            "HTTP/1.1 {}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\
             Retry-After: {retry_after}\r\nContent-Length: {}\r\n\r\n{body}",
            self.code.status,
            body.len()
        )
        .into_bytes()
    }
}
