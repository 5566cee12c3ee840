//! The one shared library: the C ABI of `weft-engine` and of `weft-storage`, nothing else.
pub use weft_engine::abi::*;
#[cfg(feature = "faults")]
pub use weft_engine::faults::weft_inject;
pub use weft_storage::abi::*;
