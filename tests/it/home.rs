//! Where one server lives: its folder, and the disk that its data is on, which may be a special one.

use crate::server::{CONFIG, Process, SETTINGS};
use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// The disk under test, where data folders are made, if there is a special one.
pub fn disk() -> Option<PathBuf> {
    env::var_os("DISK").map(PathBuf::from)
}

/// Where one server lives: its configuration, its data and its log.
pub struct Folder {
    folder: TempDir,
    /// Where its data is, if that is on a disk of its own.
    on_disk: Option<TempDir>,
}

impl Folder {
    pub fn new() -> Self {
        let on_disk = disk().map(|disk| {
            let folder = tempfile::tempdir_in(&disk).unwrap();
            File::open(disk).unwrap().sync_all().unwrap();
            folder
        });
        let folder = Self { folder: tempfile::tempdir().unwrap(), on_disk };
        fs::write(folder.path("strongroom.toml"), CONFIG).unwrap();
        folder
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The data folder as an operator names it, who works in the server's folder.
    pub fn data_as_named(&self) -> PathBuf {
        if self.on_disk.is_some() { self.data() } else { "data".into() }
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.on_disk.as_ref().unwrap_or(&self.folder).path().join("data")
    }

    /// Has the disk forget what was not synced, if it is one that does.
    pub fn cut_power(&self) {
        let Some(switch) = disk().map(|disk| disk.join(".power-cut")) else { return };
        if switch.exists() {
            let done = fs::read_to_string(switch).unwrap();
            let mut log = self.log();
            write!(log, "--- power cut: {done}").unwrap();
        }
    }

    /// The log, to be written on.
    pub fn log(&self) -> File {
        File::options().create(true).append(true).open(self.path("log")).unwrap()
    }

    /// Runs the program with more environment variables and arguments; it must end by itself.
    #[track_caller]
    pub fn run<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> Output {
        let mut command = self.command(settings, arguments);
        let mut process = Process::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let status = process.wait();
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        process.0.stdout.take().unwrap().read_to_end(&mut stdout).unwrap();
        process.0.stderr.take().unwrap().read_to_end(&mut stderr).unwrap();
        Output { status, stdout, stderr }
    }

    /// The program as a server on this folder's data.
    pub fn command<'a>(
        &self,
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Command {
        let mut command = self.program();
        command.args(["serve", "--config", "strongroom.toml"]).args(arguments);
        if self.on_disk.is_some() {
            command.env("STRONGROOM__DATA_DIR", self.data());
        }
        command.envs(SETTINGS).envs(settings);
        command
    }

    /// The program, in this folder and knowing of nothing else. `PROGRAM=` for another build than the suite's own.
    pub fn program(&self) -> Command {
        let own = || env!("CARGO_BIN_EXE_strongroom").into();
        let mut command = Command::new(env::var_os("PROGRAM").unwrap_or_else(own));
        command.current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command
    }
}

/// Copies a folder; the copy is durable.
pub fn copy_durably(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let copy = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_durably(&item.path(), &copy);
        } else {
            fs::copy(item.path(), &copy).unwrap();
            File::open(copy).unwrap().sync_all().unwrap();
        }
    }
    for folder in [to, to.parent().unwrap()] {
        File::open(folder).unwrap().sync_all().unwrap();
    }
}
