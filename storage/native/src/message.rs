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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_ends_early_is_refused_at_every_byte() {
        let mut bytes = Vec::new();
        for word in [1u32, 2, 1, 3, 4] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(b"name");
        let read = |bytes: &[u8]| -> Result<(Identity, Vec<u8>)> {
            let mut request = Request::new(bytes);
            Ok((request.identity()?, request.bytes()?.to_vec()))
        };
        let (who, name) = read(&bytes).unwrap();
        assert_eq!((who.uid, who.gid, who.groups, name), (1, 2, vec![3], b"name".to_vec()));
        for length in 0..bytes.len() {
            assert_eq!(read(&bytes[..length]).err(), Some(Errno::INVAL));
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let many = [0u32, 0, GROUPS_MAX as u32 + 1].map(u32::to_le_bytes).concat();
        assert_eq!(Request::new(&many).identity().err(), Some(Errno::INVAL));
        assert_eq!(Request::new(&u32::MAX.to_le_bytes()).bytes().err(), Some(Errno::INVAL));
    }

    #[test]
    fn a_reply_never_grows_beyond_its_memory() {
        let mut out = [0; 10];
        let mut reply = Reply::new(&mut out);
        reply.u64(1).unwrap();
        assert_eq!(reply.u32(2).err(), Some(Errno::OVERFLOW));
        assert_eq!((reply.len(), reply.room()), (8, 2));
        reply.set_u32(8, 3);
        assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
