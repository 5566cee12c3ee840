//! GETATTR, SETATTR, ACCESS, READLINK, FSSTAT.

use super::Context;
use crate::export::Export;
use crate::identity::Identity;
use crate::message::Request;
use crate::node::{proc_name, right, Kind, Node, Stat, Time};
use crate::Result;
use rustix::fd::AsFd;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::sync::Arc;

/// A time to set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NewTime {
    Keep,
    Now,
    At(Time),
}

/// Attributes to set.
pub struct Changes {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: NewTime,
    pub mtime: NewTime,
}

impl Changes {
    /// From a request: a mask, then every field, whether it counts or not.
    pub fn read(request: &mut Request<'_>) -> Result<Self> {
        let mask = request.u32()?;
        let set = |bit: u32| mask & bit != 0;
        let (mode, uid, gid) = (request.u32()?, request.u32()?, request.u32()?);
        let size = request.u64()?;
        let atime = (request.u64()? as i64, request.u32()?);
        let mtime = (request.u64()? as i64, request.u32()?);
        // The largest numbers mean "leave it" to chown.
        if (set(2) && uid == u32::MAX) || (set(4) && gid == u32::MAX) {
            return Err(Errno::INVAL);
        }
        let time = |at: Time, given: u32, now: u32| match (set(given), set(now)) {
            (_, true) => Ok(NewTime::Now),
            (true, _) if at.1 >= 1_000_000_000 => Err(Errno::INVAL),
            (true, _) => Ok(NewTime::At(at)),
            _ => Ok(NewTime::Keep),
        };
        Ok(Self {
            mode: set(1).then_some(mode & 0o7777),
            uid: set(2).then_some(uid),
            gid: set(4).then_some(gid),
            size: set(8).then_some(size),
            atime: time(atime, 16, 32)?,
            mtime: time(mtime, 64, 128)?,
        })
    }

    /// Nothing but times.
    pub fn times(atime: NewTime, mtime: NewTime) -> Self {
        Self { mode: None, uid: None, gid: None, size: None, atime, mtime }
    }

    fn nothing(&self) -> bool {
        self.mode.is_none() && self.uid.is_none() && self.gid.is_none() && self.size.is_none() && !self.any_time()
    }

    fn any_time(&self) -> bool {
        self.atime != NewTime::Keep || self.mtime != NewTime::Keep
    }

    /// EPERM where only a file's owner could do part of it and the caller is not: told before anything is done.
    fn check_owner(&self, export: &Export, stat: &Stat, who: &Identity) -> Result<()> {
        let explicit = |time| matches!(time, NewTime::At(_));
        let owners = self.mode.is_some() || explicit(self.atime) || explicit(self.mtime);
        if owners && !export.owns(stat, who) {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// EPERM where a new file of the caller's could not be given to this owner.
    pub fn check_new(&self, export: &Export, directory: &Stat, who: &Identity) -> Result<()> {
        let who = export.effective(who);
        let inherited = directory.mode & 0o2000 != 0;
        let mine = |gid: u32| gid == who.gid || who.groups.contains(&gid) || (inherited && gid == directory.gid);
        if who.uid != 0 && (self.uid.is_some_and(|uid| uid != who.uid) || self.gid.is_some_and(|gid| !mine(gid))) {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    /// Carries the changes out as the caller: owner, size, mode, times, since each may touch those behind it.
    pub fn apply(&self, export: &Export, node: &Node, stat: &Stat, who: &Identity) -> Result<()> {
        if self.nothing() {
            return Ok(());
        }
        self.check_owner(export, stat, who)?;
        let writer = match self.size {
            Some(size) if i64::try_from(size).is_err() => return Err(Errno::FBIG),
            Some(size) => Some((node.writer(export, stat, who)?, size)),
            None => None,
        };
        let as_writer = self.writers_times(export, node, stat, who)?;
        export.act(who, || {
            if self.uid.is_some() || self.gid.is_some() {
                let (uid, gid) = (self.uid.map(Uid::from_raw), self.gid.map(Gid::from_raw));
                rustix::fs::chownat(&node.fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
            }
            if let Some((fd, size)) = writer {
                rustix::fs::ftruncate(fd, size)?;
            }
            if let Some(mode) = self.mode {
                change_mode(export, node, mode)?;
            }
            if self.any_time() && !as_writer {
                self.set_times(node)?;
            }
            Ok(())
        })?;
        if as_writer {
            self.set_times(node)?;
        }
        Ok(())
    }

    /// Whether the caller may set the times for being a writer only. Linux lets writers set both to the present, but
    /// SETATTR may ask for one, and then that is done as root.
    fn writers_times(&self, export: &Export, node: &Node, stat: &Stat, who: &Identity) -> Result<bool> {
        let one = (self.atime == NewTime::Keep) != (self.mtime == NewTime::Keep);
        let asked = one && export.switching && !export.owns(stat, who);
        Ok(asked && node.rights(export, stat, who)? & right::WRITE != 0)
    }

    fn set_times(&self, node: &Node) -> Result<()> {
        let times = Timestamps { last_access: timespec(self.atime), last_modification: timespec(self.mtime) };
        rustix::fs::utimensat(&node.fd, c"", &times, AtFlags::EMPTY_PATH)
    }
}

/// Sets the mode of what a reference stands for, as whoever this thread acts as.
pub fn change_mode(export: &Export, node: &Node, mode: u32) -> Result<()> {
    let name = proc_name(node.fd.as_fd());
    rustix::fs::chmodat(export.proc(), name.as_str(), Mode::from_raw_mode(mode), AtFlags::empty())
}

fn timespec(time: NewTime) -> Timespec {
    match time {
        NewTime::Keep => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        NewTime::Now => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        NewTime::At((seconds, nanoseconds)) => Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) },
    }
}

/// The file that a request names next, and its attributes; what is stale is let go of.
pub fn file(context: &Context<'_, '_>, request: &mut Request<'_>) -> Result<(Arc<Node>, Stat)> {
    let handle = request.handle()?;
    let node = context.export.resolve(&handle, context.waiting)?;
    match node.stat() {
        Ok(stat) => Ok((node, stat)),
        Err(error) => {
            context.export.release(&handle);
            Err(error)
        }
    }
}

pub fn get(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let _who = request.identity()?;
    let (_, stat) = file(context, request)?;
    context.reply.stat(&stat, context.export.fsid_of(&stat))?;
    Ok(0)
}

pub fn set(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let export = context.export;
    let (node, _) = file(context, request)?;
    let changes = Changes::read(request)?;
    let guard = if request.u32()? != 0 { Some((request.u64()? as i64, request.u32()?)) } else { None };
    {
        let _alone = node.change_alone(context.waiting)?;
        let stat = node.stat()?;
        if guard.is_some_and(|guard| guard != stat.ctime) {
            return Err(Errno::AGAIN);
        }
        changes.apply(export, &node, &stat, &who)?;
    }
    if !changes.nothing() {
        export.flush(&node)?;
    }
    let stat = node.stat()?;
    context.reply.stat(&stat, export.fsid_of(&stat))?;
    Ok(0)
}

const ACCESS_READ: u32 = 0x01;
const ACCESS_LOOKUP: u32 = 0x02;
const ACCESS_MODIFY: u32 = 0x04;
const ACCESS_EXTEND: u32 = 0x08;
const ACCESS_DELETE: u32 = 0x10;
const ACCESS_EXECUTE: u32 = 0x20;

pub fn access(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, stat) = file(context, request)?;
    let asked = request.u32()?;
    let rights = node.rights(context.export, &stat, &who)?;
    let has = |right: u32| rights & right != 0;
    let mut granted = if has(right::READ) { ACCESS_READ } else { 0 };
    if node.kind == Kind::Directory {
        if has(right::EXECUTE) {
            granted |= ACCESS_LOOKUP;
            if has(right::WRITE) {
                granted |= ACCESS_MODIFY | ACCESS_EXTEND | ACCESS_DELETE;
            }
        }
    } else {
        if has(right::EXECUTE) {
            granted |= ACCESS_EXECUTE;
        }
        if has(right::WRITE) {
            granted |= ACCESS_MODIFY | ACCESS_EXTEND;
        }
    }
    context.reply.u32(granted & asked)?;
    Ok(0)
}

pub fn read_link(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let _who = request.identity()?;
    let (node, _) = file(context, request)?;
    if node.kind != Kind::Symlink {
        return Err(Errno::INVAL);
    }
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let (target, _) = rustix::fs::readlinkat_raw(&node.fd, c"", &mut buffer)?;
    context.reply.bytes(target)?;
    Ok(0)
}

pub fn status(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let _who = request.identity()?;
    let (node, _) = file(context, request)?;
    let found = rustix::fs::fstatvfs(&node.fd)?;
    for blocks in [found.f_blocks, found.f_bfree, found.f_bavail] {
        context.reply.u64(blocks.saturating_mul(found.f_frsize))?;
    }
    for files in [found.f_files, found.f_ffree, found.f_favail] {
        context.reply.u64(files)?;
    }
    Ok(0)
}
