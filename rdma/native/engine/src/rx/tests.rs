use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use super::*;
use crate::memory::Grant;

/// What another connection may have to wait for in front of its turn.
const FPDUS_MAX: u64 = (TURN_BYTES / FPDU_BYTES) as u64;
const MESSAGES: u64 = 3 * FPDUS_MAX;

#[test]
fn a_turn_ends_after_many_short_messages_whatever_their_bytes() {
    let memory = MemoryTable::default();
    let grant = Grant { access: REMOTE_WRITE, connection: 0 };
    let region = memory.allocate(1, LARGE, grant).unwrap();
    for (domain, payload) in [(1, &b""[..]), (1, b"x"), (2, b"")] {
        let counters = Counters::default();
        let ring = Ring::new(16);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (stag, to) = if payload.is_empty() { (0, 0) } else { (region.stag, region.base) };
        let header = weft_proto::tx::tagged_header(Opcode::Write, true, stag, to, payload.len());
        let (trailer, trailer_len) = weft_proto::tx::trailer(header.len() - 2 + payload.len(), None);
        let fpdu = [&header[..], payload, &trailer[..trailer_len]].concat();
        theirs.write_all(&fpdu.repeat(MESSAGES as usize)).unwrap();
        let (mut rx, mut tx) = (Rx::new(Through { pd: 1, connection: 1 }, memory.large_writable(domain)), Tx::new());
        let mut turns = Vec::new();
        loop {
            let before = counters.fpdus_received.get();
            let end = rx.drive(&mut Context {
                fd: ours.as_raw_fd(),
                ending: false,
                memory: &memory,
                counters: &counters,
                ring: &ring,
                tag: 1,
                tx: &mut tx,
            });
            turns.push(counters.fpdus_received.get() - before);
            match end {
                ReceiveEnd::Turn => {}
                ReceiveEnd::Drained => break,
                end => panic!("{end:?}"),
            }
        }
        assert_eq!(turns.iter().sum::<u64>(), MESSAGES, "none is left behind");
        assert!(turns.iter().all(|n| *n <= FPDUS_MAX), "{turns:?} in a turn");
    }
}
