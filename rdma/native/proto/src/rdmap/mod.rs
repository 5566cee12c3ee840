//! RDMAP: what the messages mean (RFC 5040). The atomics and immediate data of RFC 7306 are not spoken: their opcodes
//! are refused as unexpected ones.

mod opcode;
mod read_request;
mod terminate;
mod terminate_code;

pub use opcode::Opcode;
pub use read_request::{ReadRequest, READ_REQUEST_LEN};
pub use terminate::{Terminate, TerminateError, TERMINATE_LEN_MAX, TERMINATE_LEN_MIN};
pub use terminate_code::TerminateCode;
