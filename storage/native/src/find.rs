//! From handles and names to files: by the kernel's handles, or through the index.

use crate::export::{Export, CONFINED};
use crate::handle::{Body, FileId, Handle, Sealer};
use crate::index::Index;
use crate::node::{Node, Stat};
use crate::{lock, pool, sys, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::ffi::CStr;
use std::sync::{Arc, Mutex};

/// Directories between a file and the root, at most.
pub const DEPTH_MAX: usize = 4096;
/// Ways that the index leads to a file which are tried.
const WAYS_MAX: usize = 16;

impl Export {
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
        match (self.sealer.open(handle)?, &self.index) {
            (Body::Kernel(kernel), None) => {
                let fd = sys::open_by_handle(self.mount.as_fd(), &kernel)?;
                let stat = Stat::of(fd.as_fd())?;
                Ok(self.hold(Node::new(fd, (*handle, 0), &stat)))
            }
            (Body::Indexed(file), Some(index)) => self.search(index, file.id, waiting),
            // Made while the other kind of handle was in use here.
            _ => Err(Errno::STALE),
        }
    }

    /// Finds a file by what the index knows. What turns out to be wrong is forgotten, so that the next try takes another way.
    fn search(&self, index: &Mutex<Index>, id: u64, waiting: bool) -> Result<Arc<Node>> {
        for _ in 0..WAYS_MAX {
            match self.walk(index, id, waiting) {
                Ok(Some(node)) => return Ok(node),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Errno::STALE)
    }

    /// Goes up from a file by the index, to a directory that is held, and down again by the names. `None`: something is
    /// elsewhere by now.
    fn walk(&self, index: &Mutex<Index>, id: u64, waiting: bool) -> Result<Option<Arc<Node>>> {
        let mut way = Vec::new();
        let mut next = id;
        let mut here = loop {
            if next == self.root.id {
                break self.root.clone();
            }
            let (file, name) = lock(index).newest(next).ok_or(Errno::STALE)?;
            if let Some(node) = lock(&self.cache).get(&self.sealer.seal(&Body::Indexed(file))?) {
                break node;
            }
            if way.len() >= DEPTH_MAX {
                return Err(Errno::STALE);
            }
            next = name.0;
            way.push((file, name));
        };
        while let Some((file, (parent, name))) = way.pop() {
            here = match self.enter(&here, &name, file)? {
                Some(node) => node,
                None if !waiting => return Err(sys::EINPROGRESS),
                None => {
                    // Somebody else renamed it: perhaps it is in the same directory still.
                    lock(index).forget(file.id, (parent, &name));
                    match self.look_around(index, &here, file)? {
                        Some(node) => node,
                        None => return Ok(None),
                    }
                }
            };
        }
        Ok(Some(here))
    }

    /// The file of that name, if it is the one.
    fn enter(&self, directory: &Node, name: &[u8], file: FileId) -> Result<Option<Arc<Node>>> {
        let fd = match open_reference(directory.fd.as_fd(), name, ResolveFlags::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok(stat) = Stat::of(fd.as_fd()) else { return Ok(None) };
        if stat.ino != file.ino || identify(&self.sealer, fd.as_fd(), &stat) != file {
            return Ok(None);
        }
        let handle = self.sealer.seal(&Body::Indexed(file))?;
        Ok(Some(self.hold(Node::new(fd, (handle, file.id), &stat))))
    }

    /// Looks for a file under any name in a directory.
    fn look_around(&self, index: &Mutex<Index>, directory: &Node, file: FileId) -> Result<Option<Arc<Node>>> {
        for name in self.names_of(directory.fd.as_fd(), file.ino)? {
            if let Some(node) = self.enter(directory, &name, file)? {
                lock(index).learn(file, (directory.id, &name));
                return Ok(Some(node));
            }
        }
        Ok(None)
    }

    /// The names of an inode in a directory; none where the directory may not be listed.
    fn names_of(&self, directory: BorrowedFd<'_>, ino: u64) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        if let Ok(fd) = self.reopen(directory, OFlags::RDONLY | OFlags::DIRECTORY) {
            for entry in rustix::fs::Dir::new(fd)? {
                let entry = entry?;
                if entry.ino() == ino {
                    names.push(entry.file_name().to_bytes().to_vec());
                }
            }
        }
        Ok(names)
    }

    /// Holds a file just opened, and lets go of others.
    fn hold(&self, node: Node) -> Arc<Node> {
        let (node, evicted) = lock(&self.cache).insert(node);
        self.close_elsewhere(evicted);
        node
    }

    /// Closes files in the pool: the last reference to one that was deleted has its blocks freed, which takes a while.
    fn close_elsewhere(&self, nodes: Vec<Arc<Node>>) {
        if !nodes.is_empty() {
            let closing = self.closing.clone();
            // Where the queue is full the job is dropped here and now, and the files with it.
            let _ = pool::submit(Box::new(move || {
                drop(nodes);
                drop(closing);
            }));
        }
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

    /// Makes the handle of a file (and its number in the index, which learns where it was seen).
    pub fn name_file(&self, fd: BorrowedFd<'_>, stat: &Stat, seen: Option<(&Node, &[u8])>) -> Result<(Handle, u64)> {
        let (handle, id) = seal(&self.sealer, self.index.is_none(), fd, stat)?;
        if let (Some(index), Some((directory, name))) = (&self.index, seen) {
            lock(index).learn(FileId { id, ino: stat.ino }, (directory.id, name));
        }
        Ok((handle, id))
    }

    /// Takes in a file: its handle is made, and it is held.
    pub fn adopt(&self, fd: OwnedFd, seen: Option<(&Node, &[u8])>) -> Result<(Arc<Node>, Stat)> {
        let stat = Stat::of(fd.as_fd())?;
        let named = self.name_file(fd.as_fd(), &stat, seen)?;
        if named.0 == self.root.handle {
            return Ok((self.root.clone(), stat));
        }
        Ok((self.hold(Node::new(fd, named, &stat)), stat))
    }

    /// A name is no longer a file's: its descriptors are closed if that was the last one.
    pub fn unnamed(&self, fd: BorrowedFd<'_>, stat: &Stat, seen: (&Node, &[u8])) {
        let Ok((handle, id)) = self.name_file(fd, stat, None) else { return };
        if let Some(index) = &self.index {
            lock(index).forget(id, (seen.0.id, seen.1));
        }
        if Stat::of(fd).is_err() {
            self.release(&handle);
        }
    }

    /// Lets go of a file.
    pub fn release(&self, handle: &Handle) {
        let node = lock(&self.cache).remove(handle);
        self.close_elsewhere(node.into_iter().collect());
    }

    /// Lets go of files that lie idle; returns how many are still held.
    pub fn sweep(&self) -> usize {
        let (idle, held) = {
            let mut cache = lock(&self.cache);
            (cache.sweep(), cache.len())
        };
        self.close_elsewhere(idle);
        held
    }

    /// The directory above one. The root's is the root; ESTALE where the directory was moved out of the export.
    pub fn parent(&self, directory: &Node, waiting: bool) -> Result<(Arc<Node>, Stat)> {
        let root = self.root.stat()?;
        if directory.stat()?.same_file(&root) {
            return Ok((self.root.clone(), root));
        }
        let parent = open_parent(directory.fd.as_fd())?;
        // Climb until the root: only what is beneath it may be handed out.
        let mut here = parent.try_clone().map_err(|error| crate::handle::errno(&error))?;
        let mut stat = Stat::of(here.as_fd())?;
        for _ in 0..DEPTH_MAX {
            if stat.same_file(&root) {
                return self.adopt(parent, None);
            }
            let above = open_parent(here.as_fd())?;
            let stat_above = Stat::of(above.as_fd())?;
            if stat_above.same_file(&stat) {
                break;
            }
            self.learn_place(here.as_fd(), &stat, above.as_fd(), &stat_above, waiting)?;
            (here, stat) = (above, stat_above);
        }
        Err(Errno::STALE)
    }

    /// Tells the index of a directory that was found from below, if it did not know.
    fn learn_place(
        &self,
        fd: BorrowedFd<'_>,
        stat: &Stat,
        above: BorrowedFd<'_>,
        stat_above: &Stat,
        waiting: bool,
    ) -> Result<()> {
        let Some(index) = &self.index else { return Ok(()) };
        let (file, directory) = (identify(&self.sealer, fd, stat), identify(&self.sealer, above, stat_above));
        if lock(index).knows(file.id, directory.id) {
            return Ok(());
        }
        if !waiting {
            return Err(sys::EINPROGRESS);
        }
        for name in self.names_of(above, stat.ino)? {
            lock(index).learn(file, (directory.id, &name));
        }
        Ok(())
    }
}

/// Opens a reference to a single name. The name never holds a "/".
pub fn open_reference(directory: BorrowedFd<'_>, name: &[u8], cached: ResolveFlags) -> Result<OwnedFd> {
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

/// Tells a file from all others, those included that have had or will have its inode number: by the kernel's own handle, which
/// holds the inode's generation, and the time of its birth. (A file system that has neither leaves the inode number.)
pub fn identify(sealer: &Sealer, fd: BorrowedFd<'_>, stat: &Stat) -> FileId {
    let (seconds, nanoseconds) = stat.btime.unwrap_or_default();
    let kernel = sys::name_to_identifier(fd);
    let kernel = kernel.as_ref().map(|handle| handle.bytes()).unwrap_or_default();
    let parts = [&stat.ino.to_le_bytes()[..], &seconds.to_le_bytes(), &nanoseconds.to_le_bytes(), kernel];
    FileId { id: sealer.digest(&parts), ino: stat.ino }
}

/// A file's handle, and its number in the index (0 where kernel handles need none).
pub fn seal(sealer: &Sealer, kernel: bool, fd: BorrowedFd<'_>, stat: &Stat) -> Result<(Handle, u64)> {
    if kernel {
        return Ok((sealer.seal(&Body::Kernel(sys::name_to_handle(fd)?))?, 0));
    }
    let file = identify(sealer, fd, stat);
    Ok((sealer.seal(&Body::Indexed(file))?, file.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    /// Names are checked before they come here; this is what the kernel says to such as should not have passed.
    #[test]
    fn the_kernel_lets_no_name_lead_out() {
        let base = std::env::temp_dir().join(format!("weft-find-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("root/directory")).unwrap();
        std::fs::write(base.join("secret"), "").unwrap();
        std::os::unix::fs::symlink("..", base.join("root/up")).unwrap();
        std::os::unix::fs::symlink(base.join("root"), base.join("root/absolute")).unwrap();
        let root = std::fs::File::open(base.join("root")).unwrap();
        let open = |name: &str| open_reference(root.as_fd(), name.as_bytes(), ResolveFlags::empty()).map(drop);
        assert_eq!(open("directory"), Ok(()));
        for name in ["..", "../secret", "directory/../..", "directory/../../secret", "/", "/etc"] {
            assert_eq!(open(name), Err(Errno::XDEV), "{name}");
        }
        for name in ["up/secret", "absolute/directory", "up/root/directory"] {
            assert_eq!(open(name), Err(Errno::LOOP), "{name}");
        }
        // A link itself is found, and not followed.
        assert_eq!(open("up"), Ok(()));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
