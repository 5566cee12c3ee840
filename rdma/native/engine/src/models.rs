//! What threads share, in every interleaving that loom finds of a few steps: `RUSTFLAGS="--cfg loom" cargo test -p weft-engine --lib --release models`.
use std::sync::atomic::AtomicUsize;
use std::sync::Arc;
use std::time::Duration;

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::handover::{Driven, Sleeper, Watch, GRACE_MAX_NS};
use crate::memory::{Grant, MemoryTable, Region, LARGE, REMOTE_WRITE};
use crate::moderation::Moderation;
use crate::ring::{Entry, EntryKind, Ring, Wake, ENTRY_WORDS, HEADER_WORDS, HEAD_WORD};
use crate::status::Status;
use crate::sync::{lock, Ordering};

/// Tries the interleavings of `body`, those with up to three preemptions.
fn model(body: impl Fn() + Sync + Send + 'static) {
    let tried = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(3));
    builder.max_branches = 10_000;
    builder.check({
        let tried = Arc::clone(&tried);
        move || {
            tried.fetch_add(1, Ordering::Relaxed);
            body();
        }
    });
    let tried = tried.load(Ordering::Relaxed);
    println!("{tried} interleavings");
    assert!(tried > 4, "{tried} interleavings only: loom saw nothing that the threads share");
}

/// What a system call waits on until somebody rings.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Returns at once where it has been rung since the last wait.
    fn wait(&self) {
        let mut rung = lock(&self.rung);
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung = false;
    }

    /// What a turn does that has found no work: sleeps until somebody rings, unless there is some by then.
    fn rest(&self, sleeper: &Sleeper, work: &Mutex<u32>) {
        if sleeper.fall_asleep(|| *lock(work) == 0) {
            self.wait();
            sleeper.wake_up();
        }
    }

    fn is_rung(&self) -> bool {
        *lock(&self.rung)
    }

    fn silence(&self) {
        *lock(&self.rung) = false;
    }
}

mod rings {
    use super::*;

    fn entry(slot: u32) -> Entry {
        Entry { tag: 9, kind: EntryKind::Send, status: Status::Ok, slot, bytes: slot, detail: 0, aux: u64::from(slot) }
    }

    /// Takes what the words alone say is there, as JavaScript does.
    pub(super) fn consume(ring: &Ring, seen: &mut Vec<u32>) {
        let tail = ring.word(0).load(Ordering::Acquire);
        let mut head = ring.word(HEAD_WORD).load(Ordering::Relaxed);
        while head != tail {
            let at = HEADER_WORDS + (head & (ring.capacity() - 1)) as usize * ENTRY_WORDS;
            let word = |i| ring.word(at + i).load(Ordering::Relaxed);
            assert_eq!((word(0), word(4), word(6)), (9, word(3), word(3)), "an entry in the making was seen");
            seen.push(word(3));
            head = head.wrapping_add(1);
            ring.word(HEAD_WORD).store(head, Ordering::SeqCst);
        }
    }

    /// The producer is the thread that runs first: loom takes up a load for each store before it, not a store for each load before it.
    #[test]
    fn entries_are_whole_and_in_order_however_full_it_is() {
        model(|| {
            let ring = Arc::new(Ring::new(1));
            let consumer = thread::spawn({
                let ring = Arc::clone(&ring);
                move || {
                    let mut seen = Vec::new();
                    consume(&ring, &mut seen);
                    consume(&ring, &mut seen);
                    seen
                }
            });
            (1..=3).for_each(|slot| ring.push(entry(slot)));
            let mut seen = consumer.join().unwrap();
            while ring.ready() > 0 {
                consume(&ring, &mut seen);
            }
            assert_eq!(seen, [1, 2, 3]);
        });
    }

    #[test]
    fn two_producers_lose_nothing() {
        model(|| {
            let ring = Arc::new(Ring::new(2));
            let producer = thread::spawn({
                let ring = Arc::clone(&ring);
                move || ring.push(entry(1))
            });
            ring.append(entry(2), Wake::Rarely);
            let mut seen = Vec::new();
            consume(&ring, &mut seen);
            producer.join().unwrap();
            assert!(seen.contains(&1) || ring.is_wanted());
            consume(&ring, &mut seen);
            seen.sort_unstable();
            assert_eq!(seen, [1, 2]);
        });
    }

    /// A completion is either seen by the caller before it `sleeps`, or `wakes` it.
    fn completed(sleeps: fn(&Watch, &Ring) -> bool, wakes: fn(&Watch, &Ring) -> bool) {
        let shared = Arc::new((Ring::new(1), Watch::default(), Bell::default()));
        shared.1.renew(1);
        let background = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (ring, watch, bell) = &*shared;
                ring.push(entry(1));
                if wakes(watch, ring) {
                    bell.ring();
                }
            }
        });
        let (ring, watch, bell) = &*shared;
        if sleeps(watch, ring) {
            bell.wait();
            watch.caller.wake_up();
        }
        let mut seen = Vec::new();
        consume(ring, &mut seen);
        assert_eq!(seen, [1]);
        background.join().unwrap();
    }

    #[test]
    fn a_completion_finds_the_caller_awake_or_wakes_it() {
        let wakes = |watch: &Watch, ring: &Ring| watch.is_to_wake(|| ring.is_wanted());
        model(move || completed(|watch, ring| watch.arm(|| ring.ready() > 0), wakes));
    }

    #[test]
    fn a_completion_interrupts_the_caller_that_waits() {
        let wakes = |watch: &Watch, _: &Ring| watch.caller.is_asleep();
        model(move || completed(|watch, ring| watch.caller.fall_asleep(|| ring.ready() == 0), wakes));
    }

    /// Completions that wait for one another wake the caller when there are enough of them, or else when their time is over, whichever of them it has seen before.
    fn moderated(count: u32) {
        const PERIOD_US: u32 = 1;
        let shared = Arc::new((Ring::new(4), Watch::default(), Bell::default(), Moderation::default()));
        shared.3.set(count, PERIOD_US);
        shared.1.renew(1);
        let background = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let (ring, watch, channel, moderation) = &*shared;
                let signal = |now| {
                    if watch.is_to_wake(|| ring.is_wanted() || ring.patience(|| now) == Some(Duration::ZERO)) {
                        channel.ring();
                    }
                };
                for slot in 1..=2 {
                    ring.append(entry(slot), Wake::Moderated(moderation));
                    signal(0);
                }
                signal(u64::from(PERIOD_US) * 1000);
            }
        });
        let (ring, watch, channel, _) = &*shared;
        let mut seen = Vec::new();
        while seen.len() < 2 {
            ring.rest();
            if watch.arm(|| ring.ready() > 0) {
                channel.wait();
            }
            consume(ring, &mut seen);
        }
        assert_eq!(seen, [1, 2]);
        background.join().unwrap();
    }

    #[test]
    fn moderated_completions_wake_when_there_are_enough() {
        model(|| moderated(2));
    }

    #[test]
    fn moderated_completions_wake_in_time() {
        model(|| moderated(3));
    }
}

mod handovers {
    use super::*;

    const LEASE: u64 = 10;
    /// Of no account: a wait that ends by itself is not modelled.
    const TICK: Duration = Duration::ZERO;

    /// A caller that goes to sleep wakes the background thread that had stood aside. (loom's condition variables know no time: the wait ends by a notification, or never.)
    #[test]
    fn the_end_of_a_lease_is_never_missed() {
        model(|| {
            let watch = Arc::new(Watch::default());
            watch.renew(LEASE);
            let background = thread::spawn({
                let watch = Arc::clone(&watch);
                move || while watch.stand_aside(0, 0, TICK) {}
            });
            assert!(watch.arm(|| false));
            background.join().unwrap();
        });
    }

    /// A caller that comes to life after a long sleep has the background thread look again, which had left it to that.
    #[test]
    fn the_end_of_a_long_sleep_is_never_missed() {
        const WOKEN: u64 = LEASE + GRACE_MAX_NS;
        model(|| {
            let watch = Arc::new(Watch::default());
            watch.renew(LEASE);
            assert!(watch.caller.fall_asleep(|| true));
            let background = thread::spawn({
                let watch = Arc::clone(&watch);
                move || while watch.stand_aside(WOKEN, 0, TICK) {}
            });
            watch.caller.wake_up();
            watch.renew(WOKEN);
            background.join().unwrap();
        });
    }

    /// Work that the caller leaves to the background thread is found by it, also where the caller does nothing any more, neither polls nor sleeps.
    #[test]
    fn work_left_behind_is_found() {
        model(|| {
            let shared = Arc::new((Watch::default(), Mutex::new(0), Bell::default()));
            shared.0.renew(LEASE);
            let background = thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let (watch, work, epoll) = &*shared;
                    // the lease has run out
                    while !watch.stand_aside(LEASE, 0, TICK) && *lock(work) == 0 {
                        epoll.rest(&watch.background, work);
                    }
                    assert_eq!(*lock(work), 1);
                }
            });
            let (watch, work, epoll) = &*shared;
            watch.renew(LEASE);
            *lock(work) += 1;
            watch.interrupt(|| (), || epoll.ring());
            background.join().unwrap();
        });
    }

    /// The same the other way round: the background thread may stand aside for good, the caller is in the middle of a wait.
    #[test]
    fn work_left_behind_is_found_by_a_caller_that_waits() {
        model(|| {
            let shared = Arc::new((Watch::default(), Mutex::new(0), Bell::default()));
            shared.0.renew(LEASE);
            let background = thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    let (watch, work, epoll) = &*shared;
                    *lock(work) += 1;
                    watch.interrupt(|| epoll.ring(), || ());
                }
            });
            let (watch, work, epoll) = &*shared;
            while *lock(work) == 0 {
                epoll.rest(&watch.caller, work);
            }
            background.join().unwrap();
        });
    }

    /// An interruption of somebody who has come to life by something else is taken back by whoever sees it, and one that is needed is not.
    #[test]
    fn an_interruption_reaches_whom_it_is_for() {
        model(|| {
            let shared = Arc::new((Watch::default(), Mutex::new(0), Bell::default()));
            shared.2.ring();
            let spawn = |step: fn(&Watch, &Mutex<u32>, &Bell)| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || step(&shared.0, &shared.1, &shared.2))
            };
            let background = spawn(|watch, work, epoll| {
                while *lock(work) == 0 {
                    epoll.rest(&watch.background, work);
                }
            });
            let other = spawn(|watch, work, epoll| {
                *lock(work) += 1;
                watch.interrupt(|| (), || epoll.ring());
            });
            let (watch, _, epoll) = &*shared;
            if epoll.is_rung() {
                watch.background.settle(|| epoll.silence(), || epoll.ring());
            }
            background.join().unwrap();
            other.join().unwrap();
            watch.background.settle(|| epoll.silence(), || epoll.ring());
            assert!(!epoll.is_rung(), "nobody sleeps who would see it");
        });
    }

    /// A turn, in the middle of which others may come.
    fn turn(seen: &mut Vec<u32>, events: u32) {
        thread::yield_now();
        seen.push(events);
    }

    /// Runs, and sees to what is left for behind others.
    fn run(driven: &Driven<Vec<u32>>, events: u32) {
        let left = driven.run(events, turn);
        if left != 0 {
            driven.lock().push(left);
        }
    }

    fn assert_seen_once(driven: &Driven<Vec<u32>>, all: u32) {
        let seen = driven.lock();
        assert_eq!((seen.iter().sum::<u32>(), seen.iter().fold(0, |all, events| all | events)), (all, all));
    }

    /// Whatever is noted is handed to a turn, once.
    #[test]
    fn whoever_drives_handles_what_others_note() {
        model(|| {
            let driven = Arc::new(Driven::new(Vec::new()));
            let other = thread::spawn({
                let driven = Arc::clone(&driven);
                move || {
                    run(&driven, 1);
                    run(&driven, 4);
                }
            });
            run(&driven, 2);
            other.join().unwrap();
            assert_seen_once(&driven, 7);
        });
    }

    /// The same where one of them locks for another reason, and runs what came meanwhile.
    #[test]
    fn whoever_locks_handles_what_others_note() {
        model(|| {
            let driven = Arc::new(Driven::new(Vec::new()));
            let other = thread::spawn({
                let driven = Arc::clone(&driven);
                move || run(&driven, 1)
            });
            {
                let _state = driven.lock();
                driven.note(2);
            }
            run(&driven, 0);
            other.join().unwrap();
            assert_seen_once(&driven, 3);
        });
    }
}

mod memory {
    use super::*;

    const PD: u32 = 7;

    /// A table with one region of `UnsafeCell` memory, whose concurrent uses loom finds.
    struct Memory {
        table: MemoryTable,
        bytes: UnsafeCell<u32>,
    }

    // SAFETY: loom checks each access to the cell against every other.
    unsafe impl Sync for Memory {}
    // SAFETY: as above.
    unsafe impl Send for Memory {}

    fn grant() -> Grant {
        Grant { access: REMOTE_WRITE, connection: 0 }
    }

    impl Memory {
        fn new() -> (Arc<Self>, Arc<Region>) {
            let memory = Self { table: MemoryTable::default(), bytes: UnsafeCell::new(0) };
            // nothing is ever read or written at this address
            let region = memory.table.register(PD, 4096, LARGE, grant()).unwrap();
            (Arc::new(memory), region)
        }

        /// A system call's write through a STag, if that is valid.
        fn write(&self, stag: u32) {
            if let Some(_pin) = self.table.pin(stag) {
                self.take_back();
            }
        }

        /// The owner's use of its memory.
        fn take_back(&self) {
            // SAFETY: loom checks that nobody else is at it.
            self.bytes.with_mut(|bytes| unsafe { *bytes += 1 });
        }
    }

    #[test]
    fn nobody_writes_after_deregistration() {
        model(|| {
            let (memory, region) = Memory::new();
            let driver = thread::spawn({
                let (memory, stag) = (Arc::clone(&memory), region.stag);
                move || memory.write(stag)
            });
            memory.table.invalidate(region.stag).unwrap();
            memory.take_back();
            driver.join().unwrap();
        });
    }

    #[test]
    fn nobody_writes_through_a_window_after_deregistration_of_its_region() {
        model(|| {
            let (memory, region) = Memory::new();
            let window = memory.table.bind(region.stag, 0, LARGE, grant()).unwrap();
            let driver = thread::spawn({
                let (memory, stag) = (Arc::clone(&memory), window.stag);
                move || memory.write(stag)
            });
            memory.table.invalidate(region.stag).unwrap();
            memory.take_back();
            driver.join().unwrap();
            assert!(memory.table.is_empty());
        });
    }

    /// A region that is activated again by a work request while its owner deregisters it stays invalid, for those, too, who found it before.
    #[test]
    fn what_is_deregistered_is_not_activated() {
        model(|| {
            let (memory, region) = Memory::new();
            memory.table.invalidate_local(region.stag);
            let spawn = |step: fn(&Memory, u32)| {
                let (memory, stag) = (Arc::clone(&memory), region.stag);
                thread::spawn(move || step(&memory, stag))
            };
            let activating = spawn(|memory, stag| _ = memory.table.activate(stag, 0));
            let driver = spawn(Memory::write);
            memory.table.invalidate(region.stag).unwrap();
            memory.take_back();
            activating.join().unwrap();
            driver.join().unwrap();
            assert_eq!(memory.table.large_writable(PD).load(Ordering::SeqCst), 0);
        });
    }

    /// A window counts as large while it is valid itself, whatever its region is: what it adds is what it takes away.
    #[test]
    fn a_window_that_is_bound_while_its_region_is_invalidated_leaves_no_count_behind() {
        model(|| {
            let (memory, region) = Memory::new();
            let binder = thread::spawn({
                let (memory, stag) = (Arc::clone(&memory), region.stag);
                move || memory.table.bind(stag, 0, LARGE, grant()).ok()
            });
            memory.table.invalidate_local(region.stag);
            let window = binder.join().unwrap();
            window.inspect(|window| drop(memory.table.invalidate(window.stag)));
            assert_eq!(memory.table.large_writable(PD).load(Ordering::SeqCst), 0);
        });
    }

    /// A window that is bound while its region goes is gone with it, or never came.
    #[test]
    fn no_window_outlives_its_region() {
        model(|| {
            let (memory, region) = Memory::new();
            let binder = thread::spawn({
                let (memory, stag) = (Arc::clone(&memory), region.stag);
                move || drop(memory.table.bind(stag, 0, LARGE, grant()))
            });
            memory.table.invalidate(region.stag).unwrap();
            binder.join().unwrap();
            assert!(memory.table.is_empty());
            assert_eq!(memory.table.large_writable(PD).load(Ordering::SeqCst), 0);
        });
    }
}
