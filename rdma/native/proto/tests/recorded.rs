//! Recorded traffic of the Linux kernel's siw as vectors: every start-up frame and every FPDU of every stream is
//! decoded, encoded again, and compared; the numbers of each are those that tshark counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::path::PathBuf;

use support::feeder::{Feeder, Fpdu};
use support::pcap::{connections, Connection};
use weft_proto::{
    private_data_len, tx, Enhanced, Frame, FrameKind, Initiator, Opcode, ReadRequest, Responder, Role, StartupOptions,
    Target, FRAME_HEADER_LEN,
};

/// How many FPDUs of each opcode, in the order of [`Opcode::ALL`].
type Counts = [usize; 8];

/// What `tshark -r FILE -T fields -e iwarp_rdma.opcode` counts in each file, and `-Y 'iwarp_mpa.req || iwarp_mpa.rep'`
/// in the last column.
const RECORDINGS: [(&str, Counts, usize); 7] = [
    ("rping.pcap", [3, 3, 3, 12, 0, 0, 0, 0], 2),
    ("ib_write_lat.pcap", [10, 0, 0, 20, 0, 0, 0, 0], 4),
    ("ib_read_lat.pcap", [0, 5, 5, 22, 0, 0, 0, 0], 4),
    ("iser-connect.pcap", [0; 8], 1),
    ("nfs3.pcap", [234, 5, 9, 1327, 11, 0, 0, 0], 4),
    ("nfs41.pcap", [234, 5, 9, 1145, 219, 0, 0, 0], 4),
    ("nfs42.pcap", [234, 5, 9, 1145, 219, 0, 0, 0], 4),
];

/// The sizes of the pieces in which a stream is fed; the last is all of it.
const PIECES: [usize; 6] = [1, 2, 3, 7, 1448, usize::MAX];

fn recording(name: &str) -> Vec<Connection> {
    connections(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/vectors").join(name))
}

/// Cuts the start-up frame off the head of a stream, as a driver would: 20 bytes first, then as many as they say.
fn split_frame(stream: &[u8], kind: FrameKind) -> (&[u8], &[u8]) {
    let header = stream.first_chunk().expect("a whole header");
    stream.split_at(FRAME_HEADER_LEN + private_data_len(header, kind).unwrap())
}

fn fpdus(stream: &[u8], piece: usize) -> Vec<Fpdu> {
    let mut feeder = Feeder::new(false);
    let mut fpdus = Vec::new();
    for piece in stream.chunks(piece.min(stream.len().max(1))) {
        feeder.feed(piece, |fpdu| fpdus.push(fpdu)).unwrap();
    }
    assert!(feeder.is_at_boundary() && feeder.receiver.is_between_messages());
    fpdus
}

/// The recorded FPDU with its padding zeroed. siw leaves there what its buffer held; RFC 5044 §4.1 wants zeros sent and
/// anything taken.
fn with_zero_padding(fpdu: &Fpdu) -> Vec<u8> {
    let mut bytes = fpdu.bytes.clone();
    let padding = fpdu.segment.header_len() + fpdu.segment.payload_len;
    bytes[padding..padding + fpdu.segment.pad].fill(0);
    bytes
}

/// The FPDU once more, from what was understood of it.
fn encode(fpdu: &Fpdu) -> Vec<u8> {
    let (segment, payload) = (&fpdu.segment, fpdu.payload());
    let mut bytes = match segment.target {
        Target::Tagged { stag, to } => {
            tx::tagged_header(segment.opcode, segment.last, stag, to, payload.len()).to_vec()
        }
        Target::Untagged { queue, msn, mo, invalidate_stag } => {
            tx::untagged_header(segment.opcode, segment.last, queue, msn, mo, invalidate_stag, payload.len()).to_vec()
        }
    };
    match segment.opcode {
        Opcode::ReadRequest => bytes.extend(ReadRequest::parse(payload.try_into().unwrap()).emit()),
        _ => bytes.extend(payload),
    }
    let (trailer, length) = tx::trailer(segment.ulpdu_len(), None);
    bytes.extend(&trailer[..length]);
    bytes
}

#[test]
fn every_frame_and_fpdu_encodes_to_the_bytes_it_came_from() {
    for (name, expected, frames_expected) in RECORDINGS {
        let (mut counts, mut frames) = ([0; 8], 0);
        for connection in recording(name) {
            let streams = [(FrameKind::Request, connection.from_client), (FrameKind::Reply, connection.from_server)];
            for (kind, stream) in streams.into_iter().filter(|(_, stream)| !stream.is_empty()) {
                let (frame, rest) = split_frame(&stream, kind);
                assert_eq!(Frame::parse(frame).unwrap().emit(), frame, "{name}");
                frames += 1;
                for fpdu in fpdus(rest, usize::MAX) {
                    assert_eq!(encode(&fpdu), with_zero_padding(&fpdu), "{name}: {:?}", fpdu.segment);
                    counts[fpdu.segment.opcode as usize] += 1;
                }
            }
        }
        assert_eq!((counts, frames), (expected, frames_expected), "{name}");
    }
}

#[test]
fn the_pieces_in_which_a_stream_arrives_do_not_matter() {
    for (name, ..) in RECORDINGS {
        for connection in recording(name) {
            let streams = [(FrameKind::Request, connection.from_client), (FrameKind::Reply, connection.from_server)];
            for (kind, stream) in streams.into_iter().filter(|(_, stream)| !stream.is_empty()) {
                let (_, rest) = split_frame(&stream, kind);
                let whole = fpdus(rest, usize::MAX);
                for piece in PIECES {
                    assert!(fpdus(rest, piece) == whole, "{name} in pieces of {piece}");
                }
            }
        }
    }
}

/// A recorded stream says what our side would have had to say in the place of either of siw's.
#[test]
fn recorded_start_ups_lead_to_an_agreement() {
    for (name, ..) in RECORDINGS {
        for connection in recording(name) {
            let (request, _) = split_frame(&connection.from_client, FrameKind::Request);
            let responder = Responder::handle_request(request).unwrap();
            let (reply, established) = responder.accept(StartupOptions::default());
            let ord = Frame::parse(&reply).unwrap().enhanced.unwrap().ord;
            // 0 only where siw said that it serves no Reads
            let least = u16::from(responder.ird() != Some(0));
            assert!((least..=128).contains(&ord), "{name}: siw takes no ORD of {ord}");
            assert_eq!((established.role, established.rtr, established.crc), (Role::Responder, None, false));

            if connection.from_server.is_empty() {
                continue;
            }
            let asked = Frame::parse(request).unwrap();
            let Enhanced { ird, ord, .. } = asked.enhanced.unwrap();
            let options = StartupOptions { ird, ord, private_data: asked.private_data, ..StartupOptions::default() };
            let (initiator, ours) = Initiator::new(options);
            assert_eq!(ours, request, "{name}: our request differs from siw's");
            let (reply, _) = split_frame(&connection.from_server, FrameKind::Reply);
            let established = initiator.handle_reply(reply).unwrap();
            assert_eq!((established.revision, established.rtr, established.crc), (2, None, false));
            assert!(established.ord <= ord);
        }
    }
}

/// Read Responses answer Read Requests: same sink, and together the length that was asked for.
#[test]
fn recorded_reads_are_answered_in_order() {
    let mut reads = 0;
    for (name, ..) in RECORDINGS {
        for connection in recording(name).into_iter().filter(|connection| !connection.from_server.is_empty()) {
            let (_, client) = split_frame(&connection.from_client, FrameKind::Request);
            let (_, server) = split_frame(&connection.from_server, FrameKind::Reply);
            for (asking, answering) in [(client, server), (server, client)] {
                let mut requests = fpdus(asking, usize::MAX)
                    .into_iter()
                    .filter(|fpdu| fpdu.segment.opcode == Opcode::ReadRequest)
                    .map(|fpdu| ReadRequest::parse(fpdu.payload().try_into().unwrap()));
                let mut filled = 0;
                let mut request = None;
                for fpdu in fpdus(answering, usize::MAX) {
                    let Target::Tagged { stag, to } = fpdu.segment.target else { continue };
                    if fpdu.segment.opcode != Opcode::ReadResponse {
                        continue;
                    }
                    let current: ReadRequest = *request.get_or_insert_with(|| requests.next().unwrap());
                    assert_eq!((stag, to), (current.sink_stag, current.sink_to + filled), "{name}");
                    filled += fpdu.segment.payload_len as u64;
                    if fpdu.segment.last {
                        assert_eq!(filled, u64::from(current.length), "{name}");
                        (request, filled, reads) = (None, 0, reads + 1);
                    }
                }
                assert!(requests.next().is_none(), "{name}: a Read Request without an answer");
            }
        }
    }
    assert_eq!(reads, 3 + 5 + 3 * 5);
}
