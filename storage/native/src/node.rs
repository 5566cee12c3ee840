//! A file that we hold a reference to, and what was learned about it: descriptors opened for work, rights granted.

use crate::export::Export;
use crate::handle::Handle;
use crate::identity::Identity;
use crate::{lock, sys, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::sync::{Mutex, MutexGuard, OnceLock, TryLockError};
use std::time::{Duration, Instant};

/// The kinds of file, numbered as in `ftype3` (RFC 1813 §2.3.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Regular = 1,
    Directory = 2,
    BlockDevice = 3,
    CharacterDevice = 4,
    Symlink = 5,
    Socket = 6,
    Fifo = 7,
}

/// Seconds and nanoseconds.
pub type Time = (i64, u32);

/// Attributes, from `statx`.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Stat {
    pub kind: Kind,
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: (u32, u32),
    pub dev: (u32, u32),
    pub size: u64,
    pub blocks: u64,
    pub ino: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Option<Time>,
}

impl Stat {
    /// Of what a descriptor stands for. ESTALE where it was deleted.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self> {
        let found = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)?;
        if found.stx_nlink == 0 {
            return Err(Errno::STALE);
        }
        let kind = match FileType::from_raw_mode(u32::from(found.stx_mode)) {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::Symlink => Kind::Symlink,
            FileType::Socket => Kind::Socket,
            FileType::Fifo => Kind::Fifo,
            _ => return Err(Errno::IO),
        };
        let born = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        Ok(Self {
            kind,
            mode: u32::from(found.stx_mode) & 0o7777,
            nlink: found.stx_nlink,
            uid: found.stx_uid,
            gid: found.stx_gid,
            rdev: (found.stx_rdev_major, found.stx_rdev_minor),
            dev: (found.stx_dev_major, found.stx_dev_minor),
            size: found.stx_size,
            blocks: found.stx_blocks,
            ino: found.stx_ino,
            atime: (found.stx_atime.tv_sec, found.stx_atime.tv_nsec),
            mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            btime: born.then_some((found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
        })
    }

    /// Whether both are of the same file now.
    pub fn same_file(&self, other: &Stat) -> bool {
        self.dev == other.dev && self.ino == other.ino
    }

    /// What the kernel's verdict on access depends on, ACLs and the caller's groups apart.
    fn access_basis(&self) -> (u32, u32, u32) {
        (self.mode, self.uid, self.gid)
    }
}

/// How long a verdict on access holds. Changes of mode and owner are seen at once; this bounds how long a change of an
/// ACL is not.
const GRANT_TIME: Duration = Duration::from_secs(1);
/// Callers whose verdicts are kept with one file.
const GRANTS_MAX: usize = 8;

/// The kernel's verdict on what a caller may do.
struct Grant {
    who: Identity,
    rights: u32,
    basis: (u32, u32, u32),
    since: Instant,
}

/// Rights of a caller on a file, as `Node::rights` returns them.
pub mod right {
    /// Read, or list.
    pub const READ: u32 = 4;
    /// Write, or add and remove names.
    pub const WRITE: u32 = 2;
    /// Execute, or look names up.
    pub const EXECUTE: u32 = 1;
}

/// A file that we hold. The reference (`O_PATH`) stands for the inode, whatever names it has.
pub struct Node {
    /// The reference.
    pub fd: OwnedFd,
    /// Its handle.
    pub handle: Handle,
    /// What the index knows it by; 0 where there is none.
    pub id: u64,
    /// Its inode number.
    pub ino: u64,
    /// Its kind, which never changes.
    pub kind: Kind,
    read: OnceLock<OwnedFd>,
    write: OnceLock<OwnedFd>,
    listing: Mutex<Option<OwnedFd>>,
    grants: Mutex<Vec<Grant>>,
    /// Held while attributes are checked and changed.
    changing: Mutex<()>,
}

impl Node {
    /// A file just opened.
    pub fn new(fd: OwnedFd, (handle, id): (Handle, u64), stat: &Stat) -> Self {
        Self {
            fd,
            handle,
            id,
            ino: stat.ino,
            kind: stat.kind,
            read: OnceLock::new(),
            write: OnceLock::new(),
            listing: Mutex::new(None),
            grants: Mutex::new(Vec::new()),
            changing: Mutex::new(()),
        }
    }

    /// Attributes now. ESTALE where the file was deleted.
    pub fn stat(&self) -> Result<Stat> {
        Stat::of(self.fd.as_fd())
    }

    /// ENOTDIR where it is no directory.
    pub fn require_directory(&self) -> Result<()> {
        if self.kind == Kind::Directory {
            Ok(())
        } else {
            Err(Errno::NOTDIR)
        }
    }

    /// EISDIR or EINVAL where it is no regular file.
    pub fn require_regular(&self) -> Result<()> {
        match self.kind {
            Kind::Regular => Ok(()),
            Kind::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// What the caller may do, by the kernel's own verdict (`right` bits).
    pub fn rights(&self, export: &Export, stat: &Stat, who: &Identity) -> Result<u32> {
        let basis = stat.access_basis();
        let who = export.effective(who);
        let mut grants = lock(&self.grants);
        grants.retain(|grant| grant.basis == basis && grant.since.elapsed() < GRANT_TIME);
        if let Some(grant) = grants.iter().find(|grant| grant.who == *who) {
            return Ok(grant.rights);
        }
        let rights = export.act(who, || {
            Ok([right::READ, right::WRITE, right::EXECUTE]
                .into_iter()
                .filter(|&bit| sys::may_access(self.fd.as_fd(), bit as i32))
                .sum())
        })?;
        if grants.len() >= GRANTS_MAX {
            grants.remove(0);
        }
        grants.push(Grant { who: who.clone(), rights, basis, since: Instant::now() });
        Ok(rights)
    }

    /// EACCES unless the caller may look names up in this directory.
    pub fn require_search(&self, export: &Export, stat: &Stat, who: &Identity) -> Result<()> {
        self.require_directory()?;
        if self.rights(export, stat, who)? & right::EXECUTE == 0 {
            return Err(Errno::ACCESS);
        }
        Ok(())
    }

    /// A descriptor for reading, once the caller's right to it is established.
    pub fn reader(&self, export: &Export, stat: &Stat, who: &Identity) -> Result<BorrowedFd<'_>> {
        self.require_regular()?;
        // Who may execute a file has to read it, over a network. Owners may, whatever the mode says now.
        let rights = self.rights(export, stat, who)?;
        if rights & (right::READ | right::EXECUTE) == 0 && !export.owns(stat, who) {
            return Err(Errno::ACCESS);
        }
        opened(&self.read, || self.open_as_granted(export, stat, OFlags::RDONLY))
    }

    /// A descriptor for writing, once the caller's right to it is established.
    pub fn writer(&self, export: &Export, stat: &Stat, who: &Identity) -> Result<BorrowedFd<'_>> {
        self.require_regular()?;
        if self.rights(export, stat, who)? & right::WRITE == 0 && !export.owns(stat, who) {
            return Err(export.refused());
        }
        opened(&self.write, || self.open_as_granted(export, stat, OFlags::WRONLY))
    }

    /// Opens the file for someone who may have it opened. An ordinary user's own file may have a mode that forbids even
    /// its owner what is granted here; then the mode gives way while it is opened.
    fn open_as_granted(&self, export: &Export, stat: &Stat, flags: OFlags) -> Result<OwnedFd> {
        let fd = self.fd.as_fd();
        match export.reopen(fd, flags) {
            Err(Errno::ACCESS) if export.is_own(stat) => {
                let name = proc_name(fd);
                let set = |mode| rustix::fs::chmodat(export.proc(), &name, Mode::from_raw_mode(mode), AtFlags::empty());
                set(stat.mode | 0o600)?;
                let opened = export.reopen(fd, flags);
                set(stat.mode)?;
                opened
            }
            result => result,
        }
    }

    /// Keeps a descriptor that the file was made with.
    pub fn keep_writer(&self, fd: OwnedFd) {
        let _ = self.write.set(fd);
    }

    /// A descriptor to flush the file by, whichever kind can be had.
    pub fn flusher(&self, export: &Export) -> Result<BorrowedFd<'_>> {
        if let Some(fd) = self.write.get() {
            return Ok(fd.as_fd());
        }
        opened(&self.read, || export.reopen(self.fd.as_fd(), OFlags::RDONLY))
            .or_else(|_| opened(&self.write, || export.reopen(self.fd.as_fd(), OFlags::WRONLY)))
    }

    /// Keeps others from changing attributes. EINPROGRESS where `wait` is not allowed and somebody is at it.
    pub fn change_alone(&self, wait: bool) -> Result<MutexGuard<'_, ()>> {
        hold(&self.changing, wait)
    }

    /// The stream to list a directory by; its position is whoever's that holds the lock. EINPROGRESS where `wait` is
    /// not allowed and somebody holds it.
    pub fn listing(&self, export: &Export, wait: bool) -> Result<MutexGuard<'_, Option<OwnedFd>>> {
        let mut listing = hold(&self.listing, wait)?;
        if listing.is_none() {
            *listing = Some(export.reopen(self.fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?);
        }
        Ok(listing)
    }
}

/// Takes a lock that may be held for long.
fn hold<T>(mutex: &Mutex<T>, wait: bool) -> Result<MutexGuard<'_, T>> {
    if wait {
        return Ok(lock(mutex));
    }
    match mutex.try_lock() {
        Ok(guard) => Ok(guard),
        Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => Err(sys::EINPROGRESS),
    }
}

/// What is in the slot, put there first where it is empty.
fn opened(slot: &OnceLock<OwnedFd>, open: impl FnOnce() -> Result<OwnedFd>) -> Result<BorrowedFd<'_>> {
    if let Some(fd) = slot.get() {
        return Ok(fd.as_fd());
    }
    let fd = open()?;
    Ok(slot.get_or_init(|| fd).as_fd())
}

/// Opens anew what a reference stands for, through `/proc/self/fd`.
pub fn reopen(proc: BorrowedFd<'_>, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    // O_NONBLOCK: never wait for the holder of a lease; the caller may try again (EAGAIN).
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    rustix::fs::openat(proc, proc_name(fd).as_str(), flags, Mode::empty())
}

/// The name of a descriptor in `/proc/self/fd`.
pub fn proc_name(fd: BorrowedFd<'_>) -> String {
    fd.as_raw_fd().to_string()
}
