//! The engine: one thread that never stops comparing memory with the disk.
//!
//! ```text
//!   full run          the journal from its first byte ──► a new shadow ──┐
//!   (start, request,  the histories in memory ──► a recount              ├──► compared as of one entry
//!    every hour)      the running balances in memory ───────────────────┘
//!   incremental run   the journal's bytes since the last run ──► the same shadow ──► compared with what they touched
//! ```
//!
//! It holds the books' lock for a slice at a time and never while it reads the disk, so no commit waits for it. After a
//! finding only full runs are made until one of them finds nothing.

use super::{Desk, FAILED, Pace, Run, Subject, Trigger, summary};
use crate::{
    actors::{
        BooksReader,
        background::{Bell, Breaks},
    },
    domain::{
        books,
        id::Sequence,
        reconciliation::{Check, Recount, Report, Shadow, Totals},
        time::Timestamp,
    },
    journal::{Folders, JournalError, Reader},
};
use std::{sync::Arc, time::Instant};

/// How many payments, entries or accounts are looked at between two moments at which the ledger may book.
const SLICE: usize = 256;

/// How many entries are read without a rest: going back in the books to the moment that is compared takes the longer, the
/// more has been booked since.
const NEAR: u64 = 256;

/// How often it is tried to get that near.
const CATCH_UPS_MAX: usize = 8;

/// The most findings of a run that are logged one by one.
const LOGGED_MAX: usize = 20;

pub(super) struct Engine {
    subject: Subject,
    pace: Pace,
    desk: Arc<Desk>,
    /// Where the last clean run stands; `None` before the first, and from a finding until a full run finds nothing.
    follower: Option<Follower>,
}

/// What is asked between two steps of a run.
struct Steps<'a> {
    bell: &'a Bell,
    desk: &'a Desk,
    breaks: Breaks,
    /// Until when it rests; a run that lasts longer must not fall behind. `None`: somebody waits for this run.
    rests_until: Option<Instant>,
}

impl<'a> Steps<'a> {
    fn of(trigger: Trigger, pace: Pace, desk: &'a Desk, bell: &'a Bell) -> Self {
        let rests_for = match trigger {
            Trigger::Request => None,
            Trigger::Schedule => Some(pace.full_every / 60),
            Trigger::Commit => Some(pace.every),
        };
        let rests_until = rests_for.and_then(|time| Instant::now().checked_add(time));
        Self { bell, desk, breaks: Breaks::default(), rests_until }
    }

    /// Ends the run if the thread is to stop.
    fn go_on(&self) -> Result<(), Halt> {
        if self.bell.is_stopped() { Err(Halt::Stopped) } else { Ok(()) }
    }

    /// The same, and leaves the core to others for a while, if nobody waits for a run.
    fn rest(&mut self) -> Result<(), Halt> {
        self.go_on()?;
        if self.may_rest() {
            self.breaks.rest_if_due();
        }
        Ok(())
    }

    fn may_rest(&self) -> bool {
        self.rests_until.is_some_and(|until| Instant::now() < until) && !self.desk.is_waited_for()
    }
}

/// Why a run was not brought to its end.
enum Halt {
    /// The thread is to stop.
    Stopped,
    /// The journal cannot be read on.
    Unreadable(JournalError),
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Unreadable(error)
    }
}

impl Engine {
    pub(super) fn new(subject: Subject, pace: Pace, desk: Arc<Desk>) -> Self {
        Self { subject, pace, desk, follower: None }
    }

    /// Works until the bell says stop.
    pub(super) fn run(mut self, bell: &Bell) {
        let mut last_full: Option<Instant> = None;
        loop {
            let waiting = self.desk.take_waiting();
            // In this order: nobody who asks after the stop gets a run.
            if bell.is_stopped() {
                return;
            }
            let due = last_full.is_none_or(|last| last.elapsed() >= self.pace.full_every);
            if due || !waiting.is_empty() {
                let trigger = if waiting.is_empty() { Trigger::Schedule } else { Trigger::Request };
                let Some(run) = self.full(trigger, bell) else { return };
                for waiter in waiting {
                    // Whoever asked may have hung up.
                    drop(waiter.send(run.clone()));
                }
                last_full = Some(Instant::now());
            } else {
                self.incremental(bell);
            }
            bell.wait(self.pace.every);
        }
    }

    /// Checks everything. `None` if the thread is to stop.
    fn full(&mut self, trigger: Trigger, bell: &Bell) -> Option<Arc<Run>> {
        let began = Began::now(trigger, self.subject.clock.now());
        self.follower = None;
        let mut steps = Steps::of(trigger, self.pace, &self.desk, bell);
        let books = &self.subject.books;
        // The long way through the journal first, so that the moment compared is the end of it.
        let through = books.read().position().sequence;
        let read = self.subject.folders.as_ref().map(|folders| {
            Follower::from_the_first_byte(folders, through)?
                .read_on(books, || steps.rest())?
                .catch_up(books, &mut steps)
        });
        let moment = self.subject.clock.now();
        let mut recount = Recount::begin(&books.read());
        let kept = recount.totals().clone();
        let compared = read.map(|read| {
            let follower = read?.go_on(kept.position.sequence)?;
            follower.read_on(books, || steps.go_on())?.compare(books, &kept)
        });
        let (follower, checks) = match compared {
            None => (None, Vec::new()),
            Some(Ok((follower, checks))) => (Some(follower), checks),
            Some(Err(Halt::Unreadable(error))) => (None, vec![unreadable(&error)]),
            Some(Err(Halt::Stopped)) => return None,
        };
        while recount.proceed(&books.read(), SLICE) {
            let step = if recount.has_all_balances() { steps.rest() } else { steps.go_on() };
            step.ok()?;
        }
        let mut report = recount.finish();
        report.checks.extend(checks);
        let run = self.finish(began, moment, report);
        if run.report.balanced() {
            self.follower = follower;
            self.subject.alarms.clear(FAILED);
        }
        Some(run)
    }

    /// Checks what was booked since the last run, if that one was clean.
    fn incremental(&mut self, bell: &Bell) {
        let Some(follower) = self.follower.take() else { return };
        let moment = self.subject.clock.now();
        let began = Began::now(Trigger::Commit, moment);
        let books = &self.subject.books;
        if books.read().position() == follower.reader.position() {
            self.desk.idle(moment);
            self.follower = Some(follower);
            return;
        }
        let mut steps = Steps::of(Trigger::Commit, self.pace, &self.desk, bell);
        let near = follower.catch_up(books, &mut steps);
        let kept = Totals::of(&books.read());
        let compared = near.and_then(|follower| {
            let follower = follower.go_on(kept.position.sequence)?;
            follower.read_on(books, || steps.go_on())?.compare(books, &kept)
        });
        let (follower, turnover, checks) = match compared {
            Ok((follower, checks)) => {
                let turnover = follower.shadow.turnover().clone();
                (Some(follower), turnover, checks)
            }
            Err(Halt::Unreadable(error)) => (None, Default::default(), vec![unreadable(&error)]),
            Err(Halt::Stopped) => return,
        };
        let run = self.finish(began, moment, Report { position: kept.position, turnover, checks });
        self.follower = follower.filter(|_| run.report.balanced());
    }

    /// Tells what was found, and puts the run on file. Nothing was booked behind what it covers before `moment`.
    fn finish(&self, began: Began, moment: Timestamp, report: Report) -> Arc<Run> {
        let run = Run {
            id: crate::clock::new_uuid(began.at),
            trigger: began.trigger,
            started_at: began.at,
            took: began.instant.elapsed(),
            report,
        };
        let run = self.desk.keep(run, moment);
        if run.report.balanced() {
            return run;
        }
        let findings = run.report.checks.iter().flat_map(|check| {
            let failures = check.failures.iter();
            failures.map(|failure| (check.name, failure.what.as_str()))
        });
        for (check, finding) in findings.take(LOGGED_MAX) {
            tracing::error!(run = %run.id.simple(), check, finding, "reconciliation found the books wrong");
        }
        self.subject.alarms.raise(FAILED, &summary(&run));
        run
    }
}

/// When and why a run began.
struct Began {
    trigger: Trigger,
    at: Timestamp,
    instant: Instant,
}

impl Began {
    fn now(trigger: Trigger, at: Timestamp) -> Self {
        Self { trigger, at, instant: Instant::now() }
    }
}

/// A reader of the journal and the shadow of what it has read.
struct Follower {
    reader: Reader,
    shadow: Shadow,
    intact: Check,
}

impl Follower {
    fn from_the_first_byte(folders: &Folders, through: Sequence) -> Result<Self, Halt> {
        let gone = || JournalError::Damaged {
            file: folders.journal.path(""),
            offset: 0,
            sequence: 1,
            what: "the journal's files are gone".into(),
        };
        let reader = Reader::follow(folders, through)?.ok_or_else(gone)?;
        Ok(Self { reader, shadow: Shadow::default(), intact: intact() })
    }

    fn go_on(mut self, through: Sequence) -> Result<Self, Halt> {
        self.reader.go_on(through)?;
        Ok(self)
    }

    /// Reads on, with rests, until little is left of what has been booked meanwhile.
    fn catch_up(mut self, books: &BooksReader, steps: &mut Steps<'_>) -> Result<Self, Halt> {
        for _ in 0..CATCH_UPS_MAX {
            let through = books.read().position().sequence;
            if through.saturating_sub(self.reader.position().sequence) <= NEAR {
                break;
            }
            self = self.go_on(through)?.read_on(books, || steps.rest())?;
        }
        Ok(self)
    }

    /// Reads as far as was last asked for, and holds every entry against the payments in memory.
    fn read_on(
        mut self,
        books: &BooksReader,
        mut between: impl FnMut() -> Result<(), Halt>,
    ) -> Result<Self, Halt> {
        for located in self.reader.by_ref() {
            let batch = located?.batch;
            between()?;
            self.intact.look(true, String::new);
            self.shadow.follow(&batch);
            for slice in batch.entries.chunks(SLICE) {
                self.shadow.compare_entries(slice, &books.read());
            }
        }
        Ok(self)
    }

    /// Compares what was read with what the books held at that moment. Returns all that was checked.
    fn compare(mut self, books: &BooksReader, kept: &Totals) -> Result<(Self, Vec<Check>), Halt> {
        let (disk, memory) = (self.reader.position(), kept.position);
        self.intact.look(disk == memory, || position_differs(disk, memory));
        for slice in self.shadow.take_touched().chunks(SLICE) {
            self.shadow.compare_accounts(slice, &books.read(), memory.sequence);
        }
        let mut checks = vec![std::mem::replace(&mut self.intact, intact())];
        checks.extend(self.shadow.conclude(kept));
        Ok((self, checks))
    }
}

/// Every batch on disk is as it was written, and the chain of hashes ends where the books say it does.
fn intact() -> Check {
    Check::new("journal_is_intact")
}

fn position_differs(disk: books::Position, memory: books::Position) -> String {
    format!(
        "the journal on disk ends with entry {} and hash {}; the books in memory stand at entry {}, hash {}",
        disk.sequence, disk.head, memory.sequence, memory.head
    )
}

/// The finding that the journal cannot be read on.
fn unreadable(error: &JournalError) -> Check {
    let mut intact = intact();
    intact.look(false, || match error {
        JournalError::Damaged { file, offset, sequence, what } => {
            format!("{what} (file {}, byte {offset}, entry {sequence})", file.display())
        }
        JournalError::Io { action, file, cause } => {
            format!("cannot {action} {}: {cause}", file.display())
        }
        other => other.to_string(),
    });
    intact
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Mutex, time::Duration};
    use tokio::sync::oneshot;

    #[test]
    fn a_run_rests_unless_somebody_waits_for_it_or_it_has_lasted_long() {
        let desk = Desk { runs_kept: 1, state: Mutex::default() };
        let bell = Bell::default();
        let hour = Duration::from_secs(3600);
        let may_rest = |trigger, every, full_every| {
            let pace = Pace { every, full_every, runs_kept: 1 };
            Steps::of(trigger, pace, &desk, &bell).may_rest()
        };
        let all = |every, full_every| {
            [Trigger::Request, Trigger::Schedule, Trigger::Commit]
                .map(|trigger| may_rest(trigger, every, full_every))
        };
        assert_eq!(all(hour, hour), [false, true, true]);
        assert_eq!(all(Duration::ZERO, hour), [false, true, false]);
        assert_eq!(all(hour, Duration::ZERO), [false, false, true]);
        let (tell, told) = oneshot::channel();
        desk.state().waiting.as_mut().unwrap().push(tell);
        assert_eq!(all(hour, hour), [false; 3]);
        drop(told);
        assert_eq!(all(hour, hour), [false, true, true], "it has hung up");
    }
}
