//! The MPA Request and Reply frames that open a connection (RFC 5044 §7.1.1), with the enhanced data of
//! RFC 6581 §6 and §9.
//!
//! ```text
//!  0                             15  16                  23  24         31
//! | key, 16 bytes                  | M C R S  reserved     | revision      | length of private data, 16 bits |
//! | A B  IRD, 14 bits              | C D  ORD, 14 bits (both only with S)  | private data …
//! ```

use std::fmt;

/// Bytes of a frame before its private data.
pub const FRAME_HEADER_LEN: usize = 20;
/// The most private data that a frame may carry, the 4 bytes of enhanced data among them (RFC 5044 §7.1.1).
pub const PRIVATE_DATA_MAX: usize = 512;
/// Bytes of enhanced data at the head of the private data (RFC 6581 §9).
pub const ENHANCED_LEN: usize = 4;
/// The largest IRD or ORD that its 14 bits can state.
pub const DEPTH_MAX: u16 = DEPTH_UNSTATED - 1;
/// The IRD or ORD of a side that leaves it to the upper layer (RFC 6581 §9).
pub const DEPTH_UNSTATED: u16 = 0x3fff;
/// The first 16 bytes of what an initiator sends.
pub const REQUEST_KEY: [u8; 16] = *b"MPA ID Req Frame";
/// The first 16 bytes of what a responder answers.
pub const REPLY_KEY: [u8; 16] = *b"MPA ID Rep Frame";

const MARKERS: u8 = 0x80;
const CRC: u8 = 0x40;
const REJECT: u8 = 0x20;
const ENHANCED: u8 = 0x10;
const DEPTH_MASK: u16 = 0x3fff;
const HIGH_FLAG: u16 = 0x8000;
const LOW_FLAG: u16 = 0x4000;

/// Which of the two start-up frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// From the initiator.
    Request,
    /// From the responder.
    Reply,
}

impl FrameKind {
    /// The 16 bytes that a frame of this kind begins with.
    pub const fn key(self) -> &'static [u8; 16] {
        match self {
            FrameKind::Request => &REQUEST_KEY,
            FrameKind::Reply => &REPLY_KEY,
        }
    }
}

/// The enhanced data of revision 2 (RFC 6581 §9): read depths and how the initiator's first FPDU is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enhanced {
    /// Inbound RDMA Read queue depth: how many Reads the sender of this frame will serve at once (14 bits).
    pub ird: u16,
    /// Outbound RDMA Read queue depth: how many Reads the sender of this frame wants to have outstanding (14 bits).
    pub ord: u16,
    /// Control flag A: peer-to-peer, the initiator sends a ready-to-receive message first.
    pub peer_to_peer: bool,
    /// Control flag B: a zero-length Send may be that message.
    pub rtr_send: bool,
    /// Control flag C: a zero-length RDMA Write may be that message.
    pub rtr_write: bool,
    /// Control flag D: a zero-length RDMA Read may be that message.
    pub rtr_read: bool,
}

impl Enhanced {
    fn parse(bytes: [u8; ENHANCED_LEN]) -> Enhanced {
        let ird = u16::from_be_bytes([bytes[0], bytes[1]]);
        let ord = u16::from_be_bytes([bytes[2], bytes[3]]);
        Enhanced {
            ird: ird & DEPTH_MASK,
            ord: ord & DEPTH_MASK,
            peer_to_peer: ird & HIGH_FLAG != 0,
            rtr_send: ird & LOW_FLAG != 0,
            rtr_write: ord & HIGH_FLAG != 0,
            rtr_read: ord & LOW_FLAG != 0,
        }
    }

    fn emit(&self) -> [u8; ENHANCED_LEN] {
        let flag = |set: bool, bit: u16| if set { bit } else { 0 };
        let ird = (self.ird & DEPTH_MASK) | flag(self.peer_to_peer, HIGH_FLAG) | flag(self.rtr_send, LOW_FLAG);
        let ord = (self.ord & DEPTH_MASK) | flag(self.rtr_write, HIGH_FLAG) | flag(self.rtr_read, LOW_FLAG);
        let ([a, b], [c, d]) = (ird.to_be_bytes(), ord.to_be_bytes());
        [a, b, c, d]
    }
}

/// What is wrong with the bytes of a start-up frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MpaError {
    /// The frame ends before its header or its private data does.
    Truncated {
        /// Bytes that there are.
        have: usize,
        /// Bytes that there should be.
        need: usize,
    },
    /// There are bytes behind the private data.
    Trailing {
        /// How many.
        extra: usize,
    },
    /// The first 16 bytes are no MPA key.
    NotMpa,
    /// A key, but that of the other frame: a Request where a Reply was due, or the reverse.
    UnexpectedKind(FrameKind),
    /// A revision that is neither 1 nor 2.
    Revision(u8),
    /// More private data than [`PRIVATE_DATA_MAX`].
    PrivateDataTooLong(usize),
    /// The enhanced flag in a frame whose private data has no room for the enhanced data, or whose revision has none.
    Enhanced,
}

impl fmt::Display for MpaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MpaError::Truncated { have, need } => write!(f, "MPA frame cut short: {have} of {need} bytes"),
            MpaError::Trailing { extra } => write!(f, "{extra} bytes follow the MPA frame"),
            MpaError::NotMpa => write!(f, "not an MPA frame: the key is wrong"),
            MpaError::UnexpectedKind(FrameKind::Request) => write!(f, "an MPA Request where a Reply was due"),
            MpaError::UnexpectedKind(FrameKind::Reply) => write!(f, "an MPA Reply where a Request was due"),
            MpaError::Revision(revision) => write!(f, "MPA revision {revision} is not supported (1 and 2 are)"),
            MpaError::PrivateDataTooLong(length) => {
                write!(f, "MPA private data of {length} bytes; at most {PRIVATE_DATA_MAX} are allowed")
            }
            MpaError::Enhanced => write!(f, "MPA frame with the enhanced flag but no enhanced data"),
        }
    }
}

impl std::error::Error for MpaError {}

/// One start-up frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Request or Reply.
    pub kind: FrameKind,
    /// The revision spoken: 1 or 2.
    pub revision: u8,
    /// Flag M: the sender wants to receive markers.
    pub markers: bool,
    /// Flag C: the sender wants CRCs.
    pub crc: bool,
    /// Flag R, of a Reply: the connection is rejected.
    pub reject: bool,
    /// Flag S and the data that it announces.
    pub enhanced: Option<Enhanced>,
    /// Private data, without the enhanced data before it.
    pub private_data: Vec<u8>,
}

/// Checks the first 20 bytes of a frame of the kind expected, and says how many bytes of private data follow (enhanced
/// data included).
pub fn private_data_len(header: &[u8; FRAME_HEADER_LEN], expect: FrameKind) -> Result<usize, MpaError> {
    let kind = kind_of(header)?;
    if kind != expect {
        return Err(MpaError::UnexpectedKind(kind));
    }
    check_header(header)
}

fn kind_of(header: &[u8; FRAME_HEADER_LEN]) -> Result<FrameKind, MpaError> {
    [FrameKind::Request, FrameKind::Reply]
        .into_iter()
        .find(|kind| header.starts_with(kind.key()))
        .ok_or(MpaError::NotMpa)
}

fn check_header(header: &[u8; FRAME_HEADER_LEN]) -> Result<usize, MpaError> {
    let (flags, revision) = (header[16], header[17]);
    let length = usize::from(u16::from_be_bytes([header[18], header[19]]));
    if revision != 1 && revision != 2 {
        return Err(MpaError::Revision(revision));
    }
    if length > PRIVATE_DATA_MAX {
        return Err(MpaError::PrivateDataTooLong(length));
    }
    if is_enhanced(flags, revision) && length < ENHANCED_LEN {
        return Err(MpaError::Enhanced);
    }
    Ok(length)
}

/// Revision 1 knows no flag S: the bit is reserved there, and ignored.
fn is_enhanced(flags: u8, revision: u8) -> bool {
    revision >= 2 && flags & ENHANCED != 0
}

impl Frame {
    /// Reads one whole frame, which must be all of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Frame, MpaError> {
        let truncated = |need| MpaError::Truncated { have: bytes.len(), need };
        let (header, rest) = bytes.split_first_chunk::<FRAME_HEADER_LEN>().ok_or(truncated(FRAME_HEADER_LEN))?;
        let kind = kind_of(header)?;
        let length = check_header(header)?;
        if rest.len() < length {
            return Err(truncated(FRAME_HEADER_LEN + length));
        }
        if rest.len() > length {
            return Err(MpaError::Trailing { extra: rest.len() - length });
        }
        let (flags, revision) = (header[16], header[17]);
        let (enhanced, private_data) = if is_enhanced(flags, revision) {
            let (enhanced, private_data) = rest.split_first_chunk::<ENHANCED_LEN>().ok_or(MpaError::Enhanced)?;
            (Some(Enhanced::parse(*enhanced)), private_data)
        } else {
            (None, rest)
        };
        Ok(Frame {
            kind,
            revision,
            markers: flags & MARKERS != 0,
            crc: flags & CRC != 0,
            reject: flags & REJECT != 0,
            enhanced,
            private_data: private_data.to_vec(),
        })
    }

    /// The bytes of the frame. Private data beyond what a frame may carry is left off: check it against
    /// [`Frame::private_data_room`] first.
    pub fn emit(&self) -> Vec<u8> {
        let enhanced = self.enhanced.filter(|_| self.revision >= 2);
        let room = Self::private_data_room(enhanced.is_some());
        let private_data = &self.private_data[..self.private_data.len().min(room)];
        let length = private_data.len() + if enhanced.is_some() { ENHANCED_LEN } else { 0 };
        let flags = [(self.markers, MARKERS), (self.crc, CRC), (self.reject, REJECT), (enhanced.is_some(), ENHANCED)]
            .into_iter()
            .fold(0, |flags, (set, bit)| if set { flags | bit } else { flags });
        let mut bytes = Vec::with_capacity(FRAME_HEADER_LEN + length);
        bytes.extend_from_slice(self.kind.key());
        bytes.extend_from_slice(&[flags, self.revision]);
        bytes.extend_from_slice(&(length as u16).to_be_bytes());
        if let Some(enhanced) = enhanced {
            bytes.extend_from_slice(&enhanced.emit());
        }
        bytes.extend_from_slice(private_data);
        bytes
    }

    /// How many bytes of private data fit in a frame with or without enhanced data.
    pub const fn private_data_room(enhanced: bool) -> usize {
        PRIVATE_DATA_MAX - if enhanced { ENHANCED_LEN } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the Linux kernel's iSER initiator sends: IRD 128, ORD 1, and four bytes of its own.
    const ISER_REQUEST: &[u8] = b"MPA ID Req Frame\x10\x02\x00\x08\x00\x80\x00\x01\x80\x00\x00\x00";

    fn frames() -> impl Strategy<Value = Frame> {
        let enhanced =
            (0..=DEPTH_UNSTATED, 0..=DEPTH_UNSTATED, any::<[bool; 4]>()).prop_map(|(ird, ord, [a, b, c, d])| {
                Enhanced { ird, ord, peer_to_peer: a, rtr_send: b, rtr_write: c, rtr_read: d }
            });
        (
            any::<bool>(),
            any::<[bool; 3]>(),
            proptest::option::of(enhanced),
            any::<bool>(),
            proptest::collection::vec(any::<u8>(), 0..=PRIVATE_DATA_MAX - ENHANCED_LEN),
        )
            .prop_map(|(reply, [markers, crc, reject], enhanced, old, private_data)| Frame {
                kind: if reply { FrameKind::Reply } else { FrameKind::Request },
                revision: if old { 1 } else { 2 },
                markers,
                crc,
                reject,
                enhanced: enhanced.filter(|_| !old),
                private_data,
            })
    }

    #[test]
    fn a_recorded_request() {
        let frame = Frame::parse(ISER_REQUEST).unwrap();
        assert_eq!(
            frame,
            Frame {
                kind: FrameKind::Request,
                revision: 2,
                markers: false,
                crc: false,
                reject: false,
                enhanced: Some(Enhanced { ird: 128, ord: 1, ..Enhanced::default() }),
                private_data: vec![0x80, 0, 0, 0],
            }
        );
        assert_eq!(frame.emit(), ISER_REQUEST);
    }

    #[test]
    fn every_flag_has_its_bit() {
        let plain = Frame::parse(ISER_REQUEST).unwrap();
        let enhanced = plain.enhanced.unwrap();
        let byte = |frame: &Frame, at: usize| frame.emit()[at];
        assert_eq!(byte(&Frame { markers: true, ..plain.clone() }, 16), 0x90);
        assert_eq!(byte(&Frame { crc: true, ..plain.clone() }, 16), 0x50);
        assert_eq!(byte(&Frame { reject: true, ..plain.clone() }, 16), 0x30);
        let with = |enhanced| Frame { enhanced: Some(enhanced), ..plain.clone() };
        assert_eq!(byte(&with(Enhanced { peer_to_peer: true, ..enhanced }), 20), 0x80);
        assert_eq!(byte(&with(Enhanced { rtr_send: true, ..enhanced }), 20), 0x40);
        assert_eq!(byte(&with(Enhanced { rtr_write: true, ..enhanced }), 22), 0x80);
        assert_eq!(byte(&with(Enhanced { rtr_read: true, ..enhanced }), 22), 0x40);
    }

    fn refused(change: impl FnOnce(&mut Vec<u8>)) -> MpaError {
        let mut bytes = ISER_REQUEST.to_vec();
        change(&mut bytes);
        Frame::parse(&bytes).unwrap_err()
    }

    #[test]
    fn each_fault_has_its_error() {
        assert_eq!(refused(|bytes| bytes[3] = b'_'), MpaError::NotMpa);
        assert_eq!(refused(|bytes| bytes[17] = 0), MpaError::Revision(0));
        assert_eq!(refused(|bytes| bytes[17] = 3), MpaError::Revision(3));
        assert_eq!(refused(|bytes| bytes[18] = 2), MpaError::PrivateDataTooLong(520));
        assert_eq!(refused(|bytes| bytes[19] = 3), MpaError::Enhanced);
        assert_eq!(refused(|bytes| bytes.push(0)), MpaError::Trailing { extra: 1 });
        let header = ISER_REQUEST.first_chunk().unwrap();
        assert_eq!(private_data_len(header, FrameKind::Request), Ok(8));
        assert_eq!(private_data_len(header, FrameKind::Reply), Err(MpaError::UnexpectedKind(FrameKind::Request)));
        assert_eq!(private_data_len(&[0; FRAME_HEADER_LEN], FrameKind::Reply), Err(MpaError::NotMpa));
    }

    #[test]
    fn revision_1_has_no_enhanced_data() {
        let mut bytes = ISER_REQUEST.to_vec();
        bytes[17] = 1;
        let frame = Frame::parse(&bytes).unwrap();
        assert_eq!((frame.enhanced, frame.private_data.len()), (None, 8));
        let enhanced = Some(Enhanced::default());
        assert_eq!(Frame { enhanced, ..frame.clone() }.emit(), frame.emit());
    }

    #[test]
    fn the_most_private_data_fits_and_no_more_is_sent() {
        let frame = Frame { private_data: vec![7; 600], ..Frame::parse(ISER_REQUEST).unwrap() };
        let bytes = frame.emit();
        assert_eq!(bytes.len(), FRAME_HEADER_LEN + PRIVATE_DATA_MAX);
        assert_eq!(Frame::parse(&bytes).unwrap().private_data, vec![7; Frame::private_data_room(true)]);
    }

    proptest! {
        #[test]
        fn round_trip(frame in frames()) {
            let bytes = frame.emit();
            prop_assert_eq!(Frame::parse(&bytes).unwrap(), frame.clone());
            let length = private_data_len(bytes.first_chunk().unwrap(), frame.kind).unwrap();
            prop_assert_eq!(bytes.len(), FRAME_HEADER_LEN + length);
        }

        #[test]
        fn every_truncation_is_told(frame in frames()) {
            let bytes = frame.emit();
            for have in 0..bytes.len() {
                let need = if have < FRAME_HEADER_LEN { FRAME_HEADER_LEN } else { bytes.len() };
                prop_assert_eq!(Frame::parse(&bytes[..have]), Err(MpaError::Truncated { have, need }));
            }
        }

        #[test]
        fn what_parses_comes_back_but_for_reserved_bits(
            reply in any::<bool>(),
            rest in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let kind = if reply { FrameKind::Reply } else { FrameKind::Request };
            let mut bytes = [&kind.key()[..], &rest].concat();
            if let Ok(frame) = Frame::parse(&bytes) {
                bytes[16] &= if frame.revision == 1 { MARKERS | CRC | REJECT } else { MARKERS | CRC | REJECT | ENHANCED };
                prop_assert_eq!(frame.emit(), bytes);
            }
        }
    }
}
