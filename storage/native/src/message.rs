//! Requests and replies as bytes: little-endian, no alignment, every length checked. The other side is
//! storage/backend/local_message.ts.

use crate::handle::{Handle, HANDLE_BYTES_MAX};
use crate::identity::{Identity, GROUPS_MAX};
use crate::node::Stat;
use crate::Result;
use rustix::io::Errno;

/// Bytes of `Reply::stat`.
pub const STAT_BYTES: usize = 96;
/// Bytes of `Reply::entry`.
pub const ENTRY_BYTES: usize = 4 + HANDLE_BYTES_MAX + STAT_BYTES;

/// Reads a request from front to back. EINVAL where it ends early.
pub struct Request<'a> {
    rest: &'a [u8],
}

impl<'a> Request<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(taken)
    }

    /// A 32-bit number.
    pub fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default()))
    }

    /// A 64-bit number.
    pub fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.first_chunk().copied().unwrap_or_default()))
    }

    /// A counted byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    /// A handle, unchecked.
    pub fn handle(&mut self) -> Result<Handle> {
        Handle::from_bytes(self.bytes()?)
    }

    /// Credentials, which start every request.
    pub fn identity(&mut self) -> Result<Identity> {
        let (uid, gid, count) = (self.u32()?, self.u32()?, self.u32()? as usize);
        if count > GROUPS_MAX {
            return Err(Errno::INVAL);
        }
        let mut groups = Vec::with_capacity(count);
        for _ in 0..count {
            groups.push(self.u32()?);
        }
        Identity::new(uid, gid, groups)
    }
}

/// Writes a reply into memory of a fixed size. EOVERFLOW where it does not fit.
pub struct Reply<'a> {
    out: &'a mut [u8],
    length: usize,
}

impl<'a> Reply<'a> {
    /// Starts at the first byte.
    pub fn new(out: &'a mut [u8]) -> Self {
        Self { out, length: 0 }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.out.len() - self.length
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.length + bytes.len();
        self.out.get_mut(self.length..end).ok_or(Errno::OVERFLOW)?.copy_from_slice(bytes);
        self.length = end;
        Ok(())
    }

    /// A 32-bit number.
    pub fn u32(&mut self, value: u32) -> Result<()> {
        self.raw(&value.to_le_bytes())
    }

    /// A 64-bit number.
    pub fn u64(&mut self, value: u64) -> Result<()> {
        self.raw(&value.to_le_bytes())
    }

    /// A counted byte string.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.u32(bytes.len() as u32)?;
        self.raw(bytes)
    }

    /// Overwrites a 32-bit number written earlier.
    pub fn set_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.out.get_mut(at..at + 4) {
            place.copy_from_slice(&value.to_le_bytes());
        }
    }

    /// Attributes: ten words of 32 bits, then seven of 64.
    pub fn stat(&mut self, stat: &Stat, fsid: u64) -> Result<()> {
        let mut bytes = [0; STAT_BYTES];
        let words = [
            stat.kind as u32,
            stat.mode,
            stat.nlink,
            stat.uid,
            stat.gid,
            stat.rdev.0,
            stat.rdev.1,
            stat.atime.1,
            stat.mtime.1,
            stat.ctime.1,
        ];
        let longs = [
            stat.size,
            stat.blocks * 512,
            fsid,
            stat.ino,
            stat.atime.0 as u64,
            stat.mtime.0 as u64,
            stat.ctime.0 as u64,
        ];
        let (head, tail) = bytes.split_at_mut(40);
        for (place, word) in head.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        for (place, long) in tail.chunks_exact_mut(8).zip(longs) {
            place.copy_from_slice(&long.to_le_bytes());
        }
        self.raw(&bytes)
    }

    /// A handle in a field of 64 bytes, then attributes.
    pub fn entry(&mut self, handle: &Handle, stat: &Stat, fsid: u64) -> Result<()> {
        let mut field = [0; HANDLE_BYTES_MAX];
        for (place, byte) in field.iter_mut().zip(handle.as_bytes()) {
            *place = *byte;
        }
        self.u32(handle.as_bytes().len() as u32)?;
        self.raw(&field)?;
        self.stat(stat, fsid)
    }
}
