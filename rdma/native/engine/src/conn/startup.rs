//! The beginning of a connection: TCP connect, telling iWARP from plain TCP, MPA Request and Reply (RFC 5044 §7, RFC 6581).
use super::*;

impl Conn {
    pub(super) fn turn_connecting(self: &Arc<Self>, inner: &mut Inner, ready: u32) -> bool {
        let (Some(fd), Some(options)) = (&inner.fd, inner.options.clone()) else { return false };
        if ready & (WRITABLE | ENDING) == 0 {
            return false;
        }
        if let Err(error) = socket::take_error(fd) {
            self.connect_next(inner, error.raw_os_error().unwrap_or(libc::EIO));
            return false;
        }
        if !socket::is_connected(fd) {
            return false; // the event was the previous address's
        }
        inner.peer_ending = ready & ENDING != 0; // and so may be what was noted before
        let Ok(local) = socket::local_address(fd) else { return false };
        inner.facts.local = Some(local);
        socket::tune(fd, inner.facts.is_local());
        if options.stream {
            self.announce(inner, EntryKind::Established);
            self.open(inner, None, &options);
            return true;
        }
        let mut startup = options.startup.clone();
        startup.crc = options.wants_crc(&inner.facts);
        let (initiator, request) = Initiator::new(startup);
        inner.out = request;
        inner.phase = Phase::AwaitReply(initiator, Vec::new());
        inner.deadline = Some(Instant::now() + or_usual(options.reply_timeout, REPLY_TIMEOUT));
        self.device.watch_deadline(self);
        self.flush_out(inner);
        true
    }

    /// Sends what is left of a request or reply. Whether all of it has left.
    pub(super) fn flush_out(&self, inner: &mut Inner) -> bool {
        let Some(fd) = inner.fd.as_ref().map(AsRawFd::as_raw_fd) else { return false };
        while !inner.out.is_empty() {
            let mut vector = [libc::iovec { iov_base: inner.out.as_mut_ptr().cast(), iov_len: inner.out.len() }];
            // SAFETY: the vector is our own buffer.
            match unsafe { socket::send(fd, &mut vector) } {
                Transfer::Bytes(n) => {
                    inner.out.drain(..n);
                }
                _ => return false,
            }
        }
        true
    }

    pub(super) fn turn_peeking(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let Some(fd) = &inner.fd else { return false };
        let key = weft_proto::mpa::frame::REQUEST_KEY;
        let mut first = [0u8; 16];
        match socket::receive_buffer(fd.as_raw_fd(), &mut first, true) {
            Transfer::Bytes(n) if n < first.len() && first.get(..n) == key.get(..n) => {
                if inner.peer_ending {
                    self.device.counters.startup_failures.add(1);
                    self.finish(inner);
                    return false;
                }
                socket::set_receive_low_water(fd, first.len());
                false
            }
            Transfer::Bytes(_) => {
                socket::set_receive_low_water(fd, 1);
                if first == key {
                    inner.phase = Phase::AwaitRequest(Vec::new());
                    return true;
                }
                inner.stream = true;
                self.stream.store(true, Ordering::Relaxed);
                inner.phase = Phase::Requested(None);
                inner.deadline = None;
                self.announce_to_listener(inner, EntryKind::Stream);
                false
            }
            Transfer::WouldBlock => false,
            Transfer::End | Transfer::Failed(_) => {
                self.device.counters.startup_failures.add(1);
                self.finish(inner);
                false
            }
        }
    }

    /// Reads one MPA frame, and not a byte more.
    pub(super) fn turn_startup(self: &Arc<Self>, inner: &mut Inner) -> bool {
        self.flush_out(inner);
        fault!(Startup, self.handle);
        let Some(fd) = inner.fd.as_ref().map(AsRawFd::as_raw_fd) else { return false };
        loop {
            let (kind, buffer) = match &mut inner.phase {
                Phase::AwaitReply(_, buffer) => (FrameKind::Reply, buffer),
                Phase::AwaitRequest(buffer) => (FrameKind::Request, buffer),
                _ => return false,
            };
            let want = match buffer.first_chunk::<FRAME_HEADER_LEN>() {
                None => FRAME_HEADER_LEN,
                Some(header) => match private_data_len(header, kind) {
                    Ok(length) => FRAME_HEADER_LEN + length,
                    Err(_) => {
                        self.startup_failed(inner, Status::NotIwarp);
                        return false;
                    }
                },
            };
            if buffer.len() == want {
                return match kind {
                    FrameKind::Reply => self.reply_complete(inner),
                    FrameKind::Request => self.request_complete(inner),
                };
            }
            let mut chunk = [0u8; FRAME_HEADER_LEN + 512];
            let room = chunk.get_mut(..(want - buffer.len()).min(FRAME_HEADER_LEN + 512)).unwrap_or(&mut []);
            match socket::receive_buffer(fd, room, false) {
                Transfer::Bytes(n) => buffer.extend_from_slice(room.get(..n).unwrap_or(&[])),
                Transfer::WouldBlock => return false,
                Transfer::End | Transfer::Failed(_) => {
                    self.startup_failed(inner, Status::NotIwarp);
                    return false;
                }
            }
        }
    }

    pub(super) fn startup_failed(self: &Arc<Self>, inner: &mut Inner, status: Status) {
        self.device.counters.startup_failures.add(1);
        self.fail(inner, status, 0, None);
    }

    pub(super) fn reply_complete(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let Phase::AwaitReply(initiator, buffer) = &inner.phase else { return false };
        match initiator.handle_reply(buffer) {
            Ok(established) => {
                let Some(options) = inner.options.clone() else { return false };
                // before anything that could be told of the connection's end
                self.announce(inner, EntryKind::Established);
                self.open(inner, Some(established), &options);
                true
            }
            Err(StartupError::Rejected { private_data }) => {
                inner.facts.private_data = private_data;
                self.startup_failed(inner, Status::Rejected);
                false
            }
            Err(StartupError::Mpa(_)) => {
                self.startup_failed(inner, Status::NotIwarp);
                false
            }
            Err(StartupError::OlderRevision { revision: 1, .. })
                if inner.options.as_ref().is_some_and(|options| options.any_revision) =>
            {
                self.ask_again(inner);
                false
            }
            Err(error) => {
                let asked = inner.options.as_ref().is_some_and(|options| options.wants_crc(&inner.facts));
                let reply = Frame::parse(buffer);
                let crc = asked || reply.as_ref().is_ok_and(|reply| reply.crc);
                let markers = reply.is_ok_and(|reply| reply.markers);
                self.device.counters.startup_failures.add(1);
                let terminate = error.terminate_code().map(|code| {
                    // the responder has accepted, so it can be told in an FPDU
                    inner.tx.mulpdu = MULPDU_MIN;
                    inner.tx.crc = crc;
                    inner.tx.markers = markers;
                    Terminate::new(code)
                });
                self.fail(inner, Status::Incompatible, 0, terminate.as_ref());
                false
            }
        }
    }

    /// Connects once more, to ask in MPA revision 1 (RFC 6581 §6).
    fn ask_again(self: &Arc<Self>, inner: &mut Inner) {
        let (Some(options), Some(remote)) = (&mut inner.options, inner.facts.remote) else { return };
        options.startup.revision = 1;
        options.any_revision = false;
        inner.connect_by = Instant::now() + or_usual(options.connect_timeout, CONNECT_TIMEOUT);
        inner.out.clear();
        inner.addresses.push(remote);
        self.connect_next(inner, libc::ECONNREFUSED);
    }

    pub(super) fn request_complete(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let Phase::AwaitRequest(buffer) = &inner.phase else { return false };
        match Responder::handle_request(buffer) {
            Ok(_) if inner.peer_ending => {
                self.device.counters.startup_failures.add(1);
                self.finish(inner);
            }
            Ok(responder) => {
                inner.facts.private_data = responder.private_data().to_vec();
                inner.facts.revision = responder.revision();
                inner.phase = Phase::Requested(Some(Box::new(responder)));
                inner.deadline = None;
                self.announce_to_listener(inner, EntryKind::Request);
            }
            Err(_) => {
                self.device.counters.startup_failures.add(1);
                self.end_sending(inner);
            }
        }
        false
    }

    /// Becomes a queue pair, or a stream.
    pub(super) fn open(self: &Arc<Self>, inner: &mut Inner, established: Option<Established>, options: &Options) {
        inner.phase = Phase::Open;
        inner.deadline = None;
        self.device.counters.connections.add(1);
        if let Some(fd) = &inner.fd {
            socket::set_congestion(fd, options.congestion, inner.facts.is_local());
        }
        let Some(established) = established else {
            inner.stream = true;
            inner.tx.open = true;
            return;
        };
        inner.held = true;
        inner.rx.set_domain(
            Through { pd: options.pd, connection: self.handle },
            self.device.memory.large_writable(options.pd),
        );
        inner.rx.shared.clone_from(&options.shared);
        inner.rx.solicited_only = options.solicited_only;
        inner.rx.moderation.clone_from(&options.receive_moderation);
        inner.tx.moderation.clone_from(&options.send_moderation);
        inner.rx.rtr = established.rtr.filter(|_| established.role == Role::Responder);
        inner.rx.crc = established.crc;
        inner.tx.crc = established.crc;
        inner.tx.markers = established.send_markers;
        inner.rx.markers = established.receive_markers.then(Box::default);
        inner.tx.ird = usize::from(established.ird);
        inner.tx.ord = usize::from(established.ord);
        let emss = inner.fd.as_ref().map_or(0, socket::segment_len);
        inner.tx.mulpdu = options.mulpdu(&inner.facts, emss, established.send_markers);
        inner.tx.open = established.role == Role::Initiator;
        inner.facts.mulpdu = inner.tx.mulpdu as u32;
        inner.facts.revision = established.revision;
        inner.facts.crc = established.crc;
        inner.facts.markers = (established.send_markers, established.receive_markers);
        inner.facts.ird = established.ird;
        inner.facts.ord = established.ord;
        inner.facts.private_data = established.private_data;
        if established.role == Role::Initiator {
            let operation = match established.rtr {
                Some(Rtr::Write) => Operation::Write { stag: 0, to: 0 },
                Some(Rtr::Read) => {
                    // the responder has picked it, whatever depths were stated
                    inner.tx.ord = inner.tx.ord.max(1);
                    Operation::Read { stag: 0, to: 0 }
                }
                Some(Rtr::Send) => Operation::Send { invalidate: None, solicited: false },
                None => return,
            };
            inner.tx.post(SendWork::new(NO_SLOT, false, operation, Sges::default()).of_startup());
            self.send(inner);
        }
    }

    pub(super) fn announce(&self, inner: &mut Inner, kind: EntryKind) {
        inner.announced = true;
        self.device.ring.push(Entry {
            tag: self.tag(),
            kind,
            status: Status::Ok,
            slot: 0,
            bytes: 0,
            detail: 0,
            aux: self.handle,
        });
    }

    pub(super) fn announce_to_listener(&self, inner: &mut Inner, kind: EntryKind) {
        self.starting.store(false, Ordering::SeqCst);
        let entry =
            Entry { tag: inner.listener, kind, status: Status::Ok, slot: 0, bytes: 0, detail: 0, aux: self.handle };
        self.device.ring.push(entry);
    }

    /// Accepts a request, or takes a stream; from now on entries carry `tag`.
    pub fn accept(self: &Arc<Self>, tag: u32, options: &Options) -> Status {
        self.with(|conn, inner| {
            let Phase::Requested(responder) = &inner.phase else { return Status::Closed };
            conn.tag.store(tag, Ordering::Relaxed);
            if let Some(responder) = responder {
                let mut startup = options.startup.clone();
                startup.crc = options.wants_crc(&inner.facts);
                let (reply, established) = responder.accept(startup);
                inner.out = reply;
                self.flush_out(inner);
                self.open(inner, Some(established), options);
            } else {
                self.open(inner, None, options);
            }
            inner.announced = true;
            // what arrived while the application decided has had its edge
            self.driven.note(READABLE);
            Status::Ok
        })
    }

    /// Refuses a request, or closes a stream that nobody takes.
    pub fn reject(self: &Arc<Self>, private_data: &[u8]) -> Status {
        self.with(|conn, inner| {
            let Phase::Requested(responder) = &inner.phase else { return Status::Closed };
            if let Some(responder) = responder {
                inner.out = responder.reject(private_data);
            }
            conn.send_the_rest(inner);
            Status::Ok
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::device::CONNS;
    use crate::work::Sge;

    fn options(crc: u32, mulpdu: Mulpdu) -> Options {
        Options {
            stream: false,
            startup: StartupOptions::default(),
            crc,
            pd: 1,
            solicited_only: false,
            send_moderation: None,
            receive_moderation: None,
            mulpdu,
            congestion: Congestion::default(),
            connect_timeout: Duration::ZERO,
            reply_timeout: Duration::ZERO,
            any_revision: true,
            shared: None,
        }
    }

    #[test]
    fn an_address_that_never_answers_leaves_time_for_the_next_one() {
        let (silent, listener) = (full_listener(), TcpListener::bind("127.0.0.1:0").unwrap());
        let [unanswered, answered] = [&silent.0, &listener].map(|listener| listener.local_addr().unwrap());
        let device = Device::open().unwrap();
        for (addresses, fails) in [(vec![unanswered, answered], false), (vec![unanswered, unanswered], true)] {
            let connect_timeout = Duration::from_millis(600);
            let begin = Instant::now();
            let conn = connect(&device, &addresses, connect_timeout);
            let is_connected = || conn.facts().local.is_some();
            until(&mut || is_connected() || conn.tally_unless_ended().is_none());
            assert_eq!(!is_connected(), fails);
            assert!(!fails || begin.elapsed() >= connect_timeout, "{:?}", begin.elapsed());
        }
        device.close();
    }

    fn between(local: &str, remote: &str) -> Facts {
        let address = |host: &str| Some(SocketAddr::new(host.parse().unwrap(), 1));
        Facts { local: address(local), remote: address(remote), ..Facts::default() }
    }

    #[test]
    fn what_suits_a_connection_depends_on_whether_it_leaves_the_host() {
        let within =
            [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("192.0.2.1", "127.0.0.3"), ("192.0.2.1", "192.0.2.1")];
        let beyond = [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")];
        for (hosts, is_beyond) in [(&within[..], false), (&beyond[..], true)] {
            for (local, remote) in hosts {
                let facts = between(local, remote);
                let asks = [0, 1, 2].map(|crc| options(crc, Mulpdu::Suitable).wants_crc(&facts));
                assert_eq!(asks, [false, true, is_beyond], "{local} {remote}");
                let usual = if is_beyond { 11 * 1448 - 6 } else { ULPDU_MAX };
                assert_eq!(mulpdu(0, &facts, 1448, false), usual, "{local} {remote}");
            }
        }
        assert!(options(2, Mulpdu::Suitable).wants_crc(&Facts::default()), "nobody knows where the peer is");
    }

    fn mulpdu(number: u32, facts: &Facts, emss: usize, markers: bool) -> usize {
        options(2, Mulpdu::from_number(number)).mulpdu(facts, emss, markers)
    }

    #[test]
    fn an_fpdu_to_another_host_is_as_many_whole_segments_as_16_kib_have_room_for() {
        let beyond = between("192.0.2.1", "192.0.2.2");
        // of the EMSS: bytes of an FPDU on the wire, and what of them its markers may take
        let expected = [
            (536, 30 * 536, 32 * 4),
            (1448, 11 * 1448, 32 * 4),
            (1450, 11 * 1450 - 2, 32 * 4),
            (8948, 8948, 18 * 4),
            (16_384, 16_384, 32 * 4),
            (16_385, 16_384, 32 * 4),
            (65_483, 16_384, 32 * 4),
            (0, 16_384, 32 * 4),
        ];
        for (emss, fpdu, markers) in expected {
            assert_eq!(mulpdu(0, &beyond, emss, false), fpdu - 6, "{emss}");
            assert_eq!(mulpdu(0, &beyond, emss, true), fpdu - 6 - markers, "{emss} with markers");
        }
    }

    #[test]
    fn an_fpdu_is_one_segment_or_of_any_length_where_that_was_asked_for() {
        for facts in [between("127.0.0.1", "127.0.0.1"), between("192.0.2.1", "192.0.2.2")] {
            let one = [536, 1448, 8948, 65_483, 0, 88].map(|emss| mulpdu(1, &facts, emss, false));
            assert_eq!(one, [530, 1442, 8942, 65_474, 16_378, MULPDU_MIN]);
            assert_eq!(mulpdu(1, &facts, 1448, true), 1430);
            // with markers an FPDU has no more bytes than a marker can count
            for (markers, most) in [(false, ULPDU_MAX), (true, 65_532 - 6 - 128 * 4)] {
                let set = [128, 1460, 20_000, 65_535].map(|number| mulpdu(number, &facts, 1448, markers));
                assert_eq!(set, [128, 1460, 20_000, most]);
            }
        }
    }

    fn connect(device: &Arc<Device>, addresses: &[SocketAddr], connect_timeout: Duration) -> Arc<Conn> {
        let options = Options { stream: true, connect_timeout, ..options(0, Mulpdu::Suitable) };
        let conn = CONNS.insert_with(|handle| Conn::connect(handle, device, 1, options)).unwrap();
        conn.resolved(addresses);
        conn
    }

    /// A listener that has room for no more than the one that it has not accepted.
    fn full_listener() -> (TcpListener, TcpStream) {
        let listener = TcpListener::from(socket::listen(&"127.0.0.1:0".parse().unwrap(), 0).unwrap());
        listener.set_nonblocking(false).unwrap();
        let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener, first)
    }

    fn until(is_so: &mut dyn FnMut() -> bool) {
        let begin = Instant::now();
        while !is_so() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Fails where the socket is asked again for each message, as if the peer had ended.
    fn assert_asks_once(conn: &Arc<Conn>, peer: &mut TcpStream) {
        const MESSAGES: u64 = 10;
        let device = &conn.device;
        let mut memory = [0u8; 4096];
        let mut sges = Sges::default();
        sges.push(Sge { stag: 0, length: 4096, address: memory.as_mut_ptr() as u64 });
        until(&mut || device.ring.ready() > 0);
        assert_eq!(conn.post(Vec::new(), vec![ReceiveWork::new(0, sges)]), Status::Ok);
        let before = device.counters.receive_calls.get();
        for n in 1..=MESSAGES {
            peer.write_all(&[1]).unwrap();
            until(&mut || conn.tally().wire_bytes_received == n);
        }
        let calls = device.counters.receive_calls.get() - before;
        assert!(calls < 2 * MESSAGES, "{calls} calls");
        device.close();
    }

    #[test]
    fn an_address_that_refused_leaves_nothing_behind_for_the_next_one() {
        let device = Device::open().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // closed again before it is connected to
        let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let conn = connect(&device, &[refusing, listener.local_addr().unwrap()], Duration::ZERO);
        let (mut peer, _) = listener.accept().unwrap();
        assert_asks_once(&conn, &mut peer);
    }

    #[test]
    fn what_a_thread_tells_late_of_an_address_that_refused_is_not_the_next_ones() {
        let device = Device::open().unwrap();
        let (listener, _first) = full_listener();
        let conn = connect(&device, &[listener.local_addr().unwrap()], Duration::ZERO);
        conn.run(READABLE | WRITABLE | ENDING);
        listener.accept().unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert_asks_once(&conn, &mut peer);
    }
}
