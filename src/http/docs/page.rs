//! The OpenAPI document as one page of HTML, for people. It is made from the document alone, so it says what the document
//! says.

use serde_json::{Map, Value};

/// All the style there is.
pub(super) const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color:#1a1a1a;background:#fff}code{font:.9em ui-monospace,monospace;background:#f2f2f2;padding:.1em .3em;border-radius:3px}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;\
border-bottom:1px solid #ddd}h3{margin-top:2.5rem;border-top:2px solid #ddd;padding-top:1rem}\
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}code{background:#2a2a2a}a{color:#8ab4f8}}";

/// A whole page with this content.
pub(super) fn around(title: &str, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{} · Strongroom</title><style>{STYLE}</style><body>{body}",
        escape(title)
    )
}

/// Text that cannot be taken for markup.
pub(super) fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;")
}

/// Escaped text in which `this` is set as code.
pub(super) fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(place, part)| match place % 2 {
        0 => escape(part),
        _ => format!("<code>{}</code>", escape(part)),
    });
    parts.collect()
}

/// The document as a page.
pub(super) fn of(document: &Value) -> String {
    let info = |name: &str| text(document.pointer("/info"), name);
    let mut body = format!(
        "<h1>{} {}</h1><p>{}<p><a href=\"/api/openapi.json\">OpenAPI 3.1</a> · <a href=\"/docs/errors\">Errors</a> · \
         <a href=\"#schemas\">Schemas</a>",
        escape(info("title")),
        escape(info("version")),
        prose(info("description"))
    );
    for (name, scheme) in members(document.pointer("/components/securitySchemes")) {
        let about = prose(text(Some(scheme), "description"));
        body += &format!("<p><code>{name}</code> (<code>Authorization: Bearer …</code>): {about}");
    }
    let tags = document.get("tags").and_then(Value::as_array).into_iter().flatten();
    let mut details = String::new();
    for tag in tags {
        let name = text(Some(tag), "name");
        body += &format!(
            "<h2>{}</h2><p>{}<table>",
            escape(name),
            prose(text(Some(tag), "description"))
        );
        for (method, path, operation) in operations(document) {
            let of_tag = operation.pointer("/tags/0").is_some_and(|of| of == name);
            if of_tag {
                let id = text(Some(operation), "operationId");
                body += &format!(
                    "<tr><td>{}<td><a href=\"#{id}\"><code>{}</code></a><td>{}",
                    method.to_uppercase(),
                    escape(path),
                    prose(text(Some(operation), "summary"))
                );
                details += &in_detail(method, path, operation);
            }
        }
        body += "</table>";
    }
    let schemas = members(document.pointer("/components/schemas")).map(schema_in_detail);
    let schemas: String = schemas.collect();
    around("API", &format!("{body}<h2>Calls</h2>{details}<h2 id=\"schemas\">Schemas</h2>{schemas}"))
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    members(document.get("paths")).flat_map(|(path, item)| {
        members(Some(item)).map(move |(method, operation)| (method, path, operation))
    })
}

fn in_detail(method: &str, path: &str, operation: &Value) -> String {
    let mut out = format!(
        "<h3 id=\"{}\">{} <code>{}</code></h3><p><b>{}</b> {}<p>{}",
        text(Some(operation), "operationId"),
        method.to_uppercase(),
        escape(path),
        prose(text(Some(operation), "summary")),
        prose(text(Some(operation), "description")),
        keys(operation)
    );
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let rows = parameters.filter(|it| it.get("name").is_some()).map(|parameter| {
        let required = parameter.get("required").is_some_and(|it| it == true);
        format!(
            "<tr><td><code>{}</code><td>{}{}<td>{}<td>{}",
            escape(text(Some(parameter), "name")),
            text(Some(parameter), "in"),
            if required { ", required" } else { "" },
            parameter.get("schema").map(kind).unwrap_or_default(),
            prose(text(Some(parameter), "description"))
        )
    });
    let rows: String = rows.collect();
    if !rows.is_empty() {
        out += &format!("<table><tr><th>parameter<th>in<th>type<th>{rows}</table>");
    }
    for (_, media) in members(operation.pointer("/requestBody/content")) {
        out += &format!("<p>Body: {}", media.get("schema").map(kind).unwrap_or_default());
    }
    out + &answers(operation)
}

fn keys(operation: &Value) -> String {
    let Some(choices) = operation.get("security").and_then(Value::as_array) else {
        return "With a merchant's key or an admin's.".to_owned();
    };
    let is_open = choices.iter().any(|choice| choice.as_object().is_some_and(Map::is_empty));
    if is_open { "Without a key." } else { "With an admin's key." }.to_owned()
}

fn answers(operation: &Value) -> String {
    let rows = members(operation.get("responses")).map(|(status, response)| {
        let codes = members(response.pointer("/content/application~1problem+json/examples"));
        let codes = codes.map(|(code, _)| {
            format!(" <a href=\"/docs/errors/{code}\"><code>{}</code></a>", escape(code))
        });
        let codes: String = codes.collect();
        let schema = response.pointer("/content/application~1json/schema").map(kind);
        let about = match codes.is_empty() {
            true => prose(text(Some(response), "description")),
            false => String::new(),
        };
        format!("<tr><td>{status}<td>{about} {}{codes}", schema.unwrap_or_default())
    });
    let rows: String = rows.collect();
    format!("<table><tr><th>answer<th>{rows}</table>")
}

fn schema_in_detail((name, schema): (&str, &Value)) -> String {
    let required = schema.get("required").and_then(Value::as_array);
    let rows = members(schema.get("properties")).map(|(field, of)| {
        let always = required.is_some_and(|names| names.iter().any(|name| name == field));
        format!(
            "<tr><td><code>{}</code>{}<td>{}<td>{}",
            escape(field),
            if always { "" } else { " (optional)" },
            kind(of),
            prose(text(Some(of), "description"))
        )
    });
    let rows: String = rows.collect();
    let about = prose(text(Some(schema), "description"));
    let own = match rows.is_empty() {
        true => format!("<p>{}", kind(schema)),
        false => format!("<table>{rows}</table>"),
    };
    format!("<h3 id=\"schema-{0}\">{0}</h3><p>{about}{own}", escape(name))
}

/// What a schema allows, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = escape(reference.rsplit('/').next().unwrap_or_default());
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    let choices = ["oneOf", "anyOf", "allOf"].iter().find_map(|word| schema.get(word)?.as_array());
    if let Some(choices) = choices {
        return choices.iter().map(kind).collect::<Vec<_>>().join(" or ");
    }
    if let Some(names) = schema.get("enum").and_then(Value::as_array) {
        let names = names.iter().filter_map(Value::as_str);
        let names = names.map(|name| format!("<code>{}</code>", escape(name)));
        return names.collect::<Vec<_>>().join(" ");
    }
    if let Some(items) = schema.get("items") {
        return format!("list of {}", kind(items));
    }
    let own = match schema.get("type") {
        Some(Value::String(one)) => one.clone(),
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or ")
        }
        _ => "anything".to_owned(),
    };
    let bounds = [
        ("minimum", "from "),
        ("maximum", "to "),
        ("minLength", "min. length "),
        ("maxLength", "max. length "),
        ("pattern", ""),
    ];
    let bounds = bounds.iter().filter_map(|(word, about)| {
        let bound = schema.get(word)?;
        let shown = bound.as_str().map_or_else(|| bound.to_string(), str::to_owned);
        Some(format!(", {about}<code>{}</code>", escape(&shown)))
    });
    own + &bounds.collect::<String>()
}

fn text<'a>(of: Option<&'a Value>, name: &str) -> &'a str {
    of.and_then(|of| of.get(name)).and_then(Value::as_str).unwrap_or_default()
}

fn members(of: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let members = of.and_then(Value::as_object).into_iter().flatten();
    members.map(|(name, member)| (name.as_str(), member))
}
