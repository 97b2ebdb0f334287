//! From an accepted connection to HTTP: its place, TLS, its pace. Connections beyond what is allowed are shed.

use super::{
    Door, Limits, around,
    connections::{Connections, Place},
    http2,
    lifecycle::Drain,
    metrics,
    reply::Problem,
    resource, routes,
    stream::{Paced, Wire},
};
use crate::{actors::Unavailable, meters::meters};
use actix_http::{HttpService, Request, Response, body::MessageBody, error::DispatchError};
use actix_server::Server;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt, fn_factory, into_service,
};
use actix_web::{App, Error, dev::AppConfig, middleware::from_fn, web};
use std::{
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// How long a connection may be kept that was told no, so that its client hears it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Connections at once to the listener that shows metrics without a key.
const METRICS_CONNECTIONS_MAX: usize = 64;

/// What connections are accepted with.
struct Entrance {
    connections: Arc<Connections>,
    tls: Option<TlsAcceptor>,
    head: Duration,
    /// How many are told no at once; more are just closed.
    farewells: Semaphore,
    drain: Arc<Drain>,
}

/// Starts serving on `listener`. The server stops when told to by its handle; it handles no signals.
///
/// # Errors
/// The listener or the certificate can't be used.
pub fn serve(listener: TcpListener, door: web::Data<Door>) -> io::Result<Server> {
    let Limits { workers, connections_max, connections_per_address, head_read_timeout, .. } =
        door.limits;
    // A few connections are left for telling others no.
    let spare = (connections_max / 8).min(16);
    let open_max = connections_max.saturating_sub(spare);
    let trusted = door.trusted_proxies.clone();
    let connections = Connections::new(open_max, connections_per_address, trusted);
    let tls = door.tls.as_ref().map(|certificate| certificate.config()).transpose();
    let tls = tls.map_err(io::Error::other)?.map(|config| TlsAcceptor::from(Arc::new(config)));
    let entrance = Entrance {
        connections: Arc::new(connections),
        tls,
        head: head_read_timeout,
        farewells: Semaphore::new(spare / 2),
        drain: door.drain.clone(),
    };
    if let Some(certificate) = door.tls.clone() {
        actix_rt::spawn(certificate.watch(door.clone()));
    }
    let app =
        move || App::new().app_data(door.clone()).wrap(from_fn(around::api)).configure(routes);
    listen(listener, entrance, (workers, connections_max), app)
}

/// Starts serving `/metrics` and nothing else on `listener`, without asking for a key.
///
/// # Errors
/// The listener can't be used.
pub fn serve_metrics(listener: TcpListener, door: web::Data<Door>) -> io::Result<Server> {
    let connections = Connections::new(METRICS_CONNECTIONS_MAX, usize::MAX, Vec::new());
    let entrance = Entrance {
        connections: Arc::new(connections),
        tls: None,
        head: door.limits.head_read_timeout,
        farewells: Semaphore::new(1),
        // It is shown until the end, and keeps nobody waiting.
        drain: Arc::default(),
    };
    let app = move || {
        App::new()
            .app_data(door.clone())
            .wrap(from_fn(around::uncounted))
            .service(resource("/metrics", [("GET", web::get().to(metrics::read_without_key))]))
            .default_service(web::to(|| async { Problem::no_such_route() }))
    };
    listen(listener, entrance, (1, METRICS_CONNECTIONS_MAX + 1), app)
}

/// Serves an application on a listener, with so many threads and connections at once.
fn listen<A, F, B>(
    listener: TcpListener,
    entrance: Entrance,
    (workers, connections_max): (usize, usize),
    app: impl Fn() -> A + Clone + Send + 'static,
) -> io::Result<Server>
where
    A: IntoServiceFactory<F, Request>,
    F: ServiceFactory<Request, Config = AppConfig, Error = Error, InitError = ()> + 'static,
    F::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections_max.div_ceil(workers.max(1)))
        .disable_signals()
        .shutdown_timeout(5);
    let closing = server.graceful_shutdown_signal();
    let entrance = Arc::new(entrance);
    let server = server.listen("door", listener, move || {
        let (app, entrance, closing) = (app.clone(), entrance.clone(), closing.clone());
        fn_factory(move || {
            let (app, entrance, closing) = (app(), entrance.clone(), closing.clone());
            async move {
                let app = app.into_factory().map_err(|error| error.error_response());
                let app = Rc::new(app.new_service(AppConfig::default()).await?);
                let (of_app, drain) = (app.clone(), entrance.drain.clone());
                let http1 = HttpService::build()
                    .graceful_shutdown_signal(move || {
                        let closing = closing.clone();
                        async move { closing.notified().await }
                    })
                    // The stream times every head, not only the first.
                    .client_request_timeout(Duration::ZERO)
                    .client_disconnect_timeout(FAREWELL)
                    .on_connect_ext(move |stream: &Paced, data| {
                        data.insert(stream.pace());
                        data.insert(drain.enter());
                    })
                    .h1(fn_factory(move || ready(Ok::<_, ()>(of_app.clone()))));
                let http1 = Rc::new(http1.new_service(()).await?);
                Ok::<_, ()>(into_service(move |stream: TcpStream| {
                    let (entrance, http1, app) = (entrance.clone(), http1.clone(), app.clone());
                    async move {
                        let Some((stream, peer)) = entrance.enter(stream).await? else {
                            return Ok(());
                        };
                        if stream.is_h2() {
                            let served = http2::serve(stream, peer, app, entrance.drain.clone());
                            return served.await.map_err(DispatchError::H2);
                        }
                        http1.call((stream, peer)).await
                    }
                }))
            }
        })
    })?;
    Ok(server.run())
}

impl Entrance {
    /// The connection with its place, or `None` if there is none for it.
    async fn enter(
        &self,
        stream: TcpStream,
    ) -> Result<Option<(Paced, Option<SocketAddr>)>, DispatchError> {
        let peer = stream.peer_addr().ok();
        let place = match self.connections.enter(peer.map(|peer| peer.ip())) {
            Ok(place) => place,
            Err(why) => {
                meters().connections_ended.note(why, 0);
                self.shed(stream).await;
                return Ok(None);
            }
        };
        let stream = self.paced(stream, place).await.map_err(DispatchError::Io)?;
        Ok(Some((stream, peer)))
    }

    async fn paced(&self, stream: TcpStream, place: Place) -> io::Result<Paced> {
        let Some(tls) = &self.tls else {
            return Ok(Paced::new(Wire::Plain(stream), place, self.head, false));
        };
        let stream = match timeout(self.head, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                meters().connections_ended.note("no_tls", 0);
                return Err(error);
            }
            Err(slow) => {
                meters().connections_ended.note("too_slow", 0);
                return Err(slow.into());
            }
        };
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok(Paced::new(Wire::Tls(Box::new(stream)), place, self.head, is_h2))
    }

    /// Tells a connection that there is no place for it, if it can be told in a moment, and closes it.
    async fn shed(&self, mut stream: TcpStream) {
        let Ok(_turn) = self.farewells.try_acquire() else { return };
        if self.tls.is_some() {
            return;
        }
        let no = Problem::from(Unavailable::Overloaded).to_http();
        let told = async {
            stream.write_all(&no).await?;
            stream.shutdown().await?;
            // Closing it with a request unread would take the answer away again.
            let mut rest = [0; 1024];
            while stream.read(&mut rest).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        drop(timeout(FAREWELL, told).await);
    }
}
