//! Work requests as they come through the C ABI.
use weft_proto::{AtomicOperation, AtomicRequest};

use super::{Operation, ReceiveWork, SendWork, Sge, Sges};
use crate::abi::{ATOMIC_WORDS, MESSAGE_BYTES_MAX, SGES_MAX, SGE_WORDS, WORK_WORDS};
use crate::status::Status;
use crate::tx::INLINE_MAX;

/// The payload lies in the request: the element count is that of its bytes, which follow padded to words.
const FLAG_INLINE: u32 = 32;

fn longs(words: &[u32; ATOMIC_WORDS]) -> [u64; 4] {
    let [a, b, c, d, e, f, g, h] = words.map(u64::from);
    [b << 32 | a, d << 32 | c, f << 32 | e, h << 32 | g]
}

/// How many requests there are at the most, this one and those in `rest`, if each has an element.
fn most(rest: &[u32]) -> usize {
    1 + rest.len() / (WORK_WORDS + SGE_WORDS)
}

/// Decodes a batch of work requests, as `weft_post` has them.
pub fn decode(
    words: &[u32],
    stream: bool,
    sends: &mut Vec<SendWork>,
    receives: &mut Vec<ReceiveWork>,
) -> Result<(), Status> {
    let mut rest = words;
    while !rest.is_empty() {
        let Some((head, tail)) = rest.split_first_chunk::<WORK_WORDS>() else { return Err(Status::Invalid) };
        let [kind, slot, stag, invalidate, to_low, to_high] = *head;
        let (opcode, flags, count) = (kind & 0xff, kind >> 8 & 0xff, (kind >> 16) as usize);
        let inline = flags & FLAG_INLINE != 0;
        let limit = if inline { INLINE_MAX } else { SGES_MAX };
        if count > limit || inline && !matches!(opcode, 1 | 2) {
            return Err(Status::Invalid);
        }
        let length = if inline { count.div_ceil(4) } else { count * SGE_WORDS };
        let Some((list, after)) = tail.split_at_checked(length) else { return Err(Status::Invalid) };
        rest = after;
        let (list, mut sges) = match inline {
            true => (&[][..], Sges::inline(list.iter().flat_map(|word| word.to_ne_bytes()).take(count).collect())),
            false => (list, Sges::default()),
        };
        for element in list.chunks_exact(SGE_WORDS) {
            let [stag, length, low, high] = *element else { return Err(Status::Invalid) };
            sges.push(Sge { stag, length, address: u64::from(high) << 32 | u64::from(low) });
        }
        if sges.total > MESSAGE_BYTES_MAX {
            return Err(Status::Invalid);
        }
        let to = u64::from(to_high) << 32 | u64::from(to_low);
        let operation = match (opcode, stream) {
            (0, _) => {
                if receives.is_empty() {
                    receives.reserve_exact(most(rest));
                }
                receives.push(ReceiveWork::new(slot, sges));
                continue;
            }
            (1, false) => {
                Operation::Send { invalidate: (flags & 2 != 0).then_some(invalidate), solicited: flags & 4 != 0 }
            }
            (1, true) if !inline => Operation::Stream,
            (2, false) => Operation::Write { stag, to },
            (3, false) if count <= 1 => Operation::Read { stag, to },
            (4..=6, false) if count <= 1 => {
                let Some((words, after)) = rest.split_first_chunk::<ATOMIC_WORDS>() else {
                    return Err(Status::Invalid);
                };
                rest = after;
                let [data, mask, compare, compare_mask] = longs(words);
                let operation = AtomicOperation::from_bits(opcode - 4).ok_or(Status::Invalid)?;
                let request = AtomicRequest { operation, request_id: 0, stag, to, data, mask, compare, compare_mask };
                Operation::Atomic(request)
            }
            (7, false) if count == 0 => Operation::Immediate { data: to, solicited: flags & 4 != 0 },
            (8, false) if count == 0 => Operation::Activate { stag, old: invalidate },
            (9, false) if count == 0 => Operation::Invalidate { stag, may_be_gone: invalidate != 0 },
            _ => return Err(Status::Invalid),
        };
        if sends.is_empty() {
            sends.reserve_exact(most(rest));
        }
        let work = SendWork::new(slot, flags & 1 != 0, operation, sges);
        sends.push(work.fenced(flags & 8 != 0).invalidating(flags & 16 != 0 && opcode == 3));
    }
    Ok(())
}
