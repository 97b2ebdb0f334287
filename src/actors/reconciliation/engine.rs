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
    trigger: Trigger,
    breaks: Breaks,
}

impl<'a> Steps<'a> {
    fn of(trigger: Trigger, desk: &'a Desk, bell: &'a Bell) -> Self {
        Self { bell, desk, trigger, breaks: Breaks::default() }
    }

    /// Ends the run if the thread is to stop, and leaves the core to others for a while, if nobody waits for a run.
    fn next(&mut self) -> Result<(), Halt> {
        if self.bell.is_stopped() {
            return Err(Halt::Stopped);
        }
        if self.trigger != Trigger::Request && !self.desk.is_waited_for() {
            self.breaks.rest_if_due();
        }
        Ok(())
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
        let desk = self.desk.clone();
        let mut steps = Steps::of(trigger, &desk, bell);
        let books = &self.subject.books;
        // The long way through the journal first, so that the moment compared is the end of it.
        let through = books.read().position().sequence;
        let read = self.subject.folders.as_ref().map(|folders| {
            Follower::from_the_first_byte(folders, through)
                .and_then(|follower| follower.read_on(books, &mut steps))
        });
        let moment = self.subject.clock.now();
        let mut recount = Recount::begin(&books.read());
        let kept = recount.totals().clone();
        let compared = read.map(|read| {
            let follower = read?.go_on(kept.position.sequence)?.read_on(books, &mut steps)?;
            follower.compare(books, &kept, &mut steps)
        });
        let (follower, checks) = match compared {
            None => (None, Vec::new()),
            Some(Ok((follower, checks))) => (Some(follower), checks),
            Some(Err(Halt::Unreadable(error))) => (None, vec![unreadable(&error)]),
            Some(Err(Halt::Stopped)) => return None,
        };
        while recount.proceed(&books.read(), SLICE) {
            steps.next().ok()?;
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
        let kept = Totals::of(&books.read());
        let desk = self.desk.clone();
        let mut steps = Steps::of(Trigger::Commit, &desk, bell);
        let compared = follower
            .go_on(kept.position.sequence)
            .and_then(|follower| follower.read_on(books, &mut steps))
            .and_then(|follower| follower.compare(books, &kept, &mut steps));
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

    /// Reads as far as was last asked for, and holds every entry against the payments in memory.
    fn read_on(mut self, books: &BooksReader, steps: &mut Steps<'_>) -> Result<Self, Halt> {
        for located in self.reader.by_ref() {
            let batch = located?.batch;
            steps.next()?;
            self.intact.look(true, String::new);
            self.shadow.follow(&batch);
            for slice in batch.entries.chunks(SLICE) {
                self.shadow.compare_entries(slice, &books.read());
            }
        }
        Ok(self)
    }

    /// Compares what was read with what the books held at that moment. Returns all that was checked.
    fn compare(
        mut self,
        books: &BooksReader,
        kept: &Totals,
        steps: &mut Steps<'_>,
    ) -> Result<(Self, Vec<Check>), Halt> {
        let (disk, memory) = (self.reader.position(), kept.position);
        self.intact.look(disk == memory, || position_differs(disk, memory));
        for slice in self.shadow.take_touched().chunks(SLICE) {
            self.shadow.compare_accounts(slice, &books.read(), memory.sequence);
            steps.next()?;
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
