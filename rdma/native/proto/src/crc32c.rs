//! CRC-32C, the checksum of an FPDU (RFC 5044 §4.4; the polynomial and the mapping to bytes are those of iSCSI, RFC
//! 7143 §13.1).
//!
//! It covers the FPDU from the first byte of the ULPDU length to the last byte of padding, and is sent least
//! significant byte first ([`to_wire`]).

use crc_fast::{CrcAlgorithm, Digest};

/// A CRC-32C computed piece by piece; computed in hardware where the processor can.
#[derive(Clone)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The checksum of nothing yet.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of everything taken in.
    pub fn finish(self) -> u32 {
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crc32c({:#010x})", self.0.finalize())
    }
}

/// The checksum of `bytes` in one call.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// The four bytes of `crc` in the order in which an FPDU carries them.
pub fn to_wire(crc: u32) -> [u8; 4] {
    crc.to_le_bytes()
}

/// The checksum that the last four bytes of an FPDU carry.
pub fn from_wire(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, one bit at a time.
    fn model(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for &byte in bytes {
            crc ^= u32::from(byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn iscsi_examples() {
        // RFC 7143 appendix A.4, whose digests are printed in the order of the wire
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        assert_eq!(to_wire(checksum(&[0; 32])), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(to_wire(checksum(&[0xff; 32])), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(to_wire(checksum(&ascending)), [0x4e, 0x79, 0xdd, 0x46]);
        assert_eq!(to_wire(checksum(&descending)), [0x5c, 0xdb, 0x3f, 0x11]);
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(b""), 0);
        assert_eq!(from_wire(to_wire(0x1234_5678)), 0x1234_5678);
    }

    /// Bytes of the longest input; an interpreter takes its time.
    const LENGTH_MAX: usize = if cfg!(miri) { 100 } else { 3000 };

    proptest! {
        #[test]
        fn any_cut_gives_the_sum_of_the_model(
            bytes in proptest::collection::vec(any::<u8>(), 0..LENGTH_MAX),
            cuts in proptest::collection::vec(0..LENGTH_MAX, 0..6),
        ) {
            let expected = model(&bytes);
            prop_assert_eq!(checksum(&bytes), expected);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            let mut crc = Crc32c::new();
            let mut from = 0;
            for cut in cuts {
                crc.update(&bytes[from..cut]);
                from = cut;
            }
            crc.update(&bytes[from..]);
            prop_assert_eq!(crc.finish(), expected);
        }
    }
}
