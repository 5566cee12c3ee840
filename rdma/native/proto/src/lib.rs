//! The wire of software iWARP as pure state: MPA (RFC 5044, RFC 6581), DDP (RFC 5041) and RDMAP (RFC 5040).
//!
//! Bytes go in, decisions come out. Nothing here does I/O, reads a clock, or knows an address: the engine asks a
//! [`Receiver`] what a header means and where its payload belongs, looks the memory up itself, and tells the receiver
//! when the payload has arrived.
//!
//! | module | layer |
//! | --- | --- |
//! | [`mpa`] | start-up frames and their negotiation, the FPDU around a segment |
//! | [`ddp`] | the header of one segment: where its payload goes |
//! | [`rdmap`] | opcodes, the Read Request, the Terminate message and its error codes |
//! | [`rx`] | what the receiving side of a stream must remember between segments |
//! | [`tx`] | headers and trailers of segments on their way out |
//! | [`crc32c`] | the checksum of MPA |
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod crc32c;
pub mod ddp;
pub mod mpa;
pub mod rdmap;
pub mod rx;
pub mod tx;

pub use crc32c::{checksum, Crc32c};
pub use ddp::{Segment, Target, TAGGED_HEADER_LEN, UNTAGGED_HEADER_LEN};
pub use mpa::frame::{private_data_len, Enhanced, Frame, FrameKind, MpaError, FRAME_HEADER_LEN, PRIVATE_DATA_MAX};
pub use mpa::startup::{Established, Initiator, Responder, Role, Rtr, StartupError, StartupOptions};
pub use mpa::{CRC_LEN, MULPDU_MAX, TRAILER_LEN_MAX};
pub use rdmap::{
    AtomicOperation, AtomicRequest, AtomicResponse, Opcode, ReadRequest, Terminate, TerminateCode, ATOMIC_OPERAND_LEN,
    ATOMIC_REQUEST_LEN, ATOMIC_RESPONSE_LEN, IMMEDIATE_LEN, READ_REQUEST_LEN,
};
pub use rx::Receiver;
pub use tx::Transmitter;
