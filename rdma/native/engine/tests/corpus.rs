//! Replays the corpus of the fuzz target `c_abi` (`rdma/native/fuzz`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/abi.rs"]
mod abi;

use std::path::PathBuf;

#[test]
fn c_abi() {
    // As in a process that is not Rust's: a device must not end it.
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/c_abi");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        let input = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| abi::c_abi(&input));
        assert!(outcome.is_ok(), "c_abi fails on {}", path.display());
        count += 1;
    }
    assert!(count >= 10, "{}: {count} inputs", folder.display());
}
