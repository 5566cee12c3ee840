//! LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, REMOVE, RMDIR, RENAME, LINK. What changes names is done as the caller, so that
//! the kernel makes the checks and the files are the caller's.

use super::attributes::{change_mode, file, Changes, NewTime};
use super::Context;
use crate::export::{Export, CONFINED};
use crate::identity::Identity;
use crate::message::Request;
use crate::node::{proc_name, Kind, Node, Stat};
use crate::{pool, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::Arc;

/// Longest name (NAME_MAX; where a file system's own limit is lower, the kernel says so).
const NAME_BYTES_MAX: usize = 255;
/// Tries to create or open a file that others create and remove at the same time.
const CREATE_ATTEMPTS: usize = 16;
const DEFAULT_FILE_MODE: u32 = 0o644;
const DEFAULT_DIRECTORY_MODE: u32 = 0o755;
/// Until the client, which could not say so with its create, sets another.
const EXCLUSIVE_FILE_MODE: u32 = 0o600;

/// A directory and a name in it, as a request holds them.
struct Place {
    directory: Arc<Node>,
    stat: Stat,
    name: CString,
}

impl Place {
    fn read(context: &Context<'_, '_>, request: &mut Request<'_>) -> Result<Self> {
        let (directory, stat) = file(context, request)?;
        let name = request.bytes()?;
        directory.require_directory()?;
        Ok(Self { directory, stat, name: checked_name(name)? })
    }

    /// What this name is, for the index.
    fn seen(&self) -> (&Node, &[u8]) {
        (&self.directory, self.name.to_bytes())
    }

    /// What has the name now.
    fn open(&self, export: &Export) -> Result<(OwnedFd, Stat)> {
        let fd = export.open_name(&self.directory, &self.name, true)?;
        let stat = Stat::of(fd.as_fd())?;
        Ok((fd, stat))
    }

    /// The errno as the client should see it.
    fn explain(&self, export: &Export, error: Errno) -> Errno {
        match error {
            Errno::NOENT => export.missing(&self.directory),
            other => other,
        }
    }
}

fn checked_name(name: &[u8]) -> Result<CString> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::INVAL);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    CString::new(name).map_err(|_| Errno::INVAL)
}

pub fn lookup(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (directory, stat) = file(context, request)?;
    let name = request.bytes()?;
    let export = context.export;
    directory.require_search(export, &stat, &who)?;
    let (found, stat) = match name {
        b"." => (directory, stat),
        b".." => export.parent(&directory, context.waiting)?,
        _ => {
            let fd = export.open_name(&directory, &checked_name(name)?, context.waiting)?;
            export.adopt(fd, Some((&directory, name)))?
        }
    };
    context.reply.entry(&found.handle, &stat, export.fsid_of(&stat))?;
    Ok(0)
}

/// `createmode3`, as the request has it.
enum Create {
    Unchecked(Changes),
    Guarded(Changes),
    Exclusive { atime: i64, mtime: i64 },
}

impl Create {
    fn read(request: &mut Request<'_>) -> Result<Self> {
        match request.u32()? {
            0 => Ok(Self::Unchecked(Changes::read(request)?)),
            1 => Ok(Self::Guarded(Changes::read(request)?)),
            // Kept in the times until the client sets them (RFC 1813 §3.3.8), in 31 bits each, which every file system has.
            2 => Ok(Self::Exclusive {
                atime: i64::from(request.u32()? & 0x7fff_ffff),
                mtime: i64::from(request.u32()? & 0x7fff_ffff),
            }),
            _ => Err(Errno::INVAL),
        }
    }

    /// What to set on a new file that has been made.
    fn changes(self) -> Changes {
        match self {
            Self::Unchecked(changes) | Self::Guarded(changes) => changes,
            // it has its times and its mode
            Self::Exclusive { .. } => Changes::times(NewTime::Keep, NewTime::Keep),
        }
    }
}

pub fn create(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let place = Place::read(context, request)?;
    let create = Create::read(request)?;
    let export = context.export;
    place.directory.require_search(export, &place.stat, &who)?;
    for _ in 0..CREATE_ATTEMPTS {
        // Most often a name that is created is not there yet.
        match existing(export, &place, &create, &who) {
            Ok((node, stat)) => {
                context.reply.entry(&node.handle, &stat, export.fsid_of(&stat))?;
                return Ok(0);
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let (mode, made) = match &create {
            Create::Unchecked(changes) | Create::Guarded(changes) => {
                changes.check_new(export, &place.stat, &who)?;
                let mode = changes.mode.unwrap_or(DEFAULT_FILE_MODE);
                (mode, export.act(&who, || open_new(&place, mode)))
            }
            Create::Exclusive { atime, mtime } => {
                (EXCLUSIVE_FILE_MODE, export.act(&who, || open_marked(export, &place, (*atime, *mtime))))
            }
        };
        match made {
            Ok(fd) => {
                let reference = export.reopen(fd.as_fd(), OFlags::PATH)?;
                let changes = Changes { mode: None, ..create.changes() };
                return finish(context, &place, (reference, Some(fd)), (mode, changes), &who);
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(place.explain(export, error)),
        }
    }
    Err(Errno::AGAIN)
}

/// Makes a file that is not there yet, open for writing.
fn open_new(place: &Place, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(&place.directory.fd, &place.name, flags, Mode::from_raw_mode(mode), CONFINED)
}

/// As `open_new`, with times in which a verifier is kept: set before the file has its name, so that a server killed at any
/// moment leaves either no file or one that the same call, sent again, knows. On a file system without unnamed files they are
/// set behind it, and a server killed in between leaves a file that is nobody's.
fn open_marked(export: &Export, place: &Place, (atime, mtime): (i64, i64)) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(EXCLUSIVE_FILE_MODE);
    let (fd, named) = match rustix::fs::openat2(&place.directory.fd, c".", flags, mode, CONFINED) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR) => (open_new(place, EXCLUSIVE_FILE_MODE)?, true),
        other => (other?, false),
    };
    let at = |seconds| Timespec { tv_sec: seconds, tv_nsec: 0 };
    rustix::fs::futimens(&fd, &Timestamps { last_access: at(atime), last_modification: at(mtime) })?;
    if !named {
        let (source, follow) = (proc_name(fd.as_fd()), AtFlags::SYMLINK_FOLLOW);
        rustix::fs::linkat(export.proc(), source.as_str(), &place.directory.fd, &place.name, follow)?;
    }
    Ok(fd)
}

/// A file that has the name already, where it may be taken for the one to create. ENOENT: there is none.
fn existing(export: &Export, place: &Place, create: &Create, who: &Identity) -> Result<(Arc<Node>, Stat)> {
    let (fd, stat) = place.open(export)?;
    if stat.kind != Kind::Regular {
        return Err(Errno::EXIST);
    }
    match create {
        Create::Guarded(_) => Err(Errno::EXIST),
        Create::Exclusive { atime, mtime } => {
            // The same create once more, unless the file has been used since.
            if (stat.atime.0, stat.mtime.0, stat.size) != (*atime, *mtime, 0) {
                return Err(Errno::EXIST);
            }
            export.adopt(fd, Some(place.seen()))
        }
        Create::Unchecked(changes) => {
            let (node, stat) = export.adopt(fd, Some(place.seen()))?;
            if changes.size.is_none() {
                return Ok((node, stat));
            }
            // Of the attributes only the size concerns a file that is there: it is what O_TRUNC asks for.
            let changes = Changes { size: changes.size, ..Changes::times(NewTime::Keep, NewTime::Keep) };
            changes.apply(export, &node, &stat, who)?;
            export.flush(&node)?;
            let stat = node.stat()?;
            Ok((node, stat))
        }
    }
}

/// Takes a new file in: what could not be said when it was made is set, and it is flushed with its directory.
fn finish(
    context: &mut Context<'_, '_>,
    place: &Place,
    (reference, writer): (OwnedFd, Option<OwnedFd>),
    (mode, changes): (u32, Changes),
    who: &Identity,
) -> Result<usize> {
    let export = context.export;
    let (node, stat) = export.adopt(reference, Some(place.seen()))?;
    if let Some(writer) = writer {
        node.keep_writer(writer);
    }
    changes.apply(export, &node, &stat, who)?;
    // Bits of the mode may be missing: the call drops some, a new owner or size takes some away, and this thread may have a
    // umask. A directory's inherited set-gid bit stays.
    let made = node.stat()?;
    let mode = mode | if stat.kind == Kind::Directory { stat.mode & 0o2000 } else { 0 };
    let masked = !pool::umask_is_own() && (made.mode ^ mode) & 0o777 != 0;
    let special = mode & !made.mode & 0o7000 != 0;
    if stat.kind != Kind::Symlink && (masked || special) {
        export.act(who, || change_mode(export, &node, mode))?;
    }
    if matches!(stat.kind, Kind::Regular | Kind::Directory) {
        export.flush(&node)?;
    }
    export.flush(&place.directory)?;
    let stat = node.stat()?;
    context.reply.entry(&node.handle, &stat, export.fsid_of(&stat))?;
    Ok(0)
}

/// Makes something by a call that returns no descriptor, and takes in what it made.
fn make(
    context: &mut Context<'_, '_>,
    place: &Place,
    (kind, mode, changes): (Kind, u32, Changes),
    who: &Identity,
    call: impl FnOnce() -> Result<()>,
) -> Result<usize> {
    let export = context.export;
    changes.check_new(export, &place.stat, who)?;
    if changes.size.is_some() {
        return Err(Errno::INVAL);
    }
    export.act(who, call).map_err(|error| place.explain(export, error))?;
    let (fd, stat) = place.open(export)?;
    if stat.kind != kind {
        // Somebody replaced it in the meantime.
        return Err(Errno::NOENT);
    }
    finish(context, place, (fd, None), (mode, Changes { mode: None, ..changes }), who)
}

pub fn make_directory(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let place = Place::read(context, request)?;
    let changes = Changes::read(request)?;
    let mode = changes.mode.unwrap_or(DEFAULT_DIRECTORY_MODE);
    make(context, &place, (Kind::Directory, mode, changes), &who, || {
        rustix::fs::mkdirat(&place.directory.fd, &place.name, Mode::from_raw_mode(mode & 0o1777))
    })
}

pub fn symlink(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let place = Place::read(context, request)?;
    let target = CString::new(request.bytes()?).map_err(|_| Errno::INVAL)?;
    let changes = Changes::read(request)?;
    if target.is_empty() {
        return Err(Errno::NOENT);
    }
    make(context, &place, (Kind::Symlink, 0o777, changes), &who, || {
        rustix::fs::symlinkat(&target, &place.directory.fd, &place.name)
    })
}

pub fn make_node(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let place = Place::read(context, request)?;
    let (kind, major, minor) = (request.u32()?, request.u32()?, request.u32()?);
    let changes = Changes::read(request)?;
    let (kind, file_type, device) = match kind {
        3 => (Kind::BlockDevice, FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        4 => (Kind::CharacterDevice, FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
        6 => (Kind::Socket, FileType::Socket, 0),
        7 => (Kind::Fifo, FileType::Fifo, 0),
        _ => return Err(Errno::INVAL),
    };
    let mode = changes.mode.unwrap_or(DEFAULT_FILE_MODE);
    make(context, &place, (kind, mode, changes), &who, || {
        rustix::fs::mknodat(&place.directory.fd, &place.name, file_type, Mode::from_raw_mode(mode), device)
    })
}

pub fn remove(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    unlink(context, request, AtFlags::empty())
}

pub fn remove_directory(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    unlink(context, request, AtFlags::REMOVEDIR)
}

fn unlink(context: &mut Context<'_, '_>, request: &mut Request<'_>, flags: AtFlags) -> Result<usize> {
    let who = request.identity()?;
    let place = Place::read(context, request)?;
    let export = context.export;
    place.directory.require_search(export, &place.stat, &who)?;
    // Held meanwhile, so that it is known afterwards what the name was.
    let victim = place.open(export);
    export
        .act(&who, || rustix::fs::unlinkat(&place.directory.fd, &place.name, flags))
        .map_err(|error| place.explain(export, error))?;
    if let Ok((fd, stat)) = victim {
        export.unnamed(fd.as_fd(), &stat, place.seen());
    }
    export.flush(&place.directory)?;
    Ok(0)
}

pub fn rename(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let from = Place::read(context, request)?;
    let to = Place::read(context, request)?;
    let export = context.export;
    from.directory.require_search(export, &from.stat, &who)?;
    to.directory.require_search(export, &to.stat, &who)?;
    let moved = from.open(export);
    let replaced = to.open(export);
    export.act(&who, || rustix::fs::renameat(&from.directory.fd, &from.name, &to.directory.fd, &to.name)).map_err(
        |error| match from.explain(export, error) {
            Errno::NOENT => to.explain(export, error),
            other => other,
        },
    )?;
    let same = match (&moved, &replaced) {
        // Two names of one file: both stay (rename(2)).
        (Ok((_, moved)), Ok((_, replaced))) => moved.same_file(replaced),
        _ => false,
    };
    if !same {
        if let Ok((fd, stat)) = replaced {
            export.unnamed(fd.as_fd(), &stat, to.seen());
        }
        if let Ok((fd, stat)) = moved {
            export.name_file(fd.as_fd(), &stat, Some(to.seen()))?;
            export.unnamed(fd.as_fd(), &stat, from.seen());
        }
    }
    export.flush(&from.directory)?;
    if !from.stat.same_file(&to.stat) {
        export.flush(&to.directory)?;
    }
    Ok(0)
}

pub fn link(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, _) = file(context, request)?;
    let place = Place::read(context, request)?;
    let export = context.export;
    if node.kind == Kind::Directory {
        return Err(Errno::PERM);
    }
    let source = proc_name(node.fd.as_fd());
    let call = || {
        let flags = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(export.proc(), source.as_str(), &place.directory.fd, &place.name, flags)
    };
    export.act(&who, call).map_err(|error| place.explain(export, error))?;
    let stat = node.stat()?;
    export.name_file(node.fd.as_fd(), &stat, Some(place.seen()))?;
    export.flush(&place.directory)?;
    context.reply.stat(&stat, export.fsid_of(&stat))?;
    Ok(0)
}
