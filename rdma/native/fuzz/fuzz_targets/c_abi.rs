#![no_main]

#[path = "../../engine/tests/support/abi.rs"]
mod abi;

libfuzzer_sys::fuzz_target!(|input: &[u8]| abi::c_abi(input));
