//! RDMAP: what the messages mean (RFC 5040), atomics and immediate data among them (RFC 7306).

mod atomic;
mod opcode;
mod read_request;
mod terminate;
mod terminate_code;

pub use atomic::{
    AtomicOperation, AtomicRequest, AtomicResponse, ATOMIC_OPERAND_LEN, ATOMIC_REQUEST_LEN, ATOMIC_RESPONSE_LEN,
};
pub use opcode::Opcode;
pub use read_request::{ReadRequest, READ_REQUEST_LEN};
pub use terminate::{Terminate, TerminateError, TERMINATE_LEN_MAX, TERMINATE_LEN_MIN};
pub use terminate_code::TerminateCode;

/// Bytes that an Immediate Data message carries (RFC 7306 §6).
pub const IMMEDIATE_LEN: usize = 8;
