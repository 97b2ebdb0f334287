//! `/api/openapi.json`, `/docs` and `/docs/errors`: what this server can do, and what every error means. No key is needed,
//! nothing is fetched from elsewhere, nothing runs in the browser.

mod page;

use super::{
    codes::{self, Code},
    openapi,
    reply::Problem,
};
use actix_web::{HttpResponse, web};
use base64::{Engine, engine::general_purpose::STANDARD};
use page::escape;
use sha2::{Digest, Sha256};
use std::{fmt::Write, sync::LazyLock};

/// Made once, when it is first asked for.
static PAGE: LazyLock<String> = LazyLock::new(|| page::of(&openapi::DOCUMENT));

/// Lets a page have its own style and nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(page::STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Shows this document.
#[utoipa::path(get, path = "/api/openapi.json", tag = "Documents", operation_id = "readOpenApi", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = Object)))]
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(openapi::TEXT.as_str())
}

/// Shows this document to people.
#[utoipa::path(get, path = "/docs", tag = "Documents", operation_id = "readDocs", security(()),
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn page() -> HttpResponse {
    html(PAGE.as_str())
}

/// Lists every error code.
#[utoipa::path(get, path = "/docs/errors", tag = "Documents", operation_id = "listErrors", security(()),
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")))]
pub(super) async fn errors() -> HttpResponse {
    html(all_errors())
}

/// Tells what an error means, whether anything was done, and what to do.
///
/// The `type` of every problem leads here.
#[utoipa::path(get, path = "/docs/errors/{code}", tag = "Documents", operation_id = "readError", security(()),
    params(("code" = String, Path, description = "The problem's `code`.", pattern = "^[a-z_]+$", example = "validation_failed")),
    responses((status = 200, description = "A page.", body = String, content_type = "text/html")),
    extensions(("x-problems" = json!(["no_such_route"]))))]
pub(super) async fn error(code: web::Path<String>) -> Result<HttpResponse, Problem> {
    let row = codes::find(&code).ok_or_else(Problem::no_such_route)?;
    Ok(html(one_error(row)))
}

fn html(text: impl Into<String>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header(("Content-Security-Policy", POLICY.as_str()))
        .insert_header(("Referrer-Policy", "no-referrer"))
        .insert_header(("X-Content-Type-Options", "nosniff"))
        .body(text.into())
}

fn all_errors() -> String {
    let mut rows: Vec<&Code> = codes::ALL.to_vec();
    rows.sort_by_key(|row| (row.status.as_u16(), row.code));
    let lines = rows.iter().fold(String::new(), |mut lines, row| {
        let Code { code, status, title, .. } = row;
        let status = status.as_u16();
        let link = format!("<a href=\"/docs/errors/{code}\"><code>{code}</code></a>");
        // Writing to a string cannot fail.
        write!(lines, "<tr><td>{status}<td>{link}<td>{}", escape(title)).unwrap_or_default();
        lines
    });
    let about = "<p>Every error is a problem document (RFC 9457); its <code>code</code> is stable, its <code>type</code> \
                 leads to the page about it.";
    let body = format!(
        "<p><a href=\"/docs\">All calls</a><h1>Errors</h1>{about}<table><tr><th>status<th>code<th>what\
         {lines}</table>"
    );
    page::around("Errors", &body)
}

fn one_error(row: &Code) -> String {
    let Code { code, status, title, effect, meaning, remedy } = row;
    let body = format!(
        "<p><a href=\"/docs\">All calls</a> · <a href=\"/docs/errors\">All errors</a><h1>{}</h1>\
         <p><code>{code}</code>, status {}<h2>What it means</h2><p>{}<h2>Whether anything was done</h2><p>{}\
         <h2>What to do</h2><p>{}",
        escape(title),
        status.as_u16(),
        page::prose(meaning),
        page::prose(effect.sentence()),
        page::prose(remedy),
    );
    page::around(title, &body)
}
