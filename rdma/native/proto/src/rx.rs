//! The receiving side of one stream: what must be remembered between segments (RFC 5041 §5, RFC 5040 §5).
//!
//! For each FPDU the driver reads [`Receiver::header_len`] bytes, hands them to [`Receiver::handle_header`], places the
//! payload where the [`Segment`] says, checks the CRC, and reports [`Receiver::complete`]. Only that moves the state
//! on, so that an FPDU whose payload never arrives changes nothing. Steering tags, bounds, and whether a receive or an
//! outstanding Read is there to take a payload are the memory table's and the queue pair's to check.

use crate::ddp::queue_index;
use crate::ddp::{Segment, Target, QUEUE_COUNT};
use crate::rdmap::{
    Opcode, TerminateCode, ATOMIC_REQUEST_LEN, ATOMIC_RESPONSE_LEN, IMMEDIATE_LEN, READ_REQUEST_LEN, TERMINATE_LEN_MAX,
    TERMINATE_LEN_MIN,
};

/// The state of one untagged queue.
#[derive(Clone, Copy, Debug)]
struct Queue {
    /// Number of the message that is due.
    msn: u32,
    /// Its bytes that have arrived.
    mo: u32,
    /// What it is, once its first segment has arrived.
    open: Option<(Opcode, u32)>,
}

/// A tagged message of which more segments are due.
#[derive(Clone, Copy, Debug)]
struct OpenTagged {
    opcode: Opcode,
    stag: u32,
    to: u64,
}

/// The receive state of one direction of a stream.
#[derive(Clone, Debug)]
pub struct Receiver {
    queues: [Queue; QUEUE_COUNT],
    tagged: Option<OpenTagged>,
}

impl Default for Receiver {
    fn default() -> Self {
        Self::new()
    }
}

impl Receiver {
    /// The state of a stream on which nothing has arrived: every queue expects message 1 from its first byte.
    pub fn new() -> Receiver {
        Receiver { queues: [Queue { msn: 1, mo: 0, open: None }; QUEUE_COUNT], tagged: None }
    }

    /// How long the header is that begins with `have`: 16 while that isn't known yet or the segment is tagged, 20 once
    /// the control byte says that it is untagged.
    pub fn header_len(have: &[u8]) -> usize {
        Segment::header_len_of(have)
    }

    /// Checks the header of the FPDU that is due, and says what follows it.
    ///
    /// Lengths, versions, opcode and its kind of header, queue, message and offset in order, message of one piece,
    /// fixed sizes, no wrap. An error is what the peer is to be told in a Terminate; the stream can't go on.
    pub fn handle_header(&mut self, header: &[u8]) -> Result<Segment, TerminateCode> {
        let segment = Segment::parse(header)?;
        match segment.target {
            Target::Tagged { stag, to } => self.check_tagged(&segment, stag, to)?,
            Target::Untagged { queue, msn, mo, invalidate_stag } => {
                let index = queue_index(queue).ok_or(TerminateCode::DDP_UNTAGGED_INVALID_QN)?;
                if segment.opcode.queue() != Some(queue) {
                    return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
                }
                check_queue(&self.queues[index], &segment, msn, mo, invalidate_stag)?;
            }
        }
        Ok(segment)
    }

    /// Moves on past a segment that [`Receiver::handle_header`] gave, once its payload has been placed and its CRC is
    /// good.
    pub fn complete(&mut self, segment: &Segment) {
        match segment.target {
            Target::Tagged { stag, to } => {
                let to = to.wrapping_add(segment.payload_len as u64);
                self.tagged = (!segment.last).then_some(OpenTagged { opcode: segment.opcode, stag, to });
            }
            Target::Untagged { queue, msn, mo, invalidate_stag } => {
                let Some(index) = queue_index(queue) else { return };
                self.queues[index] = if segment.last {
                    Queue { msn: msn.wrapping_add(1), mo: 0, open: None }
                } else {
                    let mo = mo.wrapping_add(segment.payload_len as u32);
                    Queue { msn, mo, open: Some((segment.opcode, invalidate_stag)) }
                };
            }
        }
    }

    /// Whether no message is half received: a connection that ends now ends between messages.
    pub fn is_between_messages(&self) -> bool {
        self.tagged.is_none() && self.queues.iter().all(|queue| queue.open.is_none())
    }

    fn check_tagged(&self, segment: &Segment, stag: u32, to: u64) -> Result<(), TerminateCode> {
        if to.checked_add(segment.payload_len as u64).is_none() {
            return Err(TerminateCode::DDP_TAGGED_TO_WRAP);
        }
        let Some(open) = self.tagged else { return Ok(()) };
        if open.opcode != segment.opcode {
            return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
        }
        if open.stag != stag {
            return Err(TerminateCode::DDP_TAGGED_INVALID_STAG);
        }
        if open.to != to {
            return Err(TerminateCode::DDP_TAGGED_BASE_OR_BOUNDS);
        }
        Ok(())
    }
}

fn check_queue(queue: &Queue, segment: &Segment, msn: u32, mo: u32, invalidate_stag: u32) -> Result<(), TerminateCode> {
    if msn != queue.msn {
        return Err(TerminateCode::DDP_UNTAGGED_MSN_RANGE);
    }
    if mo != queue.mo {
        return Err(TerminateCode::DDP_UNTAGGED_INVALID_MO);
    }
    if let Some((opcode, stag)) = queue.open {
        if opcode != segment.opcode {
            return Err(TerminateCode::RDMAP_OPERATION_UNEXPECTED_OPCODE);
        }
        if opcode.invalidates() && stag != invalidate_stag {
            return Err(TerminateCode::RDMAP_OPERATION_CANNOT_INVALIDATE);
        }
    }
    match segment.opcode {
        Opcode::ReadRequest => check_size(segment, READ_REQUEST_LEN, READ_REQUEST_LEN),
        Opcode::Terminate => check_size(segment, TERMINATE_LEN_MIN, TERMINATE_LEN_MAX),
        Opcode::AtomicRequest => check_size(segment, ATOMIC_REQUEST_LEN, ATOMIC_REQUEST_LEN),
        Opcode::AtomicResponse => check_size(segment, ATOMIC_RESPONSE_LEN, ATOMIC_RESPONSE_LEN),
        Opcode::Immediate | Opcode::ImmediateSolicited => check_size(segment, IMMEDIATE_LEN, IMMEDIATE_LEN),
        _ => match u32::try_from(segment.payload_len).ok().and_then(|length| mo.checked_add(length)) {
            Some(_) => Ok(()),
            None => Err(TerminateCode::DDP_UNTAGGED_TOO_LONG),
        },
    }
}

/// Messages of a fixed or bounded size are one segment each: the smallest MULPDU (RFC 5044 §4.5) has room for any.
fn check_size(segment: &Segment, min: usize, max: usize) -> Result<(), TerminateCode> {
    if segment.payload_len > max {
        return Err(TerminateCode::DDP_UNTAGGED_TOO_LONG);
    }
    if segment.payload_len < min || !segment.last {
        return Err(TerminateCode::RDMAP_OPERATION_UNSPECIFIED);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
