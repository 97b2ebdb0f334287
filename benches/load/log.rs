//! A log of bytes, and nothing else: no format, no hash, no recovery. Writes as the journal does: in place, over zeros that
//! were written before, by `O_DIRECT` and `O_DSYNC`, and what came during one write together in the next.

use actix_web::web::Bytes;
use rustix::fs::OFlags;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    sync::mpsc,
    thread,
};
use tokio::sync::oneshot;

/// The file is written round and round.
const FILE_BYTES: usize = 256 << 20;
const BLOCK_BYTES: usize = 4096;
/// The most of one write.
const BATCH_BYTES: usize = 1 << 20;

pub struct Log(mpsc::Sender<(Bytes, oneshot::Sender<()>)>);

impl Log {
    pub fn start(path: &Path) -> io::Result<Self> {
        let mut zeros = File::create(path)?;
        for _ in 0..FILE_BYTES / BATCH_BYTES {
            zeros.write_all(&vec![0; BATCH_BYTES])?;
        }
        zeros.sync_all()?;
        let flags = OFlags::DIRECT | OFlags::DSYNC;
        let file =
            OpenOptions::new().write(true).custom_flags(flags.bits().cast_signed()).open(path)?;
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&file, &receiver))?;
        Ok(Self(sender))
    }

    /// Returns when `bytes` are durable.
    pub async fn keep(&self, bytes: Bytes) -> Result<(), &'static str> {
        let (sender, kept) = oneshot::channel();
        self.0.send((bytes, sender)).map_err(|_| "the log has ended")?;
        kept.await.map_err(|_| "not written")
    }
}

fn write(file: &File, receiver: &mpsc::Receiver<(Bytes, oneshot::Sender<()>)>) {
    let mut place = 0;
    let mut batch: Vec<u8> = Vec::with_capacity(BATCH_BYTES + 2 * BLOCK_BYTES);
    let start = batch.as_ptr().align_offset(BLOCK_BYTES);
    while let Ok(first) = receiver.recv() {
        batch.clear();
        batch.resize(start, 0);
        let mut waiting = Vec::new();
        // Asked for one by one: taking all that came would also take what can't be in this write.
        let mut next = Some(first);
        while let Some((bytes, sender)) = next {
            batch.extend_from_slice(&bytes);
            waiting.push(sender);
            let has_room = batch.len() + BLOCK_BYTES < BATCH_BYTES;
            next = if has_room { receiver.try_recv().ok() } else { None };
        }
        let length = (batch.len() - start).next_multiple_of(BLOCK_BYTES);
        batch.resize(start + length, 0);
        if place + length > FILE_BYTES {
            place = 0;
        }
        let written =
            batch.get(start..).map(|bytes| file.write_all_at(bytes, place.try_into().unwrap_or(0)));
        if let Some(Err(error)) = &written {
            // Whoever waits for it is told by its sender being dropped.
            drop(writeln!(io::stderr(), "the log cannot be written: {error}"));
            return;
        }
        place += length;
        for sender in waiting {
            // A client may have gone.
            sender.send(()).ok();
        }
    }
}
