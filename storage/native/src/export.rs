//! One served directory: what confines it, how its handles are made and followed, and the files held open.

use crate::cache::{Cache, NODES_MAX, NODES_MIN};
use crate::find;
use crate::handle::{load_key, Handle, Sealer, KERNEL_BYTES_MAX};
use crate::identity::{self, Identity};
use crate::index::{self, Index};
use crate::node::{self, Kind, Node, Stat};
use crate::pace::{Pace, Room};
use crate::{lock, sys, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// Names are followed as the kernel confines them: beneath the directory they are looked up in, through no symbolic link,
/// and onto no other file system (a mount point beneath the root is EACCES: its files would need handles of another export).
pub const CONFINED: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Directories between a file and the root, at most.
const DEPTH_MAX: usize = 1024;

/// Failures to flush that are remembered.
const FAILURES_MAX: usize = 1024;

const EXT_MAGIC: u64 = 0xef53;
const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// How an export is served.
pub struct Options {
    /// Whether operations that change names or attributes are on stable storage when they return (RFC 1813 §4.8).
    pub stable: bool,
    /// Whether handles are always followed through the index, kernel handles or not.
    pub index: bool,
}

/// One served directory.
pub struct Export {
    /// The root.
    pub root: Arc<Node>,
    /// The root once more, opened for real: kernel handles are relative to it, file system calls work on it.
    pub mount: OwnedFd,
    /// File system id in attributes.
    pub fsid: u64,
    /// Whether callers' identities are taken on.
    pub switching: bool,
    /// Whether the file system is memory, where nothing waits for a disk.
    pub memory_backed: bool,
    /// Whether changes of names and attributes are flushed.
    pub stable: bool,
    /// Cleared when the file system turned out not to know `RWF_NOWAIT` for reads.
    pub nowait_reads: AtomicBool,
    /// Whether the disk is slow now.
    pub pace: Pace,
    /// Whether the file system is far from full.
    pub room: Room,
    /// The largest size of a file.
    pub file_bytes_max: u64,
    /// The file system's device number.
    dev: (u32, u32),
    proc: OwnedFd,
    pub(crate) sealer: Sealer,
    /// Where kernel handles may not be opened.
    pub(crate) index: Option<Mutex<Index>>,
    pub(crate) cache: Mutex<Cache>,
    /// Files that could not be flushed, until somebody commits them.
    failures: Mutex<Vec<(Handle, Errno)>>,
    /// Shared with each job that closes files.
    pub(crate) closing: Arc<()>,
}

impl Export {
    /// Serves `root`, with keys and index in `state`. ENOTDIR: no directory. EBUSY: another process serves it with that
    /// state. EACCES: others may read the key. EINVAL: the key would lie in what is served. ENOSYS: no `/proc`, or too old a
    /// kernel. EPERM: run by root, but without the right to take on identities.
    pub fn open(root: &Path, state: &Path, options: &Options) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = rustix::fs::open(root, flags, Mode::empty())?;
        let proc =
            rustix::fs::open(c"/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|_| Errno::NOSYS)?;
        let reference =
            node::reopen(proc.as_fd(), mount.as_fd(), OFlags::PATH | OFlags::DIRECTORY).map_err(|_| Errno::NOSYS)?;
        let stat = Stat::of(reference.as_fd())?;
        check_kernel(reference.as_fd())?;
        let switching = identity::can_switch()?;
        let statfs = rustix::fs::fstatfs(&mount)?;
        let key = load_key(state)?;
        let fsid = match rustix::fs::fstatvfs(&mount)?.f_fsid {
            0 => u64::from(stat.dev.0) << 32 | u64::from(stat.dev.1),
            fsid => fsid,
        };
        let root_id = find::identify(&Sealer::new(key, b""), reference.as_fd(), &stat);
        let sealer = Sealer::new(key, &[fsid.to_le_bytes(), root_id.id.to_le_bytes()].concat());
        let openable = !options.index && kernel_handles_work(mount.as_fd(), reference.as_fd());
        if openable && lies_beneath(state, &stat)? {
            return Err(Errno::INVAL);
        }
        let index = if openable { None } else { Some(Index::open(index::path(state, sealer.export()))?) };
        let magic = statfs.f_type as u64;
        let (handle, id) = find::seal(&sealer, index.is_none(), reference.as_fd(), &stat)?;
        if switching {
            identity::respect_quotas();
        }
        Ok(Self {
            root: Arc::new(Node::new(reference, (handle, id), &stat)),
            mount,
            fsid,
            switching,
            memory_backed: magic == TMPFS_MAGIC || magic == RAMFS_MAGIC,
            stable: options.stable,
            nowait_reads: AtomicBool::new(true),
            pace: Pace::new(),
            room: Room::new(),
            file_bytes_max: file_bytes_max(magic, statfs.f_bsize as u64),
            dev: stat.dev,
            proc,
            sealer,
            index: index.map(Mutex::new),
            cache: Mutex::new(Cache::new(nodes_max())),
            failures: Mutex::new(Vec::new()),
            closing: Arc::new(()),
        })
    }

    /// Whether files that it held are still being closed.
    pub fn is_closing(&self) -> bool {
        Arc::strong_count(&self.closing) > 1
    }

    /// Whether handles are the kernel's.
    pub fn kernel_handles(&self) -> bool {
        self.index.is_none()
    }

    /// Runs `body` as the caller, where identities are taken on.
    pub fn act<T>(&self, who: &Identity, body: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.switching {
            who.act(body)
        } else {
            body()
        }
    }

    /// Whose rights count: the caller's, or this process's.
    pub fn effective<'a>(&self, who: &'a Identity) -> &'a Identity
    where
        'static: 'a,
    {
        if self.switching {
            who
        } else {
            identity::own()
        }
    }

    /// Whether the file is this process's user's.
    pub fn is_own(&self, stat: &Stat) -> bool {
        stat.uid == identity::own().uid
    }

    /// Why writing was refused: EROFS where nobody may write here, else EACCES.
    pub fn refused(&self) -> Errno {
        let read_only = |found: rustix::fs::StatVfs| found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
        if rustix::fs::fstatvfs(&self.mount).is_ok_and(read_only) {
            Errno::ROFS
        } else {
            Errno::ACCESS
        }
    }

    /// Whether the caller is the file's owner, or root.
    pub fn owns(&self, stat: &Stat, who: &Identity) -> bool {
        let uid = self.effective(who).uid;
        uid == 0 || uid == stat.uid
    }

    /// Opens anew what a reference stands for.
    pub fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
        node::reopen(self.proc.as_fd(), fd, flags)
    }

    /// The directory whose entries are this process's descriptors.
    pub fn proc(&self) -> BorrowedFd<'_> {
        self.proc.as_fd()
    }

    /// The file system id of a file's attributes: a volume within the file system (btrfs) has inode numbers of its own.
    pub fn fsid_of(&self, stat: &Stat) -> u64 {
        if stat.dev == self.dev {
            return self.fsid;
        }
        let volume = u64::from(stat.dev.0) << 32 | u64::from(stat.dev.1);
        self.fsid ^ volume.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// Has the changed attributes or names of a file on stable storage, where the export promises that.
    pub fn flush(&self, node: &Node) -> Result<()> {
        if !self.stable || self.memory_backed {
            return Ok(());
        }
        let flushed = match node.kind {
            Kind::Regular | Kind::Directory => match node.flusher(self) {
                Ok(fd) => rustix::fs::fsync(fd),
                Err(_) => rustix::fs::syncfs(&self.mount),
            },
            // No descriptor of these can be flushed.
            _ => rustix::fs::syncfs(&self.mount),
        };
        if let Err(error) = flushed {
            let mut failures = lock(&self.failures);
            if failures.len() >= FAILURES_MAX {
                failures.remove(0);
            }
            failures.push((node.handle, error));
        }
        flushed
    }

    /// Has everything written to a file on stable storage. The kernel tells of lost data once only; what `flush` was told is
    /// told here again, where clients listen for it.
    pub fn commit(&self, node: &Node, fd: BorrowedFd<'_>) -> Result<()> {
        rustix::fs::fsync(fd)?;
        let mut failures = lock(&self.failures);
        match failures.iter().position(|(handle, _)| *handle == node.handle) {
            Some(at) => Err(failures.remove(at).1),
            None => Ok(()),
        }
    }

    /// Ends an operation: what the index learned goes to its log.
    pub fn settle(&self, waiting: bool) {
        if let Some(index) = &self.index {
            lock(index).flush(waiting);
        }
    }
}

/// ENOSYS where the kernel (or a container's filter) lacks a call that all rests on: Linux 5.8 has them.
fn check_kernel(root: BorrowedFd<'_>) -> Result<()> {
    match find::open_reference(root, b".", ResolveFlags::empty()) {
        Ok(same) if sys::may_access(same.as_fd(), libc::F_OK) => Ok(()),
        _ => Err(Errno::NOSYS),
    }
}

/// Whether this process may open by handle here, and handles fit.
fn kernel_handles_work(mount: BorrowedFd<'_>, root: BorrowedFd<'_>) -> bool {
    sys::name_to_handle(root).is_ok_and(|handle| {
        handle.bytes().len() <= KERNEL_BYTES_MAX
            && u8::try_from(handle.kind()).is_ok()
            && sys::open_by_handle(mount, &handle).is_ok()
    })
}

/// The largest file: ext4 counts blocks in 32 bits, others have no limit that a 64-bit offset could pass.
fn file_bytes_max(magic: u64, block_bytes: u64) -> u64 {
    if magic == EXT_MAGIC {
        u64::from(u32::MAX) * block_bytes
    } else {
        i64::MAX as u64
    }
}

/// Files to hold open: an eighth of the descriptors that this process may have, within bounds.
fn nodes_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit / 8).unwrap_or(NODES_MAX).clamp(NODES_MIN, NODES_MAX)
}

/// Whether a directory is, or lies beneath, the one with these attributes.
fn lies_beneath(path: &Path, root: &Stat) -> Result<bool> {
    let mut fd = rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..DEPTH_MAX {
        let stat = Stat::of(fd.as_fd())?;
        if stat.same_file(root) {
            return Ok(true);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let up = rustix::fs::openat(&fd, c"..", flags, Mode::empty())?;
        if Stat::of(up.as_fd())?.same_file(&stat) {
            return Ok(false);
        }
        fd = up;
    }
    Err(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flush_lost_is_told_to_the_next_commit_once() {
        let base = std::env::temp_dir().join(format!("weft-export-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("served")).unwrap();
        let options = Options { stable: true, index: true };
        let export = Export::open(&base.join("served"), &base.join("state"), &options).unwrap();
        lock(&export.failures).push((export.root.handle, Errno::IO));
        let commit = || export.commit(&export.root, export.mount.as_fd());
        assert_eq!(commit().err(), Some(Errno::IO));
        assert_eq!(commit(), Ok(()));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
