//! Two ends of a connection, each a receiver and a sender, joined by a pair of sockets whose buffers are small: random work, random turns, and a model of the
//! memory that says what must come of it. `PROPTEST_CASES` sets how many runs there are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use proptest::prelude::*;
use support::{pair, Completion, End, Setting, SOURCE_BYTES, TARGET_BYTES};
use weft_engine::memory::LARGE;
use weft_engine::ring::EntryKind;
use weft_engine::rx::{ReceiveEnd, SEGMENT_SHORT};
use weft_engine::status::Status;
use weft_engine::tx::{SendEnd, ULPDU_MAX};
use weft_engine::work::Operation;
use weft_proto::{AtomicOperation, AtomicRequest, Opcode, Receiver, Segment, Target, Terminate, TerminateCode};

/// One request, in terms of the model: offsets in the memory of either side.
#[derive(Clone, Debug)]
enum Request {
    Write { local: Vec<(usize, usize)>, to: usize },
    Send { local: Vec<(usize, usize)>, cuts: Vec<usize>, invalidate: bool, solicited: bool },
    Read { from: usize, to: usize, length: usize },
    Immediate(u64),
}

fn pieces() -> impl Strategy<Value = Vec<(usize, usize)>> {
    let length = prop_oneof![4 => 0..40usize, 4 => 200..300usize, 1 => 1000..5000usize, 1 => Just(LARGE as usize + 11)];
    prop_oneof![
        6 => proptest::collection::vec((0..SOURCE_BYTES / 2, length), 0..4),
        1 => proptest::collection::vec((0..SOURCE_BYTES / 2, 1..300usize), 60..140),
    ]
}

fn requests() -> impl Strategy<Value = Vec<Request>> {
    let request = prop_oneof![
        (pieces(), 0..TARGET_BYTES / 2).prop_map(|(local, to)| Request::Write { local, to }),
        (pieces(), proptest::collection::vec(0..4000usize, 0..6), any::<bool>(), any::<bool>())
            .prop_map(|(local, cuts, invalidate, solicited)| Request::Send { local, cuts, invalidate, solicited }),
        (0..SOURCE_BYTES / 2, 0..TARGET_BYTES / 2, prop_oneof![0..300usize, 300..30_000usize])
            .prop_map(|(from, to, length)| Request::Read { from, to, length }),
        any::<u64>().prop_map(Request::Immediate),
    ];
    proptest::collection::vec(request, 1..40)
}

fn settings() -> impl Strategy<Value = Setting> {
    // requests are one segment each (RFC 5044 §4.5: a MULPDU has at least 128 bytes)
    let mulpdu = prop_oneof![128..1500usize, Just(1442), Just(16_378), Just(ULPDU_MAX)];
    (any::<bool>(), mulpdu, 1..5usize, any::<bool>()).prop_map(|(crc, mulpdu, depth, bulk)| Setting {
        crc,
        mulpdu,
        depth,
        bulk,
    })
}

/// Posts the requests at `client`, what they need at `server`, and plays them on the model. Returns what must complete where.
fn post(client: &mut End, server: &mut End, requests: &[Request]) -> (Vec<Completion>, Vec<Completion>) {
    let (mut sent, mut received) = (Vec::new(), Vec::new());
    for request in requests {
        let ok = |kind, bytes| Completion { kind, status: Status::Ok as i32, bytes, detail: 0, aux: 0 };
        match request {
            Request::Write { local, to } => {
                let gathered = client.gather(local);
                server.model[*to..*to + gathered.len()].copy_from_slice(&gathered);
                let operation = Operation::Write { stag: server.target.stag, to: server.target.base + *to as u64 };
                client.post(operation, local);
                sent.push(ok(EntryKind::Send, gathered.len() as u32));
            }
            Request::Send { local, cuts, invalidate, solicited } => {
                let gathered = client.gather(local);
                let stag = if *invalidate { server.window() } else { 0 };
                server.receive(&gathered, cuts);
                let invalidate = invalidate.then_some(stag);
                client.post(Operation::Send { invalidate, solicited: *solicited }, local);
                sent.push(ok(EntryKind::Send, gathered.len() as u32));
                received.push(Completion { detail: stag, ..ok(EntryKind::Receive, gathered.len() as u32) });
            }
            Request::Read { from, to, length } => {
                let bytes = server.source_bytes[*from..*from + *length].to_vec();
                client.sink_model[*to..*to + *length].copy_from_slice(&bytes);
                let operation = Operation::Read { stag: server.source.stag, to: server.source.base + *from as u64 };
                client.post_read(operation, *to, *length);
                sent.push(ok(EntryKind::Send, *length as u32));
            }
            Request::Immediate(data) => {
                server.receive(&[], &[]);
                client.post(Operation::Immediate { data: *data, solicited: false }, &[]);
                sent.push(ok(EntryKind::Send, 0));
                received.push(Completion { aux: *data, ..ok(EntryKind::Immediate, 0) });
            }
        }
    }
    (sent, received)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is posted at both ends arrives whole, in order and nowhere else.
    #[test]
    fn all_work_is_done(
        setting in settings(),
        ours in requests(),
        theirs in requests(),
        turns in proptest::collection::vec(0..4u8, 1..64),
    ) {
        let (mut a, mut b) = pair(&setting);
        let (a_sent, b_received) = post(&mut a, &mut b, &ours);
        let (b_sent, a_received) = post(&mut b, &mut a, &theirs);
        let mut turn = turns.iter().cycle();
        for steps in 0.. {
            prop_assert!(steps < 2_000_000, "no end in sight");
            match turn.next().unwrap() {
                0 => drop(a.send().unwrap()),
                1 => prop_assert!(matches!(a.receive_bytes(), ReceiveEnd::Drained | ReceiveEnd::Turn)),
                2 => drop(b.send().unwrap()),
                _ => prop_assert!(matches!(b.receive_bytes(), ReceiveEnd::Drained | ReceiveEnd::Turn)),
            }
            if steps % 64 == 0 {
                // whoever's turn never comes in the list
                for end in [&mut a, &mut b] {
                    end.send().unwrap();
                    prop_assert!(matches!(end.receive_bytes(), ReceiveEnd::Drained | ReceiveEnd::Turn));
                }
                let all_received = |from: &End, to: &End| from.counters.fpdus_sent.get() == to.counters.fpdus_received.get();
                if a.tx.is_drained() && b.tx.is_drained() && all_received(&a, &b) && all_received(&b, &a) {
                    break;
                }
            }
        }
        for (end, sent, received) in [(&mut a, a_sent, a_received), (&mut b, b_sent, b_received)] {
            let completions = end.completions();
            let of = |is_send: bool| -> Vec<Completion> {
                completions.iter().filter(|c| (c.kind == EntryKind::Send) == is_send).cloned().collect()
            };
            prop_assert_eq!(of(true), sent);
            prop_assert_eq!(of(false), received);
            prop_assert!(end.memory_is_as_the_model(), "memory differs from the model");
            // short segments are read in bulk once there was one
            if !setting.bulk && setting.mulpdu > SEGMENT_SHORT {
                prop_assert_eq!(end.counters.bytes_staged.get(), 0, "a byte was staged in exact mode");
            }
        }
    }

    /// Wherever sending is cut short by a Terminate, the stream goes on to the end of the FPDU under way; what follows is the Terminate, and nothing else.
    #[test]
    fn a_terminate_follows_a_whole_fpdu(
        setting in settings(),
        requests in requests(),
        reads in proptest::collection::vec(1..20_000usize, 0..40),
        blame in any::<bool>(),
    ) {
        let (mut a, mut b) = pair(&setting);
        let (expected, _) = post(&mut a, &mut b, &requests);
        let mut wire = Vec::new();
        for read in reads {
            a.send().unwrap();
            wire.extend(b.read(read));
        }
        let header = [0, 18, 0x41, 0x43, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        let code = TerminateCode::DDP_UNTAGGED_NO_BUFFER;
        let terminate = Terminate::for_error(code, blame.then_some(&header[..]), None);
        prop_assert!(a.tx.terminate(&terminate.emit()));
        while a.send().unwrap() != SendEnd::Done || !a.tx.terminate_sent {
            wire.extend(b.read(10_000));
        }
        wire.extend(b.read(usize::MAX));

        let mut receiver = Receiver::new();
        let mut fpdus: Vec<(Segment, Vec<u8>)> = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let header = &rest[..Receiver::header_len(rest)];
            let segment = receiver.handle_header(header).expect("a good header");
            receiver.complete(&segment);
            let fpdu = &rest[..segment.fpdu_len()];
            let (covered, crc) = fpdu.split_at(fpdu.len() - 4);
            let sum = if setting.crc { weft_proto::crc32c::to_wire(weft_proto::checksum(covered)) } else { [0; 4] };
            prop_assert_eq!(crc, sum);
            fpdus.push((segment, covered[header.len()..header.len() + segment.payload_len].to_vec()));
            rest = &rest[segment.fpdu_len()..];
        }
        let (last, before) = fpdus.split_last().unwrap();
        prop_assert_eq!(last.0.opcode, Opcode::Terminate);
        prop_assert_eq!(&last.1, &terminate.emit());
        prop_assert!(before.iter().all(|(segment, _)| segment.opcode != Opcode::Terminate));
        // Writes and Sends that left whole are done; of the others no byte beyond whole FPDUs left
        let bytes = |fpdus: &[(Segment, Vec<u8>)], tagged: bool| -> usize {
            fpdus.iter().filter(|(s, _)| matches!(s.target, Target::Tagged { .. }) == tagged).map(|(_, p)| p.len()).sum()
        };
        let in_full: usize = requests.iter().map(|r| if let Request::Write { local, .. } = r { a.gather(local).len() } else { 0 }).sum();
        prop_assert!(bytes(before, true) <= in_full);

        a.tx.flush(&a.ring, 0);
        let completions = a.completions();
        prop_assert_eq!(completions.len(), expected.len());
        let first_flushed = completions.iter().position(|c| c.status == Status::Flushed as i32).unwrap_or(expected.len());
        prop_assert_eq!(&completions[..first_flushed], &expected[..first_flushed]);
        prop_assert!(completions[first_flushed..].iter().all(|c| c.status == Status::Flushed as i32 || c.status == Status::Ok as i32));
    }
}

/// How the work of either kind ended that one end had, one request of each.
fn blamed(end: &mut End) -> [Vec<i32>; 2] {
    end.tx.flush(&end.ring, 0);
    end.rx.flush(&end.ring, 0);
    let completions = end.completions();
    [EntryKind::Send, EntryKind::Receive]
        .map(|kind| completions.iter().filter(|c| c.kind == kind).map(|c| c.status).collect())
}

const PLAIN: Setting = Setting { crc: false, mulpdu: 1442, depth: 1, bulk: false };

#[test]
fn an_atomic_operation_whose_sink_is_gone_is_to_blame_and_no_receive() {
    let (mut a, mut b) = pair(&PLAIN);
    let (stag, to) = (b.target.stag, b.target.base);
    let operation = AtomicOperation::FetchAdd;
    let request = AtomicRequest { operation, request_id: 0, stag, to, data: 1, mask: 0, compare: 0, compare_mask: 0 };
    a.receive(&[], &[]);
    a.post_read(Operation::Atomic(request), 0, 8);
    a.send().unwrap();
    assert!(matches!(b.receive_bytes(), ReceiveEnd::Drained));
    b.send().unwrap();
    a.lose_sink();
    assert!(matches!(a.receive_bytes(), ReceiveEnd::Local));
    assert_eq!(blamed(&mut a), [[Status::LocalProtection as i32], [Status::Flushed as i32]]);
}

#[test]
fn a_peer_s_write_to_memory_that_is_not_there_is_no_fault_of_a_receive() {
    let (mut a, mut b) = pair(&PLAIN);
    b.receive(&[], &[]);
    b.lock_target();
    a.post(Operation::Write { stag: b.target.stag, to: b.target.base }, &[(0, 1000)]);
    a.send().unwrap();
    assert!(matches!(b.receive_bytes(), ReceiveEnd::Local));
    assert_eq!(blamed(&mut b), [vec![], vec![Status::Flushed as i32]]);
}
