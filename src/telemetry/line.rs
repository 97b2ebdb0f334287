//! A log line as one JSON object. The library's own form of it took a tenth of all that a request costs, so a line outside
//! of spans, which nearly all are, is written here, in the same form; within a span the library writes it.

use super::Utc;
use std::fmt::{self, Write};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
        time::FormatTime,
    },
    registry::LookupSpan,
};

/// Formats events as JSON.
pub(super) struct JsonLine {
    /// For those within a span.
    library: Format<Json, Utc>,
}

impl Default for JsonLine {
    fn default() -> Self {
        let library = Format::default().json().flatten_event(true).with_span_list(false);
        Self { library: library.with_timer(Utc::default()) }
    }
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.parent().is_some() || context.lookup_current().is_some() {
            return self.library.format_event(context, line, event);
        }
        let about = event.metadata();
        line.write_str("{\"timestamp\":\"")?;
        Utc::default().format_time(&mut line)?;
        write!(line, "\",\"level\":\"{}\"", about.level())?;
        let mut fields = Fields { line: &mut line, written: Ok(()) };
        event.record(&mut fields);
        fields.written?;
        writeln!(line, ",\"target\":\"{}\"}}", about.target())
    }
}

struct Fields<'a, 'line> {
    line: &'a mut Writer<'line>,
    written: fmt::Result,
}

impl Fields<'_, '_> {
    /// `value` as it is: a number, or true or false.
    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.field(field, |line| write!(line, "{value}"));
    }

    fn text(&mut self, field: &Field, value: impl FnOnce(&mut Escaped<'_, '_>) -> fmt::Result) {
        self.field(field, |line| {
            line.write_char('"')?;
            value(&mut Escaped(line))?;
            line.write_char('"')
        });
    }

    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.written.is_ok() {
            let name = [",\"", field.name(), "\":"];
            let named = name.into_iter().try_for_each(|part| self.line.write_str(part));
            self.written = named.and_then(|()| value(self.line));
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, |text| write!(text, "{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, |text| text.write_str(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() { self.plain(field, value) } else { self.plain(field, "null") }
    }
}

/// Text within a JSON string.
struct Escaped<'a, 'line>(&'a mut Writer<'line>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            return self.0.write_str(text);
        }
        for part in text.split_inclusive(|c: char| c < ' ' || c == '"' || c == '\\') {
            let mut rest = part.chars();
            match rest.next_back() {
                Some(last @ ('"' | '\\')) => write!(self.0, "{}\\{last}", rest.as_str())?,
                Some(last @ ..' ') => {
                    write!(self.0, "{}\\u{:04x}", rest.as_str(), u32::from(last))?
                }
                _ => self.0.write_str(part)?,
            }
        }
        Ok(())
    }
}
