//! What a supervisor such as systemd hands over, and what it wants to hear. Nothing of it is needed.

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;
use std::{
    env, io,
    net::TcpListener,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
};

/// The server takes requests.
pub(super) const READY: &str = "READY=1";
/// The server was told to stop.
pub(super) const STOPPING: &str = "STOPPING=1";

/// A socket was handed over that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongSocket {
    /// More than one, and nothing says what the others are for.
    #[error("LISTEN_FDS hands over {count} sockets; one TCP socket is expected")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// Not TCP.
    #[error("LISTEN_FDS hands over a socket that is no TCP socket that listens")]
    NotTcp(#[source] io::Error),
}

/// The listening socket that was handed over to this process (`LISTEN_FDS`, `LISTEN_PID`), if one was.
pub(super) fn inherited() -> Result<Option<TcpListener>, WrongSocket> {
    let mut handed_over = ListenFd::from_env();
    let count = handed_over.len();
    if count > 1 {
        return Err(WrongSocket::TooMany { count });
    }
    let listener = handed_over.take_tcp_listener(0).map_err(WrongSocket::NotTcp)?;
    if let Some(listener) = &listener {
        match socket_acceptconn(listener).map_err(io::Error::from) {
            Ok(true) => {}
            Ok(false) => return Err(WrongSocket::NotTcp(io::Error::other("nobody listens on it"))),
            Err(error) => return Err(WrongSocket::NotTcp(error)),
        }
    }
    Ok(listener)
}

/// Tells the supervisor, if it wants to be told (`NOTIFY_SOCKET`).
pub(super) fn notify(state: &str) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&socket),
    };
    let told = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!(%error, state, "the supervisor could not be told (NOTIFY_SOCKET)");
    }
}
