//! What every request has to pass before its handler is asked: its head is no larger than it may be, and it does not come
//! more often than it may.

use super::{Door, address, address::Origin, rates::Standing, reply::Problem};
use crate::credentials::Principal;
use actix_web::{
    HttpMessage, HttpRequest,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, HeaderName, HeaderValue},
    web,
};

/// The most header fields of a request.
pub(super) const HEADERS_MAX: usize = 64;
/// The most bytes of all header fields together.
pub(super) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// The longest path, in bytes as sent.
pub(super) const PATH_BYTES_MAX: usize = 2048;
/// The longest query, in bytes as sent.
pub(super) const QUERY_BYTES_MAX: usize = 4096;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// Where the request came from, if limits hold for it.
#[derive(Clone, Copy)]
struct Counted(Origin);

/// Says what is left of the limit that the request counted under, if one holds for it.
pub(super) fn tell_standing<B>(response: &mut ServiceResponse<B>) {
    let standing = response.request().extensions_mut().remove::<Standing>();
    if let Some(standing) = standing {
        tell(&standing, response.headers_mut());
    }
}

/// Says what is left of a limit.
pub(super) fn tell(standing: &Standing, headers: &mut HeaderMap) {
    for (name, text) in [(POLICY, &*standing.policy), (LEFT, &standing.left)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
}

/// Whether a request may pass.
pub(super) fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    fits(request)?;
    let door = request.app_data::<web::Data<Door>>().ok_or_else(Problem::internal)?;
    let Some(peer) = request.peer_addr() else { return Ok(()) };
    let asker = address::asker(peer.ip(), request.headers(), &door.trusted_proxies);
    if asker.is_near && !door.rates.count_loopback() {
        return Ok(());
    }
    let origin = Origin::of(asker.address);
    request.extensions_mut().insert(Counted(origin));
    match request.path() {
        // Whoever watches the server must not take it for dead.
        "/health" | "/ready" => Ok(()),
        _ => door.rates.ask_from(origin),
    }
}

/// Whether a request is no larger than it may be.
pub(super) fn fits(request: &ServiceRequest) -> Result<(), Problem> {
    let uri = request.uri();
    if uri.path().len() > PATH_BYTES_MAX {
        return Err(Problem::uri_too_long("path", PATH_BYTES_MAX));
    }
    if uri.query().unwrap_or_default().len() > QUERY_BYTES_MAX {
        return Err(Problem::uri_too_long("query", QUERY_BYTES_MAX));
    }
    let sizes = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let (count, bytes) = sizes.fold((0, 0), |(count, all), size| (count + 1, all + size));
    if count > HEADERS_MAX || bytes > HEADER_BYTES_MAX {
        return Err(Problem::headers_too_large(HEADERS_MAX, HEADER_BYTES_MAX));
    }
    Ok(())
}

/// Whether a key that this request presents may be looked at at all.
pub(super) fn may_present(request: &HttpRequest, door: &Door) -> Result<(), Problem> {
    let counted = request.extensions().get::<Counted>().copied();
    counted.map_or(Ok(()), |Counted(origin)| door.rates.may_present(origin))
}

/// Counts a request under its key, once.
pub(super) fn known(
    request: &HttpRequest,
    door: &Door,
    principal: &Principal,
) -> Result<(), Problem> {
    let mut extensions = request.extensions_mut();
    if !extensions.contains::<Counted>() || extensions.contains::<Standing>() {
        return Ok(());
    }
    if let Some(standing) = door.rates.ask_under(principal.actor())? {
        extensions.insert(standing);
    }
    Ok(())
}

/// Counts a key that is nobody's.
pub(super) fn unknown(request: &HttpRequest, door: &Door) {
    let counted = request.extensions().get::<Counted>().copied();
    if let Some(Counted(origin)) = counted {
        door.rates.wrong_key(origin);
    }
}
