//! The Terminate message: why a stream ends, and the header that was to blame (RFC 5040 §4.8).
//!
//! ```text
//! | layer, 4 | type, 4 | code, 8 | M D R, 3 | reserved, 13 |
//! with M or D: | length of the DDP segment, 16 |
//! with D:      | its DDP header, 14 or 18 bytes |
//! with R:      | its Read Request, 28 bytes |
//! ```
//!
//! Linux's siw fills the first and the third byte from their other ends (it declares them as bit fields): type and
//! layer change places, and M, D, R are the lowest bits. [`Terminate::parse`] takes both; [`Terminate::emit`] writes
//! what the RFC says.

use std::fmt;

use crate::ddp::{Segment, TAGGED_HEADER_LEN, UNTAGGED_HEADER_LEN};
use crate::mpa::LENGTH_LEN;
use crate::rdmap::{Opcode, TerminateCode, READ_REQUEST_LEN};

/// The shortest Terminate: its control word alone.
pub const TERMINATE_LEN_MIN: usize = 4;
/// The longest Terminate: control word, segment length, an untagged header and a Read Request.
pub const TERMINATE_LEN_MAX: usize = TERMINATE_LEN_MIN + UNTAGGED_HEADER_LEN + READ_REQUEST_LEN;

const FLAG_M: u8 = 0x80;
const FLAG_D: u8 = 0x40;
const FLAG_R: u8 = 0x20;
const FLAGS: u8 = FLAG_M | FLAG_D | FLAG_R;

/// Errors that leave the layout of the header in doubt, so that it is not sent back.
const LAYOUT_IN_DOUBT: [TerminateCode; 4] = [
    TerminateCode::DDP_TAGGED_VERSION,
    TerminateCode::DDP_UNTAGGED_VERSION,
    TerminateCode::RDMAP_OPERATION_VERSION,
    TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE,
];

/// One Terminate message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminate {
    /// The layer that found the error: 0 RDMAP, 1 DDP, 2 MPA.
    pub layer: u8,
    /// Type of error within the layer.
    pub etype: u8,
    /// Code within the type.
    pub code: u8,
    /// Flag M: the length of the segment to blame.
    pub ddp_segment_length: Option<u16>,
    /// Flag D: the DDP header of the segment to blame (14 bytes if tagged, 18 if not), without MPA's length.
    pub ddp_header: Option<Vec<u8>>,
    /// Flag R: the RDMAP header behind it, which only Read Requests have.
    pub rdmap_header: Option<[u8; READ_REQUEST_LEN]>,
}

/// A Terminate message too short for its control word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminateError {
    /// Bytes that there are.
    pub have: usize,
}

impl fmt::Display for TerminateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Terminate message cut short: {} of at least {TERMINATE_LEN_MIN} bytes", self.have)
    }
}

impl std::error::Error for TerminateError {}

impl Terminate {
    /// A Terminate that blames no segment.
    pub fn new(code: TerminateCode) -> Terminate {
        let TerminateCode { layer, etype, code } = code;
        Terminate { layer, etype, code, ddp_segment_length: None, ddp_header: None, rdmap_header: None }
    }

    /// A Terminate about the FPDU whose header is given, MPA's length included, with the payload of the Read Request
    /// that it carried, if it did.
    ///
    /// The header is left off where RFC 5040 §4.8 has none: with local errors, with those of MPA, and with those that
    /// leave its layout in doubt.
    pub fn for_error(code: TerminateCode, header: Option<&[u8]>, read_request: Option<&[u8]>) -> Terminate {
        let plain = Terminate::new(code);
        if code.layer > 1 || code.etype == 0 || LAYOUT_IN_DOUBT.contains(&code) {
            return plain;
        }
        let header = header.and_then(|header| header.get(..Segment::header_len_of(header)));
        let Some((length, ddp_header)) = header.and_then(|header| header.split_first_chunk::<LENGTH_LEN>()) else {
            return plain;
        };
        let read_request = read_request.filter(|_| code.layer == 0);
        Terminate {
            ddp_segment_length: Some(u16::from_be_bytes(*length)),
            ddp_header: Some(ddp_header.to_vec()),
            rdmap_header: read_request.and_then(|request| request.first_chunk().copied()),
            ..plain
        }
    }

    /// The error as a whole.
    pub fn terminate_code(&self) -> TerminateCode {
        TerminateCode { layer: self.layer, etype: self.etype, code: self.code }
    }

    /// The opcode of the segment to blame, where its header is there.
    pub fn opcode(&self) -> Option<Opcode> {
        let control = self.ddp_header.as_ref()?.get(1)?;
        Opcode::from_bits(control & 0x0f)
    }

    /// Reads the payload of a Terminate. Headers that it announces and does not contain are treated as absent: they
    /// only help to find the cause, and the code must not be lost with them.
    pub fn parse(bytes: &[u8]) -> Result<Terminate, TerminateError> {
        let Some((&[first, code, flags, _], rest)) = bytes.split_first_chunk::<TERMINATE_LEN_MIN>() else {
            return Err(TerminateError { have: bytes.len() });
        };
        let (code, flags) = parse_control(first, code, flags);
        let mut terminate = Terminate::new(code);
        if flags & (FLAG_M | FLAG_D) == 0 {
            return Ok(terminate);
        }
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_LEN>() else {
            return Ok(terminate);
        };
        if flags & FLAG_M != 0 {
            terminate.ddp_segment_length = Some(u16::from_be_bytes(*length));
        }
        if flags & FLAG_D == 0 || rest.is_empty() {
            return Ok(terminate);
        }
        let tagged = rest[0] & 0x80 != 0;
        let header_len = if tagged { TAGGED_HEADER_LEN } else { UNTAGGED_HEADER_LEN } - LENGTH_LEN;
        let Some((ddp_header, rest)) = rest.split_at_checked(header_len) else {
            return Ok(terminate);
        };
        terminate.ddp_header = Some(ddp_header.to_vec());
        if flags & FLAG_R != 0 {
            terminate.rdmap_header = rest.first_chunk().copied();
        }
        Ok(terminate)
    }

    /// The payload of the message, in the layout of RFC 5040.
    pub fn emit(&self) -> Vec<u8> {
        let flags = [
            (self.ddp_segment_length.is_some(), FLAG_M),
            (self.ddp_header.is_some(), FLAG_D),
            (self.ddp_header.is_some() && self.rdmap_header.is_some(), FLAG_R),
        ]
        .into_iter()
        .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags });
        let mut bytes = Vec::with_capacity(TERMINATE_LEN_MAX);
        bytes.extend_from_slice(&[self.layer << 4 | self.etype & 0x0f, self.code, flags, 0]);
        if flags & (FLAG_M | FLAG_D) != 0 {
            bytes.extend_from_slice(&self.ddp_segment_length.unwrap_or(0).to_be_bytes());
        }
        if let Some(ddp_header) = &self.ddp_header {
            bytes.extend_from_slice(ddp_header);
            if let Some(rdmap_header) = &self.rdmap_header {
                bytes.extend_from_slice(rdmap_header);
            }
        }
        bytes
    }
}

/// The error and the flags M, D, R of a control word in the RFC's layout or in siw's.
///
/// Any flag settles which it is. Without flags the RFC's reading holds, unless it names no error of the RFCs and the
/// other one does.
fn parse_control(first: u8, code: u8, flags: u8) -> (TerminateCode, u8) {
    let upright = TerminateCode { layer: first >> 4, etype: first & 0x0f, code };
    let reversed = TerminateCode { layer: first & 0x0f, etype: first >> 4, code };
    let is_reversed = match (flags & FLAGS, flags & FLAGS.reverse_bits()) {
        (0, 0) => !upright.is_known() && reversed.is_known(),
        (0, _) => true,
        _ => false,
    };
    if is_reversed {
        (reversed, flags.reverse_bits() & FLAGS)
    } else {
        (upright, flags & FLAGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ddp::segment::tests::segments;
    use proptest::prelude::*;

    fn terminates() -> impl Strategy<Value = Terminate> {
        let code = proptest::sample::select(TerminateCode::ALL);
        let request = proptest::option::of(proptest::array::uniform28(any::<u8>()));
        (code, proptest::option::of(segments()), request).prop_map(|(code, segment, request)| {
            let header = segment.map(|segment| segment.emit()[..segment.header_len()].to_vec());
            Terminate::for_error(code, header.as_deref(), request.as_ref().map(|request| &request[..]))
        })
    }

    /// The same message as siw's bit fields lay it out on a little-endian machine.
    fn reverse(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[0] = bytes[0].rotate_left(4);
        bytes[2] = bytes[2].reverse_bits();
        bytes
    }

    const READ_REQUEST_HEADER: [u8; 20] = [0, 46, 0x41, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 0];

    #[test]
    fn layout() {
        let code = TerminateCode::RDMAP_PROTECTION_BASE_OR_BOUNDS;
        let terminate = Terminate::for_error(code, Some(&READ_REQUEST_HEADER), Some(&[9; 28]));
        let bytes = terminate.emit();
        assert_eq!(bytes.len(), TERMINATE_LEN_MAX);
        assert_eq!(bytes[..4], [0x01, 0x01, 0xe0, 0x00]);
        assert_eq!(bytes[4..24], READ_REQUEST_HEADER);
        assert_eq!(bytes[24..], [9; 28]);
        assert_eq!(terminate.opcode(), Some(Opcode::ReadRequest));
        assert_eq!(terminate.terminate_code(), code);
        assert_eq!(Terminate::new(TerminateCode::MPA_CRC).emit(), [0x20, 0x02, 0, 0]);
    }

    #[test]
    fn only_errors_that_a_header_explains_carry_one() {
        let carries = |code| {
            let terminate = Terminate::for_error(code, Some(&READ_REQUEST_HEADER), Some(&[0; 28]));
            (
                terminate.ddp_segment_length,
                terminate.ddp_header.map(|header| header.len()),
                terminate.rdmap_header.is_some(),
            )
        };
        assert_eq!(carries(TerminateCode::RDMAP_PROTECTION_ACCESS), (Some(46), Some(18), true));
        assert_eq!(carries(TerminateCode::RDMAP_OPERATION_CANNOT_INVALIDATE), (Some(46), Some(18), true));
        assert_eq!(carries(TerminateCode::DDP_UNTAGGED_NO_BUFFER), (Some(46), Some(18), false));
        for code in [
            TerminateCode::MPA_CRC,
            TerminateCode::DDP_LOCAL_CATASTROPHIC,
            TerminateCode::RDMAP_LOCAL_CATASTROPHIC,
            TerminateCode::DDP_UNTAGGED_VERSION,
            TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE,
        ] {
            assert_eq!(carries(code), (None, None, false));
        }
        let cut = Terminate::for_error(TerminateCode::DDP_UNTAGGED_MSN_RANGE, Some(&READ_REQUEST_HEADER[..16]), None);
        assert_eq!(cut, Terminate::new(TerminateCode::DDP_UNTAGGED_MSN_RANGE));
    }

    #[test]
    fn what_siw_sends_without_a_header() {
        let parsed = |bytes: &[u8]| Terminate::parse(bytes).unwrap().terminate_code();
        // a CRC error, in either layout
        assert_eq!(parsed(&[0x20, 0x02, 0, 0]), TerminateCode::MPA_CRC);
        assert_eq!(parsed(&[0x02, 0x02, 0, 0]), TerminateCode::MPA_CRC);
        // a DDP version that is not spoken
        assert_eq!(parsed(&[0x12, 0x06, 0, 0]), TerminateCode::DDP_UNTAGGED_VERSION);
        assert_eq!(parsed(&[0x21, 0x06, 0, 0]), TerminateCode::DDP_UNTAGGED_VERSION);
        // read as the RFC says where both readings name an error
        assert_eq!(parsed(&[0x02, 0x06, 0, 0]), TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
        assert_eq!(parsed(&[0x20, 0x06, 0, 0]), TerminateCode::MPA_INSUFFICIENT_IRD);
        // neither reading names one
        assert_eq!(parsed(&[0x9a, 0x77, 0, 0]), TerminateCode { layer: 9, etype: 10, code: 0x77 });
    }

    #[test]
    fn headers_that_are_announced_but_missing_do_not_hide_the_error() {
        let code = TerminateCode::RDMAP_PROTECTION_ACCESS;
        let whole = Terminate::for_error(code, Some(&READ_REQUEST_HEADER), Some(&[3; 28])).emit();
        for have in 0..whole.len() {
            match Terminate::parse(&whole[..have]) {
                Err(error) => assert!(have < 4 && error.have == have),
                Ok(terminate) => {
                    assert_eq!(terminate.terminate_code(), code);
                    assert_eq!(terminate.ddp_segment_length.is_some(), have >= 6);
                    assert_eq!(terminate.ddp_header.is_some(), have >= 24);
                    assert_eq!(terminate.rdmap_header, None);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn round_trip(terminate in terminates()) {
            let bytes = terminate.emit();
            prop_assert!(bytes.len() <= TERMINATE_LEN_MAX);
            prop_assert_eq!(Terminate::parse(&bytes), Ok(terminate));
        }

        #[test]
        fn siw_s_layout_is_told_by_its_flags(terminate in terminates()) {
            let bytes = terminate.emit();
            prop_assume!(bytes[2] != 0);
            prop_assert_eq!(Terminate::parse(&reverse(bytes)), Ok(terminate));
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            match Terminate::parse(&bytes) {
                Ok(terminate) => prop_assert_eq!(Terminate::parse(&terminate.emit()).unwrap().ddp_header, terminate.ddp_header),
                Err(error) => prop_assert!(bytes.len() < 4 && error.have == bytes.len()),
            }
        }
    }
}
