//! Work requests and what they name: scatter/gather lists, operations, outstanding Reads.
pub(crate) mod decode;

use weft_proto::{AtomicRequest, AtomicResponse, ReadRequest};

/// One stretch of local memory in a work request. `stag` 0 (streams only): memory that JavaScript keeps in place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sge {
    /// STag of the region.
    pub stag: u32,
    /// Bytes.
    pub length: u32,
    /// Address in this process.
    pub address: u64,
}

/// What of a scatter/gather list is not its first element.
#[derive(Clone, Debug)]
enum Rest {
    Elements(Vec<Sge>),
    /// The payload instead of any elements: it was copied when it was posted.
    Inline(Box<[u8]>),
}

impl Default for Rest {
    fn default() -> Self {
        Self::Elements(Vec::new())
    }
}

/// A scatter/gather list; the usual one of a single element takes no allocation.
#[derive(Clone, Debug, Default)]
pub struct Sges {
    first: Sge,
    rest: Rest,
    count: usize,
    /// Bytes in all.
    pub total: u64,
}

impl Sges {
    /// Appends an element.
    pub fn push(&mut self, sge: Sge) {
        if self.count == 0 {
            self.first = sge;
        } else {
            match &mut self.rest {
                Rest::Elements(rest) => rest.push(sge),
                Rest::Inline(_) => return,
            }
        }
        self.count += 1;
        self.total += u64::from(sge.length);
    }

    /// The bytes themselves instead of elements.
    pub fn inline(payload: Box<[u8]>) -> Self {
        Self { total: payload.len() as u64, rest: Rest::Inline(payload), ..Self::default() }
    }

    /// The bytes, where they are here.
    pub fn payload(&self) -> Option<&[u8]> {
        match &self.rest {
            Rest::Elements(_) => None,
            Rest::Inline(payload) => Some(payload),
        }
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = &Sge> {
        let rest = match &self.rest {
            Rest::Elements(rest) => rest.as_slice(),
            Rest::Inline(_) => &[],
        };
        std::slice::from_ref(&self.first).get(..self.count.min(1)).unwrap_or(&[]).iter().chain(rest)
    }

    /// The pieces that bytes `offset .. offset + length` of the list lie in.
    pub fn pieces(&self, offset: u64, length: u64) -> impl Iterator<Item = Sge> + '_ {
        let mut start = 0u64;
        let end = offset + length;
        self.iter().filter_map(move |sge| {
            let (from, to) = (start.max(offset), (start + u64::from(sge.length)).min(end));
            let piece = (from < to).then(|| Sge {
                stag: sge.stag,
                length: (to - from) as u32,
                address: sge.address + (from - start),
            });
            start += u64::from(sge.length);
            piece
        })
    }
}

/// What a send work request does.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Send, with the STag to invalidate at the peer, and whether the peer asked to be told of it.
    Send {
        /// STag of the peer's to invalidate.
        invalidate: Option<u32>,
        /// With Solicited Event.
        solicited: bool,
    },
    /// RDMA Write to the peer's STag at this tagged offset.
    Write {
        /// STag.
        stag: u32,
        /// Tagged offset.
        to: u64,
    },
    /// RDMA Read from the peer's STag at this tagged offset.
    Read {
        /// STag.
        stag: u32,
        /// Tagged offset.
        to: u64,
    },
    /// An atomic operation on eight bytes of the peer's; the request's number is filled in when it is sent.
    Atomic(AtomicRequest),
    /// Immediate Data: eight bytes for the peer's completion.
    Immediate {
        /// The data.
        data: u64,
        /// With Solicited Event.
        solicited: bool,
    },
    /// Makes the STag valid that was made for a window or a region, and takes back the one that it replaces.
    Activate {
        /// STag.
        stag: u32,
        /// The STag that it replaces, or 0.
        old: u32,
    },
    /// Makes a STag of our own invalid.
    Invalidate {
        /// STag.
        stag: u32,
        /// It is no error where there is no such STag any more: its owner has revoked it meanwhile.
        may_be_gone: bool,
    },
    /// Plain bytes.
    Stream,
}

impl Operation {
    /// Whether it awaits a response, of which ORD limits the number.
    pub fn awaits_response(&self) -> bool {
        matches!(self, Operation::Read { .. } | Operation::Atomic(_))
    }
}

/// Waits until fewer Reads and atomic operations are outstanding than ORD.
pub(crate) const WAIT_DEPTH: u8 = 1;
/// Waits until no Read or atomic operation is outstanding.
pub(crate) const WAIT_READS: u8 = 2;
/// Waits until what was built of work before it has left.
pub(crate) const WAIT_SENT: u8 = 4;

/// A posted work request of the send queue.
pub struct SendWork {
    /// JavaScript's number for it.
    pub slot: u32,
    /// Whether success is reported.
    pub signalled: bool,
    /// What to do.
    pub operation: Operation,
    /// With what memory.
    pub sges: Sges,
    /// What it waits for before it begins: `WAIT_` flags.
    pub(crate) waits: u8,
    /// Its sink's STag becomes invalid when it is done.
    pub(crate) invalidate_sink: bool,
    /// Whether it is the application's, and counts.
    pub(crate) counted: bool,
    /// Finished, and not yet reported.
    pub(crate) done: bool,
    /// The value before an atomic operation.
    pub(crate) result: u64,
}

impl SendWork {
    /// A request to be queued.
    pub fn new(slot: u32, signalled: bool, operation: Operation, sges: Sges) -> Self {
        let waits = match operation {
            Operation::Read { .. } | Operation::Atomic(_) => WAIT_DEPTH,
            Operation::Activate { .. } | Operation::Invalidate { .. } => WAIT_READS | WAIT_SENT,
            _ => 0,
        };
        Self { slot, signalled, operation, sges, waits, invalidate_sink: false, counted: true, done: false, result: 0 }
    }

    /// The same, as part of the start-up, which no application asked for.
    pub fn of_startup(mut self) -> Self {
        self.counted = false;
        self
    }

    /// The same behind a fence (RFC 5040 §5.5 has Reads overtaken by what follows): it waits for the Reads and atomic operations in front of it.
    pub fn fenced(mut self, fence: bool) -> Self {
        if fence {
            self.waits |= WAIT_READS;
        }
        self
    }

    /// The same with the sink's STag invalid when it is done.
    pub fn invalidating(mut self, invalidate: bool) -> Self {
        self.invalidate_sink = invalidate;
        self
    }
}

/// What is owed to the peer, in the order in which it asked.
#[derive(Clone, Copy, Debug)]
pub enum Inbound {
    /// An RDMA Read to be answered, and the number of the message that asked for it.
    Read {
        /// What is asked for.
        request: ReadRequest,
        /// Of the request's message, in its queue.
        msn: u32,
    },
    /// The outcome of an atomic operation, which is done.
    Atomic(AtomicResponse),
}

/// An RDMA Read or atomic operation of ours that is under way.
pub struct OutboundRead {
    /// Number of its work request.
    pub(crate) work: u64,
    /// The sink, as it stands in the request.
    pub sink: Sge,
    /// Bytes received of it.
    pub placed: u64,
    /// The number of an atomic request.
    pub(crate) atomic: Option<u32>,
}

/// A posted receive.
pub struct ReceiveWork {
    /// JavaScript's number for it.
    pub slot: u32,
    /// Where to.
    pub sges: Sges,
    /// Bytes that have come.
    pub(crate) filled: u64,
}

impl ReceiveWork {
    /// A receive to be queued.
    pub fn new(slot: u32, sges: Sges) -> Self {
        Self { slot, sges, filled: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The pieces of a stretch are its bytes, one by one, in order, in as few pieces as there are elements.
        #[test]
        fn pieces_are_the_bytes_of_the_list(
            lengths in proptest::collection::vec(0..20u32, 0..12),
            from in 0..100u64,
            length in 0..100u64,
        ) {
            let mut sges = Sges::default();
            let mut bytes = Vec::new();
            for (i, length) in lengths.iter().enumerate() {
                let (stag, address) = (i as u32 + 1, 1000 * i as u64);
                sges.push(Sge { stag, length: *length, address });
                bytes.extend((0..u64::from(*length)).map(|at| (stag, address + at)));
            }
            prop_assert_eq!(sges.total, bytes.len() as u64);
            prop_assert_eq!(sges.iter().count(), lengths.len());
            let expected: Vec<_> = bytes.iter().skip(from as usize).take(length as usize).copied().collect();
            let pieces: Vec<_> = sges.pieces(from, length).collect();
            let got: Vec<_> =
                pieces.iter().flat_map(|p| (0..u64::from(p.length)).map(move |at| (p.stag, p.address + at))).collect();
            prop_assert_eq!(got, expected);
            prop_assert!(pieces.iter().all(|piece| piece.length > 0));
            prop_assert!(pieces.windows(2).all(|pair| pair[0].stag < pair[1].stag));
        }
    }
}
