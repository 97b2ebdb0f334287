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
    JournalError, archive,
    buffer::{AlignedBuffer, BLOCK_BYTES, bytes, index, is_zero},
    chain::Chain,
    disk::{Disk, Source},
    folders::{Folders, Place as Folder},
    frame::{self, Flaw, Frame, Place},
    segment,
    watermark::{self, Watermark},
};
use crate::domain::{books, entry::Batch, id::Sequence};
use std::{io::ErrorKind, path::PathBuf, sync::Arc};
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
    /// Where in the segment the batch begins.
    pub offset: u64,
    /// How many bytes it takes there.
    pub bytes: u64,
    /// How many of them are its entries; the rest is its head and filling.
    pub entries_bytes: u64,
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

/// Iterates over batches. Ends after the last good one (or the last one asked for), or with the
/// error that says what is damaged.
pub struct Reader {
    folders: Folders,
    /// The segments that are still to be read, the next one last.
    ahead: Vec<(Sequence, Folder)>,
    /// What was read of the segment at hand; `None` at the end.
    segment: Option<Window>,
    /// Where that segment is.
    folder: Folder,
    chain: Chain,
    watermark: Option<Watermark>,
    /// What a snapshot holds: the batches up to there are checked, and not handed out.
    covered: books::Position,
    /// The last entry to read; beyond it another process may be writing.
    through: Sequence,
    torn: Option<Torn>,
}

/// A part of a segment.
#[derive(Clone)]
struct Window {
    content: Arc<AlignedBuffer>,
    /// Where in the segment it begins.
    from: u64,
    /// Whether it goes to the segment's end.
    to_end: bool,
}

impl Window {
    fn whole(content: AlignedBuffer) -> Self {
        Self { content: Arc::new(content), from: 0, to_end: true }
    }
}

/// How much of a segment is read at once by a reader that goes on.
const WINDOW_BYTES: usize = if cfg!(test) { 16 * 1024 } else { 1024 * 1024 };

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
    /// A reader at the first batch of a journal that nobody writes; `None` if there is none yet.
    pub fn open(folders: &Folders) -> Result<Option<Self>, JournalError> {
        Self::open_at(folders, 0, books::Position::default(), Sequence::MAX)
    }

    /// A reader at the first batch of a journal that is being written, up to and with the durable
    /// entry `through`. It reads from the device. [`Reader::go_on`] takes it further.
    pub fn follow(folders: &Folders, through: Sequence) -> Result<Option<Self>, JournalError> {
        Self::open_at(folders, 0, books::Position::default(), through)
    }

    /// A reader that starts with the segment that holds entry `from`, or the first one behind it.
    /// What a snapshot covers is checked and not handed out.
    pub(super) fn open_at(
        folders: &Folders,
        from: Sequence,
        covered: books::Position,
        through: Sequence,
    ) -> Result<Option<Self>, JournalError> {
        let disk = &folders.journal;
        let names = disk.list().map_err(JournalError::io("list", disk.path("")))?;
        let segments = folders.segments()?;
        if segments.is_empty() && !names.iter().any(|name| is_of_a_journal(name)) {
            return Ok(None);
        }
        // While the journal is written, so is the watermark.
        let settled = through == Sequence::MAX;
        let watermark = match settled && names.iter().any(|name| name == watermark::FILE) {
            true => read_watermark(&**disk)?,
            false => None,
        };
        let start = segments.range(..=from).next_back().map_or(0, |(first, _)| *first);
        let mut reader = Self {
            folders: folders.clone(),
            ahead: segments.range(start..).rev().map(|(first, place)| (*first, *place)).collect(),
            segment: None,
            folder: Folder::Journal,
            chain: Chain::new(Uuid::nil()),
            watermark,
            covered,
            through,
            torn: None,
        };
        let is_stray = |name: &&String| name.ends_with(".seg") && segment::first_of(name).is_none();
        if let Some(stray) = names.iter().find(is_stray) {
            return Err(reader.damaged(disk.path(stray), 0, "no segment has such a name".into()));
        }
        let Some(next) = reader.ahead.pop() else {
            return Err(reader.damaged(PathBuf::new(), 0, "all its segments are missing".into()));
        };
        reader.begin(next)?;
        Ok(Some(reader))
    }

    /// Which journal this is.
    #[must_use]
    pub fn store(&self) -> Uuid {
        self.chain.store
    }

    /// The number of the segment that is being read, and of the last one.
    #[must_use]
    pub fn segments(&self) -> (u64, u64) {
        let ahead = bytes(self.ahead.len());
        (self.chain.segment, self.chain.segment.saturating_add(ahead))
    }

    /// The last entry that was read, or checked and passed over.
    #[must_use]
    pub fn position(&self) -> books::Position {
        books::Position { sequence: self.chain.sequence, at: self.chain.at, head: self.chain.head }
    }

    /// Reads on, up to and with the durable entry `through`, after the iterator ended without an
    /// error.
    pub fn go_on(&mut self, through: Sequence) -> Result<(), JournalError> {
        self.through = through;
        let segments = self.folders.segments()?;
        let current = self.chain.segment_first;
        let Some(folder) = segments.get(&current) else {
            return Err(self.damaged_here("the segment is gone".into()));
        };
        let behind = segments.range(current.saturating_add(1)..).rev();
        self.ahead = behind.map(|(first, place)| (*first, *place)).collect();
        self.folder = *folder;
        self.segment = Some(self.window(WINDOW_BYTES)?);
        Ok(())
    }

    /// The segment at hand from the next batch on, as many bytes of it; an archived one from its start.
    fn window(&self, length: usize) -> Result<Window, JournalError> {
        let (first, from) = (self.chain.segment_first, self.chain.offset);
        if self.folder == Folder::Archive {
            return Ok(Window::whole(self.read(first, self.folder)?));
        }
        let rest = index(self.chain.room());
        let Some(content) = self.part(first, from, length.min(rest))? else {
            return Ok(Window::whole(self.read(first, Folder::Archive)?));
        };
        let to_end = content.len() == rest;
        Ok(Window { content: Arc::new(content), from, to_end })
    }

    /// A part of a segment in the journal's folder; `None` if it went to the archive since the folder was listed.
    fn part(
        &self,
        first: Sequence,
        from: u64,
        length: usize,
    ) -> Result<Option<AlignedBuffer>, JournalError> {
        let (disk, name) = (&self.folders.journal, segment::file_name(first));
        match disk.read_part(&name, from, length, Source::Device) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            read => read.map(Some).map_err(JournalError::io("read", disk.path(&name))),
        }
    }

    /// What stands behind the last good batch; right after the iterator ended without an error.
    #[must_use]
    pub fn tail(&self) -> Option<Tail> {
        let torn = self.torn.as_ref()?;
        Some(Tail { file: self.file(), offset: self.chain.offset, bytes: bytes(torn.bytes.len()) })
    }

    /// Where the journal ends; right after the iterator ended without an error.
    pub(super) fn end(self) -> End {
        End { chain: self.chain, torn: self.torn }
    }

    fn read(&self, first: Sequence, folder: Folder) -> Result<AlignedBuffer, JournalError> {
        let followed = self.through != Sequence::MAX;
        let newest = self.ahead.is_empty();
        let from_device = (newest || followed) && !seeded!(CacheTrusted);
        let source = if from_device { Source::Device } else { Source::Cache };
        let archive = &*self.folders.archive;
        if folder == Folder::Archive {
            return archive::read(archive, first, source);
        }
        let (disk, name) = (&self.folders.journal, segment::file_name(first));
        match disk.read(&name, source) {
            // It went to the archive since the folder was listed.
            Err(error) if error.kind() == ErrorKind::NotFound && (followed || !newest) => {
                archive::read(archive, first, source)
            }
            read => read.map_err(JournalError::io("read", disk.path(&name))),
        }
    }

    /// A segment from its start on, and how long it is. If the journal is being written, no more than a window of one in
    /// its folder: the memory of a whole one takes milliseconds to give back.
    fn start_of(&self, first: Sequence, folder: Folder) -> Result<(Window, u64), JournalError> {
        if folder == Folder::Journal
            && self.through != Sequence::MAX
            && let Ok(length) = self.folders.journal.length(&segment::file_name(first))
            && length > bytes(WINDOW_BYTES)
            && let Some(content) = self.part(first, 0, WINDOW_BYTES)?
        {
            return Ok((Window { content: Arc::new(content), from: 0, to_end: false }, length));
        }
        let whole = self.read(first, folder)?;
        let length = bytes(whole.len());
        Ok((Window::whole(whole), length))
    }

    /// Reads the start of the next segment and checks that it is the next one.
    fn begin(&mut self, (first, folder): (Sequence, Folder)) -> Result<(), JournalError> {
        let (window, length) = self.start_of(first, folder)?;
        let file = path(&self.folders, first, folder);
        let header = match segment::Header::decode(&window.content) {
            Ok(header) => header,
            Err(segment::Flaw::Damaged(what)) => return Err(self.damaged(file, 0, what.into())),
            Err(segment::Flaw::Unsupported(what)) => {
                return Err(JournalError::Unsupported { file, what: what.into() });
            }
        };
        if self.chain.segment == 0
            && let Some(what) = self.chain.start_at(&header, self.covered)
        {
            return Err(self.damaged(file, 0, what));
        }
        if let Some(what) = self.chain.refuse_segment(&header) {
            return Err(self.damaged(file, 0, what));
        }
        if first != header.first {
            let what = format!("the segment begins with entry {}, its name lies", header.first);
            return Err(self.damaged(file, 0, what));
        }
        if header.segment_bytes != length {
            let was = header.segment_bytes;
            let what = format!("the file is {length} bytes long, it was made {was} bytes long");
            return Err(self.damaged(file, 0, what));
        }
        self.chain.begin_segment(&header);
        self.folder = folder;
        self.segment = Some(window);
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<Located>, JournalError> {
        while self.chain.sequence < self.through
            && let Some(segment) = self.segment.clone()
        {
            let start = index(self.chain.offset.saturating_sub(segment.from));
            let rest = segment.content.get(start..).unwrap_or_default();
            match frame::open(rest, &self.chain.place()) {
                Ok(frame) => {
                    if let Some(located) = self.accept(&frame)? {
                        return Ok(Some(located));
                    }
                }
                // The batch may go on behind the window, or begin there.
                Err(_) if !segment.to_end => {
                    let length = rest.len().saturating_mul(2).max(WINDOW_BYTES);
                    self.segment = Some(self.window(length)?);
                }
                Err(_) if is_zero(rest) => match self.ahead.pop() {
                    Some(next) => self.begin(next)?,
                    None => {
                        self.check_acknowledged("nothing stands there")?;
                        self.segment = None;
                    }
                },
                Err(Flaw::Wrong(_)) if seeded!(DamageIsTorn) => {
                    self.torn = Some(Torn { bytes: rest.into(), what: "a seeded bug" });
                    self.segment = None;
                }
                Err(Flaw::Wrong(what)) => return Err(self.damaged_here(what)),
                Err(Flaw::Unfinished(what)) if seeded!(TornIsDamage) => {
                    return Err(self.damaged_here(what.into()));
                }
                Err(Flaw::Unfinished(what)) => {
                    self.torn = Some(self.judge(rest, what)?);
                    self.segment = None;
                }
            }
        }
        self.segment = None;
        Ok(None)
    }

    /// Takes the frame as the next batch, if it is. `None` for one that a snapshot covers.
    fn accept(&mut self, frame: &Frame<'_>) -> Result<Option<Located>, JournalError> {
        let header = &frame.header;
        if let Some(what) = self.chain.refuse_batch(header) {
            return Err(self.damaged_here(what));
        }
        let last = header.last();
        for (witness, sequence, hash) in [
            (
                "the watermark",
                self.watermark.map(|mark| mark.sequence),
                self.watermark.map(|mark| mark.hash),
            ),
            ("the snapshot", Some(self.covered.sequence), Some(self.covered.head)),
        ] {
            if sequence.is_some_and(|sequence| (header.first..=last).contains(&sequence))
                && (sequence, hash) != (Some(last), Some(frame.hash))
            {
                let sequence = sequence.unwrap_or_default();
                return Err(self.damaged_here(format!(
                    "{witness} says that another batch was acknowledged at entry {sequence} than stands there"
                )));
            }
        }
        let wanted = last > self.covered.sequence;
        let batch = match wanted {
            true => Some(frame.batch().map_err(|what| self.damaged_here(what))?),
            false => None,
        };
        let (file, offset, entries_bytes) =
            (self.file(), self.chain.offset, bytes(frame.payload.len()));
        let (bytes, epoch) = (frame.bytes, header.epoch);
        self.chain.follow(header, frame.hash, bytes);
        Ok(batch.map(|batch| Located { batch, file, offset, bytes, entries_bytes, epoch }))
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
        self.check_acknowledged(what)?;
        Ok(Torn { bytes: rest.get(..used).unwrap_or_default().into(), what })
    }

    /// Refuses an end of the journal that lies before what was acknowledged.
    fn check_acknowledged(&self, what: &str) -> Result<(), JournalError> {
        let watermark = self.watermark.map_or(0, |watermark| watermark.sequence);
        let asked = if self.through == Sequence::MAX { 0 } else { self.through };
        let witnesses = [
            ("the watermark says", watermark),
            ("a snapshot says", self.covered.sequence),
            ("the books say", asked),
        ];
        match witnesses.into_iter().find(|(_, sequence)| *sequence > self.chain.sequence) {
            Some((who, through)) => Err(self.damaged_here(format!(
                "{what}, and {who} that entries through {through} were acknowledged"
            ))),
            None => Ok(()),
        }
    }

    /// The path of the segment being read.
    fn file(&self) -> PathBuf {
        path(&self.folders, self.chain.segment_first, self.folder)
    }

    fn damaged_here(&self, what: String) -> JournalError {
        self.damaged(self.file(), self.chain.offset, what)
    }

    fn damaged(&self, file: PathBuf, offset: u64, what: String) -> JournalError {
        let file = if file.as_os_str().is_empty() { self.folders.journal.path("") } else { file };
        JournalError::Damaged {
            file,
            offset,
            sequence: self.chain.next_sequence(),
            what: what.into(),
        }
    }
}

fn path(folders: &Folders, first: Sequence, folder: Folder) -> PathBuf {
    match folder {
        Folder::Journal => folders.journal.path(&segment::file_name(first)),
        Folder::Archive => folders.archive.path(&archive::file_name(first)),
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

/// `None` if there is nothing in the file, as a power failure may leave it when it was new. Whatever else it holds but a
/// watermark is damage, and what damaged it may have taken the last batch as well: a write that went astray does both.
fn read_watermark(disk: &dyn Disk) -> Result<Option<Watermark>, JournalError> {
    let path = disk.path(watermark::FILE);
    let content = disk
        .read(watermark::FILE, Source::Cache)
        .map_err(JournalError::io("read", path.clone()))?;
    match Watermark::decode(&content) {
        None if !is_zero(&content) => Err(JournalError::Damaged {
            file: path,
            offset: 0,
            sequence: 0,
            what: "the watermark is not what was written, so nothing says whether the batch that was acknowledged last \
                   still stands in the journal. If nothing else is found damaged, a copy of the folder without this \
                   file starts; what was lost together with it is missing there"
                .into(),
        }),
        watermark => Ok(watermark),
    }
}
