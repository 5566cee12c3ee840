//! The completion ring of a device: entries in native memory that JavaScript reads directly, many for one wake-up.
//!
//! Layout, in 32-bit words: word 0 is the producer's tail, word 16 the consumer's head (both count entries and wrap at 2^32), entries of 8 words
//! begin at word 32. JavaScript consumes, any thread of ours produces under a lock. Entries that find the ring full wait in a queue on our side, so none
//! is ever lost; that queue is bounded by the work that was posted and the connections that there are, for a listener takes no more while the ring is full.
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::moderation::Moderation;
use crate::status::Status;
use crate::sync::{lock, AtomicU32, Mutex, Ordering};

/// Words of an entry.
pub const ENTRY_WORDS: usize = 8;
/// Words in front of the entries.
pub const HEADER_WORDS: usize = 32;
/// The word in which the consumer says how far it has come.
pub(crate) const HEAD_WORD: usize = 16;

/// What an entry tells; `rdma/_ffi/layout.ts` has the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A Send, Write or Read of ours is done.
    Send = 1,
    /// A receive is filled.
    Receive = 2,
    /// The connection is ready for use (`aux`: nothing).
    Established = 3,
    /// A peer asks for an iWARP connection (`aux`: handle of the new connection).
    Request = 4,
    /// A peer opened a plain TCP connection (`aux`: handle of the new connection).
    Stream = 5,
    /// The connection has ended and every other entry of it is in front of this one (`detail`: Terminate, packed).
    Closed = 6,
    /// Immediate Data has taken a receive (`aux`: the data).
    Immediate = 7,
    /// Few receives are left in a shared receive queue (`bytes`: how many).
    Limit = 8,
    /// An accepted connection has had the initiator's first FPDU: what is posted leaves from now on.
    Ready = 9,
    /// A listener could take no connection for want of descriptors or room (`Status::Exhausted`), or can again.
    Port = 10,
}

/// One completion or event.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The number that JavaScript gave the connection or listener.
    pub tag: u32,
    /// What it tells.
    pub kind: EntryKind,
    /// `Status::Ok`, or why it failed.
    pub status: Status,
    /// The number that JavaScript gave the work request.
    pub slot: u32,
    /// Bytes received or moved.
    pub bytes: u32,
    /// Invalidated STag of a receive, or the packed Terminate of a close.
    pub detail: u32,
    /// A handle.
    pub aux: u64,
}

/// When a sleeping JavaScript is woken for an entry.
#[derive(Clone, Copy)]
pub enum Wake<'a> {
    /// At once.
    Now,
    /// Not before the ring has filled to the half.
    Rarely,
    /// With others of its queue, or by the time that they may wait.
    Moderated(&'a Moderation),
}

impl<'a> Wake<'a> {
    /// For a completion of a connection with that moderation.
    pub fn by(moderation: Option<&'a Arc<Moderation>>) -> Self {
        moderation.map_or(Self::Now, |moderation| Self::Moderated(moderation))
    }
}

#[derive(Default)]
struct Producer {
    /// What found the ring full.
    waiting: VecDeque<Entry>,
    /// The number of JavaScript's sleep, or of its next one.
    sleep: u64,
    /// The shortest that a moderated entry of this sleep may wait, of those that nobody has looked at the clock for.
    period: Option<Duration>,
    /// When the first of the others has waited for long enough.
    due: Option<u64>,
}

impl Producer {
    fn is_wanted(&mut self, wake: Wake<'_>) -> bool {
        match wake {
            Wake::Now => true,
            Wake::Rarely => false,
            Wake::Moderated(moderation) => {
                let (is_first, is_enough) = moderation.note(self.sleep);
                if is_first {
                    let period = moderation.period();
                    self.period = Some(self.period.map_or(period, |shortest| shortest.min(period)));
                }
                is_enough
            }
        }
    }
}

/// A ring of completions.
pub struct Ring {
    words: Box<[AtomicU32]>,
    capacity: u32,
    /// The count behind the last entry that JavaScript is to be woken for.
    wanted: AtomicU32,
    producer: Mutex<Producer>,
}

impl Ring {
    /// A ring of `capacity` entries, a power of two.
    pub fn new(capacity: u32) -> Self {
        let capacity = capacity.next_power_of_two();
        let count = HEADER_WORDS + capacity as usize * ENTRY_WORDS;
        let words = (0..count).map(|_| AtomicU32::new(0)).collect();
        Self { words, capacity, wanted: AtomicU32::new(0), producer: Mutex::new(Producer::default()) }
    }

    /// Where the ring lies, for JavaScript's view of it, and its length in bytes.
    pub fn memory(&self) -> (*const u8, usize) {
        (self.words.as_ptr().cast(), self.words.len() * 4)
    }

    /// How many entries fit.
    pub fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn word(&self, index: usize) -> &AtomicU32 {
        // Indices are computed from the capacity that the box was made with.
        &self.words[index]
    }

    fn try_write(&self, entry: &Entry) -> bool {
        let tail = self.word(0).load(Ordering::Relaxed);
        let head = self.word(HEAD_WORD).load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= self.capacity {
            return false;
        }
        let at = HEADER_WORDS + (tail & (self.capacity - 1)) as usize * ENTRY_WORDS;
        let values = [
            entry.tag,
            entry.kind as u32,
            entry.status as i32 as u32,
            entry.slot,
            entry.bytes,
            entry.detail,
            entry.aux as u32,
            (entry.aux >> 32) as u32,
        ];
        for (i, value) in values.into_iter().enumerate() {
            self.word(at + i).store(value, Ordering::Relaxed);
        }
        self.word(0).store(tail.wrapping_add(1), Ordering::Release);
        true
    }

    /// Appends an entry that JavaScript is woken for.
    pub fn push(&self, entry: Entry) {
        self.append(entry, Wake::Now);
    }

    /// Appends an entry. Whatever it waits for, JavaScript is woken once the ring has filled to the half.
    pub fn append(&self, entry: Entry, wake: Wake<'_>) {
        let mut producer = lock(&self.producer);
        let wanted = producer.is_wanted(wake);
        let behind = self.word(0).load(Ordering::Relaxed).wrapping_add(producer.waiting.len() as u32 + 1);
        if wanted || behind.wrapping_sub(self.word(HEAD_WORD).load(Ordering::Relaxed)) > self.capacity / 2 {
            self.wanted.store(behind, Ordering::SeqCst);
        }
        if !producer.waiting.is_empty() || !self.try_write(&entry) {
            producer.waiting.push_back(entry);
        }
    }

    /// Whether an entry is ready that JavaScript is to be woken for.
    pub fn is_wanted(&self) -> bool {
        let head = self.word(HEAD_WORD).load(Ordering::Acquire);
        self.ready() > 0 && self.wanted.load(Ordering::SeqCst).wrapping_sub(head) as i32 > 0
    }

    /// JavaScript is going to sleep, unless something is ready: what moderated entries wait for is counted and timed anew.
    pub fn rest(&self) {
        let mut producer = lock(&self.producer);
        producer.sleep += 1;
        producer.period = None;
        producer.due = None;
    }

    /// How long the moderated entries of this sleep may still wait, if there are any, by a clock whose nanoseconds `now` tells.
    pub fn patience(&self, now: impl FnOnce() -> u64) -> Option<Duration> {
        let mut producer = lock(&self.producer);
        if producer.period.is_none() && producer.due.is_none() {
            return None;
        }
        let now = now();
        if let Some(period) = producer.period.take() {
            let end = now.saturating_add(period.as_nanos() as u64);
            producer.due = Some(producer.due.map_or(end, |due| due.min(end)));
        }
        producer.due.map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Moves entries that found the ring full into it, as far as they fit, and returns how many entries are ready.
    pub fn ready(&self) -> u32 {
        let mut producer = lock(&self.producer);
        while let Some(entry) = producer.waiting.front() {
            if !self.try_write(entry) {
                break;
            }
            producer.waiting.pop_front();
        }
        self.word(0).load(Ordering::Acquire).wrapping_sub(self.word(HEAD_WORD).load(Ordering::Acquire))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry(slot: u32) -> Entry {
        Entry { tag: 1, kind: EntryKind::Send, status: Status::Flushed, slot, bytes: 2, detail: 3, aux: 5 << 32 | 4 }
    }

    fn consume(ring: &Ring) -> Vec<u32> {
        let mut slots = Vec::new();
        while ring.ready() > 0 {
            let head = ring.word(HEAD_WORD).load(Ordering::Relaxed);
            let at = HEADER_WORDS + (head & (ring.capacity - 1)) as usize * ENTRY_WORDS;
            slots.push(ring.word(at + 3).load(Ordering::Relaxed));
            ring.word(HEAD_WORD).store(head.wrapping_add(1), Ordering::Release);
        }
        slots
    }

    #[test]
    fn loses_nothing_when_full() {
        let ring = Ring::new(4);
        for i in 0..11 {
            ring.push(entry(i));
        }
        assert_eq!(ring.ready(), 4);
        assert_eq!(consume(&ring), (0..11).collect::<Vec<_>>());
        ring.push(entry(99));
        assert_eq!(consume(&ring), vec![99]);
    }

    #[test]
    fn only_what_is_wanted_wakes() {
        let ring = Ring::new(8);
        ring.append(entry(0), Wake::Rarely);
        assert!(ring.ready() == 1 && !ring.is_wanted());
        ring.push(entry(1));
        ring.append(entry(2), Wake::Rarely);
        assert!(ring.is_wanted());
        assert_eq!(consume(&ring), [0, 1, 2]);
        assert!(!ring.is_wanted());
        (0..4).for_each(|i| ring.append(entry(i), Wake::Rarely));
        assert!(!ring.is_wanted());
        ring.append(entry(4), Wake::Rarely);
        assert!(ring.is_wanted(), "the ring is more than half full");
        assert_eq!(consume(&ring), [0, 1, 2, 3, 4]);
        (0..12).for_each(|i| ring.append(entry(i), if i == 11 { Wake::Now } else { Wake::Rarely }));
        assert!(ring.is_wanted(), "what waits for room counts, too");
        assert_eq!(consume(&ring).len(), 12);
        assert!(!ring.is_wanted());
    }

    #[test]
    fn what_is_moderated_waits_for_its_own_kind_or_its_time() {
        let ring = Ring::new(64);
        let (slow, quick) = (Moderation::default(), Moderation::default());
        slow.set(3, 5000);
        quick.set(2, 1000);
        let add = |moderation, count| (0..count).for_each(|i| ring.append(entry(i), Wake::Moderated(moderation)));
        let wait = |now| ring.patience(|| now).map(|left| left.as_micros());
        add(&slow, 2);
        add(&quick, 1);
        assert!(!ring.is_wanted());
        assert_eq!([wait(1000), wait(501_000), wait(2_000_000)], [Some(1000), Some(500), Some(0)]);
        add(&slow, 1);
        assert!(ring.is_wanted(), "three of one queue");
        assert_eq!(consume(&ring).len(), 4);
        ring.rest();
        assert!(!ring.is_wanted() && wait(0).is_none());
        add(&slow, 1);
        assert_eq!([wait(7000), wait(8000)], [Some(5000), Some(4999)]);
        add(&quick, 1);
        assert_eq!([wait(8000), wait(9000)], [Some(1000), Some(999)], "the shortest counts");
        assert!(!ring.is_wanted(), "one of each");
        ring.append(entry(9), Wake::Now);
        assert!(ring.is_wanted());
        assert_eq!(consume(&ring).len(), 3);
        ring.rest();
        add(&slow, 2);
        assert!(!ring.is_wanted(), "counted anew");
    }

    #[test]
    fn counters_wrap() {
        let ring = Ring::new(4);
        ring.word(0).store(u32::MAX - 1, Ordering::Relaxed);
        ring.word(HEAD_WORD).store(u32::MAX - 1, Ordering::Relaxed);
        for i in 0..6 {
            ring.push(entry(i));
        }
        assert_eq!(consume(&ring), (0..6).collect::<Vec<_>>());
    }

    proptest::proptest! {
        /// Against a plain queue: nothing is lost, doubled or overtaken, however full it is and wherever its counters wrap.
        #[test]
        fn is_a_queue(start in proptest::num::u32::ANY, steps in proptest::collection::vec((0..9u32, 0..6u32), 1..60)) {
            let ring = Ring::new(8);
            ring.word(0).store(start, Ordering::Relaxed);
            ring.word(HEAD_WORD).store(start, Ordering::Relaxed);
            let mut model = VecDeque::new();
            let mut next = 0;
            for (pushed, taken) in steps {
                for _ in 0..pushed {
                    ring.push(entry(next));
                    model.push_back(next);
                    next += 1;
                }
                for _ in 0..taken {
                    let ready = ring.ready();
                    proptest::prop_assert_eq!(ready as usize, model.len().min(8));
                    let Some(expected) = model.pop_front() else { break };
                    let head = ring.word(HEAD_WORD).load(Ordering::Relaxed);
                    let at = HEADER_WORDS + (head & (ring.capacity - 1)) as usize * ENTRY_WORDS;
                    proptest::prop_assert_eq!(ring.word(at + 3).load(Ordering::Relaxed), expected);
                    ring.word(HEAD_WORD).store(head.wrapping_add(1), Ordering::Release);
                }
            }
            proptest::prop_assert_eq!(consume(&ring), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn several_producers() {
        let ring = std::sync::Arc::new(Ring::new(64));
        let threads: Vec<_> = (0..4u32)
            .map(|t| {
                let ring = std::sync::Arc::clone(&ring);
                std::thread::spawn(move || (0..5000).for_each(|i| ring.push(entry(t * 10_000 + i))))
            })
            .collect();
        let mut seen = Vec::new();
        while seen.len() < 20_000 {
            seen.extend(consume(&ring));
        }
        threads.into_iter().for_each(|t| t.join().unwrap());
        for t in 0..4u32 {
            let mine: Vec<_> = seen.iter().filter(|s| **s / 10_000 == t).map(|s| s % 10_000).collect();
            assert_eq!(mine, (0..5000).collect::<Vec<_>>(), "each producer's entries stay in order");
        }
    }
}
