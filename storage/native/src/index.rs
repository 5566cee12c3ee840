//! Where the files are whose handles an ordinary user gave out: inode number → names last seen, kept in a log in the state
//! directory. What it says is only ever a hint: whoever follows it compares inode number and generation.
//!
//! The log is appended to in one write at the end of an operation, so it survives the process being killed; at a start it
//! is read, and written anew where much of it is history. A torn end, after a power cut, is dropped.

use crate::handle::errno;
use crate::Result;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// Files remembered at most; beyond it, others are forgotten, and their handles go stale when they are no longer held.
pub const FILES_MAX: usize = 4 << 20;
/// Names remembered of one file.
const NAMES_MAX: usize = 8;
/// Records of history that are let be, before the log is written anew at a start.
const HISTORY_MAX: usize = 1 << 16;
/// Most bytes of a record's body: kind, three numbers, a name.
const BODY_BYTES_MAX: usize = 1 + 3 * 8 + 255;

const LEARN: u8 = 1;
const FORGET: u8 = 2;

/// A name: the directory's inode number, and the name in it.
pub type Name = (u64, Box<[u8]>);

struct Known {
    generation: u64,
    names: Vec<Name>,
}

/// The index of one export. Locked against other processes while open.
pub struct Index {
    files: HashMap<u64, Known>,
    log: File,
    path: PathBuf,
    pending: Vec<u8>,
    /// Set when an append failed: the log is to be written anew.
    broken: bool,
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
        let mut index = Self { files: HashMap::new(), log: File::from(fd), path, pending: Vec::new(), broken: false };
        let (records, whole) = index.replay()?;
        if !whole || records > index.files.len() + HISTORY_MAX {
            index.rewrite()?;
        }
        Ok(index)
    }

    /// The generation that a file was last seen with.
    pub fn generation(&self, ino: u64) -> Option<u64> {
        self.files.get(&ino).map(|known| known.generation)
    }

    /// The names of a file, the newest first.
    pub fn names(&self, ino: u64) -> Vec<Name> {
        self.files.get(&ino).map(|known| known.names.iter().rev().cloned().collect()).unwrap_or_default()
    }

    /// A file was seen under a name.
    pub fn learn(&mut self, ino: u64, generation: u64, name: (u64, &[u8])) {
        if let Some(known) = self.files.get(&ino) {
            let last = known.names.last().is_some_and(|(parent, last)| (*parent, &**last) == name);
            if known.generation == generation && last {
                return;
            }
        }
        self.apply(LEARN, ino, generation, name);
        append(&mut self.pending, LEARN, ino, generation, name);
    }

    /// A file was not, or is no longer, there under a name.
    pub fn forget(&mut self, ino: u64, name: (u64, &[u8])) {
        let knew = |known: &Known| known.names.iter().any(|(parent, last)| (*parent, &**last) == name);
        if self.files.get(&ino).is_some_and(knew) {
            self.apply(FORGET, ino, 0, name);
            append(&mut self.pending, FORGET, ino, 0, name);
        }
    }

    /// Hands what is new to the kernel. What cannot be written is kept in memory and tried again at the next flush.
    pub fn flush(&mut self) {
        if self.broken {
            self.broken = self.rewrite().is_err();
        } else if !self.pending.is_empty() {
            self.broken = self.log.write_all(&self.pending).is_err();
        }
        self.pending.clear();
    }

    fn apply(&mut self, kind: u8, ino: u64, generation: u64, (parent, name): (u64, &[u8])) {
        if kind == FORGET {
            if let Some(known) = self.files.get_mut(&ino) {
                known.names.retain(|(other, last)| (*other, &**last) != (parent, name));
                if known.names.is_empty() {
                    self.files.remove(&ino);
                }
            }
            return;
        }
        if self.files.len() >= FILES_MAX && !self.files.contains_key(&ino) {
            if let Some(&victim) = self.files.keys().next() {
                self.files.remove(&victim);
            }
        }
        let known = self.files.entry(ino).or_insert(Known { generation, names: Vec::with_capacity(1) });
        if known.generation != generation {
            *known = Known { generation, names: Vec::with_capacity(1) };
        }
        known.names.retain(|(other, last)| (*other, &**last) != (parent, name));
        if known.names.len() >= NAMES_MAX {
            known.names.remove(0);
        }
        known.names.push((parent, name.into()));
    }

    /// Reads the log. Returns the records in it, and whether it was whole.
    fn replay(&mut self) -> Result<(usize, bool)> {
        let mut reader = std::io::BufReader::new(self.log.try_clone().map_err(|error| errno(&error))?);
        let mut records = 0;
        loop {
            let mut head = [0; 8];
            match read_some(&mut reader, &mut head)? {
                0 => return Ok((records, true)),
                8 => {}
                _ => return Ok((records, false)),
            }
            let [l0, l1, l2, l3, check @ ..] = head;
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let mut body = [0; BODY_BYTES_MAX];
            let Some(body) = body.get_mut(..length) else { return Ok((records, false)) };
            if read_some(&mut reader, body)? != length || checksum(body) != check {
                return Ok((records, false));
            }
            let Some((kind, ino, generation, name)) = decode(body) else { return Ok((records, false)) };
            self.apply(kind, ino, generation, name);
            records += 1;
        }
    }

    /// Writes the log anew, beside the old one, and puts it in its place.
    fn rewrite(&mut self) -> Result<()> {
        let draft = self.path.with_extension("new");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut log = File::from(rustix::fs::open(&draft, flags, Mode::RUSR | Mode::WUSR)?);
        rustix::fs::flock(&log, FlockOperation::NonBlockingLockExclusive)?;
        let mut records = Vec::new();
        for (&ino, known) in &self.files {
            for (parent, name) in &known.names {
                append(&mut records, LEARN, ino, known.generation, (*parent, name));
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
        Ok(())
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where an export's index lies.
pub fn path(state: &Path, export: u64) -> PathBuf {
    state.join(format!("index-{export:016x}"))
}

fn append(out: &mut Vec<u8>, kind: u8, ino: u64, generation: u64, (parent, name): (u64, &[u8])) {
    let mut body = Vec::with_capacity(BODY_BYTES_MAX);
    body.push(kind);
    for number in [ino, generation, parent] {
        body.extend_from_slice(&number.to_le_bytes());
    }
    body.extend_from_slice(name);
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&checksum(&body));
    out.extend_from_slice(&body);
}

/// Kind, inode number, generation, name.
type Record<'a> = (u8, u64, u64, (u64, &'a [u8]));

fn decode(body: &[u8]) -> Option<Record<'_>> {
    let (&kind, rest) = body.split_first()?;
    let (ino, rest) = rest.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk::<8>()?;
    let (parent, name) = rest.split_first_chunk::<8>()?;
    if !matches!(kind, LEARN | FORGET) || name.is_empty() {
        return None;
    }
    let name = (u64::from_le_bytes(*parent), name);
    Some((kind, u64::from_le_bytes(*ino), u64::from_le_bytes(*generation), name))
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

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("weft-index-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("index")
    }

    #[test]
    fn remembers_across_a_restart() {
        let path = scratch("restart");
        {
            let mut index = Index::open(path.clone()).unwrap();
            index.learn(7, 70, (1, b"seven"));
            index.learn(8, 80, (7, b"\xff\x00eight"));
            index.learn(7, 70, (1, b"siete"));
            index.forget(7, (1, b"seven"));
        }
        let index = Index::open(path).unwrap();
        assert_eq!(index.names(7), vec![(1, b"siete".as_slice().into())]);
        assert_eq!(index.generation(8), Some(80));
        assert_eq!(index.names(9), vec![]);
    }

    #[test]
    fn another_generation_replaces_the_names() {
        let mut index = Index::open(scratch("generation")).unwrap();
        index.learn(7, 70, (1, b"old"));
        index.learn(7, 71, (1, b"new"));
        assert_eq!(index.names(7), vec![(1, b"new".as_slice().into())]);
    }

    #[test]
    fn drops_a_torn_end_at_every_byte() {
        let path = scratch("torn");
        {
            let mut index = Index::open(path.clone()).unwrap();
            index.learn(7, 70, (1, b"whole"));
            index.learn(8, 80, (1, b"torn"));
        }
        let bytes = std::fs::read(&path).unwrap();
        let first = 8 + 25 + 5;
        for length in first..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let mut index = Index::open(path.clone()).unwrap();
            assert_eq!(index.generation(7), Some(70));
            assert_eq!(index.generation(8), None);
            index.learn(9, 90, (1, b"after"));
            drop(index);
            assert_eq!(Index::open(path.clone()).unwrap().generation(9), Some(90));
        }
    }

    #[test]
    fn a_second_process_is_kept_out() {
        let path = scratch("lock");
        let _first = Index::open(path.clone()).unwrap();
        assert_eq!(Index::open(path).err(), Some(Errno::BUSY));
    }
}
