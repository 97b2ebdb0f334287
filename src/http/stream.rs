//! A client's connection, which is closed if the client is too slow.
//!
//! The HTTP library times the head of a connection's first request only. So each connection has a pace of its own: no
//! time is counted while a request is worked on (its body has a limit of its own, see `body`), and in between
//!
//! - the first head has to be there `head` after the connection was made,
//! - a later one `head` after its first byte came,
//! - and an answer has to be taken, and the next request made, within [`TURN`].

use super::connections::Place;
use crate::meters::meters;
use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};
use tokio_rustls::server::TlsStream;

/// How long an answer may take to be read and the next request to be made.
pub(super) const TURN: Duration = Duration::from_secs(60);

/// Where a connection stands. Handlers find that of HTTP/1 in the connection's data, as an `Rc`.
pub(super) struct Pace {
    head: Duration,
    /// HTTP/2 has more than requests to send, so a byte does not begin a head.
    heads_begin: bool,
    serving: Cell<u32>,
    /// When the connection is closed; `None` while a request is worked on.
    until: Cell<Option<Instant>>,
    /// Whether nothing came since the last answer.
    quiet: Cell<bool>,
}

impl Pace {
    fn new(head: Duration, heads_begin: bool) -> Self {
        Self {
            head,
            heads_begin,
            serving: Cell::new(0),
            until: Cell::new(Some(Instant::now() + head)),
            quiet: Cell::new(false),
        }
    }

    /// A request is worked on until the result is dropped.
    pub(super) fn serve(self: &Rc<Self>) -> Serving {
        self.serving.set(self.serving.get().saturating_add(1));
        self.until.set(None);
        Serving(self.clone())
    }

    /// How many requests are worked on at once on this connection.
    pub(super) fn serving(&self) -> u32 {
        self.serving.get()
    }

    fn came(&self) {
        if self.serving.get() == 0 && self.quiet.replace(false) && self.heads_begin {
            let head = Instant::now() + self.head;
            self.until.set(Some(self.until.get().map_or(head, |until| until.min(head))));
        }
    }
}

/// A request that is worked on.
pub(super) struct Serving(Rc<Pace>);

impl Drop for Serving {
    fn drop(&mut self) {
        let left = self.0.serving.get().saturating_sub(1);
        self.0.serving.set(left);
        if left == 0 {
            self.0.until.set(Some(Instant::now() + TURN));
            self.0.quiet.set(true);
        }
    }
}

/// What the connection speaks below HTTP.
pub(super) enum Wire {
    /// Nothing.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection with its pace, and with its place among the connections.
pub(super) struct Paced {
    wire: Wire,
    pace: Rc<Pace>,
    alarm: Pin<Box<Sleep>>,
    /// Whether its client was too slow.
    is_over: bool,
    _place: Place,
}

impl Paced {
    /// A connection whose first head is waited for from now on.
    pub(super) fn new(wire: Wire, place: Place, head: Duration, is_h2: bool) -> Self {
        let pace = Rc::new(Pace::new(head, !is_h2));
        Self { wire, pace, alarm: Box::pin(sleep(head)), is_over: false, _place: place }
    }

    /// Whether HTTP/2 is spoken on it.
    pub(super) fn is_h2(&self) -> bool {
        !self.pace.heads_begin
    }

    pub(super) fn pace(&self) -> Rc<Pace> {
        self.pace.clone()
    }

    /// An error once the client was too slow. Else whoever polls is woken when that may be so.
    ///
    /// The alarm is not set anew with each request: it rings at least every `head`, and is then set to what holds.
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let latest = now + self.pace.head;
            let next = match self.pace.until.get() {
                Some(until) if until <= now => {
                    if !self.is_over {
                        meters().connections_ended.note("too_slow", 0);
                    }
                    self.is_over = true;
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Some(until) => until.min(latest),
                None => latest,
            };
            self.alarm.as_mut().reset(next);
        }
        Ok(())
    }

    fn wire(&mut self) -> Pin<&mut dyn Both> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream),
            Wire::Tls(stream) => Pin::new(&mut **stream),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl Both for TcpStream {}
impl Both for TlsStream<TcpStream> {}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        let before = buffer.filled().len();
        ready!(self.wire().poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pace.came();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Paced {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        self.wire().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        self.wire().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(stream) => stream.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        self.wire().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        self.wire().poll_shutdown(cx)
    }
}
