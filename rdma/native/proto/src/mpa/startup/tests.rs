use super::*;
use crate::mpa::frame::{private_data_len, FRAME_HEADER_LEN};
use proptest::prelude::*;

/// What siw sends for the kernel's NFS client: no peer-to-peer bits, IRD 128, ORD 0.
fn siw_request(enhanced: Option<Enhanced>) -> Frame {
    Frame {
        kind: FrameKind::Request,
        revision: 2,
        markers: false,
        crc: false,
        reject: false,
        enhanced,
        private_data: b"hello".to_vec(),
    }
}

const SIW: Enhanced =
    Enhanced { ird: 128, ord: 0, peer_to_peer: false, rtr_send: false, rtr_write: false, rtr_read: false };

fn options(crc: bool, ird: u16, ord: u16) -> StartupOptions {
    StartupOptions { crc, ird, ord, private_data: b"world".to_vec(), ..StartupOptions::default() }
}

fn negotiate(initiator: StartupOptions, responder: StartupOptions) -> (Established, Established) {
    let (initiator, request) = Initiator::new(initiator);
    let (reply, theirs) = Responder::handle_request(&request).unwrap().accept(responder);
    (initiator.handle_reply(&reply).unwrap(), theirs)
}

fn reply_to(options: StartupOptions, change: impl FnOnce(&mut Frame)) -> Result<Established, StartupError> {
    let (initiator, request) = Initiator::new(options);
    let (reply, _) = Responder::handle_request(&request).unwrap().accept(StartupOptions::default());
    let mut reply = Frame::parse(&reply).unwrap();
    change(&mut reply);
    initiator.handle_reply(&reply.emit())
}

#[test]
fn both_sides_agree() {
    let (ours, theirs) = negotiate(options(false, 16, 8), options(false, 4, 32));
    assert_eq!((ours.role, theirs.role), (Role::Initiator, Role::Responder));
    assert_eq!((ours.ird, ours.ord, theirs.ird, theirs.ord), (16, 4, 4, 16));
    assert_eq!((ours.revision, theirs.revision), (2, 2));
    assert_eq!((ours.rtr, theirs.rtr), (None, None));
    assert_eq!((&ours.private_data[..], &theirs.private_data[..]), (&b"world"[..], &b"world"[..]));
}

#[test]
fn crc_is_on_when_either_side_asks() {
    for (initiator, responder) in [(false, false), (false, true), (true, false), (true, true)] {
        let (ours, theirs) = negotiate(options(initiator, 1, 1), options(responder, 1, 1));
        assert_eq!((ours.crc, theirs.crc), (initiator || responder, initiator || responder));
    }
    // a responder that does not say so in its Reply is held to the Request
    assert!(reply_to(options(true, 1, 1), |reply| reply.crc = false).unwrap().crc);
}

#[test]
fn peer_to_peer_picks_a_write() {
    let peer_to_peer = StartupOptions { peer_to_peer: true, ..StartupOptions::default() };
    let (ours, theirs) = negotiate(peer_to_peer.clone(), StartupOptions::default());
    assert_eq!((ours.rtr, theirs.rtr), (Some(Rtr::Write), Some(Rtr::Write)));
    let (_, request) = Initiator::new(peer_to_peer);
    let enhanced = Frame::parse(&request).unwrap().enhanced.unwrap();
    assert_eq!(
        (enhanced.peer_to_peer, enhanced.rtr_send, enhanced.rtr_write, enhanced.rtr_read),
        (true, false, true, true)
    );
}

#[test]
fn a_responder_takes_the_cheapest_offer() {
    for (send, write, read, expected) in [
        (true, true, true, Rtr::Write),
        (true, false, true, Rtr::Read),
        (true, false, false, Rtr::Send),
        (false, false, false, Rtr::Write),
    ] {
        let offer = Enhanced { peer_to_peer: true, rtr_send: send, rtr_write: write, rtr_read: read, ..SIW };
        let responder = Responder::handle_request(&siw_request(Some(offer)).emit()).unwrap();
        let (reply, established) = responder.accept(StartupOptions::default());
        let reply = Frame::parse(&reply).unwrap().enhanced.unwrap();
        assert_eq!(established.rtr, Some(expected));
        assert!(reply.peer_to_peer);
        assert_eq!(
            (reply.rtr_send, reply.rtr_write, reply.rtr_read),
            (expected == Rtr::Send, expected == Rtr::Write, expected == Rtr::Read)
        );
    }
    let offer = Enhanced { peer_to_peer: false, rtr_write: true, ..SIW };
    let responder = Responder::handle_request(&siw_request(Some(offer)).emit()).unwrap();
    assert_eq!(responder.accept(StartupOptions::default()).1.rtr, None);
}

#[test]
fn a_responder_that_serves_no_reads_picks_one_where_nothing_else_is_offered() {
    let picked = |read_alone: bool, rtr, ird| {
        let offer = Enhanced { peer_to_peer: true, rtr_send: !read_alone, rtr_read: true, ..SIW };
        let responder = Responder::handle_request(&siw_request(Some(offer)).emit()).unwrap();
        responder.accept(StartupOptions { ird, rtr, ..StartupOptions::default() }).1.rtr
    };
    assert_eq!([picked(false, None, 0), picked(false, None, 1)], [Some(Rtr::Send), Some(Rtr::Read)]);
    assert_eq!([picked(true, None, 0), picked(false, Some(Rtr::Read), 0)], [Some(Rtr::Read); 2]);
}

#[test]
fn an_initiator_takes_what_was_picked_of_its_offer() {
    let peer_to_peer = || StartupOptions { peer_to_peer: true, ..StartupOptions::default() };
    let picked = |write, read, send| {
        reply_to(peer_to_peer(), |reply| {
            let enhanced = reply.enhanced.as_mut().unwrap();
            (enhanced.rtr_write, enhanced.rtr_read, enhanced.rtr_send) = (write, read, send);
        })
    };
    assert_eq!(picked(true, false, false).unwrap().rtr, Some(Rtr::Write));
    assert_eq!(picked(false, true, false).unwrap().rtr, Some(Rtr::Read));
    assert_eq!(picked(false, false, true), Err(StartupError::NoMatchingRtr));
    assert_eq!(StartupError::NoMatchingRtr.terminate_code(), Some(TerminateCode::MPA_NO_MATCHING_RTR));
    // a responder without peer-to-peer mode leaves the connection in that of client and server
    let plain = reply_to(peer_to_peer(), |reply| reply.enhanced.as_mut().unwrap().peer_to_peer = false);
    assert_eq!(plain.unwrap().rtr, None);
}

#[test]
fn siw_is_never_told_an_ord_of_zero() {
    let responder = Responder::handle_request(&siw_request(Some(SIW)).emit()).unwrap();
    assert_eq!((responder.ird(), responder.ord(), responder.revision()), (Some(128), Some(0), 2));
    assert_eq!(responder.private_data(), b"hello");
    for (ord, in_reply, agreed) in [(0, 1, 0), (1, 1, 1), (16, 16, 16), (1000, 128, 128)] {
        let (reply, established) = responder.accept(options(false, 16, ord));
        let reply = Frame::parse(&reply).unwrap();
        assert_eq!(reply.enhanced, Some(Enhanced { ird: 16, ord: in_reply, ..SIW }));
        assert_eq!(established.ord, agreed);
        assert_eq!(established.rtr, None);
    }
}

#[test]
fn a_reply_never_asks_for_more_reads_than_the_initiator_serves() {
    let responder = Responder::handle_request(&siw_request(Some(Enhanced { ird: 0, ..SIW })).emit()).unwrap();
    let (reply, established) = responder.accept(options(false, 16, 16));
    assert_eq!(Frame::parse(&reply).unwrap().enhanced.unwrap().ord, 0);
    assert_eq!(established.ord, 0);
}

#[test]
fn depths_that_are_left_open_bound_nothing() {
    let open = Enhanced { ird: DEPTH_UNSTATED, ord: DEPTH_UNSTATED, ..SIW };
    let responder = Responder::handle_request(&siw_request(Some(open)).emit()).unwrap();
    assert_eq!(responder.accept(options(false, 16, 16)).1.ord, 16);
    let established = reply_to(options(false, 4, 8), |reply| reply.enhanced = Some(open)).unwrap();
    assert_eq!((established.ird, established.ord), (4, 8));
}

#[test]
fn a_request_without_enhanced_data_gets_a_reply_without() {
    for revision in [1, 2] {
        let request = Frame { revision, ..siw_request(None) };
        let responder = Responder::handle_request(&request.emit()).unwrap();
        assert_eq!((responder.ird(), responder.ord()), (None, None));
        let (reply, established) = responder.accept(options(true, 3, 4));
        let reply = Frame::parse(&reply).unwrap();
        assert_eq!((reply.revision, reply.enhanced), (revision, None));
        assert_eq!((established.ird, established.ord, established.rtr, established.crc), (3, 4, None, true));
    }
    let (ours, theirs) = negotiate(StartupOptions { revision: 1, ..options(false, 5, 6) }, options(false, 7, 8));
    assert_eq!((ours.revision, ours.ird, ours.ord), (1, 5, 6));
    assert_eq!((theirs.revision, theirs.ird, theirs.ord), (1, 7, 8));
}

#[test]
fn a_rejection_carries_its_reason() {
    for revision in [1, 2] {
        let (initiator, request) = Initiator::new(StartupOptions { revision, ..StartupOptions::default() });
        let reply = Responder::handle_request(&request).unwrap().reject(b"busy");
        let error = initiator.handle_reply(&reply).unwrap_err();
        assert_eq!(error, StartupError::Rejected { private_data: b"busy".to_vec() });
        assert_eq!(error.terminate_code(), None);
    }
}

#[test]
fn each_side_has_markers_sent_to_it_that_asks_for_them() {
    for (ours, theirs) in [(false, false), (true, false), (false, true), (true, true)] {
        let asking = |markers| StartupOptions { markers, ..StartupOptions::default() };
        let (initiator, responder) = negotiate(asking(ours), asking(theirs));
        assert_eq!((initiator.send_markers, initiator.receive_markers), (theirs, ours));
        assert_eq!((responder.send_markers, responder.receive_markers), (ours, theirs));
    }
}

#[test]
fn each_unsuitable_reply_has_its_error() {
    let ask = || options(false, 4, 4);
    let more_reads = reply_to(ask(), |reply| reply.enhanced.as_mut().unwrap().ord = 5).unwrap_err();
    assert_eq!(more_reads, StartupError::InsufficientIrd { offered: 4, wanted: 5 });
    assert_eq!(more_reads.terminate_code(), Some(TerminateCode::MPA_INSUFFICIENT_IRD));
    let plain = reply_to(ask(), |reply| reply.enhanced = None).unwrap_err();
    assert!(matches!(plain, StartupError::IncompatibleReply(_)));
    let older = |reject| {
        reply_to(ask(), |reply| {
            (reply.revision, reply.enhanced, reply.reject) = (1, None, reject);
        })
    };
    assert_eq!(older(false), Err(StartupError::OlderRevision { revision: 1, rejected: false }));
    assert_eq!(older(true), Err(StartupError::OlderRevision { revision: 1, rejected: true }));
    let newer = reply_to(StartupOptions { revision: 1, ..ask() }, |reply| reply.revision = 2).unwrap_err();
    assert!(matches!(newer, StartupError::IncompatibleReply(_)));
    let kind = reply_to(ask(), |reply| reply.kind = FrameKind::Request).unwrap_err();
    assert_eq!(kind, StartupError::Mpa(MpaError::UnexpectedKind(FrameKind::Request)));
    assert_eq!(
        Responder::handle_request(&Frame { kind: FrameKind::Reply, ..siw_request(None) }.emit()).unwrap_err(),
        StartupError::Mpa(MpaError::UnexpectedKind(FrameKind::Reply))
    );
}

proptest! {
    /// Whatever two sides of ours bring, they start, and no side may have more Reads outstanding than the other serves.
    #[test]
    fn any_two_of_ours_agree(
        initiator in (any::<bool>(), any::<u16>(), any::<u16>(), any::<bool>(), 1..=2u8),
        responder in (any::<bool>(), any::<u16>(), any::<u16>()),
    ) {
        let (crc, ird, ord, peer_to_peer, revision) = initiator;
        let initiator = StartupOptions { peer_to_peer, revision, ..options(crc, ird, ord) };
        let (crc, ird, ord) = responder;
        let (ours, theirs) = negotiate(initiator, options(crc, ird, ord));
        prop_assert_eq!(ours.crc, theirs.crc);
        prop_assert_eq!(ours.rtr, theirs.rtr);
        prop_assert_eq!(ours.revision, revision);
        prop_assert!(ours.ord <= ORD_MAX && theirs.ord <= ORD_MAX);
        if revision == 2 {
            prop_assert!(ours.ord <= theirs.ird && theirs.ord <= ours.ird);
            prop_assert_eq!(ours.rtr.is_some(), peer_to_peer);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), reply in any::<bool>()) {
        let kind = if reply { FrameKind::Reply } else { FrameKind::Request };
        let bytes = [&kind.key()[..], &bytes].concat();
        let (initiator, _) = Initiator::new(StartupOptions::default());
        if let Ok(established) = initiator.handle_reply(&bytes) {
            prop_assert!(established.ord <= ORD_MAX);
        }
        if let Ok(responder) = Responder::handle_request(&bytes) {
            let (reply, _) = responder.accept(StartupOptions::default());
            let header = reply.first_chunk().unwrap();
            prop_assert_eq!(private_data_len(header, FrameKind::Reply).unwrap() + FRAME_HEADER_LEN, reply.len());
        }
    }
}
