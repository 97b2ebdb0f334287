//! What a request says outside its body: who asks, under which idempotency key, under which id.

use super::{Door, gate, reply::Problem};
use crate::{
    credentials::{KeyKind, Principal},
    domain::{
        access::{self, Scope},
        card_number::contains_card_number,
        idempotency::Key,
    },
};
use actix_web::{
    HttpRequest,
    http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use std::sync::Arc;

const REQUEST_ID_LENGTH_MAX: usize = 128;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Carries the request's id, there and back.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What credentials begin with that are no keys of this server.
const CREDENTIALS: [&str; 3] = ["rk_live_", "rk_test_", "whsec_"];

/// The caller's own id if it sent a usable one (it is logged, so no card number or credential may be in it), else a new
/// one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let usable = |value: &&HeaderValue| {
        (1..=REQUEST_ID_LENGTH_MAX).contains(&value.len())
            && value.as_bytes().iter().all(u8::is_ascii_graphic)
            && !value.to_str().is_ok_and(|id| contains_card_number(id) || holds_credential(id))
    };
    match headers.get(REQUEST_ID).filter(usable) {
        Some(own) => own.clone(),
        None => {
            let id = uuid::Uuid::new_v4().simple().to_string();
            HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("none"))
        }
    }
}

/// Who asks, if the key lets its holder do this. A merchant that is disabled may still look.
pub(super) fn holder(
    request: &HttpRequest,
    door: &Door,
    scope: Scope,
) -> Result<Principal, Problem> {
    let principal = principal(request, door)?;
    if !principal.may(scope) {
        return Err(Problem::scope_missing(scope));
    }
    if let (Principal::Merchant { id, .. }, Scope::PaymentsWrite | Scope::WebhooksWrite) =
        (&principal, scope)
        && let Some(core) = door.core.get()
    {
        let name = access::name_outside(id);
        let books = core.books.read();
        let made = books.access().merchant(name);
        if made.is_some_and(|(_, made)| !made.enabled) && door.configured(name).is_none() {
            return Err(Problem::merchant_disabled());
        }
    }
    Ok(principal)
}

fn holds_credential(text: &str) -> bool {
    let own = KeyKind::ALL.into_iter().map(KeyKind::prefix);
    own.chain(CREDENTIALS).any(|prefix| text.contains(prefix))
}

/// Who asks, if that is not more often than it may.
pub(super) fn principal(request: &HttpRequest, door: &Door) -> Result<Principal, Problem> {
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let presented = match (headers.next(), headers.next()) {
        // Whoever presents no key has guessed nothing.
        (None, _) => return Err(Problem::unauthenticated()),
        (Some(value), None) => value.to_str().ok().and_then(bearer),
        _ => None,
    };
    gate::may_present(request, door)?;
    let Some(principal) = recognized(presented, door)? else {
        gate::unknown(request, door);
        return Err(Problem::unauthenticated());
    };
    gate::known(request, door, &principal)?;
    Ok(principal)
}

/// Whose key it is; `None` if it is nobody's.
fn recognized(presented: Option<&str>, door: &Door) -> Result<Option<Principal>, Problem> {
    let Some(presented) = presented else { return Ok(None) };
    let configured = door.credentials.authenticate(presented);
    if configured.is_some() {
        return Ok(configured);
    }
    // Whether the books know it can't be told before there are any.
    let core = door.core()?;
    let now = core.clock.now();
    let books = core.books.read();
    let access = books.access();
    let recognized = door.credentials.recognize(presented, access, now);
    // A merchant that is not in the configuration any more has left its keys behind.
    let is_there = |principal: &Principal| match principal {
        Principal::Merchant { id, .. } => {
            let name = access::name_outside(id);
            access.merchant(name).is_some() || door.configured(name).is_some()
        }
        Principal::Admin { .. } => true,
    };
    Ok(recognized.filter(is_there))
}

/// Lets only an admin pass, and says which key it was.
pub(super) fn admin(request: &HttpRequest, door: &Door) -> Result<Arc<str>, Problem> {
    match principal(request, door)? {
        Principal::Admin { actor } => Ok(actor),
        Principal::Merchant { .. } => Err(Problem::admin_only()),
    }
}

pub(super) fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim_start_matches(' '))
}

/// The key that the request came under, from the header or the query.
pub(super) fn idempotency_key(
    request: &HttpRequest,
    in_query: Option<&str>,
) -> Result<Option<Key>, Problem> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let in_header = match (values.next(), values.next()) {
        (None, _) => None,
        (Some(value), None) => {
            let text = value.to_str().map_err(|_| Problem::key_invalid())?;
            Some(read_key(text)?)
        }
        (Some(_), Some(_)) => return Err(Problem::key_ambiguous()),
    };
    match (in_header, in_query.map(read_key).transpose()?) {
        (Some(header), Some(query)) if header != query => Err(Problem::key_ambiguous()),
        (header, query) => Ok(header.or(query)),
    }
}

/// A key written bare, or as the quoted string of draft-ietf-httpapi-idempotency-key-header (RFC 8941 §3.3.3).
pub(super) fn read_key(text: &str) -> Result<Key, Problem> {
    let key = match text.strip_prefix('"') {
        None => Key::new(text),
        Some(rest) => rest.strip_suffix('"').and_then(unescape).and_then(|text| Key::new(&text)),
    };
    key.ok_or_else(Problem::key_invalid)
}

/// The inside of a quoted string; `None` if a quote or backslash stands in it unescaped.
fn unescape(quoted: &str) -> Option<String> {
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => text.push(characters.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            _ => text.push(character),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_bare_and_quoted() {
        let bare = read_key("order_12345").unwrap();
        assert_eq!(read_key("\"order_12345\"").unwrap(), bare);
        assert_eq!(read_key(r#""a\"b\\c""#).unwrap().as_str(), r#"a"b\c"#);
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for text in ["", "\"\"", "\"open", r#""a"b""#, r#""a\b""#, "with space", "\"with space\""] {
            assert!(read_key(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_a_bearer_scheme_carries_a_key() {
        assert_eq!(bearer("Bearer sk_1"), Some("sk_1"));
        assert_eq!(bearer("bearer sk_1"), Some("sk_1"));
        assert_eq!(bearer("Basic sk_1"), None);
        assert_eq!(bearer("sk_1"), None);
    }
}
