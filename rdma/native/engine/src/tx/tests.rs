use super::*;
use crate::memory::Grant;
use crate::work::Sges;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Answers one Read of a region while the socket is full, changes the region, and returns what leaves then, behind the filling.
fn response_of_changing_memory(length: u32, access: u32, markers: bool) -> (Vec<u8>, u64) {
    let memory = MemoryTable::default();
    let counters = Counters::default();
    let region = memory.allocate(1, u64::from(length), Grant { access, connection: 0 }).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut filling = 0;
    while let Ok(n) = std::io::Write::write(&mut &ours, &[0; 4096]) {
        filling += n;
    }
    let mut tx = Tx { crc: true, open: true, ird: 1, mulpdu: (1 << 15) + TAGGED_HEADER_LEN, markers, ..Tx::new() };
    let request = ReadRequest { sink_stag: 1, sink_to: 0, length, source_stag: region.stag, source_to: region.base };
    tx.respond(Inbound::Read { request, msn: 1 });
    assert_eq!(tx.drive(ours.as_raw_fd(), &memory, &counters), Ok(SendEnd::Blocked));
    // SAFETY: the region is `length` bytes long, and nobody else uses it.
    unsafe { std::ptr::write_bytes(region.address as *mut u8, 0xee, length as usize) };
    let mut left = Vec::new();
    loop {
        let end = tx.drive(ours.as_raw_fd(), &memory, &counters).unwrap();
        let mut buffer = [0; 1 << 16];
        while let Ok(n) = theirs.read(&mut buffer) {
            left.extend_from_slice(&buffer[..n]);
        }
        if end == SendEnd::Done {
            return (left.split_off(filling), counters.bytes_sent.get());
        }
    }
}

/// A socket that takes nothing any more, and its other end.
fn full_socket() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    while std::io::Write::write(&mut &ours, &[0; 4096]).is_ok() {}
    (ours, theirs)
}

fn work(operation: Operation, list: &[Sge]) -> SendWork {
    let mut sges = Sges::default();
    list.iter().for_each(|sge| sges.push(*sge));
    SendWork::new(0, false, operation, sges)
}

#[test]
fn work_on_steering_tags_waits_for_work_in_front_of_it_and_not_for_answers_to_the_peer() {
    let memory = MemoryTable::default();
    let counters = Counters::default();
    let grant = Grant { access: REMOTE_READ, connection: 0 };
    let [read, window] = [0; 2].map(|_| memory.allocate(1, 8 << 20, grant).unwrap());
    let (ours, _theirs) = full_socket();
    let ring = Ring::new(16);
    let mut tx = Tx { open: true, ird: 1, mulpdu: ULPDU_MAX, ..Tx::new() };
    let request =
        ReadRequest { sink_stag: 1, sink_to: 0, length: 8 << 20, source_stag: read.stag, source_to: read.base };
    tx.respond(Inbound::Read { request, msn: 1 });
    assert_eq!(tx.drive(ours.as_raw_fd(), &memory, &counters), Ok(SendEnd::Blocked));
    // the answer is half built, and nothing of it has left
    tx.post(work(Operation::Invalidate { stag: window.stag, may_be_gone: false }, &[]));
    assert!(tx.is_change_due());
    assert_eq!(tx.drive(ours.as_raw_fd(), &memory, &counters), Ok(SendEnd::Blocked));
    tx.retire(&ring, 1);
    assert_eq!((tx.posted(), memory.pin(window.stag).is_none()), (0, true));

    let mut tx = Tx { open: true, mulpdu: ULPDU_MAX, ..Tx::new() };
    let sge = Sge { stag: read.stag, length: 4096, address: read.address };
    tx.post(work(Operation::Write { stag: 1, to: 0 }, &[sge]));
    tx.post(work(Operation::Invalidate { stag: read.stag, may_be_gone: false }, &[]));
    assert_eq!(tx.drive(ours.as_raw_fd(), &memory, &counters), Ok(SendEnd::Blocked));
    tx.retire(&ring, 1);
    assert_eq!((tx.posted(), tx.is_change_due(), memory.pin(read.stag).is_some()), (2, false, true));
}

/// What is still to leave, up to there.
fn leaving(tx: &Tx, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in &tx.chunks {
        let Chunk::Arena { start, length } = chunk else { panic!("everything is short") };
        let at = (*start % ARENA_BYTES as u64) as usize;
        bytes.extend_from_slice(&tx.arena[at..at + *length as usize]);
    }
    bytes.truncate((end - tx.sent) as usize);
    bytes
}

#[test]
fn a_terminate_does_not_touch_the_fpdu_in_front_of_it_however_full_the_arena_is() {
    let memory = MemoryTable::default();
    let counters = Counters::default();
    let source = memory.allocate(1, 256, Grant::default()).unwrap();
    let mut state = 1u32;
    let mut dice = |sides: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % sides
    };
    let mut tried = 0;
    for _ in 0..2000 {
        let mut tx = Tx { open: true, mulpdu: ULPDU_MAX, ..Tx::new() };
        let mut fill = |tx: &mut Tx| {
            for _ in 0..150 {
                let sge = Sge { stag: source.stag, length: 200 + dice(57), address: source.address };
                tx.post(work(Operation::Write { stag: 1, to: 0 }, &[sge]));
            }
            tx.build(&memory, &counters).unwrap();
        };
        fill(&mut tx);
        // what has left then makes room for one more, which does not fit in at the arena's end: that is as full as it can be
        tx.advance(310, &counters);
        fill(&mut tx);
        let Some(&end) = tx.fpdu_ends.front() else { continue };
        if tx.fpdu_begins_at_sent() {
            continue;
        }
        tried += 1;
        let before = leaving(&tx, end);
        assert!(tx.terminate(&[0x77; 52]));
        assert_eq!(leaving(&tx, end), before);
        let all = leaving(&tx, tx.built);
        assert_eq!((all.len() as u64, &all[all.len() - 56..all.len() - 4]), (tx.built - tx.sent, &[0x77; 52][..]));
    }
    assert!(tried > 1000);
}

fn crc_holds(fpdu: &[u8]) -> bool {
    let (summed, field) = fpdu.split_at(fpdu.len() - 4);
    let mut crc = Crc32c::new();
    crc.update(summed);
    weft_proto::crc32c::to_wire(crc.finish()) == field
}

#[test]
fn a_response_that_is_short_or_of_volatile_memory_has_the_crc_of_what_it_carries_whatever_becomes_of_its_source() {
    let short = [257, 4096, LARGE as u32 - 1].map(|length| (length, REMOTE_READ));
    let volatile = [4096, LARGE as u32, 1 << 15].map(|length| (length, REMOTE_READ | VOLATILE));
    for (length, access) in short.into_iter().chain(volatile) {
        let (fpdu, sent) = response_of_changing_memory(length, access, false);
        assert!(crc_holds(&fpdu), "{length} bytes");
        assert_eq!(fpdu[TAGGED_HEADER_LEN], 0, "the contents are those of the time of the CRC");
        assert_eq!(sent, 0, "nothing left from the region itself");
    }
    let (with_markers, _) = response_of_changing_memory(4096, REMOTE_READ, true);
    assert!(!with_markers.contains(&0xee));
}

#[test]
fn a_long_response_leaves_from_where_it_lies() {
    let (fpdu, sent) = response_of_changing_memory(LARGE as u32, REMOTE_READ, false);
    assert_eq!((fpdu[TAGGED_HEADER_LEN], sent), (0xee, LARGE));
}

#[test]
fn a_response_that_was_built_and_lost_its_source_is_refused_with_its_request() {
    let memory = MemoryTable::default();
    let counters = Counters::default();
    let grant = Grant { access: REMOTE_READ, connection: 0 };
    let [kept, taken] = [0; 2].map(|_| memory.allocate(1, 1 << 16, grant).unwrap());
    let (ours, mut theirs) = full_socket();
    let mut tx = Tx { open: true, ird: 3, mulpdu: ULPDU_MAX, ..Tx::new() };
    let request =
        |stag, source_to| ReadRequest { sink_stag: 1, sink_to: 0, length: 1 << 15, source_stag: stag, source_to };
    let requests = [&kept, &taken, &kept].map(|region| request(region.stag, region.base));
    for (msn, request) in (7..).zip(requests) {
        tx.respond(Inbound::Read { request, msn });
    }
    assert_eq!(tx.drive(ours.as_raw_fd(), &memory, &counters), Ok(SendEnd::Blocked));
    assert!(!tx.owes_answer() && !tx.may_respond());
    assert!(memory.invalidate_local(taken.stag));
    let code = loop {
        let mut buffer = [0; 1 << 16];
        while theirs.read(&mut buffer).is_ok() {}
        match tx.drive(ours.as_raw_fd(), &memory, &counters) {
            Ok(_) => {}
            Err(SendError::Remote(code)) => break code,
            Err(error) => panic!("{error:?}"),
        }
    };
    // the first has left, and no longer counts
    assert!(tx.may_respond());
    let refusal = tx.refusal(code);
    assert_eq!((refusal.terminate_code(), refusal.opcode()), (code, Some(Opcode::ReadRequest)));
    assert_eq!(refusal.rdmap_header, Some(requests[1].emit()));
    assert_eq!(refusal.ddp_header.map(|header| header[10..14].to_vec()), Some(vec![0, 0, 0, 8]));
}
