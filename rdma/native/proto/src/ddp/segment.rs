//! The header of one FPDU: ULPDU length, DDP header and RDMAP control byte (RFC 5044 §4.1, RFC 5041 §4,
//! RFC 5040 §4.1).
//!
//! ```text
//! | ULPDU length, 16 bits | T L reserved DV | RV reserved opcode |
//! tagged:   | STag, 32 bits | TO, 64 bits |
//! untagged: | STag to invalidate, 32 bits | queue | MSN | MO, 32 bits each |
//! ```

use crate::ddp::{QUEUE_COUNT, VERSION};
use crate::mpa::{pad_len, CRC_LEN, LENGTH_LEN};
use crate::rdmap::{Opcode, TerminateCode};

/// Bytes of an FPDU before the payload of a tagged segment: 2 of MPA's length and 14 of DDP.
pub const TAGGED_HEADER_LEN: usize = 16;
/// Bytes of an FPDU before the payload of an untagged segment: 2 of MPA's length and 18 of DDP.
pub const UNTAGGED_HEADER_LEN: usize = 20;

const TAGGED: u8 = 0x80;
const LAST: u8 = 0x40;

/// Where a segment's payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A region that the receiver named before.
    Tagged {
        /// The region's steering tag.
        stag: u32,
        /// The offset of the payload's first byte in it.
        to: u64,
    },
    /// The next buffer of a queue of the receiver's.
    Untagged {
        /// Queue number.
        queue: u32,
        /// Number of the message within its queue; the first is 1.
        msn: u32,
        /// Offset of the payload's first byte in the message.
        mo: u32,
        /// The steering tag that a Send with Invalidate invalidates; of no meaning to other opcodes.
        invalidate_stag: u32,
    },
}

/// The header of one FPDU, and so everything about it but its payload and CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// What the message is.
    pub opcode: Opcode,
    /// Whether the segment is its message's last.
    pub last: bool,
    /// Where the payload goes.
    pub target: Target,
    /// Bytes of payload that follow the header.
    pub payload_len: usize,
    /// Bytes of padding between payload and CRC: 0 to 3.
    pub pad: usize,
}

impl Segment {
    /// The length of the header that begins with `have`: [`TAGGED_HEADER_LEN`] while that isn't known yet or the
    /// segment is tagged, [`UNTAGGED_HEADER_LEN`] once the control byte says that it is untagged.
    pub fn header_len_of(have: &[u8]) -> usize {
        match have.get(LENGTH_LEN) {
            Some(control) if control & TAGGED == 0 => UNTAGGED_HEADER_LEN,
            _ => TAGGED_HEADER_LEN,
        }
    }

    /// Reads a header. Reserved bits are ignored. The length may belong to any opcode, the queue number and its order
    /// are the [`Receiver`](crate::rx::Receiver)'s to check. An error is what the peer is to be told.
    pub fn parse(header: &[u8]) -> Result<Segment, TerminateCode> {
        let Some((&[length_high, length_low, ddp, rdmap], rest)) = header.split_first_chunk::<4>() else {
            return Err(TerminateCode::MPA_MARKER);
        };
        let (tagged, last) = (ddp & TAGGED != 0, ddp & LAST != 0);
        let ulpdu_len = usize::from(u16::from_be_bytes([length_high, length_low]));
        let header_len = if tagged { TAGGED_HEADER_LEN } else { UNTAGGED_HEADER_LEN };
        let payload_len = (LENGTH_LEN + ulpdu_len).checked_sub(header_len).ok_or(TerminateCode::MPA_MARKER)?;
        if ddp & 0x03 != VERSION {
            return Err(if tagged { TerminateCode::DDP_TAGGED_VERSION } else { TerminateCode::DDP_UNTAGGED_VERSION });
        }
        if rdmap >> 6 != VERSION {
            return Err(TerminateCode::RDMAP_OPERATION_VERSION);
        }
        let opcode = Opcode::from_bits(rdmap & 0x0f).ok_or(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE)?;
        if opcode.is_tagged() != tagged {
            return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
        }
        let target = if tagged { parse_tagged(rest) } else { parse_untagged(rest) }.ok_or(TerminateCode::MPA_MARKER)?;
        Ok(Segment { opcode, last, target, payload_len, pad: pad_len(ulpdu_len) })
    }

    /// The bytes of the header, of which the first [`Segment::header_len`] count.
    ///
    /// The payload must leave room for the header within [`MULPDU_MAX`](crate::mpa::MULPDU_MAX).
    pub fn emit(&self) -> [u8; UNTAGGED_HEADER_LEN] {
        let mut bytes = [0; UNTAGGED_HEADER_LEN];
        let length = (self.ulpdu_len() as u16).to_be_bytes();
        let last = if self.last { LAST } else { 0 };
        bytes[0..2].copy_from_slice(&length);
        bytes[3] = VERSION << 6 | self.opcode as u8;
        match self.target {
            Target::Tagged { stag, to } => {
                bytes[2] = TAGGED | last | VERSION;
                bytes[4..8].copy_from_slice(&stag.to_be_bytes());
                bytes[8..16].copy_from_slice(&to.to_be_bytes());
            }
            Target::Untagged { queue, msn, mo, invalidate_stag } => {
                bytes[2] = last | VERSION;
                bytes[4..8].copy_from_slice(&invalidate_stag.to_be_bytes());
                bytes[8..12].copy_from_slice(&queue.to_be_bytes());
                bytes[12..16].copy_from_slice(&msn.to_be_bytes());
                bytes[16..20].copy_from_slice(&mo.to_be_bytes());
            }
        }
        bytes
    }

    /// Bytes of the header, MPA's length among them.
    pub const fn header_len(&self) -> usize {
        match self.target {
            Target::Tagged { .. } => TAGGED_HEADER_LEN,
            Target::Untagged { .. } => UNTAGGED_HEADER_LEN,
        }
    }

    /// Bytes of DDP header and payload: what MPA's length states.
    pub const fn ulpdu_len(&self) -> usize {
        self.header_len() - LENGTH_LEN + self.payload_len
    }

    /// Bytes behind the payload: padding and CRC.
    pub const fn trailer_len(&self) -> usize {
        self.pad + CRC_LEN
    }

    /// Bytes of the whole FPDU.
    pub const fn fpdu_len(&self) -> usize {
        self.header_len() + self.payload_len + self.trailer_len()
    }
}

fn parse_tagged(rest: &[u8]) -> Option<Target> {
    let (stag, rest) = rest.split_first_chunk::<4>()?;
    let (to, _) = rest.split_first_chunk::<8>()?;
    Some(Target::Tagged { stag: u32::from_be_bytes(*stag), to: u64::from_be_bytes(*to) })
}

fn parse_untagged(rest: &[u8]) -> Option<Target> {
    let (invalidate_stag, rest) = rest.split_first_chunk::<4>()?;
    let (queue, rest) = rest.split_first_chunk::<4>()?;
    let (msn, rest) = rest.split_first_chunk::<4>()?;
    let (mo, _) = rest.split_first_chunk::<4>()?;
    Some(Target::Untagged {
        queue: u32::from_be_bytes(*queue),
        msn: u32::from_be_bytes(*msn),
        mo: u32::from_be_bytes(*mo),
        invalidate_stag: u32::from_be_bytes(*invalidate_stag),
    })
}

/// The index of a queue number in arrays of [`QUEUE_COUNT`]; `None` for a number that RDMAP does not use.
pub(crate) fn queue_index(queue: u32) -> Option<usize> {
    usize::try_from(queue).ok().filter(|&index| index < QUEUE_COUNT)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::mpa::{fpdu_len, MULPDU_MAX};
    use proptest::prelude::*;

    /// Any segment that the format can state, whether or not it makes sense at a receiver.
    pub(crate) fn segments() -> impl Strategy<Value = Segment> {
        (
            proptest::sample::select(&Opcode::ALL[..]),
            any::<bool>(),
            any::<[u32; 4]>(),
            any::<u64>(),
            0..=MULPDU_MAX + LENGTH_LEN - UNTAGGED_HEADER_LEN,
        )
            .prop_map(|(opcode, last, [queue, msn, mo, stag], to, payload_len)| {
                let target = if opcode.is_tagged() {
                    Target::Tagged { stag, to }
                } else {
                    Target::Untagged { queue, msn, mo, invalidate_stag: stag }
                };
                let segment = Segment { opcode, last, target, payload_len, pad: 0 };
                Segment { pad: pad_len(segment.ulpdu_len()), ..segment }
            })
    }

    #[test]
    fn layout_of_a_tagged_header() {
        let header = [0x00, 0x13, 0xc1, 0x40, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28];
        let segment = Segment::parse(&header).unwrap();
        let target = Target::Tagged { stag: 0x1112_1314, to: 0x2122_2324_2526_2728 };
        assert_eq!(segment, Segment { opcode: Opcode::Write, last: true, target, payload_len: 5, pad: 3 });
        assert_eq!(segment.emit()[..16], header);
        assert_eq!((segment.header_len(), segment.trailer_len(), segment.fpdu_len()), (16, 7, 28));
    }

    #[test]
    fn layout_of_an_untagged_header() {
        let header = [
            0x00, 0x18, 0x01, 0x44, 0x31, 0x32, 0x33, 0x34, 0, 0, 0, 0, 0x51, 0x52, 0x53, 0x54, 0x61, 0x62, 0x63, 0x64,
        ];
        let segment = Segment::parse(&header).unwrap();
        let target = Target::Untagged { queue: 0, msn: 0x5152_5354, mo: 0x6162_6364, invalidate_stag: 0x3132_3334 };
        assert_eq!(segment, Segment { opcode: Opcode::SendInvalidate, last: false, target, payload_len: 6, pad: 2 });
        assert_eq!(segment.emit(), header);
    }

    #[test]
    fn each_fault_has_its_code() {
        let tagged = [0, 14, 0xc1, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let untagged = [0, 18, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let refused = |header: &[u8], at: usize, byte: u8| {
            let mut header = header.to_vec();
            header[at] = byte;
            Segment::parse(&header).unwrap_err()
        };
        assert!(Segment::parse(&tagged).is_ok() && Segment::parse(&untagged).is_ok());
        for length in 0..14 {
            assert_eq!(refused(&tagged, 1, length), TerminateCode::MPA_MARKER);
        }
        for length in 0..18 {
            assert_eq!(refused(&untagged, 1, length), TerminateCode::MPA_MARKER);
        }
        for version in [0, 2, 3] {
            assert_eq!(refused(&tagged, 2, 0xc0 | version), TerminateCode::DDP_TAGGED_VERSION);
            assert_eq!(refused(&untagged, 2, 0x40 | version), TerminateCode::DDP_UNTAGGED_VERSION);
            assert_eq!(refused(&tagged, 3, version << 6), TerminateCode::RDMAP_OPERATION_VERSION);
        }
        for opcode in 0..16 {
            let is_tagged = matches!(opcode, 0 | 2);
            if !is_tagged {
                assert_eq!(refused(&tagged, 3, 0x40 | opcode), TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
            }
            if is_tagged || opcode > 11 {
                assert_eq!(refused(&untagged, 3, 0x40 | opcode), TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
            }
        }
    }

    #[test]
    fn reserved_bits_are_ignored() {
        let header = [0, 14, 0xfd, 0x70, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Segment::parse(&header).unwrap().opcode, Opcode::Write);
    }

    proptest! {
        #[test]
        fn round_trip(segment in segments()) {
            let header = segment.emit();
            let header = &header[..segment.header_len()];
            prop_assert_eq!(Segment::parse(header), Ok(segment));
            prop_assert_eq!(segment.fpdu_len(), fpdu_len(segment.ulpdu_len()));
            prop_assert_eq!(segment.fpdu_len() % 4, 0);
        }

        #[test]
        fn a_header_fed_byte_by_byte_says_how_long_it_is(segment in segments()) {
            let header = segment.emit();
            for have in 0..=segment.header_len() {
                let expected = if have <= LENGTH_LEN { TAGGED_HEADER_LEN } else { segment.header_len() };
                prop_assert_eq!(Segment::header_len_of(&header[..have]), expected);
            }
        }

        #[test]
        fn every_truncation_is_refused(segment in segments()) {
            let header = segment.emit();
            for have in 0..segment.header_len() {
                prop_assert_eq!(Segment::parse(&header[..have]), Err(TerminateCode::MPA_MARKER));
            }
        }

        #[test]
        fn any_bytes_are_a_segment_or_refused(header in any::<[u8; UNTAGGED_HEADER_LEN]>()) {
            let length = usize::from(u16::from_be_bytes([header[0], header[1]]));
            match Segment::parse(&header) {
                Ok(segment) => {
                    prop_assert_eq!(segment.ulpdu_len(), length);
                    let again = segment.emit();
                    prop_assert_eq!(&again[4..segment.header_len()], &header[4..segment.header_len()]);
                }
                Err(code) => prop_assert!(code.is_known()),
            }
        }
    }
}
