//! The receiving half of a connection: payload goes straight from the socket to its final address.
//!
//! The receiver alternates between a header (staged) and a payload. One `recvmsg` reads the payload to its place and, in a last vector, padding, CRC and
//! the next header into the stage. That is the *exact* mode, in which no payload byte is ever copied. While no large transfer can arrive, or the peer cuts its messages into
//! short segments, it reads *in bulk*, as much as the stage holds, and copies payloads out of it. RFC 5041 §5.3 and §7, RFC 5040 §5 to §7, RFC 5044 §4.
mod deliver;
mod markers;
mod place;

pub use markers::Markers;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use weft_proto::ddp::QUEUE_SEND;
use weft_proto::{
    AtomicRequest, AtomicResponse, Crc32c, Opcode, ReadRequest, Receiver, Rtr, Segment, Target, Terminate,
    TerminateCode, ATOMIC_OPERAND_LEN, CRC_LEN, READ_REQUEST_LEN, TAGGED_HEADER_LEN, UNTAGGED_HEADER_LEN,
};

use crate::counters::{Counters, Tally};
use crate::memory::{
    AccessError, LargeWritable, MemoryTable, Pins, Through, LARGE, REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE,
};
use crate::moderation::Moderation;
use crate::ring::{Entry, EntryKind, Ring, Wake};
use crate::scratch::Pool;
use crate::shared::SharedReceives;
use crate::socket::{self, Transfer};
use crate::status::Status;
use crate::tx::Tx;
use crate::work::{Inbound, ReceiveWork, Sge};

/// Size of the stage: what bulk reading takes at once.
const STAGE_BYTES: usize = 16 * 1024;
thread_local! {
    static STAGES: Pool = const { Pool::new(STAGE_BYTES) };
}
/// Segments up to this length are received in bulk: a copy costs less than a call for each.
pub const SEGMENT_SHORT: usize = 4 * 1024;
/// Vectors of one receive call; a longer scatter list takes several calls.
const VECTORS_MAX: usize = 34;
/// Payload of a control message (Read Request, Terminate) at most.
const CONTROL_MAX: usize = 96;
/// What one turn may receive before other connections get theirs.
const TURN_BYTES: usize = 4 << 20;
/// What an FPDU counts for in a turn besides its bytes: a short one takes a call, which takes as long as so many bytes do. A peer that sends nothing but those would have
/// turns of several hundred milliseconds.
const FPDU_BYTES: usize = 8 * 1024;

/// How a turn of receiving ended.
#[derive(Debug)]
pub enum ReceiveEnd {
    /// The socket has no more now.
    Drained,
    /// There may be more; others first.
    Turn,
    /// The peer ended its direction, at a message boundary or within a message.
    End {
        /// Something was cut off.
        within: bool,
    },
    /// The peer broke the protocol: the Terminate to send.
    Violation(TerminateCode, Terminate),
    /// The peer sent a Terminate.
    Terminated(Terminate),
    /// A receive or Read of ours names memory that is not registered any more.
    Local,
    /// The socket failed.
    Failed(i32),
}

/// What receiving needs of its connection.
pub struct Context<'a> {
    /// The socket.
    pub fd: RawFd,
    /// The peer's end of stream may lie behind the data: only an empty read tells that the socket is empty.
    pub ending: bool,
    /// The device's regions.
    pub memory: &'a MemoryTable,
    /// The device's counters.
    pub counters: &'a Counters,
    /// Where completions go.
    pub ring: &'a Ring,
    /// JavaScript's number for the connection.
    pub tag: u32,
    /// The sending half: outstanding Reads of ours, answers to those of the peer.
    pub tx: &'a mut Tx,
}

enum Sink {
    /// No payload, or none that matters.
    Nothing,
    /// Read Request or Terminate.
    Control([u8; CONTROL_MAX]),
    /// RDMA Write.
    Tagged { stag: u32, to: u64 },
    /// Read Response: relative to what the first outstanding Read has got.
    Read,
    /// Send: offset within the first posted receive.
    Receive { offset: u64 },
}

struct Current {
    segment: Segment,
    header: [u8; UNTAGGED_HEADER_LEN],
    sink: Sink,
    placed: usize,
    crc: Option<Crc32c>,
}

enum Stop {
    End(ReceiveEnd),
    Violation(TerminateCode),
}

impl From<TerminateCode> for Stop {
    fn from(code: TerminateCode) -> Self {
        Stop::Violation(code)
    }
}

fn tagged_error(error: AccessError) -> TerminateCode {
    match error {
        AccessError::InvalidStag => TerminateCode::DDP_TAGGED_INVALID_STAG,
        AccessError::OtherDomain => TerminateCode::DDP_TAGGED_STAG_NOT_ASSOCIATED,
        AccessError::Bounds => TerminateCode::DDP_TAGGED_BASE_OR_BOUNDS,
        AccessError::Wrap => TerminateCode::DDP_TAGGED_TO_WRAP,
        AccessError::Denied => TerminateCode::RDMAP_PROTECTION_ACCESS,
    }
}

fn read_error(error: AccessError) -> TerminateCode {
    match error {
        AccessError::InvalidStag => TerminateCode::RDMAP_PROTECTION_INVALID_STAG,
        AccessError::OtherDomain => TerminateCode::RDMAP_PROTECTION_STAG_NOT_ASSOCIATED,
        AccessError::Bounds => TerminateCode::RDMAP_PROTECTION_BASE_OR_BOUNDS,
        AccessError::Wrap => TerminateCode::RDMAP_PROTECTION_TO_WRAP,
        AccessError::Denied => TerminateCode::RDMAP_PROTECTION_ACCESS,
    }
}

/// Feeds bytes that were received to the CRC of their FPDU, with the markers between them.
fn sum(markers: &mut Option<Box<Markers>>, crc: &mut Option<Crc32c>, bytes: &[u8]) -> Result<(), TerminateCode> {
    match (markers, crc) {
        (Some(markers), crc) => markers.sum(bytes, crc.as_mut()),
        (None, Some(crc)) => {
            crc.update(bytes);
            Ok(())
        }
        (None, None) => Ok(()),
    }
}

/// The receiving half.
pub struct Rx {
    proto: Receiver,
    /// Lent while there is something in it, or about to be.
    stage: Box<[u8]>,
    start: usize,
    end: usize,
    /// The last call got less than it asked for: the socket is empty.
    drained: bool,
    current: Option<Current>,
    queue: VecDeque<ReceiveWork>,
    large_receives: usize,
    large_writable: LargeWritable,
    /// The peer cuts its messages into short segments.
    short_segments: bool,
    through: Through,
    /// The first posted receive names memory that is not ours to use.
    blame: bool,
    /// Where receives come from instead, one for each Send that begins.
    pub shared: Option<Arc<SharedReceives>>,
    /// FPDUs carry a CRC that is to be checked.
    pub crc: bool,
    /// Only what the peer marked with Solicited Event wakes JavaScript.
    pub solicited_only: bool,
    /// What completions of receives wait for.
    pub moderation: Option<Arc<Moderation>>,
    /// The first FPDU may be an empty message of this kind, which only tells that the peer is ready to receive (RFC 6581 §9).
    pub rtr: Option<Rtr>,
    /// The peer sends markers.
    pub markers: Option<Box<Markers>>,
    /// An FPDU has been received.
    pub started: bool,
    /// Bytes that have come from the socket, payload or not, but for markers.
    pub received: u64,
    /// What was done, but for bytes.
    pub tally: Tally,
}

impl Rx {
    /// A receiver that peers reach regions `through`.
    pub fn new(through: Through, large_writable: LargeWritable) -> Self {
        Self {
            proto: Receiver::new(),
            stage: Box::default(),
            start: 0,
            end: 0,
            drained: false,
            current: None,
            queue: VecDeque::new(),
            large_receives: 0,
            large_writable,
            short_segments: false,
            through,
            blame: false,
            shared: None,
            crc: false,
            solicited_only: false,
            moderation: None,
            rtr: None,
            markers: None,
            started: false,
            received: 0,
            tally: Tally::default(),
        }
    }

    /// Joins a protection domain.
    pub fn set_domain(&mut self, through: Through, large_writable: LargeWritable) {
        self.through = through;
        self.large_writable = large_writable;
    }

    /// Queues a receive.
    pub fn post(&mut self, work: ReceiveWork) {
        if work.sges.total >= LARGE {
            self.large_receives += 1;
        }
        self.queue.push_back(work);
    }

    /// Bytes that have come from the socket so far.
    pub fn bytes_received(&self) -> u64 {
        self.markers.as_ref().map_or(self.received, |markers| markers.received)
    }

    /// How many receives are posted.
    pub fn posted(&self) -> usize {
        self.queue.len()
    }

    fn pop(&mut self) -> Option<ReceiveWork> {
        let work = self.queue.pop_front()?;
        if work.sges.total >= LARGE {
            self.large_receives -= 1;
        }
        Some(work)
    }

    /// Reports every posted receive as flushed, or the first one as to blame.
    pub fn flush(&mut self, ring: &Ring, tag: u32) {
        while let Some(work) = self.pop() {
            let bytes = work.filled as u32;
            let kind = EntryKind::Receive;
            let status = if std::mem::take(&mut self.blame) { Status::LocalProtection } else { Status::Flushed };
            self.tally.flushed += 1;
            ring.push(Entry { tag, kind, status, slot: work.slot, bytes, detail: 0, aux: 0 });
        }
        self.current = None;
    }

    fn staged(&self) -> &[u8] {
        self.stage.get(self.start..self.end).unwrap_or(&[])
    }

    fn bulk(&self, tx: &Tx) -> bool {
        let expects_large = || {
            self.large_writable.load(Ordering::SeqCst) > 0
                || self.large_receives > 0
                || tx.has_large_read()
                || self.shared.as_ref().is_some_and(|shared| shared.has_large())
        };
        self.markers.is_none() && (self.short_segments || !expects_large())
    }

    /// Reads and processes until the socket is empty, the turn is over, or the connection ends.
    pub fn drive(&mut self, context: &mut Context<'_>) -> ReceiveEnd {
        STAGES.with(|stages| stages.lend(&mut self.stage));
        self.drained = false;
        let mut budget = TURN_BYTES;
        loop {
            match self.step(context, &mut budget) {
                Ok(()) => {}
                Err(Stop::End(ReceiveEnd::Local)) => {
                    match self.current.as_ref().map(|current| current.segment.opcode) {
                        Some(Opcode::ReadResponse | Opcode::AtomicResponse) => context.tx.blame_read(),
                        Some(opcode) => self.blame = opcode.is_send(), // what the peer writes is no work of ours
                        None => {}
                    }
                    return ReceiveEnd::Local;
                }
                Err(Stop::End(end)) => {
                    if self.start == self.end {
                        STAGES.with(|stages| stages.take_back(&mut self.stage));
                        (self.start, self.end) = (0, 0);
                    }
                    return end;
                }
                Err(Stop::Violation(code)) => {
                    let terminate = self.terminate_message(code);
                    return ReceiveEnd::Violation(code, terminate);
                }
            }
        }
    }

    fn terminate_message(&self, code: TerminateCode) -> Terminate {
        let Some(current) = &self.current else { return Terminate::for_error(code, Some(self.staged()), None) };
        let request = match (&current.sink, current.segment.opcode) {
            (Sink::Control(bytes), Opcode::ReadRequest) if current.placed >= READ_REQUEST_LEN => {
                bytes.get(..READ_REQUEST_LEN)
            }
            _ => None,
        };
        Terminate::for_error(code, Some(&current.header), request)
    }

    fn step(&mut self, context: &mut Context<'_>, budget: &mut usize) -> Result<(), Stop> {
        let Some(current) = &self.current else {
            let need = Receiver::header_len(self.staged());
            if self.end - self.start < need {
                let ask = need - (self.end - self.start);
                return self.fill_stage(context, ask, budget);
            }
            return self.begin(context);
        };
        let remaining = current.segment.payload_len - current.placed;
        if remaining > 0 {
            if self.start < self.end || matches!(current.sink, Sink::Control(_)) {
                return self.place_staged(context, remaining, budget);
            }
            return self.place_direct(context, remaining, budget);
        }
        let trailer = current.segment.pad + CRC_LEN;
        if self.end - self.start < trailer {
            let ask = trailer + TAGGED_HEADER_LEN - (self.end - self.start);
            return self.fill_stage(context, ask, budget);
        }
        self.finish(context, trailer)?;
        Self::spend(budget, FPDU_BYTES)
    }

    /// Reads into the stage: `ask` bytes, or as much as there is room for where that may not be payload of a large message.
    fn fill_stage(&mut self, context: &mut Context<'_>, ask: usize, budget: &mut usize) -> Result<(), Stop> {
        self.stage.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let limit = if self.bulk(context.tx) { STAGE_BYTES } else { (self.end + ask).min(STAGE_BYTES) };
        let within = self.end > 0
            || self.current.is_some()
            || !self.proto.is_between_messages()
            || self.markers.as_ref().is_some_and(|markers| markers.is_within());
        let Some(room) = self.stage.get_mut(self.end..limit) else {
            return Err(Stop::End(ReceiveEnd::Failed(libc::EIO)));
        };
        if self.drained {
            return Err(Stop::End(ReceiveEnd::Drained));
        }
        let asked = room.len();
        context.counters.receive_calls.add(1);
        let (n, short) = match &mut self.markers {
            None => {
                let n = Self::received(socket::receive_buffer(context.fd, room, false), within)?;
                (n, n < asked)
            }
            Some(markers) => {
                let vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: asked };
                // SAFETY: the vector is our own stage.
                let (outcome, short) = unsafe { markers.receive(context.fd, &[vector]) };
                (Self::received(outcome, within)?, short)
            }
        };
        self.end += n;
        self.drained = short && !context.ending;
        self.received += n as u64;
        Self::spend(budget, n)
    }

    fn received(outcome: Transfer, within: bool) -> Result<usize, Stop> {
        match outcome {
            Transfer::Bytes(n) => Ok(n),
            Transfer::WouldBlock => Err(Stop::End(ReceiveEnd::Drained)),
            Transfer::End => Err(Stop::End(ReceiveEnd::End { within })),
            // memory that was registered, and is not there
            Transfer::Failed(libc::EFAULT) => Err(Stop::End(ReceiveEnd::Local)),
            Transfer::Failed(code) => Err(Stop::End(ReceiveEnd::Failed(code))),
        }
    }

    fn spend(budget: &mut usize, n: usize) -> Result<(), Stop> {
        if n >= *budget {
            *budget = 0;
            return Err(Stop::End(ReceiveEnd::Turn));
        }
        *budget -= n;
        Ok(())
    }

    /// A header is complete: checks it and finds where its payload belongs.
    fn begin(&mut self, context: &mut Context<'_>) -> Result<(), Stop> {
        let need = Receiver::header_len(self.staged());
        let mut header = [0u8; UNTAGGED_HEADER_LEN];
        let bytes = self.stage.get(self.start..self.start + need).unwrap_or(&[]);
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = *from;
        }
        let segment = self.proto.handle_header(bytes)?;
        let mut crc = self.crc.then(Crc32c::new);
        if let Some(markers) = &mut self.markers {
            markers.begin();
        }
        sum(&mut self.markers, &mut crc, bytes)?;
        self.start += need;
        let length = segment.payload_len as u64;
        if !segment.last {
            self.short_segments = segment.payload_len <= SEGMENT_SHORT;
        }
        let is_ready = segment.opcode == Opcode::Send && segment.last && self.is_ready(Rtr::Send, length);
        if let (Some(shared), true) = (&self.shared, self.queue.is_empty()) {
            if segment.opcode.queue() == Some(QUEUE_SEND) && !is_ready {
                if let Some(work) = shared.take() {
                    self.post(work);
                }
            }
        }
        // From here on an error is answered with this header.
        self.current = Some(Current { segment, header, sink: Sink::Nothing, placed: 0, crc });
        let sink = match (segment.opcode, segment.target) {
            (Opcode::Write, Target::Tagged { stag, to }) => {
                if length > 0 {
                    self.check(
                        context,
                        context.memory.pin_remote(self.through, stag, to, length, REMOTE_WRITE),
                        tagged_error,
                    )?;
                    Sink::Tagged { stag, to }
                } else {
                    Sink::Nothing
                }
            }
            (Opcode::ReadResponse, Target::Tagged { stag, to }) => {
                let Some(read) = context.tx.reads.front() else {
                    return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE.into());
                };
                let total = u64::from(read.sink.length);
                if read.atomic.is_some() {
                    return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE.into());
                }
                if read.sink.stag != stag {
                    return Err(TerminateCode::DDP_TAGGED_INVALID_STAG.into());
                }
                if read.sink.address.wrapping_add(read.placed) != to
                    || read.placed + length > total
                    || segment.last != (read.placed + length == total)
                {
                    return Err(TerminateCode::DDP_TAGGED_BASE_OR_BOUNDS.into());
                }
                Sink::Read
            }
            (opcode, _) if opcode.is_immediate() && self.queue.is_empty() => {
                return Err(TerminateCode::DDP_UNTAGGED_NO_BUFFER.into());
            }
            (
                Opcode::ReadRequest
                | Opcode::Terminate
                | Opcode::AtomicRequest
                | Opcode::AtomicResponse
                | Opcode::Immediate
                | Opcode::ImmediateSolicited,
                _,
            ) => {
                if segment.payload_len > CONTROL_MAX {
                    return Err(TerminateCode::DDP_UNTAGGED_TOO_LONG.into());
                }
                Sink::Control([0; CONTROL_MAX])
            }
            _ if is_ready => Sink::Nothing,
            (_, Target::Untagged { mo, .. }) => {
                let Some(work) = self.queue.front() else { return Err(TerminateCode::DDP_UNTAGGED_NO_BUFFER.into()) };
                if u64::from(mo) + length > work.sges.total {
                    return Err(TerminateCode::DDP_UNTAGGED_TOO_LONG.into());
                }
                Sink::Receive { offset: u64::from(mo) }
            }
            (_, Target::Tagged { .. }) => return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE.into()),
        };
        if let Some(current) = &mut self.current {
            current.sink = sink;
        }
        Ok(())
    }

    /// Whether a message of this kind and length is the first of all and tells that the peer is ready to receive, nothing more: it takes no receive, and a Read is answered
    /// whatever depth was stated.
    fn is_ready(&self, kind: Rtr, length: u64) -> bool {
        !self.started && length == 0 && self.rtr == Some(kind)
    }

    fn check<T>(
        &self,
        context: &Context<'_>,
        result: Result<T, AccessError>,
        code: impl Fn(AccessError) -> TerminateCode,
    ) -> Result<T, TerminateCode> {
        result.map_err(|error| {
            context.counters.protection_errors.add(1);
            code(error)
        })
    }

    /// The whole FPDU is here: checks its CRC and delivers it.
    fn finish(&mut self, context: &mut Context<'_>, trailer: usize) -> Result<(), Stop> {
        let bytes = self.stage.get(self.start..self.start + trailer).unwrap_or(&[]);
        let Some(current) = &mut self.current else { return Ok(()) };
        let (pad, field) = bytes.split_at(trailer - CRC_LEN);
        let mut crc = current.crc.take();
        sum(&mut self.markers, &mut crc, pad)?;
        if let Some(markers) = &mut self.markers {
            markers.step(crc.as_mut())?;
            markers.sum(field, None)?;
        }
        if let Some(crc) = crc {
            if weft_proto::crc32c::to_wire(crc.finish()) != field {
                return Err(TerminateCode::MPA_CRC.into());
            }
        }
        self.proto.complete(&current.segment);
        context.counters.fpdus_received.add(1);
        self.tally.fpdus_received += 1;
        let result = self.deliver(context);
        self.started = true;
        if result.is_ok() {
            self.start += trailer;
            self.current = None;
        }
        result
    }

    /// The same for a stream: fills the posted receives in order.
    pub fn drive_stream(&mut self, context: &mut Context<'_>) -> ReceiveEnd {
        let mut budget = TURN_BYTES;
        self.take(context, 0);
        loop {
            let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS_MAX];
            let mut count = 0;
            let mut asked = 0usize;
            'gather: for work in &self.queue {
                for piece in work.sges.pieces(work.filled, work.sges.total - work.filled) {
                    let Some(vector) = vectors.get_mut(count) else { break 'gather };
                    *vector =
                        libc::iovec { iov_base: piece.address as *mut libc::c_void, iov_len: piece.length as usize };
                    count += 1;
                    asked += piece.length as usize;
                }
            }
            if count == 0 {
                // nothing is posted: what has arrived stays in the socket
                return ReceiveEnd::Turn;
            }
            let Some(used) = vectors.get_mut(..count) else { return ReceiveEnd::Local };
            context.counters.receive_calls.add(1);
            // SAFETY: JavaScript keeps the memory of a posted receive in place until its completion.
            let n = match unsafe { socket::receive(context.fd, used) } {
                Transfer::Bytes(n) => n,
                Transfer::WouldBlock => return ReceiveEnd::Drained,
                Transfer::End => return ReceiveEnd::End { within: self.queue.front().is_some_and(|w| w.filled > 0) },
                Transfer::Failed(code) => return ReceiveEnd::Failed(code),
            };
            context.counters.bytes_placed.add(n as u64);
            self.received += n as u64;
            self.take(context, n as u64);
            if n < asked && !context.ending {
                return ReceiveEnd::Drained;
            }
            if n >= budget {
                return ReceiveEnd::Turn;
            }
            budget -= n;
        }
    }

    /// Counts `n` bytes of a stream into the posted receives, and reports those that are full.
    fn take(&mut self, context: &Context<'_>, mut n: u64) {
        while let Some(work) = self.queue.front_mut() {
            let taken = n.min(work.sges.total - work.filled);
            work.filled += taken;
            n -= taken;
            if work.filled < work.sges.total {
                return;
            }
            let Some(work) = self.pop() else { return };
            self.tally.receives += 1;
            let (kind, status, bytes) = (EntryKind::Receive, Status::Ok, work.filled as u32);
            let (tag, slot) = (context.tag, work.slot);
            context.ring.push(Entry { tag, kind, status, slot, bytes, detail: 0, aux: 0 });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
