//! Where log lines go and how they look, and where [`traces`] go.
//!
//! `main` sets this up once, before anything can be logged, and holds the [`Guard`] until the end. Lines go to stderr,
//! since stdout belongs to a command's results. What is logged is decided where it happens, never here.

mod line;
pub mod traces;

use crate::{
    clock::{Clock, SystemClock},
    config::{Log, LogForm, Telemetry},
};
use line::JsonLine;
use rustix::fs::{Advice, fadvise};
use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, Write},
    os::fd::AsFd,
    thread,
    time::Duration,
};
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    filter::{EnvFilter, FilterExt, LevelFilter, ParseError, filter_fn},
    fmt::{MakeWriter, format::Writer, layer, time::FormatTime},
    layer::{Filter, Layer, SubscriberExt},
    registry::{LookupSpan, Registry},
    util::{SubscriberInitExt, TryInitError},
};

/// Lines that wait to be written; more are dropped and counted. At some 300 bytes a line, 20 MB.
const LINES_WAITING_MAX: usize = 65_536;
/// How long lines are gathered before they are written.
const GATHERED_FOR: Duration = Duration::from_millis(10);

/// Sets up the log for the rest of the process.
///
/// A line is queued and written by a thread of its own, so that no payment waits for a terminal that is stuck. When the
/// queue is full the line is dropped, counted, and the count logged at the end: logs may be lost, payments may not.
///
/// # Errors
/// When the process has a log already, the level is none (a loaded configuration has been checked for that), or traces
/// can't be sent.
pub fn init(log: &Log, telemetry: &Telemetry) -> Result<Guard, InitError> {
    let (lines, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_WAITING_MAX)
        .thread_name("log")
        .finish(Gathered(BufWriter::new(Steady::new(io::stderr()))));
    let dropped = lines.error_counter();
    let terminal = io::stderr().is_terminal();
    let subscriber = subscriber(log, terminal, lines)?;
    let exporter = match &telemetry.otlp_endpoint {
        None => {
            subscriber.try_init()?;
            None
        }
        Some(endpoint) => {
            let (exporter, layer) =
                traces::exporter(endpoint, telemetry.sample_ratio).map_err(InitError::Traces)?;
            subscriber.with(layer).try_init()?;
            Some(exporter)
        }
    };
    Ok(Guard { dropped, _exporter: exporter, _worker: worker })
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The level is neither a level nor a filter.
    #[error("log.level is not a filter")]
    Level(#[from] ParseError),
    /// Traces can't be sent.
    #[error("traces can't be sent to telemetry.otlp_endpoint")]
    Traces(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process has a log already.
    #[error("the log was set up before")]
    Twice(#[from] TryInitError),
}

/// Held while the process may log. Dropping it writes out the lines that still wait, for at most about a second; a
/// process that exits without dropping it loses them.
#[must_use = "dropping the guard ends the log"]
#[derive(Debug)]
pub struct Guard {
    dropped: ErrorCounter,
    _exporter: Option<traces::Exporter>,
    _worker: WorkerGuard,
}

impl Guard {
    /// How many lines were dropped because too many waited.
    #[must_use]
    pub fn lines_dropped(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let lines = self.lines_dropped();
        if lines > 0 {
            tracing::warn!(lines, "log lines were dropped");
        }
    }
}

/// Writes lines together. The log's thread flushes when no line waits any more; that it then rests for a moment saves
/// whoever logs from waking it for every line.
struct Gathered<W: Write>(BufWriter<W>);

impl<W: Write> Write for Gathered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(GATHERED_FOR);
        Ok(())
    }
}

/// Has the disk begin with every mebibyte of the log, where the log is a file. Left to the operating system, that writes
/// half a minute's lines at once, 100 MB under load, and the journal on the same disk waits for 40 ms. What is on the disk
/// leaves the cache, so who follows the log reads it from there.
struct Steady<W> {
    to: W,
    takes_advice: bool,
    unwritten: usize,
}

impl<W> Steady<W> {
    const BYTES: usize = 1024 * 1024;

    fn new(to: W) -> Self {
        Self { to, takes_advice: true, unwritten: 0 }
    }
}

impl<W: Write + AsFd> Write for Steady<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.unwritten += written;
        if self.takes_advice && self.unwritten >= Self::BYTES {
            self.unwritten = 0;
            // A pipe knows no such advice and needs none.
            self.takes_advice = fadvise(&self.to, 0, None, Advice::DontNeed).is_ok();
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// What formats the lines and drops those below the level, in the form that suits a terminal or none.
fn subscriber<W>(
    log: &Log,
    terminal: bool,
    lines: W,
) -> Result<impl Subscriber + for<'span> LookupSpan<'span> + Send + Sync, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = own_details_only().and(EnvFilter::builder().parse(&log.level)?);
    let human = match log.form {
        LogForm::Auto => terminal,
        LogForm::Human => true,
        LogForm::Json => false,
    };
    let layer = layer().with_timer(Utc::default()).with_writer(lines);
    let layer = match (human, terminal) {
        (true, true) => layer.compact().boxed(),
        (true, false) => layer.compact().with_ansi(false).boxed(),
        (false, _) => layer.json().event_format(JsonLine::default()).boxed(),
    };
    Ok(Registry::default().with(layer.with_filter(filter)))
}

/// Below info only our own lines: the libraries see requests and answers whole, and some write keys and bodies of them
/// to lines that are meant for whoever looks for a bug.
fn own_details_only<S>() -> impl Filter<S> {
    let own = |target: &str| target == "strongroom" || target.starts_with("strongroom::");
    filter_fn(move |line| *line.level() <= Level::INFO || own(line.target()))
        .with_max_level_hint(LevelFilter::TRACE)
}

/// RFC 3339 in UTC with milliseconds, as everywhere else.
#[derive(Default)]
struct Utc(SystemClock);

impl FormatTime for Utc {
    fn format_time(&self, line: &mut Writer<'_>) -> fmt::Result {
        write!(line, "{}", self.0.now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::Timestamp;
    use std::{
        fs::File,
        sync::{Arc, Mutex},
    };

    /// What a log with this level and form writes when something of each level happens.
    fn written(level: &str, form: LogForm, terminal: bool) -> String {
        let log = Log { level: level.to_owned(), form };
        let lines = Lines::default();
        let copy = lines.clone();
        let subscriber = subscriber(&log, terminal, move || copy.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", id = "r1");
            span.in_scope(|| tracing::info!(status = 201, "answered"));
            tracing::debug!("detail");
            tracing::trace!(target: "a_library", "headers and all");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_a_time_in_utc_and_milliseconds() {
        for (form, terminal) in [(LogForm::Json, true), (LogForm::Auto, false)] {
            let text = written("info", form, terminal);
            assert_eq!(text.lines().count(), 1, "{text}");
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(line["level"], "INFO");
            assert_eq!(line["message"], "answered");
            assert_eq!(line["status"], 201);
            assert_eq!(line["span"]["id"], "r1");
            let time = line["timestamp"].as_str().unwrap();
            assert_eq!(Timestamp::parse(time).unwrap().to_string(), time);
        }
    }

    #[test]
    fn a_line_is_the_same_json_whoever_wrote_it() {
        let log = Log { level: "info".to_owned(), form: LogForm::Json };
        let write = |own: bool| {
            let lines = Lines::default();
            let copy = lines.clone();
            let tell = || {
                let error = io::Error::other("no \u{1}\ttab");
                let cause: &dyn std::error::Error = &error;
                tracing::error!(
                    text = "a \"quote\", a \\ and\na line, ü",
                    count = 7_u64,
                    less = -7,
                    half = 0.5,
                    none = f64::NAN,
                    yes = true,
                    shown = %error,
                    debugged = ?Some("x"),
                    missing = None::<u64>,
                    error = cause,
                    "it went {}",
                    "\"wrong\""
                );
            };
            if own {
                tracing::subscriber::with_default(
                    subscriber(&log, false, move || copy.clone()).unwrap(),
                    tell,
                );
            } else {
                let library = layer().with_timer(Utc::default()).with_writer(move || copy.clone());
                let library = library.json().flatten_event(true).with_span_list(false);
                tracing::subscriber::with_default(Registry::default().with(library), tell);
            }
            let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
            assert!(text.ends_with("}\n") && text.lines().count() == 1, "{text}");
            let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
            line["timestamp"] = serde_json::Value::Null;
            line
        };
        assert_eq!(write(true), write(false));
    }

    #[test]
    fn a_human_line_has_no_colours_unless_a_terminal_shows_it() {
        let text = written("info", LogForm::Human, false);
        assert!(text.contains(" INFO request: "), "{text}");
        assert!(text.contains("answered status=201"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(written("info", LogForm::Auto, true).contains("answered"));
    }

    #[test]
    fn a_log_keeps_every_line_whether_it_is_a_file_or_a_pipe() {
        let line = [b'x'; 1000];
        let count = 3 * Steady::<File>::BYTES / line.len();
        let file = tempfile::tempfile().unwrap();
        let mut log = Steady::new(file.try_clone().unwrap());
        let (mut end, pipe) = io::pipe().unwrap();
        let reader = thread::spawn(move || io::copy(&mut end, &mut io::sink()).unwrap());
        let mut piped = Steady::new(pipe);
        for _ in 0..count {
            log.write_all(&line).unwrap();
            piped.write_all(&line).unwrap();
        }
        assert!(log.takes_advice && log.unwritten < Steady::<File>::BYTES);
        assert!(!piped.takes_advice, "a pipe is advised once");
        drop(piped);
        let length = u64::try_from(count * line.len()).unwrap();
        assert_eq!((file.metadata().unwrap().len(), reader.join().unwrap()), (length, length));
    }

    #[test]
    fn what_lies_below_the_level_is_not_written() {
        assert_eq!(written("off", LogForm::Json, false), "");
        assert_eq!(written("debug", LogForm::Json, false).lines().count(), 2);
        let filtered = written("warn,strongroom::telemetry=debug", LogForm::Json, false);
        assert_eq!(filtered.lines().count(), 2);
        let all = written("trace,a_library=trace", LogForm::Json, false);
        assert!(!all.contains("headers and all"), "of others nothing below info");
    }

    #[test]
    fn a_level_that_is_no_filter_is_refused() {
        let log = Log { level: "info,strongroom=loud".to_owned(), form: LogForm::Auto };
        assert!(subscriber(&log, false, io::sink).is_err());
    }
}
