//! Payload to its final address: straight from the socket, or out of the stage (RFC 5041 §5.3).
use super::*;

impl Rx {
    /// The addresses of the next `length` bytes of the current payload, pinned; as many as fit in `vectors`.
    pub(super) fn resolve(
        &self,
        context: &Context<'_>,
        length: usize,
        vectors: &mut [libc::iovec],
        pins: &mut Pins,
    ) -> Result<usize, Stop> {
        let Some(current) = &self.current else { return Ok(0) };
        let placed = current.placed as u64;
        let length = length as u64;
        let set = |vectors: &mut [libc::iovec], i: usize, pointer: *mut u8, length: u64| {
            if let Some(vector) = vectors.get_mut(i) {
                *vector = libc::iovec { iov_base: pointer.cast(), iov_len: length as usize };
            }
        };
        let local = |sge: &Sge, pins: &mut Pins| -> Result<*mut u8, Stop> {
            let pin = context.memory.pin(sge.stag).ok_or(Stop::End(ReceiveEnd::Local))?;
            let pointer = pin.local(sge.address, u64::from(sge.length)).ok_or(Stop::End(ReceiveEnd::Local))?;
            pins.push(pin);
            Ok(pointer)
        };
        match current.sink {
            Sink::Tagged { stag, to } => {
                let to = to + placed;
                let pin = self.check(
                    context,
                    context.memory.pin_remote(self.through, stag, to, length, REMOTE_WRITE),
                    tagged_error,
                )?;
                let pointer = pin.at(to, length).ok_or(TerminateCode::DDP_TAGGED_BASE_OR_BOUNDS)?;
                pins.push(pin);
                set(vectors, 0, pointer, length);
                Ok(1)
            }
            Sink::Read => {
                let Some(read) = context.tx.reads.front() else { return Err(Stop::End(ReceiveEnd::Local)) };
                let sge = Sge {
                    stag: read.sink.stag,
                    length: length as u32,
                    address: read.sink.address + read.placed + placed,
                };
                set(vectors, 0, local(&sge, pins)?, length);
                Ok(1)
            }
            Sink::Receive { offset } => {
                let Some(work) = self.queue.front() else { return Err(Stop::End(ReceiveEnd::Local)) };
                let mut count = 0;
                for piece in work.sges.pieces(offset + placed, length).take(vectors.len()) {
                    set(vectors, count, local(&piece, pins)?, u64::from(piece.length));
                    count += 1;
                }
                Ok(count)
            }
            Sink::Nothing | Sink::Control(_) => Ok(0),
        }
    }

    /// Takes payload that is already in the stage.
    pub(super) fn place_staged(
        &mut self,
        context: &mut Context<'_>,
        remaining: usize,
        budget: &mut usize,
    ) -> Result<(), Stop> {
        let available = (self.end - self.start).min(remaining);
        if let Some(Current { sink: Sink::Control(bytes), placed, crc, .. }) = &mut self.current {
            if available == 0 {
                // a control message's payload, and in exact mode its trailer and the next header
                return self.fill_stage(context, remaining + CRC_LEN, budget);
            }
            let from = self.stage.get(self.start..self.start + available).unwrap_or(&[]);
            if let Some(to) = bytes.get_mut(*placed..*placed + available) {
                to.copy_from_slice(from);
            }
            sum(&mut self.markers, crc, from)?;
            *placed += available;
            self.start += available;
            return Ok(());
        }
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS_MAX];
        let mut pins = Pins::default();
        let count = self.resolve(context, available, &mut vectors, &mut pins)?;
        fault!(Place, self.through.connection);
        let mut copied = 0;
        for vector in vectors.iter().take(count) {
            let n = vector.iov_len.min(available - copied);
            let Some(from) = self.stage.get(self.start + copied..self.start + copied + n) else { break };
            // SAFETY: `pins` vouches for the target; the source is our own stage, which is no region.
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), vector.iov_base.cast::<u8>(), n) };
            copied += n;
        }
        drop(pins);
        let Some(current) = &mut self.current else { return Ok(()) };
        let run = self.stage.get(self.start..self.start + copied).unwrap_or(&[]);
        sum(&mut self.markers, &mut current.crc, run)?;
        current.placed += copied;
        self.start += copied;
        context.counters.bytes_staged.add(copied as u64);
        if Self::is_large(current, context.tx, &self.queue) {
            context.counters.bytes_staged_large.add(copied as u64);
        }
        Ok(())
    }

    pub(super) fn is_large(current: &Current, tx: &Tx, queue: &VecDeque<ReceiveWork>) -> bool {
        match current.sink {
            Sink::Tagged { .. } => current.segment.payload_len as u64 >= LARGE,
            Sink::Read => tx.has_large_read(),
            Sink::Receive { offset } => offset + current.segment.payload_len as u64 >= LARGE && !queue.is_empty(),
            Sink::Nothing | Sink::Control(_) => false,
        }
    }

    /// Reads payload from the socket to its place, and what follows it into the stage.
    pub(super) fn place_direct(
        &mut self,
        context: &mut Context<'_>,
        remaining: usize,
        budget: &mut usize,
    ) -> Result<(), Stop> {
        if self.drained {
            return Err(Stop::End(ReceiveEnd::Drained));
        }
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; VECTORS_MAX + 1];
        let mut pins = Pins::default();
        let places = vectors.get_mut(..VECTORS_MAX).unwrap_or(&mut []);
        let mut count = self.resolve(context, remaining, places, &mut pins)?;
        fault!(Place, self.through.connection);
        let direct: usize = vectors.iter().take(count).map(|v| v.iov_len).sum();
        let bulk = self.bulk(context.tx);
        let Some(current) = &mut self.current else { return Ok(()) };
        let mut asked = direct;
        if direct == remaining {
            let ask = current.segment.pad + CRC_LEN + TAGGED_HEADER_LEN;
            let tail = if bulk { STAGE_BYTES } else { ask };
            self.start = 0;
            self.end = 0;
            if let (Some(room), Some(vector)) = (self.stage.get_mut(..tail), vectors.get_mut(count)) {
                *vector = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
                count += 1;
                asked += tail;
            }
        }
        let Some(used) = vectors.get_mut(..count) else { return Err(Stop::End(ReceiveEnd::Local)) };
        context.counters.receive_calls.add(1);
        // `pins` vouches for the places; the last vector is our own stage.
        let (outcome, short) = match &mut self.markers {
            // SAFETY: as above.
            None => (unsafe { socket::receive(context.fd, used) }, None),
            Some(markers) => {
                // SAFETY: as above.
                let (outcome, short) = unsafe { markers.receive(context.fd, used) };
                (outcome, Some(short))
            }
        };
        let n = Self::received(outcome, true)?;
        let placed = n.min(direct);
        if current.crc.is_some() || self.markers.is_some() {
            let mut left = placed;
            for vector in vectors.iter() {
                let run = vector.iov_len.min(left);
                if run == 0 {
                    break;
                }
                // SAFETY: still pinned. A concurrent write by a peer makes the CRC fail, nothing worse: the bytes are only summed.
                let bytes = unsafe { std::slice::from_raw_parts(vector.iov_base.cast::<u8>(), run) };
                sum(&mut self.markers, &mut current.crc, bytes)?;
                left -= run;
            }
        }
        drop(pins);
        current.placed += placed;
        self.end = n - placed;
        context.counters.bytes_placed.add(placed as u64);
        self.drained = short.unwrap_or(n < asked) && !context.ending;
        self.received += n as u64;
        Self::spend(budget, n)
    }
}
