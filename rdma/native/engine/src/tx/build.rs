//! From work requests and Read Responses to FPDUs: segmentation by MULPDU, headers, trailers (RFC 5041 §5, RFC 5044 §4).
use super::*;

enum Header {
    Tagged([u8; TAGGED_HEADER_LEN]),
    Untagged([u8; UNTAGGED_HEADER_LEN]),
}

impl Header {
    fn bytes(&self) -> &[u8] {
        match self {
            Header::Tagged(bytes) => bytes,
            Header::Untagged(bytes) => bytes,
        }
    }
}

/// Where a segment's payload is.
enum Payload {
    /// In the scatter/gather list of its work request.
    Sges,
    /// In a region that the peer reads.
    Source(Sge),
    /// Here: a request, a response, immediate data.
    Fixed([u8; ATOMIC_REQUEST_LEN]),
}

impl Payload {
    fn fixed(bytes: &[u8]) -> Payload {
        let mut fixed = [0; ATOMIC_REQUEST_LEN];
        fixed.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Payload::Fixed(fixed)
    }
}

impl Tx {
    pub(super) fn start_next(&mut self) -> bool {
        let work_first = self.startable() && (!self.owes_answer() || !self.responses_turn);
        if !work_first {
            let Some(answer) = self.responses.get(self.answered).copied() else { return false };
            self.answered += 1;
            self.responses_turn = false;
            let (total, msn) = match answer {
                Inbound::Read { request, .. } => (u64::from(request.length), 0),
                Inbound::Atomic(_) => (ATOMIC_RESPONSE_LEN as u64, self.numbers.next_msn(QUEUE_ATOMIC_RESPONSE)),
            };
            match answer {
                Inbound::Read { .. } => self.tally.reads_served += 1,
                Inbound::Atomic(_) => self.tally.atomics_served += 1,
            }
            self.message = Some(Message { source: Source::Response(answer), offset: 0, total, msn });
            return true;
        }
        self.responses_turn = true;
        let number = self.next;
        self.next += 1;
        let Some(work) = self.queue.get((number - self.base) as usize) else { return false };
        let mut total = work.sges.total;
        let mut msn = 0;
        match work.operation {
            Operation::Send { .. } => {
                msn = self.numbers.next_msn(QUEUE_SEND);
            }
            Operation::Read { .. } => {
                msn = self.numbers.next_msn(QUEUE_READ_REQUEST);
                let sink = work.sges.iter().next().copied().unwrap_or_default();
                if total >= LARGE {
                    self.large_reads += 1;
                }
                self.reads.push_back(OutboundRead { work: number, sink, placed: 0, atomic: None });
                total = READ_REQUEST_LEN as u64;
            }
            Operation::Atomic(_) => {
                msn = self.numbers.next_msn(QUEUE_READ_REQUEST);
                let sink = work.sges.iter().next().copied().unwrap_or_default();
                self.reads.push_back(OutboundRead { work: number, sink, placed: 0, atomic: Some(number as u32) });
                total = ATOMIC_REQUEST_LEN as u64;
            }
            Operation::Immediate { .. } => {
                msn = self.numbers.next_msn(QUEUE_SEND);
                total = IMMEDIATE_LEN as u64;
            }
            Operation::Write { .. } | Operation::Stream | Operation::Activate { .. } | Operation::Invalidate { .. } => {
            }
        }
        self.message = Some(Message { source: Source::Work(number), offset: 0, total, msn });
        true
    }

    pub(super) fn arena_push(&mut self, bytes: &[u8]) {
        let capacity = ARENA_BYTES as u64;
        let room = capacity - self.arena_end % capacity;
        if (bytes.len() as u64) > room {
            self.arena_end += room;
        }
        let at = (self.arena_end % capacity) as usize;
        if let Some(target) = self.arena.get_mut(at..at + bytes.len()) {
            target.copy_from_slice(bytes);
        }
        let start = self.arena_end;
        self.arena_end += bytes.len() as u64;
        self.built += bytes.len() as u64;
        // a run that ended exactly at the arena's end does not go on at its beginning
        if let (Some(Chunk::Arena { start: last, length }), true) = (self.chunks.back_mut(), at != 0) {
            if *last + u64::from(*length) == start {
                *length += bytes.len() as u32;
                return;
            }
        }
        self.chunks.push_back(Chunk::Arena { start, length: bytes.len() as u32 });
    }

    pub(super) fn arena_has_room(&self) -> bool {
        // twice: a run never wraps around the end, so up to one FPDU's worth is skipped there
        let fpdu = if self.markers { FPDU_ARENA_MAX + FPDU_MARKERS_MAX } else { FPDU_ARENA_MAX };
        self.arena_end - self.arena_start + 2 * fpdu as u64 <= ARENA_BYTES as u64
    }

    /// Appends bytes of an FPDU, and markers where they are due. Feeds the CRC.
    pub(super) fn frame(&mut self, bytes: &[u8], mut crc: Option<&mut Crc32c>) {
        if !self.markers {
            if let Some(crc) = crc {
                crc.update(bytes);
            }
            return self.arena_push(bytes);
        }
        let mut left = bytes;
        while !left.is_empty() {
            self.mark(crc.as_deref_mut());
            let (run, rest) = left.split_at(left.len().min(marker::room(self.built)));
            if let Some(crc) = crc.as_deref_mut() {
                crc.update(run);
            }
            self.arena_push(run);
            left = rest;
        }
    }

    /// Appends a marker if one is due here.
    fn mark(&mut self, crc: Option<&mut Crc32c>) {
        if self.markers && marker::is_due(self.built) {
            let bytes = marker::emit(self.built, self.fpdu_start);
            if let Some(crc) = crc {
                crc.update(&bytes);
            }
            self.arena_push(&bytes);
        }
    }

    /// Appends padding and the CRC field of an FPDU.
    pub(super) fn frame_trailer(&mut self, ulpdu_len: usize, mut crc: Option<Crc32c>) {
        if !self.markers {
            let (trailer, length) = trailer(ulpdu_len, crc);
            return self.arena_push(trailer.get(..length).unwrap_or(&[]));
        }
        let pad = pad_len(ulpdu_len);
        self.frame([0u8; 3].get(..pad).unwrap_or(&[]), crc.as_mut());
        self.mark(crc.as_mut());
        let (trailer, length) = wire::trailer(ulpdu_len, crc.map(|crc| crc.finish()));
        self.arena_push(trailer.get(pad..length).unwrap_or(&[]));
    }

    /// Appends payload that lies in a region: by reference, or copied where it is at most `inline` bytes. Feeds the CRC.
    pub(super) fn payload_push(
        &mut self,
        memory: &MemoryTable,
        counters: &Counters,
        sge: Sge,
        remote: bool,
        inline: &mut usize,
        mut crc: Option<&mut Crc32c>,
    ) -> Result<(), SendError> {
        let lost = SendError::lost(remote);
        let length = sge.length as usize;
        // Looked up now, too: an FPDU that has begun to leave must go on to its end.
        let pin = memory.pin(sge.stag).ok_or(lost)?;
        let pointer = pin.local(sge.address, length as u64).ok_or(lost)?;
        if length <= *inline {
            *inline -= length;
            let mut copy = [0u8; INLINE_MAX];
            let Some(copy) = copy.get_mut(..length) else { return Err(SendError::Local) };
            // SAFETY: the pin vouches for `length` bytes at `pointer`; the copy is a raw one because a peer may be writing there.
            unsafe { std::ptr::copy_nonoverlapping(pointer, copy.as_mut_ptr(), length) };
            counters.bytes_inlined.add(length as u64);
            self.frame(copy, crc);
            return Ok(());
        }
        let is_volatile = pin.region().access & VOLATILE != 0;
        if remote && crc.is_some() && (*inline > 0 || is_volatile) {
            // Memory that peers read may change at any time, and what changed between the CRC and the kernel's copy would end a connection that has done
            // nothing wrong. Payload of a large message is copied only where that was asked for.
            // SAFETY: as above.
            unsafe { self.copy_push(pointer, length, crc) };
            counters.bytes_inlined.add(length as u64);
            return Ok(());
        }
        if self.markers {
            let mut left = sge;
            while left.length > 0 {
                self.mark(crc.as_deref_mut());
                let length = left.length.min(marker::room(self.built) as u32);
                if let Some(crc) = crc.as_deref_mut() {
                    let run = pin.local(left.address, u64::from(length)).ok_or(lost)?;
                    // SAFETY: the pin vouches for the memory during this pass, as below.
                    crc.update(unsafe { std::slice::from_raw_parts(run, length as usize) });
                }
                self.built += u64::from(length);
                self.chunks.push_back(Chunk::Memory { sge: Sge { length, ..left }, remote });
                left.address += u64::from(length);
                left.length -= length;
            }
            return Ok(());
        }
        if let Some(crc) = crc {
            // SAFETY: the pin vouches for the memory during this pass. A peer's concurrent write makes the CRC wrong, which its receiver detects.
            crc.update(unsafe { std::slice::from_raw_parts(pointer, length) });
        }
        self.built += u64::from(sge.length);
        self.chunks.push_back(Chunk::Memory { sge, remote });
        Ok(())
    }

    /// Appends a copy of payload, and markers where they are due. Feeds the CRC.
    ///
    /// # Safety
    /// There are `length` bytes at `pointer`, which others may be changing.
    unsafe fn copy_push(&mut self, pointer: *const u8, length: usize, mut crc: Option<&mut Crc32c>) {
        let mut at = 0;
        while at < length {
            self.mark(crc.as_deref_mut());
            let left = length - at;
            let run = if self.markers { left.min(marker::room(self.built)) } else { left };
            let mut bytes = vec![0u8; run].into_boxed_slice();
            // SAFETY: `at + run` is not beyond `length`.
            unsafe { std::ptr::copy_nonoverlapping(pointer.add(at), bytes.as_mut_ptr(), run) };
            if let Some(crc) = crc.as_deref_mut() {
                crc.update(&bytes);
            }
            self.built += run as u64;
            self.chunks.push_back(Chunk::Copy { bytes, start: 0, length: run as u32 });
            at += run;
        }
    }

    pub(super) fn build(&mut self, memory: &MemoryTable, counters: &Counters) -> Result<(), SendError> {
        if !self.open || self.failed {
            return Ok(());
        }
        self.change_stags(memory)?;
        ARENAS.with(|arenas| arenas.lend(&mut self.arena));
        while self.built - self.sent < BATCH_BYTES && self.chunks.len() + 40 < VECTORS_MAX && self.arena_has_room() {
            if self.message.is_none() && !self.start_next() {
                break;
            }
            let source = self.message.as_ref().map(|message| message.source);
            self.build_one(memory, counters).inspect_err(|_| self.blame = source)?;
        }
        Ok(())
    }

    /// Does the work on steering tags that is due. It needs nothing of the socket, and waits for work of our own alone: a peer that takes none of its answers must not
    /// keep memory open that is to be closed. An answer that is under way from there then fails.
    pub(super) fn change_stags(&mut self, memory: &MemoryTable) -> Result<(), SendError> {
        let own = |message: &Message| matches!(message.source, Source::Work(_));
        while self.open && !self.failed && !self.message.as_ref().is_some_and(own) && self.is_change_due() {
            let number = self.next;
            let Some(work) = self.work(number) else { break };
            work.done = match work.operation {
                Operation::Activate { stag, old } => memory.activate(stag, old),
                Operation::Invalidate { stag, may_be_gone } => memory.invalidate_local(stag) || may_be_gone,
                _ => false,
            };
            let is_done = work.done;
            self.next += 1;
            if !is_done {
                self.blame = Some(Source::Work(number));
                return Err(SendError::Local);
            }
        }
        Ok(())
    }

    /// The most payload of a segment.
    fn payload_max(&self, is_tagged: bool) -> usize {
        let header_len = if is_tagged { TAGGED_HEADER_LEN } else { UNTAGGED_HEADER_LEN };
        (self.mulpdu + LENGTH_LEN).saturating_sub(header_len).min(PAYLOAD_MAX)
    }

    pub(super) fn build_one(&mut self, memory: &MemoryTable, counters: &Counters) -> Result<(), SendError> {
        let Some(message) = self.message.take() else { return Ok(()) };
        let operation = match message.source {
            Source::Work(number) => self.work(number).map(|work| work.operation),
            Source::Response(_) => None,
        };
        if let (Source::Work(number), Some(Operation::Stream)) = (message.source, operation) {
            let sges = self.work(number).map(|work| std::mem::take(&mut work.sges)).unwrap_or_default();
            for sge in sges.iter().filter(|sge| sge.length > 0) {
                self.built += u64::from(sge.length);
                self.chunks.push_back(Chunk::Memory { sge: *sge, remote: false });
            }
            if let Some(work) = self.work(number) {
                work.sges = sges;
            }
            self.marks.push_back((self.built, Mark::Work(number)));
            return Ok(());
        }
        let left = message.total - message.offset;
        let is_tagged = match message.source {
            Source::Work(_) => matches!(operation, Some(Operation::Write { .. })),
            Source::Response(response) => matches!(response, Inbound::Read { .. }),
        };
        let length = left.min(self.payload_max(is_tagged) as u64);
        let last = length == left;
        let bytes = length as usize;
        let mut crc = self.crc.then(Crc32c::new);
        let (header, payload) = self.head(memory, &message, operation, bytes)?;
        let header = header.bytes();
        self.fpdu_start = marker::fpdu_start(self.built);
        self.frame(header, crc.as_mut());
        // A segment copies what its place in the arena was reserved for; nothing of a large message is copied.
        let mut inline = if message.total < LARGE { INLINE_MAX } else { 0 };
        match (payload, message.source) {
            (Payload::Fixed(fixed), _) => {
                self.frame(fixed.get(..bytes).unwrap_or(&[]), crc.as_mut());
            }
            (Payload::Source(sge), _) => self.payload_push(memory, counters, sge, true, &mut inline, crc.as_mut())?,
            (Payload::Sges, Source::Work(number)) => {
                let sges = self.work(number).map(|work| std::mem::take(&mut work.sges)).unwrap_or_default();
                if let Some(payload) = sges.payload() {
                    let from = message.offset as usize;
                    self.frame(payload.get(from..from + bytes).unwrap_or(&[]), crc.as_mut());
                    counters.bytes_inlined.add(length);
                }
                let pushed = sges
                    .pieces(message.offset, length)
                    .try_for_each(|piece| self.payload_push(memory, counters, piece, false, &mut inline, crc.as_mut()));
                if let Some(work) = self.work(number) {
                    work.sges = sges;
                }
                pushed?;
            }
            (Payload::Sges, Source::Response(_)) => {}
        }
        self.frame_trailer(header.len() - 2 + bytes, crc);
        counters.fpdus_sent.add(1);
        self.tally.fpdus_sent += 1;
        self.fpdu_ends.push_back(self.built);
        if matches!(message.source, Source::Work(_)) {
            self.own_end = self.built;
        }
        if !last {
            self.message = Some(Message { offset: message.offset + length, ..message });
            return Ok(());
        }
        match (message.source, operation) {
            (Source::Response(_), _) => self.marks.push_back((self.built, Mark::Response)),
            // done when its response has come
            (Source::Work(_), Some(operation)) if operation.awaits_response() => {}
            (Source::Work(number), _) => self.marks.push_back((self.built, Mark::Work(number))),
        }
        Ok(())
    }

    /// The header of the next segment of a message, and where its payload is.
    fn head(
        &mut self,
        memory: &MemoryTable,
        message: &Message,
        operation: Option<Operation>,
        bytes: usize,
    ) -> Result<(Header, Payload), SendError> {
        let last = message.offset + bytes as u64 == message.total;
        let untagged = |opcode, queue, offset, invalidate| {
            Header::Untagged(wire::untagged_header(opcode, last, queue, message.msn, offset, invalidate, bytes))
        };
        let number = match message.source {
            Source::Response(Inbound::Read { request, .. }) => {
                let to = request.sink_to.wrapping_add(message.offset);
                let header = wire::tagged_header(Opcode::ReadResponse, last, request.sink_stag, to, bytes);
                let payload = match bytes {
                    0 => Payload::Sges,
                    _ => Payload::Source(Self::response_source(memory, &request, message.offset, bytes)?),
                };
                return Ok((Header::Tagged(header), payload));
            }
            Source::Response(Inbound::Atomic(response)) => {
                let payload = Payload::fixed(&response.emit());
                return Ok((untagged(Opcode::AtomicResponse, QUEUE_ATOMIC_RESPONSE, 0, 0), payload));
            }
            Source::Work(number) => number,
        };
        Ok(match operation {
            Some(Operation::Write { stag, to }) => {
                let to = to.wrapping_add(message.offset);
                (Header::Tagged(wire::tagged_header(Opcode::Write, last, stag, to, bytes)), Payload::Sges)
            }
            Some(Operation::Send { invalidate, solicited }) => {
                let opcode = match (invalidate.is_some(), solicited) {
                    (false, false) => Opcode::Send,
                    (true, false) => Opcode::SendInvalidate,
                    (false, true) => Opcode::SendSolicited,
                    (true, true) => Opcode::SendSolicitedInvalidate,
                };
                (untagged(opcode, QUEUE_SEND, message.offset as u32, invalidate.unwrap_or(0)), Payload::Sges)
            }
            Some(Operation::Immediate { data, solicited }) => {
                let opcode = if solicited { Opcode::ImmediateSolicited } else { Opcode::Immediate };
                (untagged(opcode, QUEUE_SEND, 0, 0), Payload::fixed(&data.to_be_bytes()))
            }
            Some(Operation::Read { stag, to }) => {
                let sges = self.work(number).map(|work| work.sges.clone()).unwrap_or_default();
                let sink = Self::sink(memory, sges.iter().next())?;
                let request = ReadRequest {
                    sink_stag: sink.stag,
                    sink_to: sink.address,
                    length: sges.total as u32,
                    source_stag: stag,
                    source_to: to,
                };
                (untagged(Opcode::ReadRequest, QUEUE_READ_REQUEST, 0, 0), Payload::fixed(&request.emit()))
            }
            Some(Operation::Atomic(request)) => {
                let sges = self.work(number).map(|work| work.sges.clone()).unwrap_or_default();
                Self::sink(memory, sges.iter().next())?;
                let request = AtomicRequest { request_id: number as u32, ..request };
                (untagged(Opcode::AtomicRequest, QUEUE_READ_REQUEST, 0, 0), Payload::fixed(&request.emit()))
            }
            Some(Operation::Stream | Operation::Activate { .. } | Operation::Invalidate { .. }) | None => {
                return Err(SendError::Local)
            }
        })
    }

    /// The sink of a Read or atomic operation, if the memory is ours to use.
    fn sink(memory: &MemoryTable, sge: Option<&Sge>) -> Result<Sge, SendError> {
        let sink = sge.copied().unwrap_or_default();
        if sink.length > 0 {
            let pin = memory.pin(sink.stag).ok_or(SendError::Local)?;
            pin.local(sink.address, u64::from(sink.length)).ok_or(SendError::Local)?;
        }
        Ok(sink)
    }

    pub(super) fn response_source(
        memory: &MemoryTable,
        request: &ReadRequest,
        offset: u64,
        bytes: usize,
    ) -> Result<Sge, SendError> {
        let to = request.source_to.wrapping_add(offset);
        let pin = memory.pin(request.source_stag);
        let address = pin
            .as_ref()
            .filter(|pin| pin.region().access & REMOTE_READ != 0)
            .and_then(|pin| pin.at(to, bytes as u64))
            .ok_or(SendError::lost(true))?;
        Ok(Sge { stag: request.source_stag, length: bytes as u32, address: address as u64 })
    }
}
