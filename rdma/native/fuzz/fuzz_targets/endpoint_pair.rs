#![no_main]

#[path = "../../proto/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(|input: &[u8]| support::properties::endpoint_pair(input));
