//! One served directory: what confines it, how its handles are made and followed, and the files held open.

use crate::cache::{Cache, NODES_MAX, NODES_MIN};
use crate::handle::{load_key, Body, Handle, Sealer, KERNEL_BYTES_MAX};
use crate::identity::{self, Identity};
use crate::index::{self, Index};
use crate::node::{self, Kind, Node, Stat};
use crate::pace::{Pace, Room};
use crate::{lock, sys, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
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
    /// Serialises guarded changes of attributes.
    pub attributes: Mutex<()>,
    /// Whether the disk is slow now.
    pub pace: Pace,
    /// Whether the file system is far from full.
    pub room: Room,
    /// The largest size of a file.
    pub file_bytes_max: u64,
    /// The file system's device number.
    dev: (u32, u32),
    proc: OwnedFd,
    sealer: Sealer,
    /// Where kernel handles may not be opened.
    index: Option<Mutex<Index>>,
    cache: Mutex<Cache>,
}

impl Export {
    /// Serves `root`, with keys and index in `state`. ENOTDIR: no directory. EBUSY: another process serves it with that
    /// state. EACCES: others may read the key. EINVAL: the key would lie in what is served. ENOSYS: no `/proc`.
    pub fn open(root: &Path, state: &Path, options: &Options) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mount = rustix::fs::open(root, flags, Mode::empty())?;
        let proc =
            rustix::fs::open(c"/proc/self/fd", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|_| Errno::NOSYS)?;
        let reference =
            node::reopen(proc.as_fd(), mount.as_fd(), OFlags::PATH | OFlags::DIRECTORY).map_err(|_| Errno::NOSYS)?;
        let stat = Stat::of(reference.as_fd())?;
        let statfs = rustix::fs::fstatfs(&mount)?;
        let key = load_key(state)?;
        let fsid = match rustix::fs::fstatvfs(&mount)?.f_fsid {
            0 => u64::from(stat.dev.0) << 32 | u64::from(stat.dev.1),
            fsid => fsid,
        };
        let naming = Sealer::new(key, b"");
        let generation = generation(&naming, reference.as_fd(), &stat);
        let identity = [fsid.to_le_bytes(), stat.ino.to_le_bytes(), generation.to_le_bytes()].concat();
        let sealer = Sealer::new(key, &identity);
        let openable = !options.index && kernel_handles_work(mount.as_fd(), reference.as_fd());
        if openable && lies_beneath(state, &stat)? {
            return Err(Errno::INVAL);
        }
        let index = if openable { None } else { Some(Index::open(index::path(state, sealer.export()))?) };
        let magic = statfs.f_type as u64;
        let handle = seal(&sealer, index.is_none(), reference.as_fd(), &stat)?;
        let switching = identity::can_switch();
        if switching {
            identity::respect_quotas();
        }
        Ok(Self {
            root: Arc::new(Node::new(reference, handle, &stat)),
            mount,
            fsid,
            switching,
            memory_backed: magic == TMPFS_MAGIC || magic == RAMFS_MAGIC,
            stable: options.stable,
            nowait_reads: AtomicBool::new(true),
            attributes: Mutex::new(()),
            pace: Pace::new(),
            room: Room::new(),
            file_bytes_max: file_bytes_max(magic, statfs.f_bsize as u64),
            dev: stat.dev,
            proc,
            sealer,
            index: index.map(Mutex::new),
            cache: Mutex::new(Cache::new(nodes_max())),
        })
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

    /// The file that a client's handle names. EBADHANDLE, ESTALE; EINPROGRESS where it may have to be read from the disk and
    /// `waiting` is not allowed.
    pub fn resolve(&self, handle: &Handle, waiting: bool) -> Result<Arc<Node>> {
        if *handle == self.root.handle {
            return Ok(self.root.clone());
        }
        if let Some(node) = lock(&self.cache).get(handle) {
            return Ok(node);
        }
        if !waiting && self.pace.slow() {
            return Err(sys::EINPROGRESS);
        }
        self.follow(handle, 0)
    }

    /// The file system id of a file's attributes: a volume within the file system (btrfs) has inode numbers of its own.
    pub fn fsid_of(&self, stat: &Stat) -> u64 {
        if stat.dev == self.dev {
            return self.fsid;
        }
        let volume = u64::from(stat.dev.0) << 32 | u64::from(stat.dev.1);
        self.fsid ^ volume.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn follow(&self, handle: &Handle, depth: usize) -> Result<Arc<Node>> {
        match (self.sealer.open(handle)?, &self.index) {
            (Body::Kernel(kernel), None) => {
                let fd = sys::open_by_handle(self.mount.as_fd(), &kernel)?;
                let stat = Stat::of(fd.as_fd())?;
                Ok(self.hold(Node::new(fd, *handle, &stat)))
            }
            (Body::Inode { ino, generation }, Some(index)) => self.search(index, ino, generation, depth),
            // Made while the other kind of handle was in use here.
            _ => Err(Errno::STALE),
        }
    }

    /// Finds a file by the names that the index has for it, and by looking through the directories of those names.
    fn search(&self, index: &Mutex<Index>, ino: u64, generation: u64, depth: usize) -> Result<Arc<Node>> {
        if depth > DEPTH_MAX {
            return Err(Errno::STALE);
        }
        let mut denied = None;
        let names = lock(index).names(ino);
        for (parent, name) in &names {
            let directory = match self.directory(index, *parent, depth) {
                Ok(directory) => directory,
                Err(error) => {
                    denied = denied.or((error != Errno::STALE).then_some(error));
                    continue;
                }
            };
            match self.matching(&directory, name, ino, generation) {
                Ok(Some(node)) => return Ok(node),
                Ok(None) => {}
                Err(error) => denied = denied.or(Some(error)),
            }
            // Somebody else renamed it, perhaps within the directory.
            lock(index).forget(ino, (*parent, name));
            for name in self.names_of(&directory, ino)? {
                if let Ok(Some(node)) = self.matching(&directory, &name, ino, generation) {
                    lock(index).learn(ino, generation, (*parent, &name));
                    return Ok(node);
                }
            }
        }
        Err(denied.unwrap_or(Errno::STALE))
    }

    /// A directory known to the index.
    fn directory(&self, index: &Mutex<Index>, ino: u64, depth: usize) -> Result<Arc<Node>> {
        if ino == self.root.ino {
            return Ok(self.root.clone());
        }
        let generation = lock(index).generation(ino).ok_or(Errno::STALE)?;
        let handle = self.sealer.seal(&Body::Inode { ino, generation })?;
        if let Some(node) = lock(&self.cache).get(&handle) {
            return Ok(node);
        }
        self.search(index, ino, generation, depth + 1)
    }

    /// The file of that name, if it is the one.
    fn matching(&self, directory: &Node, name: &[u8], ino: u64, generation: u64) -> Result<Option<Arc<Node>>> {
        let fd = match open_reference(directory.fd.as_fd(), name, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(stat) = Stat::of(fd.as_fd()) else { return Ok(None) };
        if stat.ino != ino || self::generation(&self.sealer, fd.as_fd(), &stat) != generation {
            return Ok(None);
        }
        let handle = self.sealer.seal(&Body::Inode { ino, generation })?;
        Ok(Some(self.hold(Node::new(fd, handle, &stat))))
    }

    /// The names of an inode in a directory.
    fn names_of(&self, directory: &Node, ino: u64) -> Result<Vec<Vec<u8>>> {
        let Ok(fd) = self.reopen(directory.fd.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY) else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(fd)? {
            let entry = entry?;
            if entry.ino() == ino {
                names.push(entry.file_name().to_bytes().to_vec());
            }
        }
        Ok(names)
    }

    /// Holds a file just opened, and lets go of others.
    fn hold(&self, node: Node) -> Arc<Node> {
        let (node, evicted) = lock(&self.cache).insert(node);
        drop(evicted);
        node
    }

    /// Opens a reference to a name in a directory. `waiting` false: EINPROGRESS where the disk would have to be read.
    pub fn open_name(&self, directory: &Node, name: &CStr, waiting: bool) -> Result<OwnedFd> {
        let cached = if waiting { ResolveFlags::empty() } else { ResolveFlags::CACHED };
        match open_reference(directory.fd.as_fd(), name.to_bytes(), cached) {
            Err(Errno::AGAIN) if !waiting => Err(sys::EINPROGRESS),
            Err(Errno::NOENT) => Err(self.missing(directory)),
            // Another file system is mounted there.
            Err(Errno::XDEV) => Err(Errno::ACCESS),
            result => result,
        }
    }

    /// ENOENT, or ESTALE where it is the directory itself that is gone.
    pub fn missing(&self, directory: &Node) -> Errno {
        match directory.stat() {
            Err(error) => {
                self.release(&directory.handle);
                error
            }
            Ok(_) => Errno::NOENT,
        }
    }

    /// Makes the handle of a file seen under a name.
    pub fn name_file(&self, fd: BorrowedFd<'_>, stat: &Stat, seen: Option<(&Node, &[u8])>) -> Result<Handle> {
        if let Some(index) = &self.index {
            if stat.dev != self.dev {
                // The index goes by inode numbers, and those of another volume mean other files.
                return Err(Errno::ACCESS);
            }
            let generation = generation(&self.sealer, fd, stat);
            if let Some((directory, name)) = seen {
                lock(index).learn(stat.ino, generation, (directory.ino, name));
            }
            return self.sealer.seal(&Body::Inode { ino: stat.ino, generation });
        }
        seal(&self.sealer, true, fd, stat)
    }

    /// Takes in a file seen under a name: its handle is made, and it is held.
    pub fn adopt(&self, fd: OwnedFd, seen: Option<(&Node, &[u8])>) -> Result<(Arc<Node>, Stat)> {
        let stat = Stat::of(fd.as_fd())?;
        let handle = self.name_file(fd.as_fd(), &stat, seen)?;
        if handle == self.root.handle {
            return Ok((self.root.clone(), stat));
        }
        Ok((self.hold(Node::new(fd, handle, &stat)), stat))
    }

    /// A name is no longer a file's: its descriptors are closed if that was the last one.
    pub fn unnamed(&self, fd: BorrowedFd<'_>, stat: &Stat, seen: (&Node, &[u8])) {
        if let Some(index) = &self.index {
            lock(index).forget(stat.ino, (seen.0.ino, seen.1));
        }
        if Stat::of(fd).is_err() {
            if let Ok(handle) = self.name_file(fd, stat, None) {
                self.release(&handle);
            }
        }
    }

    /// Lets go of a file.
    pub fn release(&self, handle: &Handle) {
        let node = lock(&self.cache).remove(handle);
        drop(node);
    }

    /// Lets go of files that lie idle; returns how many are still held.
    pub fn sweep(&self) -> usize {
        let (idle, held) = {
            let mut cache = lock(&self.cache);
            (cache.sweep(), cache.len())
        };
        drop(idle);
        held
    }

    /// Has the changed attributes or names of a file on stable storage, where the export promises that.
    pub fn flush(&self, node: &Node) -> Result<()> {
        if !self.stable || self.memory_backed {
            return Ok(());
        }
        match node.kind {
            Kind::Regular | Kind::Directory => match node.flusher(self) {
                Ok(fd) => rustix::fs::fsync(fd),
                Err(_) => rustix::fs::syncfs(&self.mount),
            },
            // No descriptor of these can be flushed.
            _ => rustix::fs::syncfs(&self.mount),
        }
    }

    /// Ends an operation: what the index learned goes to its log.
    pub fn settle(&self) {
        if let Some(index) = &self.index {
            lock(index).flush();
        }
    }

    /// The directory above one. The root's is the root; ESTALE where the directory was moved out of the export.
    pub fn parent(&self, directory: &Node) -> Result<(Arc<Node>, Stat)> {
        let root = self.root.stat()?;
        if directory.stat()?.same_file(&root) {
            return Ok((self.root.clone(), root));
        }
        let up = open_parent(directory.fd.as_fd())?;
        let mut chain = vec![up];
        // Climb until the root: only what is beneath it may be handed out.
        for _ in 0..DEPTH_MAX {
            let Some(top) = chain.last() else { break };
            let stat = Stat::of(top.as_fd())?;
            if stat.same_file(&root) {
                return self.adopt_chain(chain);
            }
            let next = open_parent(top.as_fd())?;
            if Stat::of(next.as_fd())?.same_file(&stat) {
                break;
            }
            chain.push(next);
        }
        Err(Errno::STALE)
    }

    /// Takes in the first of a chain of directories that leads up to the root, and tells the index of what it did not know.
    fn adopt_chain(&self, mut chain: Vec<OwnedFd>) -> Result<(Arc<Node>, Stat)> {
        chain.pop();
        let mut parent = self.root.clone();
        let mut found = (parent.clone(), parent.stat()?);
        while let Some(fd) = chain.pop() {
            let stat = Stat::of(fd.as_fd())?;
            let known = match &self.index {
                Some(index) => lock(index).names(stat.ino).iter().any(|(ino, _)| *ino == parent.ino),
                None => true,
            };
            let name = if known { None } else { self.names_of(&parent, stat.ino)?.into_iter().next() };
            found = self.adopt(fd, name.as_deref().map(|name| (&*parent, name)))?;
            parent = found.0.clone();
        }
        Ok(found)
    }
}

/// Opens a reference to a single name. The name never holds a "/".
fn open_reference(directory: BorrowedFd<'_>, name: &[u8], cached: ResolveFlags) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, name, flags, Mode::empty(), CONFINED | cached)
}

/// Opens a reference to the directory above, on the same file system.
fn open_parent(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(directory, c"..", flags, Mode::empty(), resolve).map_err(|error| match error {
        Errno::XDEV => Errno::STALE,
        other => other,
    })
}

/// A number that tells this file from others that have had or will have its inode number: from the kernel's own handle,
/// which holds the inode's generation, and the time of its birth.
fn generation(sealer: &Sealer, fd: BorrowedFd<'_>, stat: &Stat) -> u64 {
    let (seconds, nanoseconds) = stat.btime.unwrap_or_default();
    let kernel = sys::name_to_identifier(fd);
    let kernel = kernel.as_ref().map(|handle| handle.bytes()).unwrap_or_default();
    sealer.digest(&[&seconds.to_le_bytes(), &nanoseconds.to_le_bytes(), kernel])
}

fn seal(sealer: &Sealer, kernel: bool, fd: BorrowedFd<'_>, stat: &Stat) -> Result<Handle> {
    if kernel {
        sealer.seal(&Body::Kernel(sys::name_to_handle(fd)?))
    } else {
        sealer.seal(&Body::Inode { ino: stat.ino, generation: generation(sealer, fd, stat) })
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
