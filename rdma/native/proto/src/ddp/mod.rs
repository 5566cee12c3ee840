//! DDP: the header that says where a segment's payload goes (RFC 5041 §4), together with the RDMAP control byte that it
//! carries.

pub(crate) mod segment;

pub use crate::rdmap::Opcode;
pub(crate) use segment::queue_index;
pub use segment::{Segment, Target, TAGGED_HEADER_LEN, UNTAGGED_HEADER_LEN};

/// The version of DDP and of RDMAP that goes with MPA revisions 1 and 2.
pub const VERSION: u8 = 1;
/// Queue number of Sends (RFC 5040 §4.2).
pub const QUEUE_SEND: u32 = 0;
/// Queue number of Read Requests and Atomic Requests.
pub const QUEUE_READ_REQUEST: u32 = 1;
/// Queue number of Terminates.
pub const QUEUE_TERMINATE: u32 = 2;
/// Queue number of Atomic Responses (RFC 7306 §4).
pub const QUEUE_ATOMIC_RESPONSE: u32 = 3;
/// How many untagged queues there are.
pub const QUEUE_COUNT: usize = 4;
