//! What a complete FPDU means: Sends fill receives, requests are answered, responses complete our own (RFC 5040 §5, RFC 7306 §5 and §6).
use std::sync::atomic::AtomicU64;

use super::*;

/// The first bytes of a control message, which is as long as its kind is.
fn leading<const N: usize>(bytes: &[u8; CONTROL_MAX]) -> [u8; N] {
    let mut first = [0; N];
    first.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    first
}

impl Rx {
    pub(super) fn deliver(&mut self, context: &mut Context<'_>) -> Result<(), Stop> {
        let Some(current) = &self.current else { return Ok(()) };
        let segment = &current.segment;
        let length = segment.payload_len as u64;
        let solicited = segment.opcode.is_solicited();
        match segment.opcode {
            Opcode::Write => self.tally.writes_received += u64::from(segment.last),
            Opcode::ReadResponse => {
                if let Some(read) = context.tx.reads.front_mut() {
                    read.placed += length;
                    context.tx.moved += length;
                }
                if segment.last {
                    if let Some(sink) = context.tx.read_done() {
                        context.memory.invalidate_local(sink);
                    }
                    context.tx.retire(context.ring, context.tag);
                }
            }
            // A connection that is to end would never do so for a peer that goes on asking; what is left without an answer is flushed at the peer's. As long as there is work
            // of our own the answers hold nothing up, and a peer that closes as well may be waiting for them.
            Opcode::ReadRequest | Opcode::AtomicRequest if context.tx.closing && context.tx.posted() == 0 => {}
            Opcode::ReadRequest => {
                let Sink::Control(bytes) = &current.sink else { return Ok(()) };
                let request = ReadRequest::parse(&leading(bytes));
                if request.length > 0 {
                    let (stag, to) = (request.source_stag, request.source_to);
                    let pin = context.memory.pin_remote(self.through, stag, to, u64::from(request.length), REMOTE_READ);
                    self.check(context, pin.map(drop), read_error)?;
                }
                if !context.tx.may_respond() && !self.is_ready(Rtr::Read, u64::from(request.length)) {
                    return Err(TerminateCode::DDP_UNTAGGED_NO_BUFFER.into());
                }
                let Target::Untagged { msn, .. } = segment.target else { return Ok(()) };
                context.tx.respond(Inbound::Read { request, msn });
            }
            Opcode::AtomicRequest => {
                let Sink::Control(bytes) = &current.sink else { return Ok(()) };
                let request =
                    AtomicRequest::parse(&leading(bytes)).ok_or(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE)?;
                if !context.tx.may_respond() {
                    return Err(TerminateCode::DDP_UNTAGGED_NO_BUFFER.into());
                }
                let original = self.perform(context, &request)?;
                context.tx.respond(Inbound::Atomic(AtomicResponse { request_id: request.request_id, original }));
            }
            Opcode::AtomicResponse => {
                let Sink::Control(bytes) = &current.sink else { return Ok(()) };
                let response = AtomicResponse::parse(&leading(bytes));
                let sink = match context.tx.reads.front() {
                    Some(read) if read.atomic == Some(response.request_id) => read.sink,
                    _ => return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE.into()),
                };
                if sink.length > 0 {
                    let pin = context.memory.pin(sink.stag).ok_or(Stop::End(ReceiveEnd::Local))?;
                    let length = sink.length.min(ATOMIC_OPERAND_LEN as u32);
                    let pointer = pin.local(sink.address, u64::from(length)).ok_or(Stop::End(ReceiveEnd::Local))?;
                    let value = response.original.to_ne_bytes();
                    // SAFETY: the pin vouches for `length` bytes at `pointer`, and the value has at least as many.
                    unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), pointer, length as usize) };
                }
                context.tx.atomic_done(response.original);
                context.tx.retire(context.ring, context.tag);
            }
            Opcode::Immediate | Opcode::ImmediateSolicited => {
                let Sink::Control(bytes) = &current.sink else { return Ok(()) };
                let aux = u64::from_be_bytes(leading(bytes));
                if let Some(work) = self.pop() {
                    self.tally.receives += 1;
                    let (kind, status) = (EntryKind::Immediate, Status::Ok);
                    let entry = Entry { tag: context.tag, kind, status, slot: work.slot, bytes: 0, detail: 0, aux };
                    context.ring.append(entry, self.wake(solicited));
                }
            }
            Opcode::Terminate => {
                let Sink::Control(bytes) = &current.sink else { return Ok(()) };
                let terminate = Terminate::parse(bytes.get(..current.placed).unwrap_or(&[]))
                    .map_err(|_| TerminateCode::RDMAP_OPERATION_UNSPECIFIED)?;
                return Err(Stop::End(ReceiveEnd::Terminated(terminate)));
            }
            Opcode::Send | Opcode::SendInvalidate | Opcode::SendSolicited | Opcode::SendSolicitedInvalidate => {
                let Target::Untagged { mo, invalidate_stag, .. } = segment.target else { return Ok(()) };
                if matches!(current.sink, Sink::Nothing) {
                    return Ok(()); // the peer is ready to receive, nothing more
                }
                if let Some(work) = self.queue.front_mut() {
                    work.filled = u64::from(mo) + length;
                }
                if !segment.last {
                    return Ok(());
                }
                let mut detail = 0;
                if matches!(segment.opcode, Opcode::SendInvalidate | Opcode::SendSolicitedInvalidate) {
                    detail = invalidate_stag;
                    let result = context.memory.invalidate_remote(self.through, invalidate_stag);
                    self.check(context, result, |error| match error {
                        AccessError::OtherDomain => TerminateCode::RDMAP_PROTECTION_STAG_NOT_ASSOCIATED,
                        _ => TerminateCode::RDMAP_OPERATION_CANNOT_INVALIDATE,
                    })?;
                }
                if let Some(work) = self.pop() {
                    self.tally.receives += 1;
                    let bytes = work.filled as u32;
                    let (kind, status) = (EntryKind::Receive, Status::Ok);
                    let entry = Entry { tag: context.tag, kind, status, slot: work.slot, bytes, detail, aux: 0 };
                    context.ring.append(entry, self.wake(solicited));
                }
            }
        }
        Ok(())
    }

    /// When JavaScript is woken for a receive that has been filled.
    fn wake(&self, solicited: bool) -> Wake<'_> {
        if self.solicited_only && !solicited {
            Wake::Rarely
        } else {
            Wake::by(self.moderation.as_ref())
        }
    }

    /// Carries out an atomic operation of the peer's. Atomic against every other queue pair and against native code and `Atomics` in this process.
    fn perform(&self, context: &Context<'_>, request: &AtomicRequest) -> Result<u64, TerminateCode> {
        let length = ATOMIC_OPERAND_LEN as u64;
        let pin = context.memory.pin_remote(self.through, request.stag, request.to, length, REMOTE_ATOMIC);
        let pin = self.check(context, pin, read_error)?;
        fault!(Atomic, self.through.connection);
        let pointer = pin.at(request.to, length).ok_or(TerminateCode::RDMAP_PROTECTION_BASE_OR_BOUNDS)?;
        let pointer = pointer.cast::<u64>();
        if !pointer.is_aligned() || !request.to.is_multiple_of(length) {
            return Err(TerminateCode::RDMAP_OPERATION_UNSPECIFIED);
        }
        // SAFETY: aligned, and the pin vouches for the eight bytes while the reference lives; everyone else's accesses are races that atomics allow.
        let value = unsafe { AtomicU64::from_ptr(pointer) };
        let outcome = value.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |original| request.apply(original));
        Ok(outcome.unwrap_or_else(|unchanged| unchanged))
    }
}
