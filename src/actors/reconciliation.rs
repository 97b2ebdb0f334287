//! Keeps checking the books, in the background, and keeps what the last runs found.
//!
//! The `engine` is a thread of its own and does all the work; [`Reconciliations`] is how others ask for a run and read
//! what came of them. Payments never wait for it.

mod engine;

use super::{
    BooksReader,
    alarms::Alarms,
    background::{Background, Bell},
};
use crate::{
    clock::Clock,
    domain::{
        id::Sequence,
        reconciliation::{Check, Report},
        time::Timestamp,
    },
    journal::Folders,
};
use engine::Engine;
use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;
use uuid::Uuid;

/// The alarm that stands from a finding until a full run finds nothing.
pub const FAILED: &str = "reconciliation.failed";

/// The alarm that stands when the engine has died of a bug.
pub const DIED: &str = "reconciliation.died";

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// UUIDv7, shown as `rec_…`.
    pub id: Uuid,
    /// Why it was made.
    pub trigger: Trigger,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub report: Report,
}

/// Why a run was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Somebody asked for it: everything is checked.
    Request,
    /// It was time for it: everything is checked.
    Schedule,
    /// Something was booked: what is new is checked. Kept only if it found something.
    Commit,
}

impl Trigger {
    /// As clients read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Schedule => "schedule",
            Self::Commit => "commit",
        }
    }
}

/// How far everything is known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Through {
    /// The last entry that is.
    pub sequence: Sequence,
    /// Nothing was booked behind that entry before this time.
    pub at: Timestamp,
    /// How long ago that was.
    pub age: Duration,
}

/// How often something was done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs that checked everything.
    pub full: u64,
    /// Runs that checked what was new.
    pub incremental: u64,
    /// Things that were found wrong, each as often as it was found.
    pub findings: u64,
}

/// How often the engine works.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long after an incremental run the next one comes.
    pub every: Duration,
    /// How long after a full run the next one comes.
    pub full_every: Duration,
    /// How many finished runs are kept.
    pub runs_kept: usize,
}

/// What the engine checks, and whom it tells.
pub struct Subject {
    /// The live books.
    pub books: BooksReader,
    /// The journal on disk; `None`: the books are only shown, and are checked against themselves alone.
    pub folders: Option<Folders>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Where findings are raised.
    pub alarms: Arc<Alarms>,
}

/// How others reach the engine.
pub struct Reconciliations {
    desk: Arc<Desk>,
    clock: Arc<dyn Clock>,
    background: Background,
}

impl Reconciliations {
    /// Starts the engine. Its first full run begins at once.
    ///
    /// # Errors
    /// The operating system makes no more threads.
    pub fn start(subject: Subject, pace: Pace) -> io::Result<Self> {
        let desk = Arc::new(Desk { runs_kept: pace.runs_kept, state: Mutex::default() });
        let (closed, alarms) = (desk.clone(), subject.alarms.clone());
        let clock = subject.clock.clone();
        let engine = Engine::new(subject, pace, desk.clone());
        let work = move |bell: &Bell| engine.run(bell);
        let background = Background::spawn("reconciliation", work, move |panicked| {
            closed.state().waiting = None;
            if panicked {
                let what = "the reconciliation engine died of a bug: payments go on and are checked no more. Keep the \
                            log, report it, and start the server again at a quiet moment";
                alarms.raise(DIED, what);
            }
        })?;
        Ok(Self { desk, clock, background })
    }

    /// Has everything checked, by a run that begins after this was asked; who asks before it begins shares it. `None` if
    /// the engine has stopped.
    pub async fn run(&self) -> Option<Arc<Run>> {
        let (tell, told) = oneshot::channel();
        self.desk.state().waiting.as_mut()?.push(tell);
        self.background.ring();
        told.await.ok()
    }

    /// The last runs, newest first.
    #[must_use]
    pub fn runs(&self) -> Vec<Arc<Run>> {
        self.desk.state().runs.iter().cloned().collect()
    }

    /// How far everything is known to be right; `None` until the first run is over.
    #[must_use]
    pub fn through(&self) -> Option<Through> {
        let (sequence, at) = self.desk.state().through?;
        let age = Duration::from_millis(self.clock.now().millis_since(at));
        Some(Through { sequence, at, age })
    }

    /// How often something was done since the start.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.desk.state().counts
    }

    /// Tells the engine to stop, and does not wait for it: it only reads.
    pub fn stop(&self) {
        self.background.stop();
    }
}

/// What the engine and those who ask it share.
struct Desk {
    runs_kept: usize,
    state: Mutex<State>,
}

struct State {
    runs: VecDeque<Arc<Run>>,
    /// The last entry that is known to be right, and until when there was none behind it.
    through: Option<(Sequence, Timestamp)>,
    counts: Counts,
    /// Who waits for the next full run; `None` when there is none to come.
    waiting: Option<Vec<oneshot::Sender<Arc<Run>>>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            runs: VecDeque::new(),
            through: None,
            counts: Counts::default(),
            waiting: Some(Vec::new()),
        }
    }
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody waits for a full run, and has not hung up.
    fn is_waited_for(&self) -> bool {
        self.state().waiting.iter().flatten().any(|waiter| !waiter.is_closed())
    }

    /// Who has asked for a full run that has not begun.
    fn take_waiting(&self) -> Vec<oneshot::Sender<Arc<Run>>> {
        self.state().waiting.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Puts the run on file. Nothing was booked behind what it covers before `moment`.
    fn keep(&self, run: Run, moment: Timestamp) -> Arc<Run> {
        let run = Arc::new(run);
        let mut state = self.state();
        let failed = run.report.checks.iter().map(|check| check.failed).sum();
        let counts = &mut state.counts;
        counts.findings = counts.findings.saturating_add(failed);
        let count = match run.trigger {
            Trigger::Request | Trigger::Schedule => &mut counts.full,
            Trigger::Commit => &mut counts.incremental,
        };
        *count = count.saturating_add(1);
        if run.report.balanced() {
            state.through = Some((run.report.position.sequence, moment));
        }
        if run.trigger != Trigger::Commit || !run.report.balanced() {
            state.runs.push_front(run.clone());
            state.runs.truncate(self.runs_kept);
        }
        run
    }

    /// Notes that at `at` nothing had been booked behind what is known to be right.
    fn idle(&self, at: Timestamp) {
        if let Some((_, until)) = &mut self.state().through {
            *until = at;
        }
    }
}

/// What a run found, for the one line of an alarm.
fn summary(run: &Run) -> String {
    let failed: Vec<&Check> = run.report.checks.iter().filter(|check| !check.ok()).collect();
    let first = failed.iter().find_map(|check| Some((check.name, check.failures.first()?)));
    let all: u64 = failed.iter().map(|check| check.failed).sum();
    let (check, what) = first.map_or(("", ""), |(name, failure)| (name, failure.what.as_str()));
    let more = match all {
        0 | 1 => String::new(),
        all => format!("; {all} findings in all"),
    };
    format!(
        "{check}: {what}{more} (run rec_{}, entry {}): stop taking payments, do not restart yet, keep a copy of the data \
         folder; GET /api/reconcile lists every finding",
        run.id.simple(),
        run.report.position.sequence
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::SystemClock, domain::books::Books};
    use std::collections::HashSet;

    fn start(books: &BooksReader, runs_kept: usize) -> Reconciliations {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let alarms = Arc::new(Alarms::new(clock.clone(), None));
        let subject = Subject { books: books.clone(), folders: None, clock, alarms };
        let hour = Duration::from_secs(3600);
        Reconciliations::start(subject, Pace { every: hour, full_every: hour, runs_kept }).unwrap()
    }

    #[test]
    fn all_who_ask_before_a_run_begins_share_it_and_the_last_runs_are_kept() {
        actix_rt::System::new().block_on(async {
            let books = BooksReader::of(Books::default());
            // The engine cannot bring a run to its end before all have asked.
            let held = books.0.write().unwrap();
            let runs = start(&books, 2);
            let go = async { drop(held) };
            let (a, b, c, d, ()) = tokio::join!(runs.run(), runs.run(), runs.run(), runs.run(), go);
            let asked = [a, b, c, d].map(|run| run.unwrap().id);
            let distinct: HashSet<Uuid> = asked.into_iter().collect();
            assert!(distinct.len() <= 2, "the one that was under way, and one more");
            let next = runs.run().await.unwrap();
            assert!(!distinct.contains(&next.id));
            let kept = runs.runs();
            assert_eq!((kept.len(), kept[0].id), (2, next.id));
            assert!(runs.counts().full >= 2);
        });
    }

    #[test]
    fn an_engine_that_was_stopped_makes_no_more_runs() {
        actix_rt::System::new().block_on(async {
            let runs = start(&BooksReader::of(Books::default()), 1);
            assert!(runs.run().await.is_some());
            runs.stop();
            assert!(runs.run().await.is_none());
        });
    }
}
