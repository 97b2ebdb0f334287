//! The same on a file system.

use super::*;

#[test]
fn snapshots_and_archive_work_on_a_real_disk() {
    use crate::journal::DirectIo;
    for direct in [DirectIo::WhereAvailable, DirectIo::Never] {
        let folder = tempfile::tempdir().unwrap();
        let folders = Folders::open(folder.path(), direct).unwrap();
        let mut shop = Shop::open(folders.clone(), 13);
        for _ in 0..3 {
            shop.trade(100);
            shop.take().unwrap();
        }
        shop.trade(50);
        let digest = |through| {
            let copy = tempfile::tempdir().unwrap();
            for name in ["journal", "archive", "snapshots"] {
                let (from, to) = (folder.path().join(name), copy.path().join(name));
                std::fs::create_dir(&to).unwrap();
                for file in std::fs::read_dir(&from).unwrap() {
                    let file = file.unwrap();
                    if !file.file_name().to_string_lossy().ends_with(".tmp") {
                        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
                    }
                }
            }
            let folders = Folders::open(copy.path(), direct).unwrap();
            start(&folders, through).unwrap().0.digest()
        };
        let snapshots = list(&folders).unwrap();
        assert_eq!(digest(Sequence::MAX), digest(0));
        assert_eq!(digest(snapshots[1]), digest(0));
        assert!(!folders.archive.list().unwrap().is_empty());
    }
}
