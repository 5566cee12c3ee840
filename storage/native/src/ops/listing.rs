//! READDIR and READDIRPLUS. Cookies are the kernel's own positions (`d_off`).

use super::attributes::file;
use super::Context;
use crate::export::Export;
use crate::handle::Handle;
use crate::message::{Reply, Request, ENTRY_BYTES};
use crate::node::{right, Node, Stat};
use crate::{sys, Result};
use rustix::fd::AsFd;
use rustix::fs::{RawDir, RawDirEntry, SeekFrom};
use rustix::io::Errno;
use std::mem::MaybeUninit;

/// Bytes of entries taken from the kernel at once.
const BATCH_BYTES: usize = 16 << 10;
/// Bytes of an entry in the reply, its name and attributes not counted.
const HEAD_BYTES: usize = 8 + 8 + 4 + 4;

/// Replies with the number of entries, whether these are the last, and the entries.
pub fn read_directory(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, stat) = file(context, request)?;
    let (cookie, entries_max, attributes) = (request.u64()?, request.u32()?, request.u32()? != 0);
    let export = context.export;
    node.require_directory()?;
    let rights = node.rights(export, &stat, &who)?;
    if rights & right::READ == 0 {
        return Err(Errno::ACCESS);
    }
    if i64::try_from(cookie).is_err() {
        return Err(Errno::INVAL);
    }
    let lister = Lister {
        export,
        node: &node,
        // Who may not look names up may not see what is behind them.
        attributes: attributes && rights & right::EXECUTE != 0,
        waiting: context.waiting,
    };
    let listing = node.listing(export, context.waiting)?;
    let stream = listing.as_ref().ok_or(Errno::IO)?;
    rustix::fs::seek(stream, SeekFrom::Start(cookie))?;
    context.reply.u32(0)?;
    context.reply.u32(0)?;
    let mut count = 0;
    let mut buffer = [MaybeUninit::<u8>::uninit(); BATCH_BYTES];
    let mut entries = RawDir::new(stream, &mut buffer);
    while count < entries_max {
        match entries.next() {
            None => {
                context.reply.set_u32(4, 1);
                break;
            }
            Some(Err(Errno::NOENT)) => return Err(export.missing(&node)),
            Some(entry) => {
                let entry = entry?;
                let length = HEAD_BYTES + ENTRY_BYTES + entry.file_name().to_bytes().len();
                if length > context.reply.room() {
                    break;
                }
                lister.put(&entry, context.reply)?;
                count += 1;
            }
        }
    }
    context.reply.set_u32(0, count);
    Ok(0)
}

struct Lister<'a> {
    export: &'a Export,
    node: &'a Node,
    attributes: bool,
    waiting: bool,
}

impl Lister<'_> {
    fn put(&self, entry: &RawDirEntry<'_>, reply: &mut Reply<'_>) -> Result<()> {
        let name = entry.file_name().to_bytes();
        let found = if self.attributes { self.look_up(entry)? } else { None };
        let above_root = name == b".." && self.node.handle == self.export.root.handle;
        let ino = if above_root { self.node.ino } else { entry.ino() };
        reply.u64(entry.next_entry_cookie())?;
        reply.u64(ino)?;
        reply.u32(name.len() as u32)?;
        reply.u32(u32::from(found.is_some()))?;
        if let Some((handle, stat)) = found {
            reply.entry(&handle, &stat, self.export.fsid_of(&stat))?;
        }
        reply.raw(name)
    }

    /// The file behind an entry; `None` where it is gone meanwhile, or on another file system.
    fn look_up(&self, entry: &RawDirEntry<'_>) -> Result<Option<(Handle, Stat)>> {
        let found = match entry.file_name().to_bytes() {
            b"." => self.node.stat().map(|stat| (self.node.handle, stat)),
            b".." => self.export.parent(self.node, self.waiting).map(|(parent, stat)| (parent.handle, stat)),
            name => self.export.open_name(self.node, entry.file_name(), self.waiting).and_then(|fd| {
                let stat = Stat::of(fd.as_fd())?;
                Ok((self.export.name_file(fd.as_fd(), &stat, Some((self.node, name)))?.0, stat))
            }),
        };
        match found {
            Ok(found) => Ok(Some(found)),
            Err(sys::EINPROGRESS) => Err(sys::EINPROGRESS),
            Err(_) => Ok(None),
        }
    }
}
