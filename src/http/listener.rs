//! From an accepted connection to HTTP: its place, TLS, its pace. Connections beyond what is allowed are shed.

use super::{
    Door, Limits,
    connections::{Connections, Place},
    gate, lifecycle, observe,
    reply::Problem,
    routes,
    stream::{Paced, Wire},
};
use crate::actors::Unavailable;
use actix_http::{HttpService, Protocol, error::DispatchError};
use actix_server::Server;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::{App, Error, dev::AppConfig, middleware::from_fn, web};
use std::{
    io,
    net::{SocketAddr, TcpListener},
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

/// What connections are accepted with.
struct Entrance {
    connections: Arc<Connections>,
    tls: Option<TlsAcceptor>,
    head: Duration,
    /// How many are told no at once; more are just closed.
    farewells: Semaphore,
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
    let entrance = Arc::new(Entrance {
        connections: Arc::new(connections),
        tls,
        head: head_read_timeout,
        farewells: Semaphore::new(spare / 2),
    });
    if let Some(certificate) = door.tls.clone() {
        actix_rt::spawn(certificate.watch(door.clone()));
    }
    let server = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections_max.div_ceil(workers.max(1)))
        .disable_signals()
        .shutdown_timeout(5);
    let closing = server.graceful_shutdown_signal();
    let server = server.listen("door", listener, move || {
        let (closing, drain) = (closing.clone(), door.drain.clone());
        let app = App::new()
            .app_data(door.clone())
            .wrap(from_fn(lifecycle::lifecycle))
            .wrap(from_fn(gate::pass))
            .wrap(from_fn(observe::observe))
            .configure(routes)
            .into_factory()
            .map_err(|error: Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let closing = closing.clone();
                async move { closing.notified().await }
            })
            // The stream times every head, not only the first.
            .client_request_timeout(Duration::ZERO)
            .client_disconnect_timeout(FAREWELL)
            .on_connect_ext(move |stream: &Paced, data| {
                data.insert(stream.pace());
                drain.count(data);
            })
            .finish(map_config(app, |()| AppConfig::default()));
        let entrance = entrance.clone();
        fn_service(move |stream: TcpStream| enter(entrance.clone(), stream)).and_then(http)
    })?;
    Ok(server.run())
}

async fn enter(
    entrance: Arc<Entrance>,
    stream: TcpStream,
) -> Result<(Paced, Protocol, Option<SocketAddr>), DispatchError> {
    let peer = stream.peer_addr().ok();
    let Some(place) = entrance.connections.enter(peer.map(|peer| peer.ip())) else {
        entrance.shed(stream).await;
        return Err(DispatchError::DisconnectTimeout);
    };
    let (stream, protocol) = entrance.paced(stream, place).await.map_err(DispatchError::Io)?;
    Ok((stream, protocol, peer))
}

impl Entrance {
    async fn paced(&self, stream: TcpStream, place: Place) -> io::Result<(Paced, Protocol)> {
        let Some(tls) = &self.tls else {
            let stream = Paced::new(Wire::Plain(stream), place, self.head, false);
            return Ok((stream, Protocol::Http1));
        };
        let stream = timeout(self.head, tls.accept(stream)).await??;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let protocol = if is_h2 { Protocol::Http2 } else { Protocol::Http1 };
        Ok((Paced::new(Wire::Tls(Box::new(stream)), place, self.head, is_h2), protocol))
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
