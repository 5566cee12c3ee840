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

/// The message numbers of the untagged queues of one direction of a stream (RFC 5041 §4.2).
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
