//! What ten thousand connections leave behind: nothing but a few scratch buffers. Every allocation of this program is counted, so this test has a program of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use weft_engine::abi::*;
use weft_engine::counters::Counters;
use weft_engine::ring::{EntryKind, ENTRY_WORDS, HEADER_WORDS};

/// Bytes that are allocated now.
static ALLOCATED: AtomicI64 = AtomicI64::new(0);

struct Counting;

// SAFETY: everything is the system allocator's doing; only sizes are added up beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as i64, Ordering::SeqCst);
        // SAFETY: by this function's contract.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as i64, Ordering::SeqCst);
        // SAFETY: by this function's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LISTENER: u32 = 1;
const CLIENT: u32 = 2;
const SERVER: u32 = 3;
const ROUND: u32 = 1000;
const ROUNDS: u32 = 10;
/// Scratch buffers (16 KiB to receive, 32 KiB to send) that each of two threads may keep for its next connection, and queues that have grown to
/// their size. An allocation of 16 bytes lost by every connection is more.
const KEPT_BYTES: i64 = 2 * (16 + 32) * 1024 + 4096;

/// A device to which both ends belong, driven as JavaScript does it.
struct Node {
    device: f64,
    ring: *const AtomicU32,
    capacity: u32,
}

impl Node {
    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: within the ring, which lives as long as the device.
        unsafe { &*self.ring.add(at) }
    }

    /// The next entry of this kind and tag; others are of no interest. Returns its status and what `aux` says.
    fn next(&self, tag: u32, kind: EntryKind) -> (i32, u64) {
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            for _ in 0..weft_progress(self.device, 0) {
                let head = self.word(16).load(Ordering::Relaxed);
                let at = HEADER_WORDS + (head & (self.capacity - 1)) as usize * ENTRY_WORDS;
                let [is_tag, is_kind, status, _, _, _, low, high]: [u32; ENTRY_WORDS] =
                    std::array::from_fn(|i| self.word(at + i).load(Ordering::Relaxed));
                self.word(16).store(head.wrapping_add(1), Ordering::Release);
                if (is_tag, is_kind) == (tag, kind as u32) {
                    return (status as i32, u64::from(high) << 32 | u64::from(low));
                }
            }
        }
        panic!("no {kind:?} of {tag}");
    }

    fn counters(&self) -> Vec<f64> {
        let mut values = vec![0.0; 64];
        // SAFETY: room for as many values as are said.
        let count = unsafe { weft_counters(self.device, values.as_mut_ptr(), 64) };
        values.truncate(count as usize);
        values
    }

    /// One connection from its beginning to its end, with a Write, and a receive that is flushed.
    fn connect_and_end(&self, port: u32, number: u32) {
        let mut settings = [0; SETTINGS_WORDS];
        (settings[2], settings[3], settings[4], settings[5]) = (1, 16, 16, 1);
        let mut out = [0.0; 3];
        let (host, none) = (b"127.0.0.1", std::ptr::null());
        // SAFETY: the lengths are those of what is passed, here and below.
        unsafe {
            assert_eq!(weft_memory_allocate(self.device, 1, 131_072.0, 7, out.as_mut_ptr()), 0);
            let (stag, address) = (out[0] as u32, out[1] as u64);
            let words = settings.as_ptr();
            assert_eq!(weft_connect(self.device, host.as_ptr(), 9, port, CLIENT, words, none, 0, out.as_mut_ptr()), 0);
            let client = out[0];
            let server = self.next(LISTENER, EntryKind::Request).1 as f64;
            assert_eq!(weft_accept(server, SERVER, words, none, 0), 0);
            assert_eq!(self.next(CLIENT, EntryKind::Established).0, 0);
            // written from the first half into the second one: not from where it goes to
            let [from, place] = [address, address + 65536].map(|at| [at as u32, (at >> 32) as u32]);
            let element = [stag, 65536, from[0], from[1]];
            let receive = [&[1 << 16, 0, 0, 0, 0, 0][..], &element].concat();
            assert_eq!(weft_post(server, receive.as_ptr(), receive.len() as u32), 0);
            assert_eq!((weft_start(client), weft_start(server)), (0, 0));
            let write = [&[2 | 1 << 8 | 1 << 16, 0, stag, 0][..], &place, &element].concat();
            assert_eq!(weft_post(client, write.as_ptr(), write.len() as u32), 0);
            assert_eq!(self.next(CLIENT, EntryKind::Send).0, 0);
            let ended = match number % 3 {
                0 => weft_close(client),
                1 => weft_abort(client),
                _ => {
                    // a STag that is none: the peer terminates
                    let beyond = [&[2 | 1 << 8 | 1 << 16, 1, stag ^ 1, 0][..], &place, &element].concat();
                    weft_post(client, beyond.as_ptr(), beyond.len() as u32)
                }
            };
            assert_eq!(ended, 0);
            // either may end first, and what is told of the other must not be lost
            let mut open = vec![CLIENT, SERVER];
            let end = Instant::now() + Duration::from_secs(10);
            while !open.is_empty() {
                assert!(Instant::now() < end, "{open:?} has not ended");
                for _ in 0..weft_progress(self.device, 0) {
                    let head = self.word(16).load(Ordering::Relaxed);
                    let at = HEADER_WORDS + (head & (self.capacity - 1)) as usize * ENTRY_WORDS;
                    let (tag, kind) =
                        (self.word(at).load(Ordering::Relaxed), self.word(at + 1).load(Ordering::Relaxed));
                    self.word(16).store(head.wrapping_add(1), Ordering::Release);
                    open.retain(|each| kind != EntryKind::Closed as u32 || *each != tag);
                }
            }
            assert_eq!((weft_release(client), weft_release(server)), (0, 0));
            assert_eq!(weft_memory_invalidate(self.device, stag), 0);
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn ten_thousand_connections_leave_nothing() {
    let mut out = [0.0; 3];
    // SAFETY: room for what is written.
    assert_eq!(unsafe { weft_device_open(out.as_mut_ptr()) }, 0);
    let [device, ring, bytes] = out;
    let capacity = (bytes as usize / 4 - HEADER_WORDS) as u32 / ENTRY_WORDS as u32;
    let node = Node { device, ring: ring as usize as *const AtomicU32, capacity };
    let limits = [0; LIMITS_WORDS];
    // SAFETY: the lengths are those of what is passed.
    let status =
        unsafe { weft_listen(device, b"127.0.0.1".as_ptr(), 9, 0, LISTENER, limits.as_ptr(), out.as_mut_ptr()) };
    assert_eq!(status, 0);
    let port = out[1] as u32;
    let mut seen = Vec::new();
    for _ in 0..=ROUNDS {
        (0..ROUND).for_each(|number| node.connect_and_end(port, number));
        let end = Instant::now() + Duration::from_secs(10);
        // what was active last is remembered until there is nothing to do
        assert_eq!(weft_arm(device), 0);
        // the background thread may still hold the last one for a moment
        while node.counters()[Counters::NAMES.len() + 1] != 0.0 {
            assert!(Instant::now() < end, "connections are left in memory");
            std::thread::sleep(Duration::from_millis(60));
        }
        let regions = node.counters()[Counters::NAMES.len()];
        seen.push((ALLOCATED.load(Ordering::SeqCst), descriptors(), regions));
    }
    let (first, last) = (seen[0], seen[ROUNDS as usize]);
    assert_eq!((first.1, first.2), (last.1, last.2), "{seen:?}");
    assert!(last.0 - first.0 < KEPT_BYTES, "{} bytes more than after the first round: {seen:?}", last.0 - first.0);
    assert_eq!(weft_device_close(device), 0);
}
