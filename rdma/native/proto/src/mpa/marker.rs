//! Markers: four bytes at every 512th of a direction of the stream, from the first byte of its first FPDU on, from which a receiver that has lost its place finds
//! the FPDU around it (RFC 5044 §4.3).
//!
//! ```text
//! | reserved, 16 bits | FPDUPTR, 16 bits: bytes from the start of the FPDU to here |
//! ```
//!
//! A position counts the bytes of the direction, markers among them. A marker in front of an FPDU belongs to that one, and its FPDUPTR is 0. Markers are not
//! counted in an FPDU's length, but its CRC covers them (RFC 5044 §4.4). FPDUs are multiples of four bytes, so a marker is never within a CRC field.

/// Bytes from one marker to the next.
pub const MARKER_SPACING: u64 = 512;
/// Bytes of a marker.
pub const MARKER_LEN: usize = 4;

/// Whether a marker comes at this position.
pub const fn is_due(position: u64) -> bool {
    position.is_multiple_of(MARKER_SPACING)
}

/// How many bytes there are from a position that has no marker to the next one.
pub const fn room(position: u64) -> usize {
    (MARKER_SPACING - position % MARKER_SPACING) as usize
}

/// Where the FPDU's own first byte is whose bytes begin at this position, with a marker or without.
pub const fn fpdu_start(position: u64) -> u64 {
    if is_due(position) {
        position + MARKER_LEN as u64
    } else {
        position
    }
}

/// The marker at a position within the FPDU that starts at `fpdu`, or right in front of it.
pub const fn emit(position: u64, fpdu: u64) -> [u8; MARKER_LEN] {
    let [high, low] = (position.saturating_sub(fpdu) as u16).to_be_bytes();
    [0, 0, high, low]
}

/// Whether a marker agrees on where the FPDU starts. The reserved bits and the lowest two of the pointer are ignored, as the RFC asks.
pub const fn agrees(marker: [u8; MARKER_LEN], position: u64, fpdu: u64) -> bool {
    let [_, _, high, low] = emit(position, fpdu);
    marker[2] == high && marker[3] & !3 == low & !3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_marker_is_in_front_of_the_first_fpdu() {
        assert!(is_due(0) && !is_due(4) && is_due(512));
        assert_eq!([fpdu_start(0), fpdu_start(4), fpdu_start(100), fpdu_start(1024)], [4, 4, 100, 1028]);
        assert_eq!([room(4), room(511), room(513)], [508, 1, 511]);
    }

    #[test]
    fn a_marker_tells_how_far_its_fpdu_has_come() {
        assert_eq!(emit(0, 4), [0; 4]);
        assert_eq!(emit(512, 4), [0, 0, 1, 252]);
        assert_eq!(emit(65_536, 4), [0, 0, 255, 252]);
        assert!(agrees([9, 9, 1, 255], 512, 4), "reserved bits do not count");
        assert!(!agrees([0, 0, 1, 248], 512, 4) && !agrees([0, 0, 0, 252], 512, 4));
    }
}
