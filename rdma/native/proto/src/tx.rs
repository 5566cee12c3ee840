//! The sending side of one stream: the headers and trailers between which payloads leave, and the numbers of untagged
//! messages.

use crate::crc32c;
use crate::ddp::{queue_index, Segment, Target, QUEUE_COUNT, TAGGED_HEADER_LEN, UNTAGGED_HEADER_LEN};
use crate::mpa::{pad_len, CRC_LEN, LENGTH_LEN, TRAILER_LEN_MAX};
use crate::rdmap::Opcode;

pub use crate::mpa::MULPDU_MAX;

/// The most payload that one tagged FPDU carries.
pub const TAGGED_PAYLOAD_MAX: usize = MULPDU_MAX + LENGTH_LEN - TAGGED_HEADER_LEN;
/// The most payload that one untagged FPDU carries.
pub const UNTAGGED_PAYLOAD_MAX: usize = MULPDU_MAX + LENGTH_LEN - UNTAGGED_HEADER_LEN;

/// The message numbers of the untagged queues of one direction of a stream (RFC 5041 §4.3).
#[derive(Clone, Debug)]
pub struct Transmitter {
    msn: [u32; QUEUE_COUNT],
}

impl Default for Transmitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Transmitter {
    /// The state of a stream on which nothing has been sent: the first message of every queue is number 1.
    pub fn new() -> Transmitter {
        Transmitter { msn: [1; QUEUE_COUNT] }
    }

    /// Takes the number for the next message of a queue. A queue that RDMAP does not have gives 0.
    pub fn next_msn(&mut self, queue: u32) -> u32 {
        let Some(index) = queue_index(queue) else { return 0 };
        let msn = self.msn[index];
        self.msn[index] = msn.wrapping_add(1);
        msn
    }
}

/// The header of a tagged segment: opcode, whether it is its message's last, target, and bytes of payload
/// (at most [`TAGGED_PAYLOAD_MAX`]).
pub fn tagged_header(opcode: Opcode, last: bool, stag: u32, to: u64, payload_len: usize) -> [u8; TAGGED_HEADER_LEN] {
    debug_assert!(opcode.is_tagged() && payload_len <= TAGGED_PAYLOAD_MAX);
    let segment = Segment { opcode, last, target: Target::Tagged { stag, to }, payload_len, pad: 0 };
    let mut header = [0; TAGGED_HEADER_LEN];
    header.copy_from_slice(&segment.emit()[..TAGGED_HEADER_LEN]);
    header
}

/// The header of an untagged segment: opcode, whether it is its message's last, queue, the message's number from
/// [`Transmitter::next_msn`], the segment's offset in it, the STag to invalidate (0 where the opcode does not), and
/// bytes of payload (at most [`UNTAGGED_PAYLOAD_MAX`]).
pub fn untagged_header(
    opcode: Opcode,
    last: bool,
    queue: u32,
    msn: u32,
    mo: u32,
    invalidate_stag: u32,
    payload_len: usize,
) -> [u8; UNTAGGED_HEADER_LEN] {
    debug_assert!(!opcode.is_tagged() && payload_len <= UNTAGGED_PAYLOAD_MAX);
    let target = Target::Untagged { queue, msn, mo, invalidate_stag };
    Segment { opcode, last, target, payload_len, pad: 0 }.emit()
}

/// Padding and CRC field behind a ULPDU of `ulpdu_len` bytes (DDP header and payload), and how many of the bytes count.
///
/// The CRC covers the padding, which is [`pad_len`] zeros. `None`: checksums are off, and the field is zero.
pub fn trailer(ulpdu_len: usize, crc: Option<u32>) -> ([u8; TRAILER_LEN_MAX], usize) {
    let mut trailer = [0; TRAILER_LEN_MAX];
    let pad = pad_len(ulpdu_len);
    if let Some(crc) = crc {
        trailer[pad..pad + CRC_LEN].copy_from_slice(&crc32c::to_wire(crc));
    }
    (trailer, pad + CRC_LEN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddp::{QUEUE_READ_REQUEST, QUEUE_SEND};
    use crate::mpa::fpdu_len;

    #[test]
    fn messages_are_numbered_from_1_in_each_queue() {
        let mut transmitter = Transmitter::new();
        assert_eq!([QUEUE_SEND, QUEUE_SEND, QUEUE_READ_REQUEST].map(|queue| transmitter.next_msn(queue)), [1, 2, 1]);
        transmitter.msn[0] = u32::MAX;
        assert_eq!([QUEUE_SEND, QUEUE_SEND, QUEUE_SEND].map(|queue| transmitter.next_msn(queue)), [u32::MAX, 0, 1]);
        assert_eq!(transmitter.next_msn(4), 0);
    }

    #[test]
    fn trailers_fill_the_fpdu() {
        for ulpdu_len in 14..200 {
            let (trailer, length) = trailer(ulpdu_len, Some(0x0403_0201));
            assert_eq!(LENGTH_LEN + ulpdu_len + length, fpdu_len(ulpdu_len));
            let (pad, crc) = trailer[..length].split_at(length - CRC_LEN);
            assert!(pad.iter().all(|&byte| byte == 0));
            assert_eq!(crc, [1, 2, 3, 4]);
        }
        assert_eq!(trailer(14, None), ([0; TRAILER_LEN_MAX], 4));
    }

    #[test]
    fn the_largest_payloads_fit_the_length() {
        let header = tagged_header(Opcode::Write, true, 1, 2, TAGGED_PAYLOAD_MAX);
        assert_eq!(header[..2], [0xff, 0xff]);
        assert_eq!(Segment::parse(&header).map(|segment| segment.payload_len), Ok(TAGGED_PAYLOAD_MAX));
        let header = untagged_header(Opcode::Send, true, 0, 1, 0, 0, UNTAGGED_PAYLOAD_MAX);
        assert_eq!(Segment::parse(&header).map(|segment| segment.payload_len), Ok(UNTAGGED_PAYLOAD_MAX));
    }
}
