//! A driver in miniature: takes a stream in pieces of any size, and hands out whole FPDUs as the receive state directs
//! it.

use weft_proto::crc32c;
use weft_proto::{Crc32c, Receiver, Segment, TerminateCode, CRC_LEN};

/// One FPDU: what its header says, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fpdu {
    pub segment: Segment,
    pub bytes: Vec<u8>,
}

impl Fpdu {
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.segment.header_len()]
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.segment.header_len()..][..self.segment.payload_len]
    }

    /// Padding and CRC.
    pub fn trailer(&self) -> &[u8] {
        &self.bytes[self.segment.header_len() + self.segment.payload_len..]
    }
}

/// The receiving side of one stream.
pub struct Feeder {
    pub receiver: Receiver,
    crc: bool,
    /// The FPDU that is arriving.
    bytes: Vec<u8>,
    /// What it is, once its header has arrived.
    segment: Option<Segment>,
}

impl Feeder {
    pub fn new(crc: bool) -> Feeder {
        Feeder { receiver: Receiver::new(), crc, bytes: Vec::new(), segment: None }
    }

    /// Whether the stream could end here.
    pub fn is_at_boundary(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the next bytes of the stream, and hands out the FPDUs that they complete.
    pub fn feed(&mut self, mut piece: &[u8], mut sink: impl FnMut(Fpdu)) -> Result<(), TerminateCode> {
        while !piece.is_empty() {
            let want = match &self.segment {
                None => Receiver::header_len(&self.bytes),
                Some(segment) => segment.fpdu_len(),
            };
            let (taken, rest) = piece.split_at(piece.len().min(want - self.bytes.len()));
            self.bytes.extend_from_slice(taken);
            piece = rest;
            if self.segment.is_none() && self.bytes.len() == Receiver::header_len(&self.bytes) {
                self.segment = Some(self.receiver.handle_header(&self.bytes)?);
            }
            if let Some(segment) = self.segment.filter(|segment| segment.fpdu_len() == self.bytes.len()) {
                self.check_crc()?;
                self.receiver.complete(&segment);
                self.segment = None;
                sink(Fpdu { segment, bytes: std::mem::take(&mut self.bytes) });
            }
        }
        Ok(())
    }

    fn check_crc(&self) -> Result<(), TerminateCode> {
        let Some((covered, field)) = self.bytes.split_last_chunk::<CRC_LEN>() else {
            return Err(TerminateCode::MPA_MARKER);
        };
        let mut crc = Crc32c::new();
        crc.update(covered);
        if self.crc && crc.finish() != crc32c::from_wire(*field) {
            return Err(TerminateCode::MPA_CRC);
        }
        Ok(())
    }
}
