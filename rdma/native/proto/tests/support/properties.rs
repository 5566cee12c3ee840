//! What must hold for any input: the bodies of the fuzz targets, and what the corpus is replayed against.

use super::feeder::Feeder;
use super::pair::run_with_faults;
use super::random::Random;
use weft_proto::{
    private_data_len, Frame, FrameKind, Initiator, ReadRequest, Responder, StartupOptions, Terminate, FRAME_HEADER_LEN,
    PRIVATE_DATA_MAX, READ_REQUEST_LEN,
};

/// A start-up frame comes back as it was but for its reserved bits, and is taken or refused by both sides of the
/// negotiation.
pub fn mpa_frame(input: &[u8]) {
    if let Some(header) = input.first_chunk::<FRAME_HEADER_LEN>() {
        for kind in [FrameKind::Request, FrameKind::Reply] {
            if let Ok(length) = private_data_len(header, kind) {
                assert!(length <= PRIVATE_DATA_MAX);
                let whole = input.get(..FRAME_HEADER_LEN + length);
                assert!(whole.is_none_or(|whole| Frame::parse(whole).is_ok_and(|frame| frame.kind == kind)));
            }
        }
    }
    for options in [1, 2].map(|revision| StartupOptions { revision, peer_to_peer: true, ..StartupOptions::default() }) {
        let (initiator, _) = Initiator::new(options.clone());
        match initiator.handle_reply(input) {
            Ok(established) => assert!(established.ord <= options.ord && established.revision == options.revision),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(responder) = Responder::handle_request(input) {
        let (reply, established) = responder.accept(StartupOptions::default());
        let reply = Frame::parse(&reply).unwrap();
        assert_eq!((reply.kind, reply.revision, reply.crc), (FrameKind::Reply, established.revision, established.crc));
        assert!(Frame::parse(&responder.reject(b"no")).unwrap().reject);
    }
    let Ok(frame) = Frame::parse(input) else { return };
    let mut expected = input.to_vec();
    expected[16] &= if frame.revision == 1 { 0xe0 } else { 0xf0 };
    assert_eq!(frame.emit(), expected);
}

/// A stream of FPDUs gives the same FPDUs and the same error in pieces of any size, and nothing that is not in it.
pub fn fpdu_stream(input: &[u8]) {
    let Some((&options, stream)) = input.split_first() else { return };
    let (crc, piece) = (options & 1 != 0, usize::from(options >> 1).max(1));
    let run = |piece: usize| {
        let mut feeder = Feeder::new(crc);
        let mut fpdus = Vec::new();
        let outcome = stream.chunks(piece).try_for_each(|piece| feeder.feed(piece, |fpdu| fpdus.push(fpdu)));
        (outcome, fpdus, feeder.is_at_boundary())
    };
    let (outcome, fpdus, at_boundary) = run(stream.len().max(1));
    assert_eq!((outcome, &fpdus, at_boundary), {
        let (outcome, fpdus, at_boundary) = run(piece);
        (outcome, &fpdus.clone(), at_boundary)
    });
    let delivered: Vec<u8> = fpdus.iter().flat_map(|fpdu| fpdu.bytes.clone()).collect();
    assert!(stream.starts_with(&delivered));
    match outcome {
        Ok(()) => assert_eq!(at_boundary, delivered.len() == stream.len()),
        Err(code) => {
            assert!(code.is_known());
            let header = &stream[delivered.len()..];
            let terminate = Terminate::for_error(code, Some(header), None);
            assert_eq!(Terminate::parse(&terminate.emit()), Ok(terminate));
        }
    }
}

/// A Terminate's error survives being sent on in the RFC's layout, and a Read Request comes back as it was.
pub fn rdmap_messages(input: &[u8]) {
    match Terminate::parse(input) {
        Ok(terminate) => {
            let emitted = terminate.emit();
            let again = Terminate::parse(&emitted).unwrap();
            assert_eq!(again.ddp_header, terminate.ddp_header);
            assert_eq!(again.rdmap_header, terminate.rdmap_header);
            assert_eq!(emitted[1], terminate.code);
            assert!(!terminate.terminate_code().to_string().is_empty());
            assert!(terminate.opcode().is_none() || terminate.ddp_header.is_some());
        }
        Err(error) => assert_eq!(error.have, input.len()),
    }
    if let Some(request) = input.first_chunk::<READ_REQUEST_LEN>() {
        assert_eq!(&ReadRequest::parse(request).emit(), request);
    }
}

/// Two endpoints, from start-up on, whose every choice and fault is the input's: what arrives is what was sent, or is refused.
pub fn endpoint_pair(input: &[u8]) {
    run_with_faults(&mut Random::scripted(input));
}
