//! Markers on their way in: received between the pieces of what they interrupt, so that payload still goes to its place at once (RFC 5044 §4.3).
use std::collections::VecDeque;
use std::os::fd::RawFd;

use weft_proto::mpa::marker::{self, MARKER_LEN};
use weft_proto::{Crc32c, TerminateCode};

use crate::socket::{self, Transfer};

/// Vectors of one call, markers' own among them: an FPDU of 64 KiB takes some.
const RUNS_MAX: usize = 512;

/// What has been received and what has been handed on of a direction with markers, as positions that count them.
#[derive(Default)]
pub struct Markers {
    pub(super) received: u64,
    handed: u64,
    /// Where the FPDU starts that is handed on.
    fpdu: u64,
    /// Markers between the two positions, the last one perhaps in part.
    waiting: VecDeque<[u8; MARKER_LEN]>,
}

impl Markers {
    /// Whether part of a marker has come and nothing behind it.
    pub fn is_within(&self) -> bool {
        (1..=MARKER_LEN as u64).contains(&(self.received % marker::MARKER_SPACING))
    }

    /// Receives into the vectors as if there were no markers. Returns how many bytes went there, and whether the socket had fewer than were asked for.
    ///
    /// # Safety
    /// Every vector names memory that stays mapped and writable during the call.
    pub unsafe fn receive(&mut self, fd: RawFd, vectors: &[libc::iovec]) -> (Transfer, bool) {
        let mut scratch = [[0u8; MARKER_LEN]; RUNS_MAX];
        let mut runs: Vec<(libc::iovec, bool)> = Vec::with_capacity(RUNS_MAX);
        let mut position = self.received;
        'gather: for vector in vectors {
            let mut start = vector.iov_base.cast::<u8>();
            let mut left = vector.iov_len;
            while left > 0 {
                let Some(space) = scratch.get_mut(runs.len()) else { break 'gather };
                let had = (position % marker::MARKER_SPACING) as usize;
                if let Some(rest) = space.get_mut(had..).filter(|rest| !rest.is_empty()) {
                    runs.push((libc::iovec { iov_base: rest.as_mut_ptr().cast(), iov_len: rest.len() }, true));
                    position += rest.len() as u64;
                    continue;
                }
                let length = left.min(marker::room(position));
                runs.push((libc::iovec { iov_base: start.cast(), iov_len: length }, false));
                position += length as u64;
                left -= length;
                start = start.wrapping_add(length);
            }
        }
        let asked = (position - self.received) as usize;
        let mut raw: Vec<libc::iovec> = runs.iter().map(|(run, _)| *run).collect();
        // SAFETY: runs are parts of the caller's vectors, or our own scratch space.
        let n = match unsafe { socket::receive(fd, &mut raw) } {
            Transfer::Bytes(n) => n,
            other => return (other, false),
        };
        let (mut left, mut handed_on) = (n, 0);
        for (i, (run, is_marker)) in runs.iter().enumerate() {
            let taken = left.min(run.iov_len);
            if taken == 0 {
                break;
            }
            if *is_marker {
                self.keep(scratch.get(i).unwrap_or(&[0; MARKER_LEN]), taken);
            } else {
                handed_on += taken;
            }
            self.received += taken as u64;
            left -= taken;
        }
        (Transfer::Bytes(handed_on), n < asked)
    }

    /// Keeps `taken` more bytes of the marker that is coming in, which lie in `bytes` where they lie in the marker.
    fn keep(&mut self, bytes: &[u8; MARKER_LEN], taken: usize) {
        let had = (self.received % marker::MARKER_SPACING) as usize;
        if had == 0 {
            self.waiting.push_back([0; MARKER_LEN]);
        }
        if let (Some(to), Some(from)) =
            (self.waiting.back_mut().and_then(|to| to.get_mut(had..had + taken)), bytes.get(had..had + taken))
        {
            to.copy_from_slice(from);
        }
    }

    /// The next byte handed on is an FPDU's first.
    pub fn begin(&mut self) {
        self.fpdu = marker::fpdu_start(self.handed);
    }

    /// A marker in front of the next byte, if there is one, is checked and summed.
    pub fn step(&mut self, crc: Option<&mut Crc32c>) -> Result<(), TerminateCode> {
        if marker::is_due(self.handed) {
            let bytes = self.waiting.pop_front().unwrap_or_default();
            if !marker::agrees(bytes, self.handed, self.fpdu) {
                return Err(TerminateCode::MPA_MARKER);
            }
            if let Some(crc) = crc {
                crc.update(&bytes);
            }
            self.handed += MARKER_LEN as u64;
        }
        Ok(())
    }

    /// Sums bytes that were received, and the markers between them, which it checks.
    pub fn sum(&mut self, mut bytes: &[u8], mut crc: Option<&mut Crc32c>) -> Result<(), TerminateCode> {
        while !bytes.is_empty() {
            self.step(crc.as_deref_mut())?;
            let (run, rest) = bytes.split_at(bytes.len().min(marker::room(self.handed)));
            if let Some(crc) = crc.as_deref_mut() {
                crc.update(run);
            }
            self.handed += run.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}
