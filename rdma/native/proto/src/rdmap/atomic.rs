//! Atomic operations (RFC 7306 §5): the payloads of Atomic Request and Atomic Response, and what each operation makes of a value.

/// Bytes of the payload of an Atomic Request.
pub const ATOMIC_REQUEST_LEN: usize = 52;
/// Bytes of the payload of an Atomic Response.
pub const ATOMIC_RESPONSE_LEN: usize = 12;
/// Bytes that an atomic operation works on; their address is a multiple of it.
pub const ATOMIC_OPERAND_LEN: usize = 8;

/// What is to be done to the value (RFC 7306 §5.1); the number is its code on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AtomicOperation {
    /// Adds; carries stop behind the bits of the mask.
    FetchAdd = 0,
    /// Puts in the bits of the mask.
    Swap = 1,
    /// Puts in the bits of the mask where the compared bits are equal.
    CmpSwap = 2,
}

impl AtomicOperation {
    /// The operation of that code.
    pub fn from_bits(bits: u32) -> Option<AtomicOperation> {
        [Self::FetchAdd, Self::Swap, Self::CmpSwap].get(usize::try_from(bits).ok()?).copied()
    }
}

/// Asks for an atomic operation on eight bytes of the receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicRequest {
    /// What to do.
    pub operation: AtomicOperation,
    /// Comes back in the response.
    pub request_id: u32,
    /// The responder's region.
    pub stag: u32,
    /// The offset in it, a multiple of 8.
    pub to: u64,
    /// What to add, or to put in.
    pub data: u64,
    /// FetchAdd: bits behind which a carry stops. Swap and CmpSwap: bits to put in.
    pub mask: u64,
    /// CmpSwap: what to compare with.
    pub compare: u64,
    /// CmpSwap: bits to compare.
    pub compare_mask: u64,
}

/// Adds within the fields that `mask` ends: a bit of it stops the carry out of its position.
fn masked_add(a: u64, b: u64, mask: u64) -> u64 {
    // Without the highest bit of each field no carry leaves it; that bit is added without one.
    ((a & !mask).wrapping_add(b & !mask)) ^ ((a ^ b) & mask)
}

impl AtomicRequest {
    /// Reads the payload; `None` where the operation is unknown.
    pub fn parse(bytes: &[u8; ATOMIC_REQUEST_LEN]) -> Option<AtomicRequest> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let long = |at: usize| u64::from(word(at)) << 32 | u64::from(word(at + 4));
        Some(AtomicRequest {
            operation: AtomicOperation::from_bits(word(0) & 0x0f)?,
            request_id: word(4),
            stag: word(8),
            to: long(12),
            data: long(20),
            mask: long(28),
            compare: long(36),
            compare_mask: long(44),
        })
    }

    /// The bytes of the payload.
    pub fn emit(&self) -> [u8; ATOMIC_REQUEST_LEN] {
        let mut bytes = [0; ATOMIC_REQUEST_LEN];
        bytes[0..4].copy_from_slice(&(self.operation as u32).to_be_bytes());
        bytes[4..8].copy_from_slice(&self.request_id.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.stag.to_be_bytes());
        for (at, long) in [(12, self.to), (20, self.data), (28, self.mask), (36, self.compare), (44, self.compare_mask)]
        {
            bytes[at..at + 8].copy_from_slice(&long.to_be_bytes());
        }
        bytes
    }

    /// The value that takes the place of `original`; `None` where a comparison failed and it stays.
    pub fn apply(&self, original: u64) -> Option<u64> {
        match self.operation {
            AtomicOperation::FetchAdd => Some(masked_add(original, self.data, self.mask)),
            AtomicOperation::CmpSwap if (original ^ self.compare) & self.compare_mask != 0 => None,
            AtomicOperation::Swap | AtomicOperation::CmpSwap => Some(original & !self.mask | self.data & self.mask),
        }
    }
}

/// Brings the value that was there before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtomicResponse {
    /// Which request it answers.
    pub request_id: u32,
    /// The value before the operation.
    pub original: u64,
}

impl AtomicResponse {
    /// Reads the payload.
    pub fn parse(bytes: &[u8; ATOMIC_RESPONSE_LEN]) -> AtomicResponse {
        let [a, b, c, d, value @ ..] = *bytes;
        AtomicResponse { request_id: u32::from_be_bytes([a, b, c, d]), original: u64::from_be_bytes(value) }
    }

    /// The bytes of the payload.
    pub fn emit(&self) -> [u8; ATOMIC_RESPONSE_LEN] {
        let mut bytes = [0; ATOMIC_RESPONSE_LEN];
        bytes[0..4].copy_from_slice(&self.request_id.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.original.to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(operation: AtomicOperation) -> AtomicRequest {
        AtomicRequest { operation, request_id: 0, stag: 0, to: 0, data: 0, mask: 0, compare: 0, compare_mask: 0 }
    }

    /// The definition, bit by bit.
    fn add_bit_by_bit(a: u64, b: u64, mask: u64) -> u64 {
        let (mut sum, mut carry) = (0, 0);
        for i in 0..64 {
            let bits = (a >> i & 1) + (b >> i & 1) + carry;
            sum |= (bits & 1) << i;
            carry = if mask >> i & 1 == 1 { 0 } else { bits >> 1 };
        }
        sum
    }

    #[test]
    fn operations() {
        let add = AtomicRequest { data: 3, ..request(AtomicOperation::FetchAdd) };
        assert_eq!(add.apply(u64::MAX), Some(2));
        let fields = AtomicRequest { data: 0x01ff, mask: 0x80, ..add };
        assert_eq!(fields.apply(0x0001), Some(0x0100));
        let swap = AtomicRequest { data: 0xffff, mask: 0x0ff0, ..request(AtomicOperation::Swap) };
        assert_eq!(swap.apply(0xa000_000a), Some(0xa000_0ffa));
        let compare = AtomicRequest { compare: 7, compare_mask: 0xff, ..swap };
        let compare = AtomicRequest { operation: AtomicOperation::CmpSwap, ..compare };
        assert_eq!((compare.apply(0x107), compare.apply(0x108)), (Some(0xff7), None));
    }

    proptest! {
        #[test]
        fn masked_addition(a: u64, b: u64, mask: u64) {
            prop_assert_eq!(masked_add(a, b, mask), add_bit_by_bit(a, b, mask));
        }

        #[test]
        fn requests_round_trip(bytes in proptest::collection::vec(any::<u8>(), ATOMIC_REQUEST_LEN), code in 0u8..3) {
            let mut wire = [0; ATOMIC_REQUEST_LEN];
            wire.copy_from_slice(&bytes);
            wire[..4].copy_from_slice(&[0, 0, 0, code]);
            prop_assert_eq!(AtomicRequest::parse(&wire).map(|request| request.emit()), Some(wire));
            wire[3] = code + 3;
            prop_assert_eq!(AtomicRequest::parse(&wire), None);
        }

        #[test]
        fn responses_round_trip(bytes in proptest::array::uniform12(any::<u8>())) {
            prop_assert_eq!(AtomicResponse::parse(&bytes).emit(), bytes);
        }
    }
}
