//! Following a payment: one trace from the request through claim, provider and journal to the webhook.
//!
//! Spans are made by [`span!`] where the work is done. While `telemetry.otlp_endpoint` is not set, nobody wants them and
//! each costs a look at a number in memory. Across threads they travel in the messages; from the journal to the couriers,
//! who see only the books, by the entry's sequence in a table in memory, which a restart forgets.

use crate::trust;
use async_trait::async_trait;
use awc::ClientRequest;
use awc::{Client, Connector};
use opentelemetry::{
    KeyValue,
    propagation::TextMapPropagator,
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider},
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

/// What the spans of a trace are known by.
pub(super) const TARGET: &str = "strongroom::traces";

/// How many entries are remembered until a courier comes to them.
const REMEMBERED_MAX: usize = 16_384;
/// How many spans wait to be sent; more are dropped.
const WAITING_MAX: usize = 16_384;
/// How long the collector may take.
const SEND_WITHIN: Duration = Duration::from_secs(3);
/// The most that the collector may answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// The longest `tracestate` that is handed on, as W3C Trace Context has it at the least. It stays in memory with each span.
const STATE_BYTES_MAX: usize = 512;
/// How long the last spans may take when the process ends.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// A span of the trace that is being followed, if one is.
macro_rules! span {
    (parent: $parent:expr, $($rest:tt)*) => {
        tracing::trace_span!(target: "strongroom::traces", parent: $parent, $($rest)*)
    };
    ($($rest:tt)*) => {
        tracing::trace_span!(target: "strongroom::traces", $($rest)*)
    };
}
pub(crate) use span;

/// Sends traces; dropping it sends the last ones, for at most a moment.
#[derive(Debug)]
pub(super) struct Exporter(SdkTracerProvider);

impl Drop for Exporter {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(LAST_WITHIN) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// What makes spans into traces, of all requests or of some, and sends them to the collector at `endpoint`.
pub(super) fn exporter<S>(
    endpoint: &str,
    sample_ratio: f64,
) -> Result<(Exporter, impl Layer<S> + use<S>), Box<dyn std::error::Error + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
{
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::start()?)
        .with_protocol(Protocol::HttpJson)
        .with_endpoint(format!("{endpoint}/v1/traces"))
        .with_timeout(SEND_WITHIN)
        .build()?;
    let pace = BatchConfigBuilder::default()
        .with_max_queue_size(WAITING_MAX)
        .with_scheduled_delay(Duration::from_secs(1))
        .build();
    let batches = BatchSpanProcessor::builder(exporter).with_batch_config(pace).build();
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource =
        Resource::builder().with_service_name("strongroom").with_attribute(version).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample_ratio)));
    let provider = SdkTracerProvider::builder()
        .with_sampler(sampler)
        .with_span_processor(batches)
        .with_resource(resource)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("strongroom"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Targets::new().with_target(TARGET, Level::TRACE));
    Ok((Exporter(provider), layer))
}

/// Makes a span part of the trace that the request came with, as W3C Trace Context says.
pub fn follow<'a>(span: &Span, header: impl Fn(&str) -> Option<&'a str>) {
    if span.is_disabled() {
        return;
    }
    let named = ["traceparent", "tracestate"].into_iter();
    let said = named.filter_map(|name| Some((name.to_owned(), header(name)?.to_owned())));
    let fits =
        |(name, value): &(String, String)| name != "tracestate" || value.len() <= STATE_BYTES_MAX;
    let headers: HashMap<String, String> = said.filter(fits).collect();
    let context = TraceContextPropagator::new().extract(&headers);
    if context.span().span_context().is_valid() {
        drop(span.set_parent(context));
    }
}

/// A request to somebody else that carries what goes on with the trace; as it was if none is followed.
#[must_use]
pub fn onto(request: ClientRequest) -> ClientRequest {
    headers().into_iter().fold(request, |request, header| request.insert_header(header))
}

fn headers() -> HashMap<String, String> {
    let mut headers = HashMap::new();
    let span = Span::current();
    if !span.is_disabled() {
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
        // A `tracestate` of nothing says nothing.
        headers.retain(|_, value| !value.is_empty());
    }
    headers
}

static REMEMBERED: Mutex<BTreeMap<u64, SpanContext>> = Mutex::new(BTreeMap::new());

/// Remembers for the couriers by which span an entry came to be.
pub fn remember(sequence: u64, span: &Span) {
    if span.is_disabled() {
        return;
    }
    let context = span.context().span().span_context().clone();
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    remembered.insert(sequence, context);
    if remembered.len() > REMEMBERED_MAX {
        remembered.pop_first();
    }
}

/// Makes a span part of the trace in which an entry came to be, if that is still remembered.
pub fn go_on(span: &Span, sequence: u64) {
    if span.is_disabled() {
        return;
    }
    let remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(context) = remembered.get(&sequence).cloned() {
        let context = opentelemetry::Context::new().with_remote_span_context(context);
        drop(span.set_parent(context));
    }
}

type Sending = (Request<Bytes>, oneshot::Sender<Result<Response<Bytes>, HttpError>>);

/// The way to the collector: the exporter's own thread waits, another one sends.
#[derive(Debug)]
struct Collector(mpsc::UnboundedSender<Sending>);

impl Collector {
    fn start() -> std::io::Result<Self> {
        let (send, mut sent) = mpsc::unbounded_channel::<Sending>();
        thread::Builder::new().name("traces".into()).spawn(move || {
            actix_rt::System::new().block_on(async move {
                let connector = Connector::new().timeout(SEND_WITHIN).rustls_0_23(trust::tls());
                let client = Client::builder().connector(connector).disable_redirects();
                let client = client.timeout(SEND_WITHIN).finish();
                while let Some((request, reply)) = sent.recv().await {
                    let sent = timeout(SEND_WITHIN, post(&client, request)).await;
                    drop(reply.send(sent.unwrap_or_else(|slow| Err(slow.into()))));
                }
            });
        })?;
        Ok(Self(send))
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (reply, answered) = oneshot::channel();
        self.0.send((request, reply)).map_err(|_| "the thread that sends traces has ended")?;
        answered.await?
    }
}

async fn post(client: &Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = request.into_parts();
    let mut own = client.post(head.uri.to_string());
    for (name, value) in &head.headers {
        own = own.insert_header((name.as_str(), value.as_bytes()));
    }
    let mut answer = own.send_body(body).await.map_err(|error| error.to_string())?;
    let body = answer.body().limit(ANSWER_BYTES_MAX).await?;
    Ok(Response::builder().status(answer.status().as_u16()).body(body)?)
}
