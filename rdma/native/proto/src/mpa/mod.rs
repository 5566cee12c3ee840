//! MPA: marker PDU aligned framing over TCP (RFC 5044), with the enhanced start-up of RFC 6581.

pub mod frame;
pub mod marker;
pub mod startup;

/// The largest ULPDU (a DDP segment: its header and its payload) that the 16-bit length of an FPDU can state (RFC 5044
/// §4.1).
pub const MULPDU_MAX: usize = 65535;
/// Bytes of the length that leads an FPDU.
pub const LENGTH_LEN: usize = 2;
/// Bytes of the CRC field that ends an FPDU. It is always there, and zero when checksums are off.
pub const CRC_LEN: usize = 4;
/// The longest trailer: three bytes of padding and the CRC field.
pub const TRAILER_LEN_MAX: usize = 3 + CRC_LEN;

/// Bytes of padding behind a ULPDU of `ulpdu_len` bytes: with them, the length and the CRC an FPDU is a multiple of 4
/// (RFC 5044 §4.1).
pub const fn pad_len(ulpdu_len: usize) -> usize {
    (4 - (LENGTH_LEN + ulpdu_len) % 4) % 4
}

/// Bytes of the whole FPDU around a ULPDU of `ulpdu_len` bytes.
pub const fn fpdu_len(ulpdu_len: usize) -> usize {
    LENGTH_LEN + ulpdu_len + pad_len(ulpdu_len) + CRC_LEN
}

/// The largest ULPDU whose FPDU takes at most `len` bytes of the stream, with its markers where there are any, as many as there may be; `len` is the EMSS where an
/// FPDU is to fit into a segment of TCP's (RFC 5044 §4.5).
pub const fn mulpdu(len: usize, markers: bool) -> usize {
    let markers = if markers { marker::MARKER_LEN * len.div_ceil(marker::MARKER_SPACING as usize) } else { 0 };
    len.saturating_sub(LENGTH_LEN + CRC_LEN + markers + len % 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_fpdu_is_a_multiple_of_four() {
        // every length; an interpreter takes its time
        for ulpdu_len in (0..=MULPDU_MAX).step_by(if cfg!(miri) { 1009 } else { 1 }) {
            assert!(pad_len(ulpdu_len) < 4);
            assert_eq!(fpdu_len(ulpdu_len) % 4, 0);
        }
        assert_eq!(fpdu_len(14), 20);
        assert_eq!(fpdu_len(18 + 28), 52);
    }

    #[test]
    fn the_fpdu_of_the_largest_ulpdu_fills_what_it_is_to_fit_into() {
        assert_eq!([536, 1448, 1451, 8948].map(|len| mulpdu(len, false)), [530, 1442, 1442, 8942]);
        assert_eq!([536, 1448, 1451, 8948].map(|len| mulpdu(len, true)), [522, 1430, 1430, 8870]);
        assert_eq!([0, 6, 9].map(|len| mulpdu(len, true)), [0; 3]);
        for len in (16..=u16::MAX.into()).step_by(if cfg!(miri) { 1009 } else { 1 }) {
            assert_eq!(fpdu_len(mulpdu(len, false)), len - len % 4);
            assert_eq!(pad_len(mulpdu(len, true)), 0);
        }
    }
}
