//! The errors that a Terminate message names (RFC 5040 §4.8, RFC 5041 §7, RFC 5044 §8, RFC 6581 §8; the registry is RFC
//! 6580's).

use std::fmt;

/// One error: the layer that found it, the type of error within the layer, and the code within the type.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TerminateCode {
    /// 0: RDMAP, 1: DDP, 2: MPA (4 bits).
    pub layer: u8,
    /// Type of error (4 bits).
    pub etype: u8,
    /// Code within the type.
    pub code: u8,
}

macro_rules! terminate_codes {
    ($($(#[$doc:meta])* $name:ident = ($layer:literal, $etype:literal, $code:literal), $sentence:literal;)*) => {
        impl TerminateCode {
            $(
                $(#[$doc])*
                pub const $name: TerminateCode = TerminateCode { layer: $layer, etype: $etype, code: $code };
            )*

            /// Every error that has a name here.
            pub const ALL: &'static [TerminateCode] = &[$(TerminateCode::$name),*];

            /// The name and a sentence for an error that the RFCs define.
            fn known(self) -> Option<(&'static str, &'static str)> {
                match (self.layer, self.etype, self.code) {
                    $(($layer, $etype, $code) => Some((stringify!($name), $sentence)),)*
                    _ => None,
                }
            }
        }
    };
}

terminate_codes! {
    /// The RDMAP layer failed locally; no header of the peer's is to blame.
    RDMAP_LOCAL_CATASTROPHIC = (0, 0, 0x00), "local catastrophic error in RDMAP";
    /// A STag that names nothing.
    RDMAP_PROTECTION_INVALID_STAG = (0, 1, 0x00), "the steering tag is invalid";
    /// An access outside the region.
    RDMAP_PROTECTION_BASE_OR_BOUNDS = (0, 1, 0x01), "the access is outside the region's bounds";
    /// An access that the region does not allow.
    RDMAP_PROTECTION_ACCESS = (0, 1, 0x02), "the region does not allow this access";
    /// A STag of another protection domain or stream.
    RDMAP_PROTECTION_STAG_NOT_ASSOCIATED = (0, 1, 0x03), "the steering tag does not belong to this stream";
    /// Offset and length run over 2^64.
    RDMAP_PROTECTION_TO_WRAP = (0, 1, 0x04), "the tagged offset wraps around";
    /// A STag that may not be invalidated.
    RDMAP_PROTECTION_CANNOT_INVALIDATE = (0, 1, 0x09), "the steering tag cannot be invalidated";
    /// Any other breach of protection.
    RDMAP_PROTECTION_UNSPECIFIED = (0, 1, 0xff), "unspecified remote protection error";
    /// A version of RDMAP that is not spoken.
    RDMAP_OPERATION_VERSION = (0, 2, 0x05), "the RDMAP version is invalid";
    /// An opcode that is unknown, or not allowed here.
    RDMAP_OPERATION_UNEXPECTED_OPCODE = (0, 2, 0x06), "the RDMAP opcode is unexpected";
    /// An error after which the stream can't go on.
    RDMAP_OPERATION_CATASTROPHIC_STREAM = (0, 2, 0x07), "catastrophic error, localized to the RDMAP stream";
    /// An error that concerns more than the stream.
    RDMAP_OPERATION_CATASTROPHIC_GLOBAL = (0, 2, 0x08), "catastrophic error, global";
    /// An invalidation that failed.
    RDMAP_OPERATION_CANNOT_INVALIDATE = (0, 2, 0x09), "the steering tag cannot be invalidated by this operation";
    /// Any other illegal operation.
    RDMAP_OPERATION_UNSPECIFIED = (0, 2, 0xff), "unspecified remote operation error";
    /// The DDP layer failed locally.
    DDP_LOCAL_CATASTROPHIC = (1, 0, 0x00), "local catastrophic error in DDP";
    /// A tagged segment for a STag that names nothing.
    DDP_TAGGED_INVALID_STAG = (1, 1, 0x00), "tagged segment: the steering tag is invalid";
    /// A tagged segment that leaves its region.
    DDP_TAGGED_BASE_OR_BOUNDS = (1, 1, 0x01), "tagged segment: the payload is outside the region's bounds";
    /// A tagged segment for a STag of another protection domain or stream.
    DDP_TAGGED_STAG_NOT_ASSOCIATED = (1, 1, 0x02), "tagged segment: the steering tag does not belong to this stream";
    /// A tagged segment whose offset and length run over 2^64.
    DDP_TAGGED_TO_WRAP = (1, 1, 0x03), "tagged segment: the tagged offset wraps around";
    /// A tagged segment of a version of DDP that is not spoken.
    DDP_TAGGED_VERSION = (1, 1, 0x04), "tagged segment: the DDP version is invalid";
    /// An untagged segment for a queue that does not exist.
    DDP_UNTAGGED_INVALID_QN = (1, 2, 0x01), "untagged segment: the queue number is invalid";
    /// An untagged message for which there is no buffer.
    DDP_UNTAGGED_NO_BUFFER = (1, 2, 0x02), "untagged segment: no buffer is available for its message";
    /// An untagged message out of order.
    DDP_UNTAGGED_MSN_RANGE = (1, 2, 0x03), "untagged segment: the message sequence number is out of range";
    /// An untagged segment out of order.
    DDP_UNTAGGED_INVALID_MO = (1, 2, 0x04), "untagged segment: the message offset is invalid";
    /// An untagged message that does not fit its buffer.
    DDP_UNTAGGED_TOO_LONG = (1, 2, 0x05), "untagged segment: the message is too long for the available buffer";
    /// An untagged segment of a version of DDP that is not spoken.
    DDP_UNTAGGED_VERSION = (1, 2, 0x06), "untagged segment: the DDP version is invalid";
    /// The TCP connection went away.
    MPA_CLOSED = (2, 0, 0x01), "the TCP connection was closed, terminated or lost";
    /// The CRC of an FPDU is not that of its bytes.
    MPA_CRC = (2, 0, 0x02), "the CRC of an FPDU does not match its bytes";
    /// Markers or lengths do not agree on where FPDUs start; also said of a length with no room for a header.
    MPA_MARKER = (2, 0, 0x03), "marker and ULPDU length do not agree on the start of an FPDU";
    /// A start-up frame that is malformed.
    MPA_INVALID_FRAME = (2, 0, 0x04), "the MPA Request or Reply frame is invalid";
    /// The MPA layer failed locally (RFC 6581).
    MPA_LOCAL_CATASTROPHIC = (2, 0, 0x05), "local catastrophic error in MPA";
    /// The initiator can't serve as many Reads as the responder wants outstanding (RFC 6581).
    MPA_INSUFFICIENT_IRD = (2, 0, 0x06), "insufficient inbound RDMA Read resources";
    /// No ready-to-receive message suits both sides (RFC 6581).
    MPA_NO_MATCHING_RTR = (2, 0, 0x07), "no matching ready-to-receive option";
}

impl TerminateCode {
    /// Whether the RFCs define this error. Every code of a local RDMAP error counts.
    pub fn is_known(self) -> bool {
        self.known().is_some() || (self.layer, self.etype) == (0, 0)
    }

    /// Whether it says that memory was refused: the tagged offset, bounds, access or association of a STag, or the STag itself.
    pub fn is_protection(self) -> bool {
        matches!((self.layer, self.etype), (0 | 1, 1)) || self == Self::RDMAP_OPERATION_CANNOT_INVALIDATE
    }

    /// The error's name here, such as `DDP_TAGGED_INVALID_STAG`; `None` for one that the RFCs don't define.
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|(name, _)| name)
    }
}

impl fmt::Display for TerminateCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sentence = self.known().map_or("unknown error", |(_, sentence)| sentence);
        write!(f, "{sentence} (layer {}, type {}, code {:#04x})", self.layer, self.etype, self.code)
    }
}

impl fmt::Debug for TerminateCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "TerminateCode({}, {}, {:#04x})", self.layer, self.etype, self.code),
        }
    }
}

impl std::error::Error for TerminateCode {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_numbers_are_unique() {
        let codes: HashSet<_> = TerminateCode::ALL.iter().map(|code| (code.layer, code.etype, code.code)).collect();
        let names: HashSet<_> = TerminateCode::ALL.iter().map(|code| code.name().unwrap()).collect();
        assert_eq!(codes.len(), TerminateCode::ALL.len());
        assert_eq!(names.len(), TerminateCode::ALL.len());
    }

    #[test]
    fn what_refuses_memory_says_so() {
        let protection = TerminateCode::ALL.iter().filter(|code| code.is_protection()).filter_map(|code| code.name());
        let (stags, other): (Vec<_>, Vec<_>) =
            protection.partition(|name| name.starts_with("RDMAP_PROTECTION_") || name.starts_with("DDP_TAGGED_"));
        assert_eq!((stags.len(), other), (12, vec!["RDMAP_OPERATION_CANNOT_INVALIDATE"]));
    }

    #[test]
    fn reads_as_a_sentence() {
        assert_eq!(
            TerminateCode::DDP_UNTAGGED_NO_BUFFER.to_string(),
            "untagged segment: no buffer is available for its message (layer 1, type 2, code 0x02)"
        );
        let unknown = TerminateCode { layer: 3, etype: 9, code: 0x10 };
        assert_eq!(unknown.to_string(), "unknown error (layer 3, type 9, code 0x10)");
        assert!(!unknown.is_known());
        assert_eq!(format!("{:?} {unknown:?}", TerminateCode::MPA_CRC), "MPA_CRC TerminateCode(3, 9, 0x10)");
    }
}
