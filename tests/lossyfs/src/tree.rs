//! What the file system holds: of every file and folder what readers see, and what a power failure would leave.
//!
//! A file's sector is durable once the file was synced, or written under `O_DSYNC`; a name is durable once its folder was
//! synced, and not before, whatever happened to the file. A sync that failed leaves the file clean and the disk as it
//! was, as Linux does.

use rand::RngExt;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::{OsStr, OsString},
};

/// The number of a file or folder.
pub type Number = u64;

/// The topmost folder.
pub const ROOT: Number = 1;

/// What a device writes whole or not at all.
const SECTOR: usize = 512;

/// A file's bytes.
#[derive(Default)]
pub struct File {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// The sectors that a sync has to bring to the device.
    dirty: BTreeSet<usize>,
}

/// A change of a folder's names: one goes, one comes, or both at once.
struct Change {
    gone: Option<OsString>,
    come: Option<(OsString, Number)>,
}

/// A folder's names.
#[derive(Default)]
pub struct Folder {
    seen: BTreeMap<OsString, Number>,
    durable: BTreeMap<OsString, Number>,
    unsynced: Vec<Change>,
}

/// A file or a folder.
pub enum Node {
    File(File),
    Folder(Folder),
}

/// All there is.
pub struct Tree {
    nodes: HashMap<Number, Node>,
    modes: HashMap<Number, u32>,
    next: Number,
}

/// What became of what was not synced when the power failed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub sectors_kept: usize,
    pub sectors_lost: usize,
    pub names_kept: usize,
    pub names_lost: usize,
}

/// How much of what was not synced reaches the device.
#[derive(Clone, Copy, Debug)]
pub enum Survives {
    Nothing,
    /// Each sector and each change of names, or not.
    AnyOfIt,
    Everything,
}

impl Survives {
    fn one(self) -> bool {
        match self {
            Self::Nothing => false,
            Self::AnyOfIt => rand::rng().random(),
            Self::Everything => true,
        }
    }
}

impl File {
    pub fn length(&self) -> usize {
        self.seen.len()
    }

    pub fn read(&self, offset: usize, length: usize) -> &[u8] {
        let from = offset.min(self.seen.len());
        &self.seen[from..from.saturating_add(length).min(self.seen.len())]
    }

    /// Writes what readers see from now on; with `sync` it is durable, as is the length that it needs.
    pub fn write(&mut self, offset: usize, bytes: &[u8], sync: bool) {
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        let sectors = offset / SECTOR..end.div_ceil(SECTOR);
        self.dirty.extend(sectors.clone());
        if sync {
            if self.durable.len() < end {
                self.durable.resize(end, 0);
            }
            sectors.for_each(|sector| self.bring(sector));
        }
    }

    /// A write that failed: any of its sectors were written, and reached the device or not.
    pub fn write_in_part(&mut self, offset: usize, bytes: &[u8]) {
        for (number, part) in bytes.chunks(SECTOR).enumerate() {
            if Survives::AnyOfIt.one() {
                self.write(offset + number * SECTOR, part, Survives::AnyOfIt.one());
            }
        }
    }

    pub fn set_length(&mut self, length: usize) {
        self.seen.resize(length, 0);
    }

    pub fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            self.bring(sector);
        }
    }

    /// A sync that failed: readers see what they saw, the device has what it had, and no later sync mends it.
    pub fn fail_to_sync(&mut self) {
        self.dirty.clear();
    }

    /// Makes a sector durable, as far as the durable file reaches.
    fn bring(&mut self, sector: usize) {
        self.dirty.remove(&sector);
        let end = (sector + 1) * SECTOR;
        let end = end.min(self.seen.len()).min(self.durable.len());
        let Some(seen) = self.seen.get(sector * SECTOR..end) else { return };
        self.durable[sector * SECTOR..end].copy_from_slice(seen);
    }

    fn cut(&mut self, survives: Survives, cut: &mut Cut) {
        if self.seen.len() != self.durable.len() && survives.one() {
            self.durable.resize(self.seen.len(), 0);
        }
        for sector in std::mem::take(&mut self.dirty) {
            if survives.one() {
                self.bring(sector);
                cut.sectors_kept += 1;
            } else {
                cut.sectors_lost += 1;
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

impl Folder {
    fn change(&mut self, gone: Option<&OsStr>, come: Option<(&OsStr, Number)>) {
        let gone = gone.map(OsStr::to_owned);
        let come = come.map(|(name, number)| (name.to_owned(), number));
        let change = Change { gone, come };
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.seen);
    }

    fn cut(&mut self, survives: Survives, cut: &mut Cut) {
        for change in std::mem::take(&mut self.unsynced) {
            if survives.one() {
                change.apply(&mut self.durable);
                cut.names_kept += 1;
            } else {
                cut.names_lost += 1;
            }
        }
        self.seen.clone_from(&self.durable);
    }

    pub fn names(&self) -> impl Iterator<Item = (&OsString, Number)> {
        self.seen.iter().map(|(name, number)| (name, *number))
    }
}

impl Change {
    fn apply(&self, names: &mut BTreeMap<OsString, Number>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, number)) = &self.come {
            names.insert(name.clone(), *number);
        }
    }
}

impl Tree {
    /// An empty file system; numbers below `next` are given to nobody.
    pub fn new(next: Number) -> Self {
        let nodes = HashMap::from([(ROOT, Node::Folder(Folder::default()))]);
        Self { nodes, modes: HashMap::from([(ROOT, 0o755)]), next }
    }

    pub fn node(&self, number: Number) -> Option<&Node> {
        self.nodes.get(&number)
    }

    pub fn file(&mut self, number: Number) -> Option<&mut File> {
        match self.nodes.get_mut(&number)? {
            Node::File(file) => Some(file),
            Node::Folder(_) => None,
        }
    }

    pub fn folder(&mut self, number: Number) -> Option<&mut Folder> {
        match self.nodes.get_mut(&number)? {
            Node::Folder(folder) => Some(folder),
            Node::File(_) => None,
        }
    }

    pub fn is_folder(&self, number: Number) -> bool {
        matches!(self.node(number), Some(Node::Folder(_)))
    }

    pub fn mode(&self, number: Number) -> u32 {
        self.modes.get(&number).copied().unwrap_or(0o600)
    }

    pub fn set_mode(&mut self, number: Number, mode: u32) {
        self.modes.insert(number, mode);
    }

    pub fn find(&self, folder: Number, name: &OsStr) -> Option<Number> {
        match self.node(folder)? {
            Node::Folder(folder) => folder.seen.get(name).copied(),
            Node::File(_) => None,
        }
    }

    /// A new file or folder under a name that is free.
    pub fn make(&mut self, folder: Number, name: &OsStr, mode: u32, node: Node) -> Option<Number> {
        let number = self.next;
        self.folder(folder)?.change(None, Some((name, number)));
        self.next += 1;
        self.nodes.insert(number, node);
        self.modes.insert(number, mode);
        Some(number)
    }

    pub fn rename(&mut self, folder: Number, from: &OsStr, to: &OsStr) -> Option<()> {
        let number = self.find(folder, from)?;
        self.folder(folder)?.change(Some(from), Some((to, number)));
        Some(())
    }

    pub fn remove(&mut self, folder: Number, name: &OsStr) -> Option<()> {
        self.find(folder, name)?;
        self.folder(folder)?.change(Some(name), None);
        Some(())
    }

    /// The power fails. What is left is what everybody sees from now on, and all of it is durable.
    pub fn cut(&mut self, survives: Survives) -> Cut {
        let mut cut = Cut::default();
        for node in self.nodes.values_mut() {
            match node {
                Node::File(file) => file.cut(survives, &mut cut),
                Node::Folder(folder) => folder.cut(survives, &mut cut),
            }
        }
        let mut known = BTreeSet::from([ROOT]);
        let mut open = vec![ROOT];
        while let Some(number) = open.pop() {
            if let Some(Node::Folder(folder)) = self.nodes.get(&number) {
                let fresh = folder.seen.values().filter(|number| known.insert(**number));
                open.extend(fresh.copied().collect::<Vec<_>>());
            }
        }
        self.nodes.retain(|number, _| known.contains(number));
        self.modes.retain(|number, _| known.contains(number));
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(tree: &mut Tree, name: &str) -> Number {
        tree.make(ROOT, name.as_ref(), 0o600, Node::File(File::default())).unwrap()
    }

    fn content(tree: &Tree, name: &str) -> Option<Vec<u8>> {
        match tree.node(tree.find(ROOT, name.as_ref())?)? {
            Node::File(file) => Some(file.seen.clone()),
            Node::Folder(_) => None,
        }
    }

    #[test]
    fn what_was_not_synced_is_gone_and_a_name_needs_its_folder_synced() {
        let mut tree = Tree::new(10);
        let synced = file(&mut tree, "synced");
        tree.file(synced).unwrap().write(0, &[1; 2000], false);
        tree.file(synced).unwrap().sync();
        tree.folder(ROOT).unwrap().sync();
        tree.file(synced).unwrap().write(1000, &[2; 2000], false);
        let nameless = file(&mut tree, "nameless");
        tree.file(nameless).unwrap().write(0, &[3; 10], true);
        tree.rename(ROOT, "synced".as_ref(), "renamed".as_ref()).unwrap();
        let cut = tree.cut(Survives::Nothing);
        assert_eq!((cut.sectors_lost, cut.names_lost), (5, 2));
        assert_eq!(content(&tree, "synced").unwrap(), [1; 2000]);
        assert_eq!((content(&tree, "nameless"), content(&tree, "renamed")), (None, None));
    }

    #[test]
    fn what_was_written_through_is_there_and_nothing_else_of_the_file() {
        let mut tree = Tree::new(10);
        let number = file(&mut tree, "file");
        tree.folder(ROOT).unwrap().sync();
        tree.file(number).unwrap().write(512, &[1; 512], false);
        tree.file(number).unwrap().write(1024, &[2; 512], true);
        tree.cut(Survives::Nothing);
        let left = [[0; 512], [0; 512], [2; 512]].concat();
        assert_eq!(content(&tree, "file").unwrap(), left);
    }

    #[test]
    fn of_a_sync_that_failed_readers_see_what_the_device_has_not() {
        let mut tree = Tree::new(10);
        let number = file(&mut tree, "file");
        tree.file(number).unwrap().write(0, &[1; 512], true);
        tree.folder(ROOT).unwrap().sync();
        let held = tree.file(number).unwrap();
        held.write(0, &[2; 512], false);
        held.fail_to_sync();
        held.sync();
        assert_eq!(content(&tree, "file").unwrap(), [2; 512]);
        tree.cut(Survives::Everything);
        assert_eq!(content(&tree, "file").unwrap(), [1; 512]);
    }

    #[test]
    fn a_torn_write_is_torn_between_sectors() {
        let mut torn = 0;
        for _ in 0..50 {
            let mut tree = Tree::new(10);
            let number = file(&mut tree, "file");
            tree.file(number).unwrap().write(0, &[1; 4096], true);
            tree.folder(ROOT).unwrap().sync();
            tree.file(number).unwrap().write(0, &[2; 4096], false);
            tree.cut(Survives::AnyOfIt);
            let left = content(&tree, "file").unwrap();
            assert!(left.chunks(512).all(|it| it == [1; 512] || it == [2; 512]));
            torn += usize::from(left.contains(&1) && left.contains(&2));
        }
        assert!(torn > 40);
    }
}
