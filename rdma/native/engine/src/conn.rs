//! One TCP connection from its first byte to its last: connect or accept, MPA start-up (RFC 5044 §7, RFC 6581), then a queue pair or a plain stream, then its end.
//!
//! Whoever holds the lock drives (`handover`).
mod ending;
mod startup;

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_proto::{
    mpa, private_data_len, Established, Frame, FrameKind, Initiator, Responder, Role, Rtr, StartupError,
    StartupOptions, Terminate, TerminateCode, FRAME_HEADER_LEN,
};

use crate::admission::Admission;
use crate::counters::Tally;
use crate::device::Device;
use crate::handover::Driven;
use crate::memory::Through;
use crate::moderation::Moderation;
use crate::ring::{Entry, EntryKind};
use crate::rx::{Context, ReceiveEnd, Rx};
use crate::shared::SharedReceives;
use crate::socket::{self, Congestion, Transfer};
use crate::status::Status;
use crate::tx::{SendEnd, SendError, Tx, ULPDU_MAX};
use crate::work::{Operation, ReceiveWork, SendWork, Sges};

/// The socket may have something to read.
pub const READABLE: u32 = 1;
/// The socket may take more.
pub const WRITABLE: u32 = 2;
/// The peer has ended its direction, or the connection is gone.
pub const ENDING: u32 = 4;

/// Work requests of one kind that may be posted at once.
pub const POSTED_MAX: usize = 16 * 1024;
/// How long TCP may take to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer may take to answer an MPA request.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the peer may take to close its side once we have closed ours.
const ENDING_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a graceful close waits while its own work does not get on.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How much of it has to move in that time where no request is finished. Each byte would be enough for a peer to make a close last for ever; with this, the time is
/// bounded by what the application itself had posted, and no link that is used for this is so slow.
const DRAIN_BYTES: u64 = 64 * 1024;

/// The slot of work that is not JavaScript's.
const NO_SLOT: u32 = u32::MAX;
/// The longest FPDU to another host: what every adapter takes (a Chelsio T6 wants at most 16 KiB).
const FPDU_REMOTE: usize = 16 * 1024;
/// The smallest MULPDU there may be (RFC 5044 §4.5).
const MULPDU_MIN: usize = 128;

/// Where in its life a connection is.
enum Phase {
    /// The name is being looked up.
    Resolving,
    /// TCP is connecting.
    Connecting,
    /// The MPA request is out.
    AwaitReply(Initiator, Vec<u8>),
    /// Accepted; the first bytes will tell what it is.
    Peeking,
    /// The MPA request is coming in.
    AwaitRequest(Vec<u8>),
    /// The application is to accept or reject; a stream has no responder.
    Requested(Option<Box<Responder>>),
    /// In use.
    Open,
    /// To be closed once everything posted has been done.
    Draining,
    /// Our side is closed, or closes behind a Terminate; waiting for the peer's.
    Ending,
    /// Gone.
    Closed,
}

/// How large ULPDUs to send may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mulpdu {
    /// As suits the peer: the largest there is within this host; to another one, as many whole segments of TCP's to an FPDU as fit into 16 KiB.
    Suitable,
    /// As fills one segment of TCP's.
    Segment,
    /// So many bytes.
    Bytes(u32),
}

impl Mulpdu {
    /// By its word of settings.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Mulpdu::Suitable,
            1 => Mulpdu::Segment,
            bytes => Mulpdu::Bytes(bytes),
        }
    }
}

/// What the application wants of a connection.
#[derive(Clone)]
pub struct Options {
    /// Plain TCP instead of iWARP.
    pub stream: bool,
    /// MPA start-up.
    pub startup: StartupOptions,
    /// Whether CRCs are asked for: 0 no, 1 yes, 2 only of other hosts.
    pub crc: u32,
    /// Protection domain.
    pub pd: u32,
    /// Only what the peer marked with Solicited Event wakes JavaScript.
    pub solicited_only: bool,
    /// What completions of the send queue wait for.
    pub send_moderation: Option<Arc<Moderation>>,
    /// What those of receives wait for.
    pub receive_moderation: Option<Arc<Moderation>>,
    /// The largest ULPDU to send.
    pub mulpdu: Mulpdu,
    /// TCP's congestion control.
    pub congestion: Congestion,
    /// How long TCP may take to connect; 0: as long as usual.
    pub connect_timeout: Duration,
    /// How long the peer may take to answer the MPA request; 0: as long as usual.
    pub reply_timeout: Duration,
    /// Whether a peer that speaks MPA revision 1 only is asked again in that.
    pub any_revision: bool,
    /// Where receives come from, instead of being posted to the connection.
    pub shared: Option<Arc<SharedReceives>>,
}

/// What is known of an established connection.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// MPA revision, 0 for a stream.
    pub revision: u8,
    /// FPDUs carry CRCs.
    pub crc: bool,
    /// Markers are sent, and received.
    pub markers: (bool, bool),
    /// Inbound RDMA Read depth.
    pub ird: u16,
    /// Outbound RDMA Read depth.
    pub ord: u16,
    /// The largest ULPDU that is sent.
    pub mulpdu: u32,
    /// TCP's congestion control.
    pub congestion: String,
    /// The peer's private data.
    pub private_data: Vec<u8>,
    /// Our address.
    pub local: Option<SocketAddr>,
    /// The peer's.
    pub remote: Option<SocketAddr>,
}

struct Inner {
    fd: Option<OwnedFd>,
    phase: Phase,
    options: Option<Options>,
    facts: Facts,
    out: Vec<u8>,
    rx: Rx,
    tx: Tx,
    stream: bool,
    /// Nothing is received yet: the application is posting its first receives.
    held: bool,
    /// JavaScript knows of it and is owed a Closed entry.
    announced: bool,
    listener: u32,
    /// Of the listener, which is told what the peer tries.
    admission: Option<Arc<Admission>>,
    cause: Status,
    detail: u32,
    finished_sending: bool,
    /// The socket takes nothing more; what the peer said before may still be there to read.
    send_failed: bool,
    /// The peer has ended its direction, so that an empty socket is one at its end.
    peer_ending: bool,
    /// Where else to connect to, last one first.
    addresses: Vec<SocketAddr>,
    /// Until when TCP has to be connected, to whichever of them.
    connect_by: Instant,
    deadline: Option<Instant>,
    /// Until when an orderly end may wait for the peer to take what was sent.
    patience: Instant,
    /// How far a close was when its deadline was set: requests left, bytes of them that had moved.
    drained_to: (usize, u64),
    blocked: bool,
}

/// A connection.
pub struct Conn {
    /// Its handle.
    pub handle: u64,
    /// Whose it is.
    pub device: Arc<Device>,
    tag: AtomicU32,
    stream: AtomicBool,
    /// Accepted, and the peer has not said yet what it wants.
    starting: AtomicBool,
    /// What it is to run for again, after others; it is in the device's line while there is something.
    deferred: AtomicU32,
    driven: Driven<Inner>,
}

fn is_local(local: &SocketAddr, remote: &SocketAddr) -> bool {
    remote.ip().is_loopback() || local.ip() == remote.ip()
}

impl Inner {
    fn tally(&self) -> Tally {
        let (wire_bytes_sent, wire_bytes_received) = (self.tx.bytes_sent(), self.rx.bytes_received());
        let mut tally = Tally { wire_bytes_sent, wire_bytes_received, ..self.tx.tally };
        tally.add(&self.rx.tally);
        tally
    }
}

impl Facts {
    fn is_local(&self) -> bool {
        matches!((&self.local, &self.remote), (Some(local), Some(remote)) if is_local(local, remote))
    }
}

impl Options {
    /// Whether to ask for CRCs on the connection that these facts are of.
    fn wants_crc(&self, facts: &Facts) -> bool {
        self.crc == 1 || (self.crc == 2 && !facts.is_local())
    }

    /// The largest ULPDU to send on the connection that these facts are of, whose TCP sends segments of `emss` bytes (0 where that is not known), with markers or
    /// without (RFC 5044 §4.5).
    fn mulpdu(&self, facts: &Facts, emss: usize, markers: bool) -> usize {
        let mulpdu = match (self.mulpdu, emss) {
            (Mulpdu::Bytes(bytes), _) => bytes as usize,
            (Mulpdu::Suitable, _) if facts.is_local() => ULPDU_MAX,
            (Mulpdu::Segment, 1..) => mpa::mulpdu(emss, markers),
            (Mulpdu::Suitable, 1..=FPDU_REMOTE) => mpa::mulpdu(FPDU_REMOTE / emss * emss, markers),
            (Mulpdu::Suitable | Mulpdu::Segment, _) => mpa::mulpdu(FPDU_REMOTE, markers),
        };
        // a marker tells how far behind it the FPDU begins, in 16 bits
        let most = if markers { mpa::mulpdu(usize::from(u16::MAX), true) } else { ULPDU_MAX };
        mulpdu.clamp(MULPDU_MIN, most.min(ULPDU_MAX))
    }
}

fn or_usual(chosen: Duration, usual: Duration) -> Duration {
    if chosen.is_zero() {
        usual
    } else {
        chosen
    }
}

fn connect_status(code: i32) -> Status {
    match code {
        libc::ECONNREFUSED => Status::Refused,
        libc::ETIMEDOUT => Status::TimedOut,
        _ => Status::Unreachable,
    }
}

impl Inner {
    /// The peer was refused memory.
    fn offended(&self) {
        if let (Some(admission), Some(remote)) = (&self.admission, self.facts.remote) {
            admission.offended(remote.ip(), Instant::now());
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        self.device.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Conn {
    fn new(handle: u64, device: &Arc<Device>, tag: u32, phase: Phase, fd: Option<OwnedFd>) -> Arc<Self> {
        let rx = Rx::new(Through { pd: 0, connection: handle }, device.memory.large_writable(0));
        let inner = Inner {
            fd,
            phase,
            options: None,
            facts: Facts::default(),
            out: Vec::new(),
            rx,
            tx: Tx::new(),
            stream: false,
            held: false,
            announced: false,
            listener: 0,
            admission: None,
            cause: Status::Ok,
            detail: 0,
            finished_sending: false,
            send_failed: false,
            peer_ending: false,
            addresses: Vec::new(),
            connect_by: Instant::now(),
            deadline: None,
            patience: Instant::now(),
            drained_to: (0, 0),
            blocked: false,
        };
        device.alive.fetch_add(1, Ordering::SeqCst);
        Arc::new(Self {
            handle,
            device: Arc::clone(device),
            tag: AtomicU32::new(tag),
            stream: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            deferred: AtomicU32::new(0),
            driven: Driven::new(inner),
        })
    }

    /// Begins a connection to `address`, or to a name that is still being looked up (`None`: `resolved` follows).
    pub fn connect(handle: u64, device: &Arc<Device>, tag: u32, options: Options) -> Arc<Self> {
        let conn = Self::new(handle, device, tag, Phase::Resolving, None);
        // before it is told that it is established: whoever posts asks without the lock
        conn.stream.store(options.stream, Ordering::Relaxed);
        let mut inner = conn.driven.lock();
        inner.announced = true;
        inner.connect_by = Instant::now() + or_usual(options.connect_timeout, CONNECT_TIMEOUT);
        inner.deadline = Some(inner.connect_by);
        inner.options = Some(options);
        drop(inner);
        device.watch_deadline(&conn);
        conn
    }

    /// Undoes `connect` or `accepted`, before anything was told of it.
    pub fn forget(self: &Arc<Self>) {
        self.with(|conn, inner| {
            inner.announced = false;
            conn.finish(inner);
        });
    }

    /// The address to connect to is known, or that there is none.
    pub fn resolved(self: &Arc<Self>, addresses: &[SocketAddr]) {
        self.with(|conn, inner| {
            if matches!(inner.phase, Phase::Resolving) {
                inner.addresses = addresses.iter().rev().copied().collect();
                conn.connect_next(inner, libc::EHOSTUNREACH);
            }
        });
        self.device.signal();
    }

    /// Tries the next address; `code` is why the last one failed.
    fn connect_next(self: &Arc<Self>, inner: &mut Inner, mut code: i32) {
        while let Some(address) = inner.addresses.pop() {
            match socket::connect(&address).and_then(|fd| self.device.watch(&fd, self.handle).map(|()| fd)) {
                Ok(fd) => {
                    inner.facts.remote = Some(address);
                    inner.fd = Some(fd);
                    inner.phase = Phase::Connecting;
                    // one that never answers leaves the others their share of the time
                    let (now, more) = (Instant::now(), inner.addresses.len() as u32);
                    inner.deadline = Some(now + inner.connect_by.saturating_duration_since(now) / (more + 1));
                    return;
                }
                Err(error) => code = error.raw_os_error().unwrap_or(code),
            }
        }
        self.fail(inner, connect_status(code), code as u32, None);
    }

    /// Takes over a connection that a listener accepted.
    pub fn accepted(
        handle: u64,
        device: &Arc<Device>,
        fd: OwnedFd,
        remote: SocketAddr,
        listener: u32,
        admission: &Arc<Admission>,
    ) -> Arc<Self> {
        let local = socket::local_address(&fd).ok();
        socket::tune(&fd, local.is_some_and(|local| is_local(&local, &remote)));
        let conn = Self::new(handle, device, 0, Phase::Peeking, Some(fd));
        let mut inner = conn.driven.lock();
        inner.facts.local = local;
        inner.facts.remote = Some(remote);
        inner.listener = listener;
        inner.deadline = Some(Instant::now() + admission.limits.request_timeout);
        inner.admission = Some(Arc::clone(admission));
        conn.starting.store(true, Ordering::SeqCst);
        drop(inner);
        device.watch_deadline(&conn);
        conn
    }

    /// Puts the socket into the device's epoll set. Separate from `accepted`, because an event may come at once and must find the handle.
    pub fn watch(self: &Arc<Self>) -> bool {
        self.with(|conn, inner| inner.fd.as_ref().is_some_and(|fd| conn.device.watch(fd, conn.handle).is_ok()))
    }

    /// Whether it was accepted, and its peer has not said yet what it wants.
    pub fn is_starting(&self) -> bool {
        self.starting.load(Ordering::SeqCst)
    }

    /// JavaScript's number for the connection.
    pub fn tag(&self) -> u32 {
        self.tag.load(Ordering::Relaxed)
    }

    /// Notes events and handles them, unless somebody is at it, who then will. Returns whether payload or completions moved.
    pub fn run(self: &Arc<Self>, events: u32) -> bool {
        let mut moved = false;
        let left = self.driven.run(events, |inner, ready| moved |= self.turn(inner, ready));
        if left != 0 {
            self.device.again(self, left);
        }
        moved
    }

    /// Runs `f` on the connection's state, then whatever others noted meanwhile. Whoever locks otherwise loses their events.
    fn with<R>(self: &Arc<Self>, f: impl FnOnce(&Arc<Self>, &mut Inner) -> R) -> R {
        let result = catch_unwind(AssertUnwindSafe(|| f(self, &mut self.driven.lock())));
        match result {
            Ok(result) => {
                self.run_guarded(0);
                result
            }
            Err(panic) => {
                self.fail_after_panic();
                resume_unwind(panic)
            }
        }
    }

    /// The same as `run`; a panic ends the connection, and nothing else.
    pub fn run_guarded(self: &Arc<Self>, events: u32) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.run(events))).unwrap_or_else(|_| {
            self.fail_after_panic();
            true
        })
    }

    /// Notes events for `run_deferred`. Whether it has to get into line for that: who stood there twice would take two turns where others take one.
    pub fn defer(&self, events: u32) -> bool {
        self.deferred.fetch_or(events, Ordering::SeqCst) == 0
    }

    /// Runs for what was deferred.
    pub fn run_deferred(self: &Arc<Self>) -> bool {
        self.run_guarded(self.deferred.swap(0, Ordering::SeqCst))
    }

    /// Ends the connection after a panic in its code: what its state is, is unknown.
    fn fail_after_panic(&self) {
        let mut inner = self.driven.lock();
        if let Some(fd) = &inner.fd {
            socket::reset_on_close(fd);
        }
        self.device.counters.panics.add(1);
        inner.cause = Status::Panic;
        self.finish(&mut inner);
    }

    fn turn(self: &Arc<Self>, inner: &mut Inner, ready: u32) -> bool {
        let mut moved = false;
        fault!(Turn, self.handle);
        inner.peer_ending |= ready & ENDING != 0;
        // Phases follow one another within a turn: an edge is reported once.
        loop {
            let again = match inner.phase {
                Phase::Resolving | Phase::Closed => false,
                Phase::Connecting => self.turn_connecting(inner, ready),
                Phase::Peeking => self.turn_peeking(inner),
                Phase::AwaitReply(..) | Phase::AwaitRequest(_) => self.turn_startup(inner),
                Phase::Requested(ref responder) => {
                    // what came on a stream is still to be read; an initiator that has gone wants no reply
                    if responder.is_some() && inner.peer_ending {
                        self.device.counters.startup_failures.add(1);
                        self.finish(inner);
                    }
                    false
                }
                Phase::Open | Phase::Draining => {
                    moved |= self.turn_open(inner, ready);
                    false
                }
                Phase::Ending => {
                    self.turn_ending(inner);
                    false
                }
            };
            if !again {
                return moved;
            }
        }
    }

    /// Does something while nobody can drive it, and leaves what was noted meanwhile to whoever comes next.
    #[cfg(test)]
    pub fn while_locked(&self, body: impl FnOnce()) {
        let _inner = self.driven.lock();
        body();
    }

    /// Whether it is plain TCP.
    pub fn is_stream(&self) -> bool {
        self.stream.load(Ordering::Relaxed)
    }

    /// Looks at its state. Whoever looks drives it for what others noted meanwhile, and may be the one who is to be woken for that.
    fn look<R>(self: &Arc<Self>, f: impl FnOnce(&Inner) -> R) -> R {
        let seen = self.with(|_, inner| f(inner));
        self.device.signal_self();
        seen
    }

    /// What is known of the connection.
    pub fn facts(self: &Arc<Self>) -> Facts {
        self.look(|inner| {
            let congestion = inner.fd.as_ref().map(socket::congestion).unwrap_or_default();
            Facts { congestion, ..inner.facts.clone() }
        })
    }

    /// What it has done so far.
    pub fn tally(self: &Arc<Self>) -> Tally {
        self.look(Inner::tally)
    }

    /// The same, of a connection that is not among those that have ended.
    pub fn tally_unless_ended(self: &Arc<Self>) -> Option<Tally> {
        self.look(|inner| (!matches!(inner.phase, Phase::Closed)).then(|| inner.tally()))
    }

    /// Queues work of both kinds and sends what can be sent.
    pub fn post(self: &Arc<Self>, sends: Vec<SendWork>, receives: Vec<ReceiveWork>) -> Status {
        self.with(|conn, inner| {
            if !matches!(inner.phase, Phase::Open) {
                return Status::Closed;
            }
            // one more: the start-up may have posted a request of its own
            if inner.tx.posted() + sends.len() > POSTED_MAX + 1 || inner.rx.posted() + receives.len() > POSTED_MAX {
                return Status::Exhausted;
            }
            if !receives.is_empty() && inner.stream {
                // data may have been waiting for them
                conn.driven.note(READABLE);
            }
            receives.into_iter().for_each(|work| inner.rx.post(work));
            conn.release(inner);
            let any = !sends.is_empty();
            sends.into_iter().for_each(|work| inner.tx.post(work));
            if any {
                self.send(inner);
            }
            Status::Ok
        })
    }

    /// Begins to receive, which an iWARP connection does not before its first post, so that no Send comes too early for its receive.
    pub fn start(self: &Arc<Self>) {
        self.with(|conn, inner| conn.release(inner));
    }

    fn release(&self, inner: &mut Inner) {
        if inner.held {
            inner.held = false;
            self.driven.note(READABLE);
        }
    }

    fn turn_open(self: &Arc<Self>, inner: &mut Inner, ready: u32) -> bool {
        let Some(fd) = inner.fd.as_ref().map(AsRawFd::as_raw_fd) else { return false };
        let mut moved = false;
        if ready & (READABLE | ENDING) != 0 && !inner.held {
            let ending = inner.peer_ending;
            let before = inner.rx.received;
            let device = &self.device;
            let mut context = Context {
                fd,
                ending,
                memory: &device.memory,
                counters: &device.counters,
                ring: &device.ring,
                tag: self.tag(),
                tx: &mut inner.tx,
            };
            let end = if inner.stream { inner.rx.drive_stream(&mut context) } else { inner.rx.drive(&mut context) };
            moved = inner.rx.received != before;
            match end {
                ReceiveEnd::Drained if inner.send_failed => self.fail(inner, Status::Reset, 0, None),
                ReceiveEnd::Drained => {}
                ReceiveEnd::Turn => {
                    // a stream without a posted receive waits for one; everything else comes again
                    if !inner.stream || inner.rx.posted() > 0 {
                        self.device.again(self, READABLE);
                    } else if ending {
                        self.ended_without_receive(inner, fd);
                    }
                }
                ReceiveEnd::End { within } => self.peer_ended(inner, within),
                ReceiveEnd::Violation(code, terminate) => {
                    if code.is_protection() {
                        inner.offended();
                    }
                    self.fail(inner, Status::PeerViolation, pack(code), Some(&terminate));
                }
                ReceiveEnd::Terminated(terminate) => {
                    self.device.counters.terminates_received.add(1);
                    self.fail(inner, Status::PeerTerminated, pack(terminate.terminate_code()), None);
                }
                ReceiveEnd::Local => {
                    let terminate = Terminate::new(TerminateCode::RDMAP_LOCAL_CATASTROPHIC);
                    self.fail(inner, Status::LocalProtection, 0, Some(&terminate));
                }
                ReceiveEnd::Failed(_) => self.fail(inner, Status::Reset, 0, None),
            }
            if inner.rx.started && !inner.tx.open {
                inner.tx.open = true;
                if matches!(inner.phase, Phase::Open | Phase::Draining) {
                    self.announce(inner, EntryKind::Ready);
                }
            }
        }
        if matches!(inner.phase, Phase::Open | Phase::Draining) {
            if ready & WRITABLE != 0 || !inner.blocked || inner.tx.is_change_due() {
                moved |= self.send(inner);
            }
            self.drained(inner);
        }
        moved
    }

    /// Sends; true where a completion was written.
    fn send(self: &Arc<Self>, inner: &mut Inner) -> bool {
        let Some(fd) = inner.fd.as_ref().map(AsRawFd::as_raw_fd) else { return false };
        // a reply that found no room goes first
        if !self.flush_out(inner) || inner.tx.is_idle() || inner.send_failed {
            return false;
        }
        fault!(Send, self.handle);
        let outcome = inner.tx.drive(fd, &self.device.memory, &self.device.counters);
        let moved = inner.tx.retire(&self.device.ring, self.tag());
        match outcome {
            Ok(SendEnd::Done) => inner.blocked = false,
            Ok(SendEnd::Blocked) => inner.blocked = true,
            Ok(SendEnd::Turn) => {
                inner.blocked = false;
                self.device.again(self, WRITABLE);
            }
            Err(SendError::Local) => {
                let terminate = Terminate::new(TerminateCode::RDMAP_LOCAL_CATASTROPHIC);
                self.fail(inner, Status::LocalProtection, 0, Some(&terminate));
            }
            Err(SendError::Remote(code)) => {
                let terminate = inner.tx.refusal(code);
                self.fail(inner, Status::PeerViolation, pack(code), Some(&terminate));
            }
            Err(SendError::Socket(libc::EPIPE | libc::ECONNRESET)) => {
                // What the peer said before it went (a Terminate, say) may still be there to read.
                inner.send_failed = true;
                self.driven.note(READABLE | ENDING);
            }
            Err(SendError::Socket(_)) => self.fail(inner, Status::Reset, 0, None),
        }
        moved
    }
}

/// A Terminate's code in the form of a completion's `detail`; the top bit tells it from none.
fn pack(code: TerminateCode) -> u32 {
    1 << 31 | u32::from(code.layer) << 16 | u32::from(code.etype) << 8 | u32::from(code.code)
}
