//! Replays the corpus of the fuzz targets (`rdma/native/fuzz`), and prefixes of its inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;

use support::properties;

/// Runs a target on its part of the corpus, and on every prefix of inputs of up to so many bytes.
fn replay(target: &str, property: fn(&[u8]), prefixes_below: usize) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut count = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        let input = std::fs::read(&path).unwrap();
        let shortest = if input.len() <= prefixes_below { 0 } else { input.len() };
        for end in shortest..=input.len() {
            let outcome = std::panic::catch_unwind(|| property(&input[..end]));
            assert!(outcome.is_ok(), "{target} fails on the first {end} bytes of {}", path.display());
        }
        count += 1;
    }
    assert!(count >= 10, "{}: {count} inputs", folder.display());
}

#[test]
fn mpa_frame() {
    replay("mpa_frame", properties::mpa_frame, 600);
}

#[test]
fn fpdu_stream() {
    replay("fpdu_stream", properties::fpdu_stream, 600);
}

#[test]
fn rdmap_messages() {
    replay("rdmap_messages", properties::rdmap_messages, 600);
}

#[test]
fn endpoint_pair() {
    // an input that is cut goes on with what chance says
    replay("endpoint_pair", properties::endpoint_pair, 0);
}
