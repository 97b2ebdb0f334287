//! HTTP/2 on one connection.
//!
//! The HTTP library's own dispatcher tells clients of no bound on requests at once, keeps answers that nobody reads for
//! ever, and closes without a word. So the connection is driven here: no more than [`AT_ONCE_MAX`] requests at a time, each
//! from its head until its answer was taken, for which there is [`TURN`]; and when the server drains, whoever is connected
//! is told to go on elsewhere (GOAWAY) while what it has asked is answered.

use super::{
    gate::HEADER_BYTES_MAX,
    lifecycle::Drain,
    stream::{Paced, TURN},
};
use crate::clock::{Clock, SystemClock};
use actix_http::{
    Payload, Request, Response, ResponseHead,
    body::{BodySize, BoxBody, MessageBody},
};
use actix_service::Service;
use actix_web::{
    http::{
        Method,
        header::{CONTENT_LENGTH, DATE, HeaderValue, HttpDate},
    },
    web::Bytes,
};
use h2::{
    Reason, RecvStream,
    server::{Builder, SendResponse},
};
use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};
use tokio::{task::spawn_local, time::timeout};

/// The most requests at once on one connection. More are refused (`REFUSED_STREAM`), which says that nothing was done.
const AT_ONCE_MAX: u32 = 128;
/// The largest head that is looked at at all, as HTTP/2 counts it; what is larger gets a bare 431.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// How much of a request's body may be under way, and of all bodies on a connection.
const BODY_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of an answer is handed on at a time.
const CHUNK: usize = 16 * 1024;

const _: () =
    assert!(HEADER_BYTES_MAX < 64 * 1024, "too large a head gets a problem document first");

/// Serves requests until either side has had enough.
///
/// # Errors
/// The client broke the protocol, was too slow, or is gone.
pub(super) async fn serve<S, B>(
    stream: Paced,
    peer: Option<SocketAddr>,
    app: Rc<S>,
    drain: Arc<Drain>,
) -> Result<(), h2::Error>
where
    S: Service<Request> + 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let _counted = drain.enter();
    let pace = stream.pace();
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(AT_ONCE_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_window_size(BODY_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut connection = builder.handshake::<_, Bytes>(stream).await?;
    let mut is_leaving = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = drain.wait(), if !is_leaving => {
                connection.graceful_shutdown();
                is_leaving = true;
                continue;
            }
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (request, mut answer) = accepted?;
        // What the client gave up counts for as long as it is worked on.
        if pace.serving() >= AT_ONCE_MAX {
            answer.send_reset(Reason::REFUSED_STREAM);
            continue;
        }
        let serving = pace.serve();
        let is_head = request.method() == Method::HEAD;
        let answering = app.call(translated(request, peer));
        spawn_local(async move {
            let sent = match answering.await {
                Ok(response) => timeout(TURN, send(response.into(), &mut answer, is_head)).await,
                Err(error) => timeout(TURN, send(error.into(), &mut answer, is_head)).await,
            };
            // Nobody takes it, or nobody is there any more.
            if !matches!(sent, Ok(Ok(()))) {
                answer.send_reset(Reason::CANCEL);
            }
            drop(serving);
        });
    }
}

fn translated(request: http::Request<RecvStream>, peer: Option<SocketAddr>) -> Request {
    let (parts, body) = request.into_parts();
    let mut request = Request::with_payload(Payload::from(body));
    let head = request.head_mut();
    head.uri = parts.uri;
    head.method = parts.method;
    head.version = parts.version;
    head.headers = parts.headers.into();
    head.peer_addr = peer;
    request
}

/// Why an answer was not sent to its end.
struct Broken;

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Self {
        Self
    }
}

async fn send<B: MessageBody>(
    response: Response<B>,
    answer: &mut SendResponse<Bytes>,
    is_head: bool,
) -> Result<(), Broken> {
    let size = response.body().size();
    let ends = is_head || matches!(size, BodySize::None | BodySize::Sized(0));
    let mut stream = answer.send_response(head(response.head(), size), ends)?;
    if ends {
        return Ok(());
    }
    let mut body = pin!(response.into_body());
    while let Some(chunk) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {
        let mut chunk = chunk.map_err(|_| Broken)?;
        while !chunk.is_empty() {
            stream.reserve_capacity(chunk.len().min(CHUNK));
            let room = poll_fn(|cx| stream.poll_capacity(cx)).await.ok_or(Broken)??;
            let part = chunk.split_to(room.min(chunk.len()));
            stream.send_data(part, false)?;
        }
    }
    Ok(stream.send_data(Bytes::new(), true)?)
}

/// The head of an answer, without what says something about a connection of HTTP/1.
fn head(own: &ResponseHead, size: BodySize) -> http::Response<()> {
    const OF_CONNECTIONS: [&str; 5] =
        ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];
    let mut response = http::Response::new(());
    *response.status_mut() = own.status;
    let headers = response.headers_mut();
    let said = own.headers.iter();
    for (name, value) in said.filter(|(name, _)| !OF_CONNECTIONS.contains(&name.as_str())) {
        headers.append(name, value.clone());
    }
    if let BodySize::Sized(length) = size {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let now = UNIX_EPOCH + Duration::from_millis(SystemClock::default().now().millis());
    if let Ok(now) = HeaderValue::from_str(&HttpDate::from(now).to_string()) {
        headers.entry(DATE).or_insert(now);
    }
    response
}
