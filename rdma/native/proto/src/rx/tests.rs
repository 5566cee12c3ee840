use super::*;
use crate::ddp::{QUEUE_READ_REQUEST, QUEUE_SEND, QUEUE_TERMINATE, UNTAGGED_HEADER_LEN};
use crate::tx::{self, Transmitter};
use proptest::prelude::*;

type Code = TerminateCode;

fn send(opcode: Opcode, last: bool, msn: u32, mo: u32, payload_len: usize) -> [u8; UNTAGGED_HEADER_LEN] {
    tx::untagged_header(opcode, last, QUEUE_SEND, msn, mo, 0x55, payload_len)
}

/// Takes a header and, if it is good, the segment's payload.
fn take(receiver: &mut Receiver, header: &[u8]) -> Result<Segment, Code> {
    let segment = receiver.handle_header(header)?;
    receiver.complete(&segment);
    Ok(segment)
}

/// Takes all but the last header, and says what became of that.
fn last_of(headers: &[&[u8]]) -> Result<Segment, Code> {
    let mut receiver = Receiver::new();
    let (last, first) = headers.split_last().unwrap();
    for header in first {
        take(&mut receiver, header).unwrap();
    }
    take(&mut receiver, last)
}

#[test]
fn sends_arrive_in_order() {
    let mut receiver = Receiver::new();
    for msn in 1..=3 {
        take(&mut receiver, &send(Opcode::Send, false, msn, 0, 100)).unwrap();
        assert!(!receiver.is_between_messages());
        take(&mut receiver, &send(Opcode::Send, false, msn, 100, 0)).unwrap();
        take(&mut receiver, &send(Opcode::Send, true, msn, 100, 1)).unwrap();
        assert!(receiver.is_between_messages());
    }
}

#[test]
fn a_segment_counts_only_once_it_is_complete() {
    let mut receiver = Receiver::new();
    let header = send(Opcode::Send, true, 1, 0, 100);
    let segment = receiver.handle_header(&header).unwrap();
    assert_eq!(receiver.handle_header(&header), Ok(segment));
    receiver.complete(&segment);
    assert_eq!(receiver.handle_header(&header), Err(Code::DDP_UNTAGGED_MSN_RANGE));
}

#[test]
fn message_numbers() {
    let first = send(Opcode::Send, true, 1, 0, 10);
    for (msn, good) in [(0, false), (1, false), (2, true), (3, false), (u32::MAX, false)] {
        let outcome = last_of(&[&first, &send(Opcode::Send, true, msn, 0, 10)]);
        assert_eq!(outcome.err(), (!good).then_some(Code::DDP_UNTAGGED_MSN_RANGE), "{msn}");
    }
}

#[test]
fn message_numbers_wrap_around() {
    let mut receiver = Receiver::new();
    receiver.queues[0].msn = u32::MAX;
    take(&mut receiver, &send(Opcode::Send, true, u32::MAX, 0, 1)).unwrap();
    take(&mut receiver, &send(Opcode::Send, true, 0, 0, 1)).unwrap();
    take(&mut receiver, &send(Opcode::Send, true, 1, 0, 1)).unwrap();
}

#[test]
fn message_offsets() {
    let first = send(Opcode::Send, false, 1, 0, 10);
    for (mo, good) in [(0, false), (9, false), (10, true), (11, false), (u32::MAX, false)] {
        let outcome = last_of(&[&first, &send(Opcode::Send, true, 1, mo, 10)]);
        assert_eq!(outcome.err(), (!good).then_some(Code::DDP_UNTAGGED_INVALID_MO), "{mo}");
    }
    assert_eq!(last_of(&[&send(Opcode::Send, true, 1, 1, 10)]), Err(Code::DDP_UNTAGGED_INVALID_MO));
}

#[test]
fn a_message_ends_below_4_gib() {
    let mut receiver = Receiver::new();
    receiver.queues[0] = Queue { msn: 1, mo: u32::MAX - 10, open: Some((Opcode::Send, 0x55)) };
    let refused = receiver.handle_header(&send(Opcode::Send, true, 1, u32::MAX - 10, 11));
    assert_eq!(refused, Err(Code::DDP_UNTAGGED_TOO_LONG));
    take(&mut receiver, &send(Opcode::Send, true, 1, u32::MAX - 10, 10)).unwrap();
}

#[test]
fn a_message_keeps_its_opcode_and_its_invalidation() {
    let first = send(Opcode::SendInvalidate, false, 1, 0, 10);
    let other_opcode = send(Opcode::Send, true, 1, 10, 10);
    assert_eq!(last_of(&[&first, &other_opcode]), Err(Code::RDMAP_OPERATION_UNEXPECTED_OPCODE));
    let other_stag = tx::untagged_header(Opcode::SendInvalidate, true, QUEUE_SEND, 1, 10, 0x56, 10);
    assert_eq!(last_of(&[&first, &other_stag]), Err(Code::RDMAP_OPERATION_CANNOT_INVALIDATE));
    // the field means nothing to a plain Send
    let plain = send(Opcode::Send, false, 1, 0, 10);
    let other_stag = tx::untagged_header(Opcode::Send, true, QUEUE_SEND, 1, 10, 0x56, 10);
    assert!(last_of(&[&plain, &other_stag]).is_ok());
}

#[test]
fn queues_belong_to_opcodes() {
    for opcode in Opcode::ALL.into_iter().filter(|opcode| !opcode.is_tagged()) {
        for queue in [0, 1, 2, 3, 4, u32::MAX] {
            let payload_len = match opcode {
                Opcode::ReadRequest => READ_REQUEST_LEN,
                Opcode::AtomicRequest => ATOMIC_REQUEST_LEN,
                Opcode::AtomicResponse => ATOMIC_RESPONSE_LEN,
                _ if opcode.is_immediate() => IMMEDIATE_LEN,
                _ => TERMINATE_LEN_MIN,
            };
            let outcome = last_of(&[&tx::untagged_header(opcode, true, queue, 1, 0, 0, payload_len)]);
            let expected = match queue {
                _ if opcode.queue() == Some(queue) => None,
                0..=3 => Some(Code::RDMAP_OPERATION_UNEXPECTED_OPCODE),
                _ => Some(Code::DDP_UNTAGGED_INVALID_QN),
            };
            assert_eq!(outcome.err(), expected, "{opcode:?} {queue}");
        }
    }
}

#[test]
fn read_requests_and_terminates_have_fixed_sizes() {
    let outcome = |opcode: Opcode, last, payload_len| {
        let queue = opcode.queue().unwrap();
        last_of(&[&tx::untagged_header(opcode, last, queue, 1, 0, 0, payload_len)]).err()
    };
    for payload_len in 0..100 {
        let expected = match payload_len {
            28 => None,
            0..28 => Some(Code::RDMAP_OPERATION_UNSPECIFIED),
            _ => Some(Code::DDP_UNTAGGED_TOO_LONG),
        };
        assert_eq!(outcome(Opcode::ReadRequest, true, payload_len), expected);
        let expected = match payload_len {
            4..=52 => None,
            0..4 => Some(Code::RDMAP_OPERATION_UNSPECIFIED),
            _ => Some(Code::DDP_UNTAGGED_TOO_LONG),
        };
        assert_eq!(outcome(Opcode::Terminate, true, payload_len), expected);
        for (opcode, length) in [
            (Opcode::AtomicRequest, ATOMIC_REQUEST_LEN),
            (Opcode::AtomicResponse, ATOMIC_RESPONSE_LEN),
            (Opcode::Immediate, IMMEDIATE_LEN),
            (Opcode::ImmediateSolicited, IMMEDIATE_LEN),
        ] {
            let expected = match payload_len {
                _ if payload_len == length => None,
                _ if payload_len < length => Some(Code::RDMAP_OPERATION_UNSPECIFIED),
                _ => Some(Code::DDP_UNTAGGED_TOO_LONG),
            };
            assert_eq!(outcome(opcode, true, payload_len), expected);
        }
    }
    assert_eq!(outcome(Opcode::ReadRequest, false, 28), Some(Code::RDMAP_OPERATION_UNSPECIFIED));
    assert_eq!(outcome(Opcode::Terminate, false, 4), Some(Code::RDMAP_OPERATION_UNSPECIFIED));
}

#[test]
fn queues_number_their_messages_on_their_own() {
    let mut receiver = Receiver::new();
    let mut transmitter = Transmitter::new();
    for _ in 0..3 {
        for (opcode, queue, payload_len) in
            [(Opcode::Send, QUEUE_SEND, 9), (Opcode::ReadRequest, QUEUE_READ_REQUEST, READ_REQUEST_LEN)]
        {
            let msn = transmitter.next_msn(queue);
            take(&mut receiver, &tx::untagged_header(opcode, true, queue, msn, 0, 0, payload_len)).unwrap();
        }
    }
    let msn = transmitter.next_msn(QUEUE_TERMINATE);
    assert_eq!(msn, 1);
    take(&mut receiver, &tx::untagged_header(Opcode::Terminate, true, QUEUE_TERMINATE, msn, 0, 0, 4)).unwrap();
}

#[test]
fn tagged_messages_come_in_one_piece() {
    let write = tx::tagged_header(Opcode::Write, false, 7, 1000, 100);
    let outcome = |opcode, stag, to| last_of(&[&write, &tx::tagged_header(opcode, true, stag, to, 50)]).err();
    assert_eq!(outcome(Opcode::Write, 7, 1100), None);
    assert_eq!(outcome(Opcode::ReadResponse, 7, 1100), Some(Code::RDMAP_OPERATION_UNEXPECTED_OPCODE));
    assert_eq!(outcome(Opcode::Write, 8, 1100), Some(Code::DDP_TAGGED_INVALID_STAG));
    assert_eq!(outcome(Opcode::Write, 7, 1000), Some(Code::DDP_TAGGED_BASE_OR_BOUNDS));
    assert_eq!(outcome(Opcode::Write, 7, 1101), Some(Code::DDP_TAGGED_BASE_OR_BOUNDS));
    // the next message may go anywhere, and untagged ones may come between
    let last = tx::tagged_header(Opcode::Write, true, 7, 1100, 1);
    let other = tx::tagged_header(Opcode::ReadResponse, true, 9, 5, 1);
    assert!(last_of(&[&write, &send(Opcode::Send, true, 1, 0, 3), &last, &other]).is_ok());
}

#[test]
fn tagged_offsets_do_not_wrap() {
    let outcome = |to, payload_len| last_of(&[&tx::tagged_header(Opcode::Write, true, 7, to, payload_len)]).err();
    assert_eq!(outcome(u64::MAX - 100, 100), None);
    assert_eq!(outcome(u64::MAX - 100, 101), Some(Code::DDP_TAGGED_TO_WRAP));
    assert_eq!(outcome(u64::MAX, 0), None);
}

proptest! {
    /// Whatever is sent, the answer is a segment that fits the header or an error of the RFCs, and a refusal changes
    /// nothing.
    #[test]
    fn any_headers_are_taken_or_refused(headers in proptest::collection::vec(any::<[u8; UNTAGGED_HEADER_LEN]>(), 1..20)) {
        let mut receiver = Receiver::new();
        for mut header in headers {
            // keep the versions right most of the time, so that the rest is looked at
            header[2] = header[2] & !0x03 | 0x01;
            header[3] = header[3] & 0x07 | 0x40;
            let (queue, msn) = (header[8] % 4, header[12] % 4);
            header[8..16].copy_from_slice(&[0, 0, 0, queue, 0, 0, 0, msn]);
            let before = format!("{receiver:?}");
            match receiver.handle_header(&header) {
                Ok(segment) => receiver.complete(&segment),
                Err(code) => {
                    prop_assert!(code.is_known());
                    prop_assert_eq!(format!("{receiver:?}"), before);
                }
            }
        }
    }
}
