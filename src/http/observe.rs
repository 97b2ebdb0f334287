//! What happens around every request: an id for it, a count, one log line about it. Never a key, a body or a raw path in a log.

use super::{headers, payments::PaymentOfRequest};
use crate::{
    meters::{self, meters},
    telemetry::traces,
};
use actix_web::{
    HttpMessage,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, header::HeaderValue},
};
use std::time::Instant;
use tracing::{Span, field::Empty};

/// The pattern of a route, which a request that took it is counted under. Its resource has it at hand, so that nothing
/// is searched or allocated for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pattern(pub(super) &'static str);

/// A method as it is counted and logged. A client may make up any, and put into it what must not be written down.
fn word_for(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"].iter();
    known.copied().find(|known| *known == method.as_str()).unwrap_or("other")
}

/// A request that is being answered.
pub(super) struct Observed {
    began: Instant,
    id: HeaderValue,
    method: &'static str,
    span: Span,
}

impl Observed {
    pub(super) fn begin(request: &ServiceRequest) -> Self {
        let began = Instant::now();
        let id = headers::request_id(request.headers());
        let method = word_for(request.method());
        let span = traces::span!(
            "request",
            otel.kind = "server",
            otel.name =
                format!("{} {}", method, request.match_pattern().as_deref().unwrap_or("none")),
            http.request.method = method,
            http.route = Empty,
            http.response.status_code = Empty,
        );
        traces::follow(&span, |name| request.headers().get(name)?.to_str().ok());
        Self { began, id, method, span }
    }

    /// What the work on the request belongs to.
    pub(super) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(super) fn end<B>(self, response: &mut ServiceResponse<B>) {
        let Self { began, id, method, span } = self;
        let status = response.status().as_u16();
        let route = response.request().app_data::<Pattern>().map_or("none", |Pattern(path)| path);
        if !span.is_disabled() {
            span.record("http.route", route);
            span.record("http.response.status_code", status);
        }
        let payment = response.request().extensions().get::<PaymentOfRequest>().map(|of| of.0);
        let payment = payment.map(tracing::field::display);
        let took = began.elapsed();
        meters().requests.note_time(meters::Request { route, method, status }, took);
        tracing::info!(
            request = id.to_str().unwrap_or_default(),
            method,
            route,
            status,
            latency_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            payment,
            "request"
        );
        response.headers_mut().insert(headers::REQUEST_ID, id);
    }
}
