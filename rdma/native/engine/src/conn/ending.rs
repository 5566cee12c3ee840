//! The end of a connection: closed in order, aborted, ended by the peer, terminated (RFC 5040 §7), or out of time.
use super::*;

impl Conn {
    /// Closes after everything posted has been done, and everything answered that the peer has asked for so far.
    pub fn close(self: &Arc<Self>) {
        self.with(|_, inner| match inner.phase {
            Phase::Open => {
                self.release(inner);
                self.drain(inner);
                self.drained(inner);
            }
            Phase::Draining | Phase::Ending | Phase::Closed => {}
            _ => {
                inner.cause = Status::Aborted;
                self.finish(inner);
            }
        });
    }

    /// Ends the connection at once, with a reset.
    pub fn abort(self: &Arc<Self>) {
        self.with(|_, inner| {
            if !matches!(inner.phase, Phase::Closed) {
                if let Some(fd) = &inner.fd {
                    socket::reset_on_close(fd);
                }
                if inner.cause == Status::Ok {
                    inner.cause = Status::Aborted;
                }
                self.finish(inner);
            }
        });
    }

    /// Whether its deadline is still ahead; ends it where the deadline has passed.
    pub fn check_deadline(self: &Arc<Self>, now: Instant) -> bool {
        self.with(|conn, inner| {
            fault!(Deadline, conn.handle);
            match inner.deadline {
                None => return false,
                Some(deadline) if now < deadline => return !matches!(inner.phase, Phase::Closed),
                Some(_) => {}
            }
            if conn.is_still_sending(inner, now) {
                inner.deadline = Some(now + ENDING_TIMEOUT);
                return true;
            }
            if matches!(inner.phase, Phase::Connecting) && !inner.addresses.is_empty() {
                conn.connect_next(inner, libc::ETIMEDOUT);
                return !matches!(inner.phase, Phase::Closed);
            }
            if matches!(inner.phase, Phase::Peeking | Phase::AwaitRequest(_) | Phase::AwaitReply(..)) {
                conn.device.counters.startup_failures.add(1);
            }
            if inner.cause == Status::Ok && !matches!(inner.phase, Phase::Ending) {
                inner.cause = Status::TimedOut;
            }
            conn.finish(inner);
            false
        })
    }

    /// Whether the peer of an orderly end has not got everything yet. To close a socket that it still sends to would take that from it.
    pub(super) fn is_still_sending(&self, inner: &Inner, now: Instant) -> bool {
        let orderly = matches!(inner.phase, Phase::Ending) && inner.finished_sending && inner.cause == Status::Ok;
        orderly && now < inner.patience && inner.fd.as_ref().is_some_and(socket::has_unsent)
    }

    /// Gives it up if its peer has not said yet what it wants; whether that is so.
    pub fn displace(self: &Arc<Self>) -> bool {
        self.with(|conn, inner| {
            let starting = matches!(inner.phase, Phase::Peeking | Phase::AwaitRequest(_));
            if starting {
                conn.finish(inner);
            }
            starting
        })
    }

    /// Takes no more work, and ends once what was posted has been done.
    pub(super) fn drain(self: &Arc<Self>, inner: &mut Inner) {
        if matches!(inner.phase, Phase::Open) {
            inner.phase = Phase::Draining;
            inner.tx.closing = true;
            self.wait_for_work(inner);
            self.device.watch_deadline(self);
        }
    }

    fn wait_for_work(&self, inner: &mut Inner) {
        inner.drained_to = (inner.tx.posted(), inner.tx.moved);
        inner.deadline = Some(Instant::now() + DRAIN_TIMEOUT);
    }

    /// Ends a connection that is to be closed and has nothing left to do, or waits on where its own work has got on. What the peer still gets of its Reads is no
    /// reason to.
    pub(super) fn drained(self: &Arc<Self>, inner: &mut Inner) {
        if !matches!(inner.phase, Phase::Draining) {
            return;
        }
        let (left, moved) = inner.drained_to;
        if inner.tx.is_drained() && inner.out.is_empty() {
            self.end_sending(inner);
        } else if inner.tx.posted() < left || inner.tx.moved - moved >= DRAIN_BYTES {
            self.wait_for_work(inner);
        }
    }

    /// Sends what is left to be sent, and nothing more, before our direction is closed.
    pub(super) fn send_the_rest(self: &Arc<Self>, inner: &mut Inner) {
        inner.phase = Phase::Ending;
        inner.deadline = Some(Instant::now() + ENDING_TIMEOUT);
        self.device.watch_deadline(self);
        self.turn_ending(inner);
    }

    /// Closes our direction and waits for the peer to close its own.
    pub(super) fn end_sending(self: &Arc<Self>, inner: &mut Inner) {
        if let Some(fd) = &inner.fd {
            socket::shutdown_send(fd);
        }
        inner.finished_sending = true;
        inner.phase = Phase::Ending;
        let now = Instant::now();
        inner.deadline = Some(now + ENDING_TIMEOUT);
        inner.patience = now + DRAIN_TIMEOUT;
        self.device.watch_deadline(self);
        self.driven.note(READABLE);
    }

    /// The peer has ended its direction; a peer of a stream may still be listening to what is queued for it.
    pub(super) fn peer_ended(self: &Arc<Self>, inner: &mut Inner, within: bool) {
        let status = if within || inner.send_failed { Status::Reset } else { Status::Ok };
        if inner.stream && !inner.send_failed && !inner.tx.is_drained() {
            inner.cause = status;
            self.drain(inner);
        } else {
            self.fail(inner, status, 0, None);
        }
    }

    /// A stream nobody reads from whose peer has closed: tell only when nothing is left to read.
    pub(super) fn ended_without_receive(self: &Arc<Self>, inner: &mut Inner, fd: RawFd) {
        let mut probe = [0u8; 1];
        match socket::receive_buffer(fd, &mut probe, true) {
            Transfer::End => self.peer_ended(inner, false),
            Transfer::Failed(_) => self.fail(inner, Status::Reset, 0, None),
            Transfer::Bytes(_) if !inner.fd.as_ref().is_some_and(socket::is_connected) => {
                self.fail(inner, Status::Reset, 0, None); // what is left is of a connection that was reset
            }
            Transfer::Bytes(_) | Transfer::WouldBlock => {}
        }
    }

    pub(super) fn turn_ending(self: &Arc<Self>, inner: &mut Inner) {
        let Some(fd) = inner.fd.as_ref().map(AsRawFd::as_raw_fd) else { return };
        if !inner.finished_sending {
            // nothing may overtake a reply that found no room
            let sent = match self.flush_out(inner) {
                true => inner.tx.drive(fd, &self.device.memory, &self.device.counters),
                false => Ok(SendEnd::Blocked),
            };
            match sent {
                Ok(SendEnd::Done) => self.end_sending(inner),
                Ok(SendEnd::Blocked | SendEnd::Turn) => {}
                Err(_) => {
                    if let Some(fd) = &inner.fd {
                        socket::reset_on_close(fd);
                    }
                    self.finish(inner);
                    return;
                }
            }
        }
        let mut waste = [0u8; 4096];
        for _ in 0..256 {
            match socket::receive_buffer(fd, &mut waste, false) {
                Transfer::Bytes(_) => {}
                Transfer::WouldBlock => return,
                Transfer::End | Transfer::Failed(_) => {
                    if inner.finished_sending {
                        self.finish(inner);
                    }
                    return;
                }
            }
        }
        self.device.again(self, READABLE);
    }

    /// The connection is to end: with a Terminate where one can be sent, else at once.
    pub(super) fn fail(
        self: &Arc<Self>,
        inner: &mut Inner,
        status: Status,
        detail: u32,
        terminate: Option<&Terminate>,
    ) {
        if matches!(inner.phase, Phase::Ending | Phase::Closed) {
            return;
        }
        inner.cause = status;
        inner.detail = detail;
        if let Some(terminate) = terminate {
            // streams, and connections on which no FPDU may be sent yet, have none
            if inner.tx.terminate(&terminate.emit()) {
                self.device.counters.terminates_sent.add(1);
                self.send_the_rest(inner);
                return;
            }
        }
        self.finish(inner);
    }

    /// Flushes everything, tells JavaScript, and gives the socket back. Whatever state the connection is in, JavaScript hears of its end.
    pub(super) fn finish(&self, inner: &mut Inner) {
        if matches!(inner.phase, Phase::Closed) {
            return;
        }
        inner.phase = Phase::Closed;
        inner.fd = None;
        self.starting.store(false, Ordering::SeqCst);
        let (ring, tag) = (&self.device.ring, self.tag());
        let (tx, rx) = (&mut inner.tx, &mut inner.rx);
        let flushed = catch_unwind(AssertUnwindSafe(|| {
            fault!(Flush, self.handle);
            tx.flush(ring, tag);
            rx.flush(ring, tag);
        }));
        if flushed.is_err() {
            inner.cause = Status::Panic;
        }
        self.device.note_end(&inner.tally());
        if inner.announced {
            let (status, detail) = (inner.cause, inner.detail);
            ring.push(Entry { tag, kind: EntryKind::Closed, status, slot: 0, bytes: 0, detail, aux: self.handle });
        } else {
            self.device.forget(self.handle);
        }
    }
}
