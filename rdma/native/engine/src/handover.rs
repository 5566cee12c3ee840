//! How the threads of a device hand work over to one another: [`Driven`] for one connection, [`Watch`] between the caller's thread and the background thread.
//!
//! No system call and no clock is in here, so that `models` can try every interleaving of this very code.
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use crate::sync::{fence, lock, AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// How long the background thread stays away at most from a caller who polls or waits on and on, without a look at whether it still does: each look takes a core from
/// somebody for 10 µs, which is a hundredth of all round trips where it looks every millisecond. A caller who comes to life after so long a sleep tells it.
pub const GRACE_MAX_NS: u64 = 8_000_000;

/// Turns that whoever drives takes at once: the one that it came for, and one for what others noted meanwhile.
const TURNS_MAX: u32 = 2;

/// State that whoever holds its lock drives. Others leave a note of what has happened and go on; the holder looks there again after unlocking.
pub struct Driven<T> {
    noted: AtomicU32,
    state: Mutex<T>,
}

impl<T> Driven<T> {
    /// Nothing has happened yet.
    pub fn new(state: T) -> Self {
        Self { noted: AtomicU32::new(0), state: Mutex::new(state) }
    }

    /// Locks. Whoever unlocks without a `run` behind it loses what others have noted meanwhile.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        lock(&self.state)
    }

    /// Notes events for whoever holds the lock, who is to `run` after unlocking.
    pub fn note(&self, events: u32) {
        self.noted.fetch_or(events, Ordering::SeqCst);
    }

    /// Notes events and hands all that are noted to `turn`, unless somebody else is at it, who then will. Returns what is noted after [`TURNS_MAX`] turns, which the
    /// caller has to see to behind others: where there is always more, of a peer that sends without end and a second thread that notes it, this would not return.
    #[must_use]
    pub fn run(&self, events: u32, mut turn: impl FnMut(&mut T, u32)) -> u32 {
        self.note(events);
        for _ in 0..TURNS_MAX {
            // What is noted must be seen by whoever has the lock now, or else the lock be seen to be free; the same after giving it back.
            fence(Ordering::SeqCst);
            if self.noted.load(Ordering::SeqCst) == 0 {
                return 0;
            }
            let mut state = match self.state.try_lock() {
                Ok(state) => state,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return 0,
            };
            let events = self.noted.swap(0, Ordering::SeqCst);
            turn(&mut state, events);
        }
        fence(Ordering::SeqCst);
        self.noted.swap(0, Ordering::SeqCst)
    }
}

/// Whether a thread waits for events, or is about to, and has to be interrupted for what others have for it.
#[derive(Default)]
pub struct Sleeper {
    asleep: AtomicBool,
}

impl Sleeper {
    /// The thread's, when it is about to wait: whether it may. Whoever has something for it after `is_idle` was asked finds it asleep.
    pub fn fall_asleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let may = is_idle();
        if !may {
            self.wake_up();
        }
        may
    }

    /// The thread's, when it no longer waits.
    pub fn wake_up(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    /// Whether it has to be interrupted for what has just been added.
    pub fn is_asleep(&self) -> bool {
        self.asleep.load(Ordering::SeqCst)
    }

    /// Interrupts it for what has just been added, by `raise`; where it is awake it looks for itself before it sleeps.
    pub fn interrupt(&self, raise: impl FnOnce()) {
        if self.is_asleep() {
            raise();
        }
    }

    /// Anybody's who has seen that it is interrupted: takes that back by `lower`, unless it is asleep and thus about to see it as well, and returns whether it has. Where it
    /// has come to life by something else it may not look for long, and would keep all others awake who wait for the same events.
    pub fn settle(&self, lower: impl FnOnce(), raise: impl FnOnce()) -> bool {
        if self.is_asleep() {
            return false;
        }
        lower();
        self.interrupt(raise); // it may have fallen asleep meanwhile, and what was lowered been meant for that
        true
    }
}

/// Who is on watch: the caller's thread while it waits for events, and while its lease lasts, which each of its calls renews; or the background thread. Times are
/// nanoseconds of the device's clock.
#[derive(Default)]
pub struct Watch {
    /// Until when the background thread stays out of the way.
    lease: AtomicU64,
    /// The background thread stands aside.
    parked: Mutex<bool>,
    unparked: Condvar,
    /// The caller's thread sleeps, or is about to, and is to be woken.
    armed: AtomicBool,
    /// The background thread's waits for events,
    pub background: Sleeper,
    /// and the caller's.
    pub caller: Sleeper,
}

impl Watch {
    /// The caller is awake, and drives until then. After a long sleep it is told to a background thread that stands aside, which looks rarely by then.
    pub fn renew(&self, until: u64) {
        let before = self.lease.swap(until, Ordering::SeqCst);
        self.armed.store(false, Ordering::SeqCst);
        if until.saturating_sub(before) >= GRACE_MAX_NS {
            self.unpark();
        }
    }

    /// The caller goes to sleep and the background thread takes over. False where it must not, because something is ready for it.
    pub fn arm(&self, is_ready: impl FnOnce() -> bool) -> bool {
        self.armed.store(true, Ordering::SeqCst);
        if is_ready() {
            self.armed.store(false, Ordering::SeqCst);
            return false;
        }
        self.release();
        true
    }

    /// Ends the lease.
    pub fn release(&self) {
        self.lease.store(0, Ordering::SeqCst);
        self.unpark();
    }

    fn unpark(&self) {
        if *lock(&self.parked) {
            self.unparked.notify_one();
        }
    }

    /// Interrupts whoever waits for events, the caller by `nudge` and the background thread by `wake`, for work that has just been left to anybody: who leaves it may
    /// not come back to it, and that the one sleeps may be why the other stands aside.
    pub fn interrupt(&self, nudge: impl FnOnce(), wake: impl FnOnce()) {
        self.caller.interrupt(nudge);
        self.background.interrupt(wake);
    }

    /// Whether the caller sleeps, or is about to.
    pub fn is_armed(&self) -> bool {
        self.armed.load(Ordering::SeqCst)
    }

    /// Whether the caller is to be woken, which is asked after something has become ready: it sleeps, and `is_wanted`. True once.
    pub fn is_to_wake(&self, is_wanted: impl FnOnce() -> bool) -> bool {
        self.armed.load(Ordering::SeqCst) && is_wanted() && self.armed.swap(false, Ordering::SeqCst)
    }

    /// The background thread's: where the caller is on watch, waits for the rest of its lease, for at least `grace` nanoseconds unless it is released, and returns true:
    /// this is to be asked again. A caller that begins to wait for events, or no longer does, says nothing, which would wake another thread for each of its messages.
    /// Only where it has slept for long already, and so will tell when it wakes up, this waits for that, up to `tick`.
    pub fn stand_aside(&self, now: u64, grace: u64, tick: Duration) -> bool {
        let lease = self.lease.load(Ordering::SeqCst);
        let sleeps = self.caller.is_asleep();
        if lease == 0 || (now >= lease && !sleeps) {
            return false;
        }
        // a caller who sleeps renews the lease later than `now`, and then sees itself how long it has slept
        let wait = if sleeps && now >= lease + GRACE_MAX_NS {
            tick
        } else {
            Duration::from_nanos(lease.saturating_sub(now).max(grace))
        };
        let mut parked = lock(&self.parked);
        // Checked again under the lock: `release` and `renew` change the lease before they look at `parked`.
        if self.lease.load(Ordering::SeqCst) == lease {
            *parked = true;
            let (mut parked, _) = self.unparked.wait_timeout(parked, wait).unwrap_or_else(PoisonError::into_inner);
            *parked = false;
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn who_drives_gets_away_from_a_state_of_which_others_always_note_more() {
        let driven = Driven::new(0);
        let left = driven.run(1, |turns, _| {
            *turns += 1;
            if *turns < 1000 {
                driven.note(2); // another thread's, which finds this one at it
            }
        });
        assert_eq!((*driven.lock(), left), (TURNS_MAX, 2));
        assert_eq!(driven.run(0, |_, _| panic!("nothing is noted twice")), 0);
    }
}
