//! The payload of an RDMA Read Request (RFC 5040 §4.4).

/// Bytes of the payload of a Read Request.
pub const READ_REQUEST_LEN: usize = 28;

/// Asks the receiver to send `length` bytes of its region as a Read Response into the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// The requester's region, to be written.
    pub sink_stag: u32,
    /// The offset in it of the first byte.
    pub sink_to: u64,
    /// Bytes to read; 0 is allowed.
    pub length: u32,
    /// The responder's region, to be read.
    pub source_stag: u32,
    /// The offset in it of the first byte.
    pub source_to: u64,
}

impl ReadRequest {
    /// Reads the payload. Any 28 bytes are a request; whether it may be served is the memory table's to say.
    pub fn parse(bytes: &[u8; READ_REQUEST_LEN]) -> ReadRequest {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        ReadRequest {
            sink_stag: word(0),
            sink_to: long(4),
            length: word(12),
            source_stag: word(16),
            source_to: long(20),
        }
    }

    /// The bytes of the payload.
    pub fn emit(&self) -> [u8; READ_REQUEST_LEN] {
        let mut bytes = [0; READ_REQUEST_LEN];
        bytes[0..4].copy_from_slice(&self.sink_stag.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.sink_to.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.source_stag.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.source_to.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout() {
        let mut bytes = [0; READ_REQUEST_LEN];
        bytes.iter_mut().zip(0..).for_each(|(byte, index)| *byte = index);
        let request = ReadRequest::parse(&bytes);
        assert_eq!(request.sink_stag, 0x0001_0203);
        assert_eq!(request.sink_to, 0x0405_0607_0809_0a0b);
        assert_eq!(request.length, 0x0c0d_0e0f);
        assert_eq!(request.source_stag, 0x1011_1213);
        assert_eq!(request.source_to, 0x1415_1617_1819_1a1b);
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes in proptest::array::uniform28(any::<u8>())) {
            prop_assert_eq!(ReadRequest::parse(&bytes).emit(), bytes);
        }
    }
}
