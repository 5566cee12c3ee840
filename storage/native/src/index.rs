//! Where the files are whose handles an ordinary user gave out: file → names last seen, kept in a log in the state directory.
//! What it says is only ever a hint: whoever follows it compares what it finds with what the handle says.
//!
//! The log is appended to in one write at the end of an operation, so it survives the process being killed. It is written
//! anew where most of it is history. A torn end, after a power cut, is dropped.

use crate::handle::{errno, FileId};
use crate::Result;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files remembered at most; beyond it, others are forgotten, and their handles go stale when they are no longer held.
pub const FILES_MAX: usize = 4 << 20;
/// Names remembered of one file.
const NAMES_MAX: usize = 8;
/// Records of history that are let be, on top of as many as there are files.
const HISTORY_MAX: usize = 1 << 16;
/// After the log could not be written, it is tried again so much later.
const RETRY_TIME: Duration = Duration::from_secs(10);
/// Most bytes of a record's body: kind, three numbers, a name.
const BODY_BYTES_MAX: usize = 1 + 3 * 8 + 255;

const LEARN: u8 = 1;
const FORGET: u8 = 2;

/// A name: the directory's id, and the name in it.
pub type Name = (u64, Box<[u8]>);

struct Known {
    ino: u64,
    /// The newest last.
    names: Vec<Name>,
}

/// The index of one export. Locked against other processes while open.
pub struct Index {
    files: HashMap<u64, Known>,
    log: File,
    path: PathBuf,
    /// Records in the log.
    records: usize,
    /// What the log lacks.
    pending: Vec<u8>,
    pending_records: usize,
    /// When an append failed: the log is to be written anew.
    broken: Option<Instant>,
}

impl Index {
    /// Opens or makes the log at `path`. EBUSY where another process has it open.
    pub fn open(path: PathBuf) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            Errno::WOULDBLOCK => Errno::BUSY,
            other => other,
        })?;
        let mut index = Self {
            files: HashMap::new(),
            log: File::from(fd),
            path,
            records: 0,
            pending: Vec::new(),
            pending_records: 0,
            broken: None,
        };
        let whole = index.replay()?;
        if !whole || index.is_mostly_history() {
            index.rewrite()?;
        }
        Ok(index)
    }

    /// The name that a file was last seen under.
    pub fn newest(&self, id: u64) -> Option<(FileId, Name)> {
        let known = self.files.get(&id)?;
        Some((FileId { id, ino: known.ino }, known.names.last()?.clone()))
    }

    /// Whether a file was seen in a directory.
    pub fn knows(&self, id: u64, directory: u64) -> bool {
        self.files.get(&id).is_some_and(|known| known.names.iter().any(|(parent, _)| *parent == directory))
    }

    /// A file was seen under a name.
    pub fn learn(&mut self, file: FileId, name: (u64, &[u8])) {
        let newest = self.files.get(&file.id).and_then(|known| known.names.last());
        if newest.is_some_and(|(parent, last)| (*parent, &**last) == name) {
            return;
        }
        self.apply(LEARN, file, name);
        self.append(LEARN, file, name);
    }

    /// A file was not, or is no longer, there under a name.
    pub fn forget(&mut self, id: u64, name: (u64, &[u8])) {
        let Some(known) = self.files.get(&id) else { return };
        if known.names.iter().any(|(parent, last)| (*parent, &**last) == name) {
            let file = FileId { id, ino: known.ino };
            self.apply(FORGET, file, name);
            self.append(FORGET, file, name);
        }
    }

    /// Hands what is new to the kernel. What cannot be written stays in memory, and is tried again later. Where `waiting` is
    /// allowed, a log that is mostly history is written anew: about 0.3 s for a million files.
    pub fn flush(&mut self, waiting: bool) {
        let written = match self.broken {
            Some(since) if since.elapsed() < RETRY_TIME => return,
            Some(_) => self.rewrite(),
            None if waiting && self.is_mostly_history() => self.rewrite(),
            None if self.pending.is_empty() => return,
            None => self.log.write_all(&self.pending).map_err(|error| errno(&error)),
        };
        self.broken = written.is_err().then(Instant::now);
        // A log written anew has it, too; and after a failure the next one will.
        self.records += std::mem::take(&mut self.pending_records);
        self.pending.clear();
    }

    fn is_mostly_history(&self) -> bool {
        self.records > 2 * self.files.len() + HISTORY_MAX
    }

    fn append(&mut self, kind: u8, file: FileId, name: (u64, &[u8])) {
        if self.broken.is_none() {
            append(&mut self.pending, kind, file, name);
            self.pending_records += 1;
        }
    }

    fn apply(&mut self, kind: u8, file: FileId, (parent, name): (u64, &[u8])) {
        if kind == FORGET {
            if let Some(known) = self.files.get_mut(&file.id) {
                known.names.retain(|(other, last)| (*other, &**last) != (parent, name));
                if known.names.is_empty() {
                    self.files.remove(&file.id);
                }
            }
            return;
        }
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&file.id) {
            if let Some(&victim) = self.files.keys().next() {
                self.files.remove(&victim);
            }
        }
        let known = self.files.entry(file.id).or_insert(Known { ino: file.ino, names: Vec::with_capacity(1) });
        known.names.retain(|(other, last)| (*other, &**last) != (parent, name));
        if known.names.len() >= NAMES_MAX {
            known.names.remove(0);
        }
        known.names.push((parent, name.into()));
    }

    /// Reads the log. Returns whether it was whole.
    fn replay(&mut self) -> Result<bool> {
        let mut reader = std::io::BufReader::new(self.log.try_clone().map_err(|error| errno(&error))?);
        loop {
            let mut head = [0; 8];
            match read_some(&mut reader, &mut head)? {
                0 => return Ok(true),
                8 => {}
                _ => return Ok(false),
            }
            let [l0, l1, l2, l3, check @ ..] = head;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let mut body = [0; BODY_BYTES_MAX];
            let Some(body) = body.get_mut(..length) else { return Ok(false) };
            if read_some(&mut reader, body)? != length || checksum(body) != check {
                return Ok(false);
            }
            let Some((kind, file, name)) = decode(body) else { return Ok(false) };
            self.apply(kind, file, name);
            self.records += 1;
        }
    }

    /// Writes the log anew, beside the old one, and puts it in its place.
    fn rewrite(&mut self) -> Result<()> {
        let draft = self.path.with_extension("new");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut log = File::from(rustix::fs::open(&draft, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::flock(&log, FlockOperation::NonBlockingLockExclusive)?;
        let mut records = Vec::new();
        let mut count = 0;
        for (&id, known) in &self.files {
            for (parent, name) in &known.names {
                append(&mut records, LEARN, FileId { id, ino: known.ino }, (*parent, name));
                count += 1;
            }
            if records.len() >= 1 << 20 {
                log.write_all(&records).map_err(|error| errno(&error))?;
                records.clear();
            }
        }
        log.write_all(&records).map_err(|error| errno(&error))?;
        rustix::fs::fsync(&log)?;
        rustix::fs::rename(&draft, &self.path)?;
        self.log = log;
        self.records = count;
        self.pending.clear();
        self.pending_records = 0;
        Ok(())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.flush(true);
    }
}

/// Where an export's index lies.
pub fn path(state: &Path, export: u64) -> PathBuf {
    state.join(format!("index-{export:016x}"))
}

fn append(out: &mut Vec<u8>, kind: u8, file: FileId, (parent, name): (u64, &[u8])) {
    let mut body = Vec::with_capacity(BODY_BYTES_MAX);
    body.push(kind);
    for number in [file.id, file.ino, parent] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(name);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(&body));
    out.extend_from_slice(&body);
}

/// Kind, file, directory and name.
type Record<'a> = (u8, FileId, (u64, &'a [u8]));

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (&kind, rest) = body.split_first()?;
    let (id, rest) = rest.split_first_chunk::<8>()?;
    let (ino, rest) = rest.split_first_chunk::<8>()?;
    let (parent, name) = rest.split_first_chunk::<8>()?;
    if !matches!(kind, LEARN | FORGET) || name.is_empty() {
        return None;
    }
    let file = FileId { id: u64::from_le_bytes(*id), ino: u64::from_le_bytes(*ino) };
    Some((kind, file, (u64::from_le_bytes(*parent), name)))
}

fn checksum(body: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(body);
    hash.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// Fills the buffer as far as the file goes.
fn read_some(reader: &mut impl Read, into: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(errno(&error)),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory for one test, removed at its end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("weft-index-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir_all(&directory).unwrap();
            Self(directory)
        }

        fn log(&self) -> PathBuf {
            self.0.join("index")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    const SEVEN: FileId = FileId { id: 70, ino: 7 };
    const EIGHT: FileId = FileId { id: 80, ino: 8 };

    fn newest(index: &Index, id: u64) -> Option<(u64, Vec<u8>)> {
        index.newest(id).map(|(_, (parent, name))| (parent, name.to_vec()))
    }

    #[test]
    fn remembers_across_a_restart() {
        let scratch = Scratch::new("restart");
        let path = scratch.log();
        {
            let mut index = Index::open(path.clone()).unwrap();
            index.learn(SEVEN, (1, b"seven"));
            index.learn(EIGHT, (70, b"\xff\x00eight"));
            index.learn(SEVEN, (1, b"siete"));
            index.flush(false);
            index.forget(70, (1, b"siete"));
            index.learn(EIGHT, (1, b"eight"));
        }
        let index = Index::open(path).unwrap();
        assert_eq!(newest(&index, 70), Some((1, b"seven".to_vec())));
        assert_eq!(index.newest(80).unwrap().0, EIGHT);
        assert_eq!(newest(&index, 80), Some((1, b"eight".to_vec())));
        assert!(index.knows(80, 70) && !index.knows(80, 80));
        assert_eq!(newest(&index, 90), None);
    }

    #[test]
    fn is_bounded_in_names_and_history() {
        let scratch = Scratch::new("bounds");
        let path = scratch.log();
        let mut index = Index::open(path.clone()).unwrap();
        for round in 0..HISTORY_MAX {
            index.learn(SEVEN, (1, format!("name-{round}").as_bytes()));
            index.learn(EIGHT, (1, b"gone"));
            index.forget(80, (1, b"gone"));
            index.flush(true);
        }
        assert_eq!(index.files.get(&70).unwrap().names.len(), NAMES_MAX);
        assert!(!index.files.contains_key(&80));
        assert!(std::fs::metadata(&path).unwrap().len() < 60 * 2 * HISTORY_MAX as u64);
        drop(index);
        let index = Index::open(path).unwrap();
        assert_eq!(newest(&index, 70), Some((1, format!("name-{}", HISTORY_MAX - 1).into_bytes())));
    }

    #[test]
    fn drops_a_torn_end_at_every_byte() {
        let scratch = Scratch::new("torn");
        let path = scratch.log();
        {
            let mut index = Index::open(path.clone()).unwrap();
            index.learn(SEVEN, (1, b"whole"));
            index.learn(EIGHT, (1, b"torn"));
        }
        let bytes = std::fs::read(&path).unwrap();
        let first = 8 + 25 + 5;
        for length in first..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let mut index = Index::open(path.clone()).unwrap();
            assert_eq!(newest(&index, 70), Some((1, b"whole".to_vec())));
            assert_eq!(newest(&index, 80), None);
            index.learn(FileId { id: 90, ino: 9 }, (1, b"after"));
            drop(index);
            assert!(Index::open(path.clone()).unwrap().knows(90, 1));
        }
    }

    #[test]
    fn a_damaged_record_ends_the_log() {
        let scratch = Scratch::new("damaged");
        let path = scratch.log();
        Index::open(path.clone()).unwrap().learn(SEVEN, (1, b"name"));
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            assert_eq!(newest(&Index::open(path.clone()).unwrap(), 70), None, "byte {at}");
        }
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let scratch = Scratch::new("lock");
        let path = scratch.log();
        let _first = Index::open(path.clone()).unwrap();
        assert_eq!(Index::open(path).err(), Some(Errno::BUSY));
    }
}
