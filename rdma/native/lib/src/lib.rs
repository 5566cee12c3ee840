//! The one shared library: the C ABI of `weft-engine` and of `weft-storage`, nothing else.
pub use weft_engine::abi::*;
pub use weft_storage::abi::*;
