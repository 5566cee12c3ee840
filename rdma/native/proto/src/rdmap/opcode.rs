//! The kinds of message (RFC 5040 §4.2, RFC 7306 §4).

use crate::ddp::{QUEUE_ATOMIC_RESPONSE, QUEUE_READ_REQUEST, QUEUE_SEND, QUEUE_TERMINATE};

/// What a message is; the number is its opcode on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// RDMA Write.
    Write = 0,
    /// RDMA Read Request.
    ReadRequest = 1,
    /// RDMA Read Response.
    ReadResponse = 2,
    /// Send.
    Send = 3,
    /// Send with Invalidate.
    SendInvalidate = 4,
    /// Send with Solicited Event.
    SendSolicited = 5,
    /// Send with Solicited Event and Invalidate.
    SendSolicitedInvalidate = 6,
    /// Terminate.
    Terminate = 7,
    /// Immediate Data (RFC 7306 §6).
    Immediate = 8,
    /// Immediate Data with Solicited Event.
    ImmediateSolicited = 9,
    /// Atomic Request (RFC 7306 §5).
    AtomicRequest = 10,
    /// Atomic Response.
    AtomicResponse = 11,
}

impl Opcode {
    /// Every opcode, in the order of their numbers.
    pub const ALL: [Opcode; 12] = [
        Opcode::Write,
        Opcode::ReadRequest,
        Opcode::ReadResponse,
        Opcode::Send,
        Opcode::SendInvalidate,
        Opcode::SendSolicited,
        Opcode::SendSolicitedInvalidate,
        Opcode::Terminate,
        Opcode::Immediate,
        Opcode::ImmediateSolicited,
        Opcode::AtomicRequest,
        Opcode::AtomicResponse,
    ];

    /// The opcode of that number; `None` where neither RFC has one.
    pub fn from_bits(bits: u8) -> Option<Opcode> {
        Self::ALL.get(usize::from(bits)).copied()
    }

    /// Whether its segments name a region rather than a queue.
    pub const fn is_tagged(self) -> bool {
        matches!(self, Opcode::Write | Opcode::ReadResponse)
    }

    /// Whether it consumes a posted receive.
    pub const fn is_send(self) -> bool {
        matches!(self, Opcode::Send | Opcode::SendInvalidate | Opcode::SendSolicited | Opcode::SendSolicitedInvalidate)
            || self.is_immediate()
    }

    /// Whether it brings eight bytes for the completion instead of a message.
    pub const fn is_immediate(self) -> bool {
        matches!(self, Opcode::Immediate | Opcode::ImmediateSolicited)
    }

    /// Whether it invalidates a steering tag of the receiver's.
    pub const fn invalidates(self) -> bool {
        matches!(self, Opcode::SendInvalidate | Opcode::SendSolicitedInvalidate)
    }

    /// Whether it asks for an event at the receiver.
    pub const fn is_solicited(self) -> bool {
        matches!(self, Opcode::SendSolicited | Opcode::SendSolicitedInvalidate | Opcode::ImmediateSolicited)
    }

    /// The queue of an untagged opcode; `None` for a tagged one.
    pub const fn queue(self) -> Option<u32> {
        match self {
            Opcode::Write | Opcode::ReadResponse => None,
            Opcode::ReadRequest | Opcode::AtomicRequest => Some(QUEUE_READ_REQUEST),
            Opcode::AtomicResponse => Some(QUEUE_ATOMIC_RESPONSE),
            Opcode::Terminate => Some(QUEUE_TERMINATE),
            _ => Some(QUEUE_SEND),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for bits in 0..=u8::MAX {
            assert_eq!(Opcode::from_bits(bits).map(|opcode| opcode as u8), (bits < 12).then_some(bits));
        }
    }

    #[test]
    fn tagged_opcodes_have_no_queue() {
        for opcode in Opcode::ALL {
            assert_eq!(opcode.is_tagged(), opcode.queue().is_none());
            assert_eq!(opcode.is_send(), opcode.queue() == Some(QUEUE_SEND));
        }
    }
}
