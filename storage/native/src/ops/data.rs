//! READ, WRITE, COMMIT: bytes go between the page cache and the caller's memory, with nothing in between.

use super::attributes::file;
use super::Context;
use crate::message::Request;
use crate::sys::{self, Memory};
use crate::Result;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use std::sync::atomic::Ordering;

/// Up to so many bytes are written on the calling thread, unless writes have had to wait lately: they go to the page cache in less time than
/// a thread takes to be woken, and from memory that is still in the processor's cache. 2 MiB, what one WRITE brings at most (of 1 MiB: a fifth
/// faster than by the pool with one core, and with two).
const INLINE_WRITE_BYTES_MAX: usize = 1 << 21;
/// Pieces of one write.
const PIECES_MAX: usize = 1024;

/// The memory to work on: listed in the request by address, or given beside it.
fn pieces(context: &Context<'_, '_>, request: &mut Request<'_>) -> Result<Vec<Memory>> {
    let count = request.u32()? as usize;
    if count == 0 {
        return Ok(context.data.into_iter().collect());
    }
    if count > PIECES_MAX {
        return Err(Errno::INVAL);
    }
    let mut pieces = Vec::with_capacity(count);
    for _ in 0..count {
        let (address, length) = (request.u64()? as usize, request.u64()? as usize);
        // SAFETY: JavaScript keeps the buffers that it names here until the operation is completed.
        pieces.push(unsafe { Memory::new(address, length) });
    }
    Ok(pieces)
}

/// Replies with whether the end of the file was reached, and whether this is all that can be had; where it is not, the rest
/// has to wait for the disk.
pub fn read(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, stat) = file(context, request)?;
    let offset = request.u64()?;
    let into = pieces(context, request)?.first().copied().unwrap_or(Memory::EMPTY);
    let reader = node.reader(context.export, &stat, &who)?;
    let left = stat.size.saturating_sub(offset);
    let wanted = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
    let mut done = 0;
    let mut complete = true;
    let mut ended = false;
    while done < wanted {
        let position = i64::try_from(offset + done as u64).map_err(|_| Errno::INVAL)?;
        let rest = into.after(done);
        match if context.waiting {
            sys::read_at(reader, rest, position, 0)
        } else {
            read_now(context, reader, rest, position)
        } {
            Ok(0) => {
                ended = true;
                break;
            }
            Ok(count) => done += count,
            Err(sys::EINPROGRESS) => {
                complete = false;
                break;
            }
            Err(_) if done > 0 => break,
            Err(error) => return Err(error),
        }
    }
    let eof = complete && (ended || offset.saturating_add(done as u64) >= stat.size);
    context.reply.u32(u32::from(eof))?;
    context.reply.u32(u32::from(complete))?;
    Ok(done)
}

/// Reads what is in memory; EINPROGRESS where nothing is.
fn read_now(context: &Context<'_, '_>, fd: BorrowedFd<'_>, into: Memory, position: i64) -> Result<usize> {
    let export = context.export;
    if export.memory_backed {
        return sys::read_at(fd, into, position, 0);
    }
    if !export.nowait_reads.load(Ordering::Relaxed) {
        return Err(sys::EINPROGRESS);
    }
    match sys::read_at(fd, into, position, libc::RWF_NOWAIT) {
        Err(Errno::AGAIN) => Err(sys::EINPROGRESS),
        Err(Errno::OPNOTSUPP) => {
            export.nowait_reads.store(false, Ordering::Relaxed);
            Err(sys::EINPROGRESS)
        }
        result => result,
    }
}

pub fn write(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, stat) = file(context, request)?;
    let (offset, stability) = (request.u64()?, request.u32()?);
    let pieces = pieces(context, request)?;
    let total: usize = pieces.iter().map(Memory::len).sum();
    let writer = node.writer(context.export, &stat, &who)?;
    let flags = match stability {
        0 => 0,
        1 => libc::RWF_DSYNC,
        2 => libc::RWF_SYNC,
        _ => return Err(Errno::INVAL),
    };
    if offset.checked_add(total as u64).and_then(|end| i64::try_from(end).ok()).is_none() {
        return Err(Errno::FBIG);
    }
    let export = context.export;
    let brief = total <= INLINE_WRITE_BYTES_MAX && (flags == 0 || export.memory_backed) && !export.pace.slow();
    if !context.waiting && !brief {
        return Err(sys::EINPROGRESS);
    }
    // As the caller, so that set-uid bits go, and blocks reserved for root stay so. Where neither can matter, changing
    // identities would cost more than a short write.
    if !context.waiting && stat.mode & 0o6000 == 0 && export.room.ample(export.mount.as_fd()) {
        return write_all(writer, &pieces, offset, flags);
    }
    export.act(&who, || write_all(writer, &pieces, offset, flags))
}

/// Writes all, or what fits: an error counts only if nothing was written before it.
fn write_all(fd: BorrowedFd<'_>, pieces: &[Memory], offset: u64, flags: i32) -> Result<usize> {
    let mut rest = pieces.to_vec();
    let mut done = 0;
    loop {
        rest.retain(|piece| piece.len() > 0);
        if rest.is_empty() {
            return Ok(done);
        }
        let position = i64::try_from(offset + done as u64).map_err(|_| Errno::FBIG)?;
        match sys::write_at(fd, &rest, position, flags) {
            Ok(0) if done == 0 => return Err(Errno::IO),
            Ok(0) => return Ok(done),
            Ok(mut count) => {
                done += count;
                for piece in &mut rest {
                    let taken = count.min(piece.len());
                    *piece = piece.after(taken);
                    count -= taken;
                }
            }
            Err(_) if done > 0 => return Ok(done),
            Err(error) => return Err(error),
        }
    }
}

pub fn commit(context: &mut Context<'_, '_>, request: &mut Request<'_>) -> Result<usize> {
    let who = request.identity()?;
    let (node, stat) = file(context, request)?;
    if !context.waiting && !context.export.memory_backed {
        return Err(sys::EINPROGRESS);
    }
    // Whoever may write may have it written out.
    let writer = node.writer(context.export, &stat, &who)?;
    context.export.commit(&node, writer)?;
    Ok(0)
}
