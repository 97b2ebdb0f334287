//! What a start and a stop mean to connections: a request waits for the books to be recovered, and while the server
//! drains each answer is the last one on its connection.
//!
//! [`Drain`] is told by the stop order in `app`; what it counts is how many connections are open.

use super::Door;
use actix_web::{
    dev::{ServiceRequest, ServiceResponse},
    http::ConnectionType,
    web,
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{sync::SetOnce, time::timeout};

/// Whether the server drains, and the connections that are open.
#[derive(Debug, Default)]
pub struct Drain {
    began: SetOnce<()>,
    connections: AtomicUsize,
}

/// One open connection; dropped when it is closed.
pub(super) struct Connection(Arc<Drain>);

impl Drain {
    /// From now on `/ready` says no, and every answer closes its connection, so that clients look for another server.
    pub fn begin(&self) {
        drop(self.began.set(()));
    }

    /// Whether it has begun.
    pub fn began(&self) -> bool {
        self.began.get().is_some()
    }

    /// Waits until it begins.
    pub(super) async fn wait(&self) {
        self.began.wait().await;
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// Counts a connection until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Connection {
        self.connections.fetch_add(1, Ordering::AcqRel);
        Connection(self.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request that comes while the books are recovered waits for them, as long as a request may wait inside. Whether the
/// process lives and is ready is answered at once.
pub(super) async fn wait_for_books(request: &ServiceRequest) {
    if let Some(door) = request.app_data::<web::Data<Door>>()
        && door.core.get().is_none()
        && !matches!(request.path(), "/health" | "/ready" | "/metrics")
    {
        // The handler says "not yet" if they are not there even now.
        drop(timeout(door.limits.request_deadline, door.core.wait()).await);
    }
}

/// While the server drains, each answer is the last one on its connection.
pub(super) fn close_while_draining<B>(response: &mut ServiceResponse<B>) {
    let door = response.request().app_data::<web::Data<Door>>();
    if door.is_some_and(|door| door.drain.began()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
}
