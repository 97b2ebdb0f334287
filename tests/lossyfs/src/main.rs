//! `lossyfs FOLDER`: a file system in memory that forgets what was not synced, for tests of what a power failure leaves,
//! and that can have any one of its calls fail. It runs until it is unmounted. Its own files, in its topmost folder:
//!
//! | file | |
//! |---|---|
//! | `.power-cut` | reading it is a power failure: of what was not synced nothing, all, or any sectors and names survive, at random; the text says how much |
//! | `.fail` | `N EIO`, `N ENOSPC`, `N EINTR` or `N SHORT` written into it has the Nth call from then on fail once; reading it says how many calls there were and which one failed |
//! | `.lie` | once it is written, nothing is synced any more, though all is said to be: a disk that lies |

mod failing;
mod tree;

use failing::{Failing, Kind};
use fuser::{
    Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo,
    LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};
use rand::seq::IndexedRandom;
use std::{
    ffi::OsStr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tree::{File, Folder, Node, Number, Survives, Tree};

const POWER_CUT: Number = 2;
const FAIL: Number = 3;
const LIE: Number = 4;
/// Numbers from here on are those of files and folders.
const FIRST: Number = 10;

/// Nothing is remembered by the kernel, so that everybody sees what is left.
const NO_TIME: Duration = Duration::ZERO;
/// What it says of the room on the device, in blocks of 4 KiB.
const BLOCKS: u64 = 1 << 20;

struct State {
    tree: Tree,
    failing: Failing,
    lying: bool,
    /// What the last power failure did.
    said: String,
}

struct LossyFs(Mutex<State>);

/// One of its own files, by its name.
fn own(folder: INodeNo, name: &OsStr) -> Option<Number> {
    match name.to_str()? {
        ".power-cut" if folder.0 == tree::ROOT => Some(POWER_CUT),
        ".fail" if folder.0 == tree::ROOT => Some(FAIL),
        ".lie" if folder.0 == tree::ROOT => Some(LIE),
        _ => None,
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a 64-bit machine")
}

impl State {
    fn attributes(&self, number: Number) -> Option<FileAttr> {
        let (length, kind) = match self.tree.node(number) {
            Some(Node::File(file)) => (file.length() as u64, FileType::RegularFile),
            Some(Node::Folder(_)) => (0, FileType::Directory),
            None if (POWER_CUT..FIRST).contains(&number) => (0, FileType::RegularFile),
            None => return None,
        };
        let now = SystemTime::now();
        Some(FileAttr {
            ino: INodeNo(number),
            size: length,
            blocks: length.div_ceil(512),
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm: u16::try_from(self.tree.mode(number) & 0o7777).unwrap_or(0o600),
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn cut(&mut self) {
        let kinds = [Survives::Nothing, Survives::AnyOfIt, Survives::AnyOfIt, Survives::Everything];
        let survives = *kinds.choose(&mut rand::rng()).expect("there are some");
        let cut = self.tree.cut(survives);
        self.said = format!("{survives:?} survives: {cut:?}\n");
    }
}

impl LossyFs {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its state, unless this call is the one that is to fail.
    fn call(&self, what: &str) -> Result<MutexGuard<'_, State>, Errno> {
        let mut state = self.state();
        match state.failing.strikes(what) {
            Some(kind) => Err(kind.error()),
            None => Ok(state),
        }
    }

    /// Makes a file or folder.
    fn make(
        &self,
        what: &str,
        folder: INodeNo,
        (name, mode): (&OsStr, u32),
        node: Node,
    ) -> Result<FileAttr, Errno> {
        let mut state = self.call(&format!("{what} {}", name.display()))?;
        if state.tree.find(folder.0, name).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = state.tree.make(folder.0, name, mode, node).ok_or(Errno::ENOENT)?;
        state.attributes(number).ok_or(Errno::EIO)
    }

    fn found(&self, folder: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        if let Some(number) = own(folder, name) {
            return self.state().attributes(number).ok_or(Errno::EIO);
        }
        let number = self.state().tree.find(folder.0, name);
        // On the way to a file only what names the file itself is a call of the program's own.
        let passing = number.is_some_and(|number| self.state().tree.is_folder(number));
        let state =
            if passing { self.state() } else { self.call(&format!("find {}", name.display()))? };
        state.attributes(number.ok_or(Errno::ENOENT)?).ok_or(Errno::ENOENT)
    }

    fn removed(&self, folder: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let mut state = self.call(&format!("remove {}", name.display()))?;
        let number = state.tree.find(folder.0, name).ok_or(Errno::ENOENT)?;
        if state.tree.folder(number).is_some_and(|folder| folder.names().next().is_some()) {
            return Err(Errno::ENOTEMPTY);
        }
        state.tree.remove(folder.0, name).ok_or(Errno::ENOENT)
    }

    fn written(
        &self,
        number: Number,
        (offset, bytes): (usize, &[u8]),
        dsync: bool,
    ) -> Result<usize, Errno> {
        let mut state = self.state();
        if number == LIE {
            state.lying = true;
            return Ok(bytes.len());
        }
        if number == FAIL {
            state.failing = Failing::parse(bytes).ok_or(Errno::EINVAL)?;
            return Ok(bytes.len());
        }
        let sync = dsync && !state.lying;
        let struck = state.failing.strikes("write");
        let file = state.tree.file(number).ok_or(Errno::EBADF)?;
        match struck {
            None => file.write(offset, bytes, sync),
            Some(Kind::Short) if bytes.len() > 1 => {
                file.write(offset, &bytes[..bytes.len() / 2], sync);
                return Ok(bytes.len() / 2);
            }
            // What is interrupted has not begun.
            Some(Kind::Short | Kind::Interrupted) => return Err(Errno::EINTR),
            Some(kind) => {
                file.write_in_part(offset, bytes);
                return Err(kind.error());
            }
        }
        Ok(bytes.len())
    }

    fn synced(&self, number: Number) -> Result<(), Errno> {
        let mut state = self.state();
        if state.lying || number < FIRST && number != tree::ROOT {
            return Ok(());
        }
        let struck = state.failing.strikes("sync");
        match (state.tree.file(number), struck) {
            (Some(file), None) => file.sync(),
            (Some(file), Some(Kind::Io | Kind::Full)) => file.fail_to_sync(),
            _ => {}
        }
        struck.map_or(Ok(()), |kind| Err(kind.error()))
    }
}

/// Answers with the value or with the error.
macro_rules! answer {
    ($result:expr, $reply:ident, $value:pat => $done:expr) => {
        match $result {
            Ok($value) => $done,
            Err(error) => $reply.error(error),
        }
    };
}

impl Filesystem for LossyFs {
    fn lookup(&self, _: &Request, folder: INodeNo, name: &OsStr, reply: ReplyEntry) {
        answer!(self.found(folder, name), reply, found => {
            reply.entry(&NO_TIME, &found, Generation(0));
        });
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.state().attributes(number.0) {
            Some(found) => reply.attr(&NO_TIME, &found),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        number: INodeNo,
        mode: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        length: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let own = (POWER_CUT..FIRST).contains(&number.0);
        let state = if own { Ok(self.state()) } else { self.call("set attributes") };
        answer!(state, reply, mut state => {
            if let Some(mode) = mode {
                state.tree.set_mode(number.0, mode);
            }
            if let (Some(length), Some(file)) = (length, state.tree.file(number.0)) {
                file.set_length(size(length));
            }
            match state.attributes(number.0) {
                Some(found) => reply.attr(&NO_TIME, &found),
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn mkdir(
        &self,
        _: &Request,
        folder: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let made = self.make(
            "make folder",
            folder,
            (name, mode & !umask),
            Node::Folder(Folder::default()),
        );
        answer!(made, reply, made => reply.entry(&NO_TIME, &made, Generation(0)));
    }

    fn create(
        &self,
        _: &Request,
        folder: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        let made = self.make("make", folder, (name, mode & !umask), Node::File(File::default()));
        answer!(made, reply, made => {
            reply.created(&NO_TIME, &made, Generation(0), FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
        });
    }

    fn open(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let opened = FopenFlags::FOPEN_DIRECT_IO;
        match number.0 {
            POWER_CUT => self.state().cut(),
            FAIL | LIE => {}
            _ => match self.call("open") {
                Ok(_) => {}
                Err(error) => return reply.error(error),
            },
        }
        reply.opened(FileHandle(0), opened);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let said = match number.0 {
            POWER_CUT => Some(self.state().said.clone()),
            FAIL => Some(self.state().failing.to_string()),
            _ => None,
        };
        if let Some(said) = said {
            let rest = said.as_bytes().get(size(offset)..).unwrap_or_default();
            return reply.data(&rest[..rest.len().min(length as usize)]);
        }
        answer!(self.call("read"), reply, mut state => match state.tree.file(number.0) {
            Some(file) => reply.data(file.read(size(offset), length as usize)),
            None => reply.error(Errno::EBADF),
        });
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let dsync = flags.0 & libc::O_DSYNC != 0;
        answer!(self.written(number.0, (size(offset), bytes), dsync), reply, count => {
            reply.written(u32::try_from(count).unwrap_or(0));
        });
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        answer!(self.synced(number.0), reply, () => reply.ok());
    }

    fn fsyncdir(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if self.state().lying {
            return reply.ok();
        }
        answer!(self.call("sync folder"), reply, mut state => {
            if let Some(folder) = state.tree.folder(number.0) {
                folder.sync();
            }
            reply.ok();
        });
    }

    fn readdir(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        answer!(self.call("list"), reply, state => {
            let Some(Node::Folder(folder)) = state.tree.node(number.0) else {
                return reply.error(Errno::ENOTDIR);
            };
            for (place, (name, number)) in folder.names().enumerate().skip(size(offset)) {
                let folder = state.tree.is_folder(number);
                let kind = if folder { FileType::Directory } else { FileType::RegularFile };
                if reply.add(INodeNo(number), place as u64 + 1, kind, name) {
                    break;
                }
            }
            reply.ok();
        });
    }

    fn unlink(&self, _: &Request, folder: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self.removed(folder, name), reply, () => reply.ok());
    }

    fn rmdir(&self, _: &Request, folder: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        answer!(self.removed(folder, name), reply, () => reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        folder: INodeNo,
        name: &OsStr,
        to: INodeNo,
        new: &OsStr,
        _: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if to != folder {
            return reply.error(Errno::EXDEV);
        }
        answer!(self.call(&format!("rename {}", name.display())), reply, mut state => {
            match state.tree.rename(folder.0, name, new) {
                Some(()) => reply.ok(),
                None => reply.error(Errno::ENOENT),
            }
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        answer!(self.call("free room"), reply, _ => {
            reply.statfs(BLOCKS, BLOCKS, BLOCKS, BLOCKS, BLOCKS, 4096, 255, 4096);
        });
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).expect("usage: lossyfs FOLDER");
    let state = State {
        tree: Tree::new(FIRST),
        failing: Failing::default(),
        lying: false,
        said: String::new(),
    };
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("lossyfs".into())];
    fuser::mount(LossyFs(Mutex::new(state)), folder, &config).expect("it can be mounted");
}
