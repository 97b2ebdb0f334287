//! The reader: every batch of the journal in order, and the verdict on where it ends.
//!
//! Recovery calls it, and whoever else wants to see what is on disk. It changes nothing. Because
//! one batch is in flight at a time and every batch starts on a fresh block, a crash can only spoil
//! the last one:
//!
//! ```text
//! the first batch that is not as it was written is
//!   damage     if its segment is not the newest one,
//!              or a whole batch stands behind it,
//!              or the watermark says that it was acknowledged,
//!              or it was written as a whole and is wrong all the same;
//!   a torn tail otherwise: nobody was told that it is durable.
//! ```

use super::{
    JournalError,
    buffer::{AlignedBuffer, BLOCK_BYTES, bytes, index, is_zero},
    chain::Chain,
    disk::{Disk, Source},
    frame::{self, Flaw, Frame, Place},
    segment,
    watermark::{self, Watermark},
};
use crate::domain::entry::Batch;
use std::{path::PathBuf, sync::Arc};
use uuid::Uuid;

/// How the names of files with set-aside bytes begin.
pub(super) const TORN_PREFIX: &str = "torn-";

/// A batch and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// What was written.
    pub batch: Batch,
    /// The segment's path.
    pub file: PathBuf,
    /// Where in the file the batch begins.
    pub offset: u64,
    /// How many bytes it takes there.
    pub bytes: u64,
    /// The epoch of its writer.
    pub epoch: u64,
}

/// What a crash left of a batch that nobody was told of. The next start sets it aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The segment's path.
    pub file: PathBuf,
    /// Where it begins.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Iterates over all batches. Ends after the last good one, or with the error that says what is
/// damaged.
pub struct Reader {
    disk: Arc<dyn Disk>,
    /// Names of the segments that are still to be read, the next one last.
    ahead: Vec<String>,
    /// The segment being read; `None` at the end.
    segment: Option<AlignedBuffer>,
    chain: Chain,
    watermark: Option<Watermark>,
    torn: Option<Torn>,
}

/// Bytes at the end that a crash left and nobody was told of.
#[derive(Clone, Debug)]
pub(super) struct Torn {
    /// Whole blocks, from the end of the last good batch to the last block that is not zero.
    pub(super) bytes: Vec<u8>,
    pub(super) what: &'static str,
}

/// Where the reader got to when it ended without an error.
pub(super) struct End {
    pub(super) chain: Chain,
    pub(super) torn: Option<Torn>,
}

impl Reader {
    /// A reader at the first batch; `None` if the folder holds no journal yet.
    pub fn open(disk: Arc<dyn Disk>) -> Result<Option<Self>, JournalError> {
        let mut names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
        if !names.iter().any(|name| is_of_a_journal(name)) {
            return Ok(None);
        }
        let watermark = match names.iter().any(|name| name == watermark::FILE) {
            true => read_watermark(&*disk)?,
            false => None,
        };
        names.retain(|name| name.ends_with(".seg"));
        // Twenty digits each, so this is the order of their entries, backwards.
        names.sort_unstable_by(|a, b| b.cmp(a));
        let mut reader = Self {
            disk,
            ahead: names,
            segment: None,
            chain: Chain::new(Uuid::nil()),
            watermark,
            torn: None,
        };
        match reader.ahead.pop() {
            Some(name) => reader.begin(&name)?,
            None => return Err(reader.damaged("", 0, "all its segments are missing".into())),
        }
        Ok(Some(reader))
    }

    /// Which journal this is.
    #[must_use]
    pub fn store(&self) -> Uuid {
        self.chain.store
    }

    /// How many segments were begun, and how many there are.
    #[must_use]
    pub fn segments(&self) -> (u64, u64) {
        let ahead = bytes(self.ahead.len());
        (self.chain.segment, self.chain.segment.saturating_add(ahead))
    }

    /// What stands behind the last good batch; right after the iterator ended without an error.
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        let torn = self.torn.as_ref()?;
        let (file, offset) = (self.disk.path(&self.chain.file()), self.chain.offset);
        Some(Tail { file, offset, bytes: bytes(torn.bytes.len()) })
    }

    /// Where the journal ends; right after the iterator ended without an error.
    pub(super) fn end(self) -> End {
        End { chain: self.chain, torn: self.torn }
    }

    /// Reads the next segment and checks that it is the next one.
    fn begin(&mut self, name: &str) -> Result<(), JournalError> {
        let newest = self.ahead.is_empty();
        let source = if newest { Source::Device } else { Source::Cache };
        let content =
            self.disk.read(name, source).map_err(JournalError::io("read", self.disk.path(name)))?;
        let header = match segment::Header::decode(&content) {
            Ok(header) => header,
            Err(segment::Flaw::Damaged(what)) => return Err(self.damaged(name, 0, what.into())),
            Err(segment::Flaw::Unsupported(what)) => {
                return Err(JournalError::Unsupported {
                    file: self.disk.path(name),
                    what: what.into(),
                });
            }
        };
        if self.chain.segment == 0 {
            self.chain.store = header.store;
        }
        if let Some(what) = self.chain.refuse_segment(&header) {
            return Err(self.damaged(name, 0, what));
        }
        if segment::first_of(name) != Some(header.first) {
            let what = format!("the segment begins with entry {}, its name lies", header.first);
            return Err(self.damaged(name, 0, what));
        }
        if header.segment_bytes != bytes(content.len()) {
            let (is, was) = (content.len(), header.segment_bytes);
            let what = format!("the file is {is} bytes long, it was made {was} bytes long");
            return Err(self.damaged(name, 0, what));
        }
        self.chain.begin_segment(&header);
        self.segment = Some(content);
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Located>, JournalError> {
        while let Some(segment) = &self.segment {
            let rest = segment.get(index(self.chain.offset)..).unwrap_or_default();
            match frame::open(rest, &self.chain.place()) {
                Ok(frame) => return self.accept(frame).map(Some),
                Err(_) if is_zero(rest) => match self.ahead.pop() {
                    Some(name) => self.begin(&name)?,
                    None => {
                        self.check_watermark("nothing stands there")?;
                        self.segment = None;
                    }
                },
                Err(Flaw::Wrong(what)) => return Err(self.damaged_here(what)),
                Err(Flaw::Unfinished(what)) => {
                    self.torn = Some(self.judge(rest, what)?);
                    self.segment = None;
                }
            }
        }
        Ok(None)
    }

    /// Takes the frame as the next batch, if it is.
    fn accept(&mut self, frame: Frame) -> Result<Located, JournalError> {
        let Frame { header, batch, bytes } = frame;
        if let Some(what) = self.chain.refuse_batch(&header) {
            return Err(self.damaged_here(what));
        }
        let file = self.disk.path(&self.chain.file());
        let offset = self.chain.offset;
        let before = self.chain.clone();
        self.chain.follow(&batch, header.epoch, bytes);
        if let Some(watermark) = &self.watermark
            && (header.first..=self.chain.sequence).contains(&watermark.sequence)
            && (self.chain.sequence, self.chain.head) != (watermark.sequence, watermark.hash)
        {
            self.chain = before;
            let what = format!(
                "another batch was acknowledged at entry {} than stands there",
                watermark.sequence
            );
            return Err(self.damaged_here(what));
        }
        Ok(Located { batch, file, offset, bytes, epoch: header.epoch })
    }

    /// Whether the unfinished batch at the start of `rest` is a torn tail; the error if it is
    /// damage.
    fn judge(&self, rest: &[u8], what: &'static str) -> Result<Torn, JournalError> {
        if !self.ahead.is_empty() {
            let what = format!("{what}, and later segments follow");
            return Err(self.damaged_here(what));
        }
        let place = self.chain.place();
        let mut used = 0;
        for (block, start) in rest.chunks(BLOCK_BYTES).zip((0..).step_by(BLOCK_BYTES)) {
            let offset = place.offset.saturating_add(bytes(start));
            if start > 0 && frame::header_at(block, &Place { offset, ..place }).is_some() {
                let what = format!("{what}, and a later batch stands behind it at byte {offset}");
                return Err(self.damaged_here(what));
            }
            if !is_zero(block) {
                used = start + block.len();
            }
        }
        self.check_watermark(what)?;
        Ok(Torn { bytes: rest.get(..used).unwrap_or_default().into(), what })
    }

    /// Refuses an end of the journal that lies before what was acknowledged.
    fn check_watermark(&self, what: &str) -> Result<(), JournalError> {
        match &self.watermark {
            Some(watermark) if watermark.sequence > self.chain.sequence => {
                Err(self.damaged_here(format!(
                    "{what}, and the watermark says that entries through {} were acknowledged",
                    watermark.sequence
                )))
            }
            _ => Ok(()),
        }
    }

    fn damaged_here(&self, what: String) -> JournalError {
        self.damaged(&self.chain.file(), self.chain.offset, what)
    }

    fn damaged(&self, name: &str, offset: u64, what: String) -> JournalError {
        JournalError::Damaged {
            file: self.disk.path(name),
            offset,
            sequence: self.chain.next_sequence(),
            what: what.into(),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Located, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance().transpose();
        if let Some(Err(_)) = next {
            self.segment = None;
        }
        next
    }
}

/// Whether a file of this name shows that a journal was founded here.
fn is_of_a_journal(name: &str) -> bool {
    name.ends_with(".seg") || name == watermark::FILE || name.starts_with(TORN_PREFIX)
}

/// `None` if the file does not hold a watermark, as a power failure may leave it.
fn read_watermark(disk: &dyn Disk) -> Result<Option<Watermark>, JournalError> {
    let path = disk.path(watermark::FILE);
    let content = disk
        .read(watermark::FILE, Source::Cache)
        .map_err(JournalError::io("read", path.clone()))?;
    let watermark = Watermark::decode(&content);
    if watermark.is_none() {
        tracing::warn!(file = %path.display(), "the watermark is unreadable and ignored");
    }
    Ok(watermark)
}
