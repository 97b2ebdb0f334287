//! `/api/merchants`, their keys, the keys of admins, and `/api/audit`: who may come in, and what admins did. For admins.

mod shown;

use super::{
    Core, Door,
    body::{self, Body},
    headers,
    query::{Query, cut_page},
    reply::Problem,
    wire::PageBody,
};
use crate::{
    clock::new_uuid,
    config::{ADMIN, is_name},
    domain::{
        access::{AccessEvent, AccessRecord, Deed, Holder, Key, Mode, Scope},
        id::{KeyId, Sequence},
        time::Timestamp,
    },
    wire::{
        requests::{
            AfterEntry, Limit, MerchantChange, NewAdminKey, NewKey, NewMerchant, OfApiKey, OfHolder,
        },
        schema::KeyIdText,
    },
};
use actix_web::{HttpRequest, HttpResponse, web};
use shown::{DeedBody, KeyBody, MerchantBody};
use std::sync::Arc;

const NAME_CHARACTERS_MAX: usize = 200;
const LABEL_CHARACTERS_MAX: usize = 100;

type Handled = Result<HttpResponse, Problem>;

/// The body of a request that only an admin may make, who it was, and what stands behind the door.
async fn received<'a>(
    request: &HttpRequest,
    payload: web::Payload,
    door: &'a Door,
) -> Result<(Arc<str>, &'a Core, Body), Problem> {
    let who = || {
        let actor = headers::admin(request, door)?;
        let core = door.core()?;
        core.writing()?;
        Ok((actor, core))
    };
    let ((actor, core), body) = body::only(request, payload, door, who).await?;
    Ok((actor, core, body))
}

/// Makes what an admin did durable.
async fn record(core: &Core, actor: Arc<str>, event: AccessEvent) -> Result<(), Problem> {
    let engine = &core.writing()?.engine;
    let _place = engine.admission.enter()?;
    engine.disk_answers()?;
    let _room = engine.admission.reserve(0, &core.books)?;
    let record = AccessRecord { actor, event };
    engine.ledger.record_access(record, core.clock.now()).await?;
    Ok(())
}

/// Puts on record that an admin asked for something that changes no books. It is done even if that can't be written now.
pub(super) async fn asked(core: &Core, actor: Arc<str>, what: &str) {
    if core.writing.is_none() {
        return;
    }
    let event = AccessEvent::Asked(what.into());
    if let Err(problem) = record(core, actor.clone(), event).await {
        tracing::warn!(%actor, what, %problem, "what an admin asked for is not in the audit trail");
    }
}

/// Makes a merchant (admin).
///
/// It has no key yet.
#[utoipa::path(post, path = "/api/merchants", tag = "Access", operation_id = "createMerchant",
    request_body = NewMerchant,
    responses((status = 201, description = "Made.", body = MerchantBody,
        headers(("Location" = String, description = "Where to read it.")))),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["merchant_exists", "too_many"]))))]
pub(super) async fn make_merchant(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (actor, core, mut body) = received(&request, payload, &door).await?;
    let id = body.text("id", NAME_CHARACTERS_MAX);
    let fits = |id: &str| is_name(id) && id != ADMIN;
    if id.as_deref().is_some_and(|id| !fits(id)) {
        body.fault("id", "must be 1 to 64 of A-Z a-z 0-9 _ and -, and not admin");
    }
    let id = body.require("id", id);
    let name = body.free_text("name", NAME_CHARACTERS_MAX);
    body.finish()?;
    let id: Arc<str> = id.unwrap_or_default().into();
    if door.merchant(&id).is_some() {
        return Err(Problem::merchant_exists());
    }
    let name = name.map(String::into_boxed_str);
    record(core, actor, AccessEvent::MerchantMade { id: id.clone(), name }).await?;
    let made = MerchantBody::find(&door, core, &id).ok_or_else(Problem::no_such_merchant)?;
    let location = format!("/api/merchants/{id}");
    Ok(HttpResponse::Created().insert_header(("Location", location)).json(made))
}

/// Lists merchants (admin).
///
/// By id; those of the configuration and those made here.
#[utoipa::path(get, path = "/api/merchants", tag = "Access", operation_id = "listMerchants",
    params(Limit, ("after" = Option<String>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "A page of merchants.", body = PageBody<MerchantBody>)),
    security(("adminKey" = [])))]
pub(super) async fn merchants(request: HttpRequest, door: web::Data<Door>) -> Handled {
    headers::admin(&request, &door)?;
    let mut query = Query::of(&request);
    let (limit, after) = (query.limit(), query.text("after"));
    query.finish()?;
    let after = after.as_deref();
    let configured = door.merchants.iter().filter(|id| after.is_none_or(|after| *after < ***id));
    let mut all: Vec<_> = configured.map(MerchantBody::configured).collect();
    {
        let books = door.core()?.books.read();
        let made = books.access().merchants(after).take(limit.saturating_add(1));
        all.extend(made.map(|(id, merchant)| MerchantBody::of(id, merchant)));
    }
    // Of one that stands in both, what the configuration says is shown: the sort keeps it in front.
    all.sort_by(|one, other| one.id.cmp(&other.id));
    all.dedup_by(|one, other| one.id == other.id);
    let next = cut_page(&mut all, limit, |merchant| merchant.id.to_string());
    Ok(HttpResponse::Ok().json(PageBody { data: all, next }))
}

/// The merchant that the path names.
fn merchant_of_path(request: &HttpRequest, door: &Door) -> Result<MerchantBody, Problem> {
    let id = request.match_info().get("id").unwrap_or_default();
    MerchantBody::find(door, door.core()?, id).ok_or_else(Problem::no_such_merchant)
}

/// Shows a merchant (admin).
///
/// Its keys are listed apart.
#[utoipa::path(get, path = "/api/merchants/{id}", tag = "Access", operation_id = "readMerchant",
    params(OfHolder),
    responses((status = 200, description = "The merchant.", body = MerchantBody)),
    security(("adminKey" = [])))]
pub(super) async fn read_merchant(request: HttpRequest, door: web::Data<Door>) -> Handled {
    headers::admin(&request, &door)?;
    Query::of(&request).finish()?;
    Ok(HttpResponse::Ok().json(merchant_of_path(&request, &door)?))
}

/// Changes a merchant (admin).
///
/// A disabled merchant's keys may look, and change nothing.
#[utoipa::path(patch, path = "/api/merchants/{id}", tag = "Access", operation_id = "updateMerchant",
    params(OfHolder), request_body = Option<MerchantChange>,
    responses((status = 200, description = "As it is now.", body = MerchantBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["merchant_configured"]))))]
pub(super) async fn change_merchant(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (actor, core, mut body) = received(&request, payload, &door).await?;
    let merchant = merchant_of_path(&request, &door)?;
    let name = body.free_text("name", NAME_CHARACTERS_MAX).map(String::into_boxed_str);
    let enabled = body.boolean("enabled");
    body.finish()?;
    if merchant.origin == "config" {
        return Err(Problem::merchant_of_config());
    }
    if name.is_some() || enabled.is_some() {
        let event = AccessEvent::MerchantSet { id: merchant.id, name, enabled };
        record(core, actor, event).await?;
    }
    Ok(HttpResponse::Ok().json(merchant_of_path(&request, &door)?))
}

/// Makes a merchant's API key (admin).
///
/// `key` is shown this once: the server keeps what recognizes it, not the key.
#[utoipa::path(post, path = "/api/merchants/{id}/keys", tag = "Access", operation_id = "createMerchantKey",
    params(OfHolder), request_body = NewKey,
    responses((status = 201, description = "Made, with the key.", body = KeyBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["too_many"]))))]
pub(super) async fn make_key(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (actor, core, mut body) = received(&request, payload, &door).await?;
    let merchant = merchant_of_path(&request, &door)?;
    let mode = body.read("mode", NAME_CHARACTERS_MAX, "live or test", Mode::parse);
    let allowed = "payments:write, payments:read, ledger:read, webhooks:write";
    let scopes = body.list("scopes", allowed, Scope::parse).unwrap_or_else(|| Scope::ALL.into());
    let mode = mode.unwrap_or(Mode::Live);
    let wanted = Wanted { holder: Holder::Merchant(merchant.id), mode, scopes };
    wanted.make(&door, core, actor, body).await
}

/// Makes an admin's API key (admin).
///
/// `key` is shown this once.
#[utoipa::path(post, path = "/api/admin-keys", tag = "Access", operation_id = "createAdminKey",
    request_body = NewAdminKey,
    responses((status = 201, description = "Made, with the key.", body = KeyBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["too_many"]))))]
pub(super) async fn make_admin_key(
    request: HttpRequest,
    payload: web::Payload,
    door: web::Data<Door>,
) -> Handled {
    let (actor, core, body) = received(&request, payload, &door).await?;
    let wanted = Wanted { holder: Holder::Admin, mode: Mode::Live, scopes: Vec::new() };
    wanted.make(&door, core, actor, body).await
}

/// A key that is to be made.
struct Wanted {
    holder: Holder,
    mode: Mode,
    scopes: Vec<Scope>,
}

impl Wanted {
    async fn make(self, door: &Door, core: &Core, actor: Arc<str>, mut body: Body) -> Handled {
        let Self { holder, mode, mut scopes } = self;
        scopes.sort();
        scopes.dedup();
        let now = core.clock.now();
        let label = body.free_text("label", LABEL_CHARACTERS_MAX).filter(|text| !text.is_empty());
        let label = body.require("label", label).unwrap_or_default();
        let allowed = "a time to come, such as 2030-01-01T00:00:00Z";
        let expires_at = body.read("expiresAt", NAME_CHARACTERS_MAX, allowed, |text| {
            Timestamp::parse(text).filter(|time| *time > now)
        });
        body.finish()?;
        let id = KeyId::new(new_uuid(now));
        let made = door.credentials.new_key(id, &holder, mode).map_err(|_| Problem::internal())?;
        let (secret, digest) = made.ok_or_else(Problem::not_serving)?;
        let (label, scopes) = (label.into(), scopes.into());
        let key = Key { id, holder, mode, label, scopes, expires_at, digest };
        record(core, actor, AccessEvent::KeyMade(Box::new(key))).await?;
        let books = core.books.read();
        let state = books.access().key(id).ok_or_else(Problem::no_such_key)?;
        Ok(HttpResponse::Created().json(KeyBody::of(state, Some(secret.expose()))))
    }
}

/// Lists a merchant's API keys (admin).
///
/// Newest first, those that are revoked included.
#[utoipa::path(get, path = "/api/merchants/{id}/keys", tag = "Access", operation_id = "listMerchantKeys",
    params(OfHolder, Limit, ("after" = Option<KeyIdText>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "A page of keys.", body = PageBody<KeyBody>)),
    security(("adminKey" = [])))]
pub(super) async fn keys(request: HttpRequest, door: web::Data<Door>) -> Handled {
    headers::admin(&request, &door)?;
    let merchant = merchant_of_path(&request, &door)?;
    list_keys(&request, &door, &Holder::Merchant(merchant.id))
}

/// Lists the API keys of admins (admin).
///
/// Those that were made here, newest first; those of the configuration are not shown.
#[utoipa::path(get, path = "/api/admin-keys", tag = "Access", operation_id = "listAdminKeys",
    params(Limit, ("after" = Option<KeyIdText>, Query, description = "The cursor from `next`.")),
    responses((status = 200, description = "A page of keys.", body = PageBody<KeyBody>)),
    security(("adminKey" = [])))]
pub(super) async fn admin_keys(request: HttpRequest, door: web::Data<Door>) -> Handled {
    headers::admin(&request, &door)?;
    list_keys(&request, &door, &Holder::Admin)
}

fn list_keys(request: &HttpRequest, door: &Door, holder: &Holder) -> Handled {
    let mut query = Query::of(request);
    let limit = query.limit();
    let after = query.read("after", "a cursor from `next`", KeyId::parse);
    query.finish()?;
    let books = door.core()?.books.read();
    let newest_first = books.access().keys_of(holder).rev();
    let behind = newest_first.skip_while(|it| after.is_some_and(|after| it.key.id != after));
    let behind = behind.skip(usize::from(after.is_some()));
    let mut data: Vec<_> = behind.take(limit.saturating_add(1)).collect();
    let next = cut_page(&mut data, limit, |it| it.key.id.to_string());
    let data = data.into_iter().map(|it| KeyBody::of(it, None)).collect();
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}

/// Revokes a merchant's API key (admin).
///
/// It opens nothing from the answer on.
#[utoipa::path(delete, path = "/api/merchants/{id}/keys/{key}", tag = "Access", operation_id = "revokeMerchantKey",
    params(OfHolder, OfApiKey),
    responses((status = 200, description = "Revoked.", body = KeyBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["api_key_not_found"]))))]
pub(super) async fn revoke(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let actor = headers::admin(&request, &door)?;
    let merchant = merchant_of_path(&request, &door)?;
    revoke_key(&request, &door, actor, Holder::Merchant(merchant.id)).await
}

/// Revokes an admin's API key (admin).
///
/// It opens nothing from the answer on; one of the configuration is taken back there.
#[utoipa::path(delete, path = "/api/admin-keys/{key}", tag = "Access", operation_id = "revokeAdminKey",
    params(OfApiKey),
    responses((status = 200, description = "Revoked.", body = KeyBody)),
    security(("adminKey" = [])), extensions(("x-problems" = json!(["api_key_not_found"]))))]
pub(super) async fn revoke_admin(request: HttpRequest, door: web::Data<Door>) -> Handled {
    let actor = headers::admin(&request, &door)?;
    revoke_key(&request, &door, actor, Holder::Admin).await
}

async fn revoke_key(
    request: &HttpRequest,
    door: &Door,
    actor: Arc<str>,
    holder: Holder,
) -> Handled {
    Query::of(request).finish()?;
    let core = door.core()?;
    let id = request.match_info().get("key").and_then(KeyId::parse);
    let id = id.ok_or_else(Problem::no_such_key)?;
    let is_revoked = || {
        let books = core.books.read();
        let state = books.access().key(id).filter(|state| state.key.holder == holder);
        state.map(|state| state.revoked_at.is_some()).ok_or_else(Problem::no_such_key)
    };
    if !is_revoked()? {
        let event = AccessEvent::KeyRevoked { id, holder: holder.clone() };
        let recorded = record(core, actor, event).await;
        // Somebody else may have been faster.
        if let Err(problem) = recorded
            && !is_revoked()?
        {
            return Err(problem);
        }
    }
    let books = core.books.read();
    let state = books.access().key(id).ok_or_else(Problem::no_such_key)?;
    Ok(HttpResponse::Ok().json(KeyBody::of(state, None)))
}

/// Shows what admins did (admin).
///
/// Newest first, each with the hash of the journal block that holds it.
#[utoipa::path(get, path = "/api/audit", tag = "Access", operation_id = "listAudit",
    params(Limit, AfterEntry),
    responses((status = 200, description = "A page of what was done.", body = PageBody<DeedBody>)),
    security(("adminKey" = [])))]
pub(super) async fn audit(request: HttpRequest, door: web::Data<Door>) -> Handled {
    headers::admin(&request, &door)?;
    let mut query = Query::of(&request);
    let limit = query.limit();
    let before = query.read("after", "a cursor from `next`", |text| {
        text.parse::<i64>().ok().and_then(|sequence| Sequence::try_from(sequence).ok())
    });
    query.finish()?;
    let books = door.core()?.books.read();
    let deeds = books.deeds(before.unwrap_or(Sequence::MAX));
    let mut deeds: Vec<Deed> = deeds.take(limit.saturating_add(1)).collect();
    let next = cut_page(&mut deeds, limit, |deed| deed.sequence.to_string());
    let body = |deed| DeedBody::of(deed, &books);
    let data = deeds.into_iter().map(body).collect();
    Ok(HttpResponse::Ok().json(PageBody { data, next }))
}
