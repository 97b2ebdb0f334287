//! What the operating system says about this process and its file system. Read when somebody looks at `/metrics`.
//!
//! `/proc` is no file of ours, so this does not go through the journal's disk.

use rustix::{
    fs::statvfs,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};
use std::{fs, path::Path, time::Duration};

/// What the process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Memory that is in use and not swapped out.
    pub resident_bytes: u64,
    /// Address space.
    pub virtual_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Open file descriptors.
    pub open_fds: u64,
    /// How many it may have; `None`: any number.
    pub max_fds: Option<u64>,
    /// Time on processors, over all threads.
    pub cpu: Duration,
    /// When it began, since the epoch.
    pub started: Duration,
}

impl Usage {
    /// As it is now; `None` where there is no `/proc`.
    #[must_use]
    pub fn now() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = |name| number(name).map(|kib| kib.saturating_mul(1024));
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        // The folder itself is open while it is read.
        let open = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Some(Self {
            resident_bytes: kib("VmRSS")?,
            virtual_bytes: kib("VmSize")?,
            threads: number("Threads")?,
            open_fds: u64::try_from(open).ok()?,
            max_fds: getrlimit(Resource::Nofile).current,
            cpu: Duration::new(u64::try_from(cpu.tv_sec).ok()?, u32::try_from(cpu.tv_nsec).ok()?),
            started: started()?,
        })
    }
}

/// The kernel counts the start in hundredths of a second since it booted, whatever its own clock's rate (proc(5),
/// `USER_HZ`).
fn started() -> Option<Duration> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let own = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program comes second and may hold anything but is in parentheses; the start is the 22nd field.
    let (_, behind) = own.rsplit_once(')')?;
    let hundredths: u64 = behind.split_whitespace().nth(19)?.parse().ok()?;
    let since_boot = Duration::from_millis(hundredths.checked_mul(10)?);
    Duration::from_secs(booted.trim().parse().ok()?).checked_add(since_boot)
}

/// The size of the file system that `folder` is on, and what of it is free for this process, in bytes.
#[must_use]
pub fn file_system(folder: &Path) -> Option<(u64, u64)> {
    let found = statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some((bytes(found.f_blocks), bytes(found.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_uses_some_of_everything_and_began_before_now() {
        let usage = Usage::now().unwrap();
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.open_fds > 2 && usage.threads > 0 && usage.cpu > Duration::ZERO);
        let epoch = std::time::UNIX_EPOCH.elapsed().unwrap();
        assert!(usage.started <= epoch + Duration::from_secs(2));
        assert!(usage.started + Duration::from_secs(24 * 3600) > epoch, "{:?}", usage.started);
        let (all, free) = file_system(Path::new(".")).unwrap();
        assert!(all >= free && free > 0);
    }
}
