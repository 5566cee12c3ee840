//! The sending half of a connection: work requests and Read Responses become FPDUs (or, on a stream, plain bytes) and leave from where they lie.
//!
//! A *chunk* is a run of bytes to send: either in the arena (headers, trailers, small payloads) or in a region. Many chunks leave in one call. RFC 5041 §5,
//! RFC 5044 §4.
mod build;

use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

use weft_proto::ddp::{QUEUE_ATOMIC_RESPONSE, QUEUE_READ_REQUEST, QUEUE_SEND, QUEUE_TERMINATE};
use weft_proto::mpa::marker::{self, MARKER_LEN, MARKER_SPACING};
use weft_proto::mpa::{pad_len, LENGTH_LEN, MULPDU_MAX};
use weft_proto::tx as wire;
use weft_proto::{
    AtomicRequest, Crc32c, Opcode, ReadRequest, Terminate, TerminateCode, Transmitter, ATOMIC_REQUEST_LEN,
    ATOMIC_RESPONSE_LEN, IMMEDIATE_LEN, READ_REQUEST_LEN, TAGGED_HEADER_LEN, TRAILER_LEN_MAX, UNTAGGED_HEADER_LEN,
};

use crate::counters::{Counters, Tally};
use crate::memory::{MemoryTable, Pins, LARGE, REMOTE_READ, VOLATILE};
use crate::moderation::Moderation;
use crate::ring::{Entry, EntryKind, Ring, Wake};
use crate::scratch::Pool;
use crate::socket::{self, Transfer, VECTORS_MAX};
use crate::status::Status;
use crate::work::{Inbound, Operation, OutboundRead, SendWork, Sge, WAIT_DEPTH, WAIT_READS, WAIT_SENT};

/// Payloads up to this length are copied next to their header: a vector of its own would cost more.
pub const INLINE_MAX: usize = 256;
/// The most payload of an FPDU: a multiple of a cache line that leaves room for the DDP header in MPA's 16-bit length.
const PAYLOAD_MAX: usize = 65_472;
/// The largest ULPDU that is sent.
pub const ULPDU_MAX: usize = PAYLOAD_MAX + UNTAGGED_HEADER_LEN - LENGTH_LEN;
/// How much is made ready ahead of the socket: a call with 256 KiB reached 5.4 GB/s on loopback, one with 1 MiB 8.2, and 2 MiB no more; it stays in a
/// second-level cache between the CRC pass and the copy of the kernel.
const BATCH_BYTES: u64 = 1 << 20;
/// What one turn may send before others get theirs.
const TURN_BYTES: u64 = 4 << 20;
const ARENA_BYTES: usize = 32 * 1024;
thread_local! {
    static ARENAS: Pool = const { Pool::new(ARENA_BYTES) };
}
/// Vectors that are enough for a few messages, and for a batch of long segments; short ones take the most there may be.
const VECTORS_FEW: usize = 8;
const VECTORS_SOME: usize = 128;
/// Room for chunks that a connection keeps when it has sent all.
const CHUNKS_KEPT: usize = 256;
/// The most arena bytes that one FPDU takes: header, inline payload, padding, CRC.
const FPDU_ARENA_MAX: usize = 20 + INLINE_MAX + 8;
/// The most arena bytes that its markers take.
const FPDU_MARKERS_MAX: usize = (MULPDU_MAX / MARKER_SPACING as usize + 2) * MARKER_LEN;

enum Chunk {
    Arena {
        start: u64,
        length: u32,
    },
    Memory {
        sge: Sge,
        remote: bool,
    },
    /// A copy of what others may change meanwhile.
    Copy {
        bytes: Box<[u8]>,
        start: u32,
        length: u32,
    },
}

impl Chunk {
    fn length(&self) -> u64 {
        match self {
            Chunk::Arena { length, .. } | Chunk::Copy { length, .. } => u64::from(*length),
            Chunk::Memory { sge, .. } => u64::from(sge.length),
        }
    }

    fn arena_end(&self) -> Option<u64> {
        match self {
            Chunk::Arena { start, length } => Some(start + u64::from(*length)),
            Chunk::Memory { .. } | Chunk::Copy { .. } => None,
        }
    }
}

enum Mark {
    Work(u64),
    Response,
    Terminate,
}

#[derive(Clone, Copy)]
enum Source {
    Work(u64),
    Response(Inbound),
}

struct Message {
    source: Source,
    offset: u64,
    total: u64,
    msn: u32,
}

/// How a turn of sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendEnd {
    /// Everything that can be sent has been.
    Done,
    /// The socket is full; it will report when it takes more.
    Blocked,
    /// Others first.
    Turn,
}

/// Why sending failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// A work request of ours names memory that is not ours to use.
    Local,
    /// A peer's RDMA Read lost its source meanwhile.
    Remote(TerminateCode),
    /// The socket failed.
    Socket(i32),
}

impl SendError {
    /// Memory is gone that a peer reads from, or that our own work names.
    fn lost(remote: bool) -> Self {
        match remote {
            true => SendError::Remote(TerminateCode::RDMAP_PROTECTION_INVALID_STAG),
            false => SendError::Local,
        }
    }
}

/// Padding and CRC field of an FPDU; the CRC covers the padding.
fn trailer(ulpdu_len: usize, crc: Option<Crc32c>) -> ([u8; TRAILER_LEN_MAX], usize) {
    let crc = crc.map(|mut crc| {
        crc.update([0u8; 3].get(..pad_len(ulpdu_len)).unwrap_or(&[]));
        crc.finish()
    });
    wire::trailer(ulpdu_len, crc)
}

/// The sending half.
pub struct Tx {
    queue: VecDeque<SendWork>,
    base: u64,
    next: u64,
    /// Answers that have not left whole; `answered` of them have been begun.
    responses: VecDeque<Inbound>,
    answered: usize,
    /// Reads of ours under way, in the order of their requests.
    pub reads: VecDeque<OutboundRead>,
    large_reads: usize,
    /// Reads of ours that may be outstanding (ORD).
    pub ord: usize,
    /// Reads of the peer's that may be outstanding (IRD).
    pub ird: usize,
    /// FPDUs carry a CRC.
    pub crc: bool,
    /// The peer wants markers.
    pub markers: bool,
    /// Where the FPDU starts that is being built, in the bytes of this direction.
    fpdu_start: u64,
    /// The largest ULPDU to send, at most [`ULPDU_MAX`]; 0: none yet.
    pub mulpdu: usize,
    /// False while a responder waits for the initiator's first FPDU (RFC 5044 §7.1.2).
    pub open: bool,
    /// The peer's requests are not answered any more.
    pub closing: bool,
    /// Bytes of our own requests that have left from where they lie, or that Reads have brought.
    pub moved: u64,
    message: Option<Message>,
    responses_turn: bool,
    numbers: Transmitter,
    /// Lent while there are chunks.
    arena: Box<[u8]>,
    arena_end: u64,
    arena_start: u64,
    chunks: VecDeque<Chunk>,
    built: u64,
    /// End of the last FPDU that has been built of work of our own.
    own_end: u64,
    sent: u64,
    /// End of the last FPDU that has left whole.
    boundary: u64,
    fpdu_ends: VecDeque<u64>,
    marks: VecDeque<(u64, Mark)>,
    failed: bool,
    /// What names memory that is not ours to use, where that is why sending failed.
    blame: Option<Source>,
    /// The Terminate, where there was one, has left.
    pub terminate_sent: bool,
    /// What was done, but for bytes.
    pub tally: Tally,
    /// What completions wait for.
    pub moderation: Option<Arc<Moderation>>,
}

impl Default for Tx {
    fn default() -> Self {
        Self::new()
    }
}

impl Tx {
    /// A sender that has nothing to send.
    pub fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            base: 0,
            next: 0,
            responses: VecDeque::new(),
            answered: 0,
            reads: VecDeque::new(),
            large_reads: 0,
            ord: 0,
            ird: 0,
            crc: false,
            markers: false,
            fpdu_start: 0,
            mulpdu: 0,
            open: false,
            closing: false,
            moved: 0,
            message: None,
            responses_turn: false,
            numbers: Transmitter::new(),
            arena: Box::default(),
            arena_end: 0,
            arena_start: 0,
            chunks: VecDeque::new(),
            built: 0,
            own_end: 0,
            sent: 0,
            boundary: 0,
            fpdu_ends: VecDeque::new(),
            marks: VecDeque::new(),
            failed: false,
            blame: None,
            terminate_sent: false,
            tally: Tally::default(),
            moderation: None,
        }
    }

    /// Queues work.
    pub fn post(&mut self, work: SendWork) {
        self.queue.push_back(work);
    }

    /// How many requests are not finished.
    pub fn posted(&self) -> usize {
        self.queue.len()
    }

    /// Queues the answer to a Read or atomic operation of the peer's, which [`Self::may_respond`] has allowed.
    pub fn respond(&mut self, answer: Inbound) {
        self.responses.push_back(answer);
    }

    /// Whether a Read of 8 KiB or more is under way: its response is read exactly.
    pub fn has_large_read(&self) -> bool {
        self.large_reads > 0
    }

    /// Whether all that can be sent has been.
    pub fn is_idle(&self) -> bool {
        self.chunks.is_empty() && self.message.is_none() && (!self.open || (!self.owes_answer() && !self.startable()))
    }

    /// Whether every posted request is finished and nothing is left to send.
    pub fn is_drained(&self) -> bool {
        self.chunks.is_empty() && self.message.is_none() && self.queue.is_empty() && self.responses.is_empty()
    }

    /// Whether an answer is due that has not been begun.
    fn owes_answer(&self) -> bool {
        self.answered < self.responses.len()
    }

    fn work(&mut self, number: u64) -> Option<&mut SendWork> {
        self.queue.get_mut(number.checked_sub(self.base)? as usize)
    }

    fn startable(&self) -> bool {
        match self.queue.get((self.next - self.base) as usize) {
            None => false,
            Some(work) => work.waits == 0 || self.may_start(work.waits),
        }
    }

    /// Whether work on a steering tag is due, for which the socket need not take anything.
    pub fn is_change_due(&self) -> bool {
        let work = self.queue.get((self.next - self.base) as usize);
        work.is_some_and(|work| matches!(work.operation, Operation::Activate { .. } | Operation::Invalidate { .. }))
            && self.startable()
    }

    fn may_start(&self, waits: u8) -> bool {
        (waits & WAIT_DEPTH == 0 || self.reads.len() < self.ord)
            && (waits & WAIT_READS == 0 || self.reads.is_empty())
            && (waits & WAIT_SENT == 0 || self.own_end <= self.sent)
    }

    /// Sends what it can.
    pub fn drive(&mut self, fd: RawFd, memory: &MemoryTable, counters: &Counters) -> Result<SendEnd, SendError> {
        let mut turn = 0u64;
        loop {
            self.build(memory, counters)?;
            if self.chunks.is_empty() {
                self.advance(0, counters); // empty messages of a stream
                ARENAS.with(|arenas| arenas.take_back(&mut self.arena));
                (self.arena_start, self.arena_end) = (0, 0);
                self.chunks.shrink_to(CHUNKS_KEPT);
                return Ok(SendEnd::Done);
            }
            if turn >= TURN_BYTES {
                return Ok(SendEnd::Turn);
            }
            // clearing room for the most vectors would cost a small message more than its header does
            let (outcome, offered) = match self.chunks.len() {
                n if n <= VECTORS_FEW => self.leave::<VECTORS_FEW>(fd, memory, counters)?,
                n if n <= VECTORS_SOME => self.leave::<VECTORS_SOME>(fd, memory, counters)?,
                _ => self.leave::<VECTORS_MAX>(fd, memory, counters)?,
            };
            match outcome {
                Transfer::Bytes(n) => {
                    self.advance(n as u64, counters);
                    turn += n as u64;
                    if (n as u64) < offered {
                        self.change_stags(memory)?; // what they waited for may have left
                        return Ok(SendEnd::Blocked);
                    }
                }
                Transfer::WouldBlock => return Ok(SendEnd::Blocked),
                Transfer::End => return Err(SendError::Socket(libc::EPIPE)),
                Transfer::Failed(libc::EFAULT) => {
                    self.blame = self.blame.or(self.leaving());
                    return Err(SendError::Local);
                }
                Transfer::Failed(code) => return Err(SendError::Socket(code)),
            }
        }
    }

    /// Hands the first chunks to the socket, at most `MOST`. Returns what came of it, and how many bytes they were.
    fn leave<const MOST: usize>(
        &mut self,
        fd: RawFd,
        memory: &MemoryTable,
        counters: &Counters,
    ) -> Result<(Transfer, u64), SendError> {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; MOST];
        let mut pins = Pins::default();
        let mut count = 0;
        let mut offered = 0u64;
        for (vector, chunk) in vectors.iter_mut().zip(&self.chunks) {
            let (pointer, length) = match chunk {
                Chunk::Arena { start, length } => {
                    let at = (*start % ARENA_BYTES as u64) as usize;
                    match self.arena.get(at..at + *length as usize) {
                        Some(run) => (run.as_ptr().cast_mut(), run.len()),
                        None => return Err(SendError::Local),
                    }
                }
                Chunk::Copy { bytes, start, length } => {
                    match bytes.get(*start as usize..).and_then(|rest| rest.get(..*length as usize)) {
                        Some(run) => (run.as_ptr().cast_mut(), run.len()),
                        None => return Err(SendError::Local),
                    }
                }
                Chunk::Memory { sge, .. } if sge.stag == 0 => (sge.address as *mut u8, sge.length as usize),
                Chunk::Memory { sge, remote } => {
                    let held = pins.last().is_some_and(|pin| pin.region().stag == sge.stag);
                    if !held {
                        match memory.pin(sge.stag) {
                            Some(pin) => pins.push(pin),
                            None if count > 0 => break, // what lies in front of it leaves first
                            None => {
                                self.blame = self.blame.or(self.leaving());
                                return Err(SendError::lost(*remote));
                            }
                        }
                    }
                    match pins.last().and_then(|pin| pin.local(sge.address, u64::from(sge.length))) {
                        Some(pointer) => (pointer, sge.length as usize),
                        None => return Err(SendError::Local),
                    }
                }
            };
            *vector = libc::iovec { iov_base: pointer.cast(), iov_len: length };
            count += 1;
            offered += length as u64;
        }
        counters.send_calls.add(1);
        let Some(vectors) = vectors.get_mut(..count) else { return Err(SendError::Local) };
        // SAFETY: arena vectors and copies point into our own boxes; region vectors are held by `pins`; stream memory is kept by JavaScript until completion.
        let outcome = unsafe { socket::send(fd, vectors) };
        Ok((outcome, offered))
    }

    /// What the next byte to leave belongs to.
    fn leaving(&self) -> Option<Source> {
        match self.marks.front() {
            Some((_, Mark::Work(number))) => Some(Source::Work(*number)),
            Some((_, Mark::Response)) => self.responses.front().copied().map(Source::Response),
            Some((_, Mark::Terminate)) => None,
            None => self.message.as_ref().map(|message| message.source),
        }
    }

    /// The Terminate for [`SendError::Remote`]: with the header of the request whose source is gone (RFC 5040 §4.8).
    pub fn refusal(&self, code: TerminateCode) -> Terminate {
        let Some(Source::Response(Inbound::Read { request, msn })) = self.blame else { return Terminate::new(code) };
        let header = wire::untagged_header(Opcode::ReadRequest, true, QUEUE_READ_REQUEST, msn, 0, 0, READ_REQUEST_LEN);
        Terminate::for_error(code, Some(&header), Some(&request.emit()))
    }

    /// The Read or atomic operation whose response is coming in names memory that is not ours to use.
    pub fn blame_read(&mut self) {
        self.blame = self.reads.front().map(|read| Source::Work(read.work));
    }

    /// Bytes that the kernel has taken so far.
    pub fn bytes_sent(&self) -> u64 {
        self.sent
    }

    fn advance(&mut self, mut n: u64, counters: &Counters) {
        self.sent += n;
        while n > 0 {
            let Some(chunk) = self.chunks.front_mut() else { break };
            let length = chunk.length();
            let taken = n.min(length);
            match chunk {
                Chunk::Arena { start, length } => {
                    *start += taken;
                    *length -= taken as u32;
                    self.arena_start = *start;
                }
                Chunk::Copy { start, length, .. } => {
                    *start += taken as u32;
                    *length -= taken as u32;
                }
                Chunk::Memory { sge, remote } => {
                    sge.address += taken;
                    sge.length -= taken as u32;
                    counters.bytes_sent.add(taken);
                    self.moved += if *remote { 0 } else { taken };
                }
            }
            if taken == length {
                self.chunks.pop_front();
            }
            n -= taken;
        }
        if self.chunks.is_empty() {
            self.arena_start = self.arena_end;
        }
        while self.fpdu_ends.front().is_some_and(|end| *end <= self.sent) {
            self.boundary = self.fpdu_ends.pop_front().unwrap_or(self.boundary);
        }
        while self.marks.front().is_some_and(|(end, _)| *end <= self.sent) {
            match self.marks.pop_front() {
                Some((_, Mark::Work(number))) => {
                    if let Some(work) = self.work(number) {
                        work.done = true;
                    }
                }
                Some((_, Mark::Response)) => {
                    self.responses.pop_front();
                    self.answered -= 1;
                }
                Some((_, Mark::Terminate)) => self.terminate_sent = true,
                None => break,
            }
        }
    }

    /// Whether another answer may be owed to the peer (IRD).
    pub fn may_respond(&self) -> bool {
        self.responses.len() < self.ird
    }

    /// The first outstanding operation, an atomic one, has its response.
    pub fn atomic_done(&mut self, original: u64) {
        if let Some(read) = self.reads.pop_front() {
            if let Some(work) = self.work(read.work) {
                work.done = true;
                work.result = original;
            }
        }
    }

    /// The Read that a Read Response belongs to has all its bytes. Returns the STag that is to become invalid with it.
    pub fn read_done(&mut self) -> Option<u32> {
        let mut sink = None;
        if let Some(read) = self.reads.pop_front() {
            if let Some(work) = self.work(read.work) {
                work.done = true;
                sink = work.invalidate_sink.then_some(read.sink.stag);
                if work.sges.total >= LARGE {
                    self.large_reads -= 1;
                }
            }
        }
        sink
    }

    /// Reports finished requests, in the order of posting. True where any entry was written.
    pub fn retire(&mut self, ring: &Ring, tag: u32) -> bool {
        let mut any = false;
        while self.queue.front().is_some_and(|work| work.done) {
            let Some(work) = self.queue.pop_front() else { break };
            self.base += 1;
            self.count(&work);
            if work.signalled {
                any = true;
                ring.append(Self::entry(&work, tag, Status::Ok), Wake::by(self.moderation.as_ref()));
            }
        }
        any
    }

    fn count(&mut self, work: &SendWork) {
        let tally = &mut self.tally;
        let count = match work.operation {
            Operation::Send { .. } | Operation::Stream => &mut tally.sends,
            Operation::Write { .. } => &mut tally.writes,
            Operation::Read { .. } => &mut tally.reads,
            Operation::Atomic(_) => &mut tally.atomics,
            Operation::Immediate { .. } => &mut tally.immediates,
            Operation::Activate { .. } | Operation::Invalidate { .. } => &mut tally.memory_operations,
        };
        *count += u64::from(work.counted);
    }

    fn entry(work: &SendWork, tag: u32, status: Status) -> Entry {
        let bytes = work.sges.total as u32;
        // tells a result of an atomic operation, which may be 0, from none
        let detail = u32::from(matches!(work.operation, Operation::Atomic(_)));
        Entry { tag, kind: EntryKind::Send, status, slot: work.slot, bytes, detail, aux: work.result }
    }

    /// Reports every unfinished request as flushed (or as what it is to blame for), signalled or not.
    pub fn flush(&mut self, ring: &Ring, tag: u32) {
        self.retire(ring, tag);
        while let Some(work) = self.queue.pop_front() {
            let status = match self.blame {
                _ if work.done => Status::Ok,
                Some(Source::Work(number)) if number == self.base => Status::LocalProtection,
                _ => Status::Flushed,
            };
            match status {
                Status::Ok => self.count(&work),
                _ => self.tally.flushed += u64::from(work.counted),
            }
            self.base += 1;
            ring.push(Self::entry(&work, tag, status));
        }
        self.next = self.base;
        self.reads.clear();
        self.responses.clear();
        self.answered = 0;
        self.chunks.clear();
        self.message = None;
    }

    /// Drops what has not begun to leave and appends a Terminate behind the FPDU under way (RFC 5040 §7.1). False where none can be sent.
    pub fn terminate(&mut self, terminate: &[u8]) -> bool {
        self.failed = true;
        self.message = None;
        if self.mulpdu == 0 {
            return false;
        }
        let keep = match self.fpdu_ends.front() {
            // begun: the byte stream must go on to its end
            Some(end) if !self.fpdu_begins_at_sent() => *end,
            _ if self.fpdu_begins_at_sent() => self.sent,
            _ => return false, // the FPDU under way was never finished building
        };
        let mut excess = self.built - keep;
        while excess > 0 {
            let Some(chunk) = self.chunks.back_mut() else { break };
            let cut = excess.min(chunk.length());
            match chunk {
                Chunk::Arena { length, .. } | Chunk::Copy { length, .. } => *length -= cut as u32,
                Chunk::Memory { sge, .. } => sge.length -= cut as u32,
            }
            if chunk.length() == 0 {
                self.chunks.pop_back();
            }
            excess -= cut;
        }
        self.built = keep;
        // what was cut off gives its room back: where the arena was full, the Terminate would lie upon the FPDU under way
        self.arena_end = self.chunks.iter().rev().find_map(Chunk::arena_end).unwrap_or(self.arena_start);
        self.marks.retain(|(end, _)| *end <= keep);
        self.fpdu_ends.retain(|end| *end <= keep);
        ARENAS.with(|arenas| arenas.lend(&mut self.arena));
        let header = wire::untagged_header(Opcode::Terminate, true, QUEUE_TERMINATE, 1, 0, 0, terminate.len());
        let mut crc = self.crc.then(Crc32c::new);
        self.fpdu_start = marker::fpdu_start(self.built);
        self.frame(&header, crc.as_mut());
        self.frame(terminate, crc.as_mut());
        self.frame_trailer(header.len() - 2 + terminate.len(), crc);
        self.fpdu_ends.push_back(self.built);
        self.marks.push_back((self.built, Mark::Terminate));
        self.open = true;
        true
    }

    /// Whether the next byte to leave is the first of an FPDU.
    fn fpdu_begins_at_sent(&self) -> bool {
        self.sent == self.boundary
    }
}

#[cfg(test)]
mod tests;
