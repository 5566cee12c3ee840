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
