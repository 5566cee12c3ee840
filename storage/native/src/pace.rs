//! What the disk is like just now: whether it keeps threads waiting, and whether it is far from full.

use crate::{sys, Result};
use rustix::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An operation on JavaScript's thread that slept and took so long has waited for the disk. One that took as long without sleeping
/// was kept from its processor by others, which a thread of the pool would have been, too.
const WAITED_TIME: Duration = Duration::from_millis(2);
/// For so long after that, what may have to wait goes to the pool at once.
const WARY_TIME: Duration = Duration::from_millis(50);

/// Remembers when an operation that should not have waited did.
pub struct Pace {
    start: Instant,
    /// Milliseconds after `start`.
    wary_until: AtomicU64,
}

impl Pace {
    /// Nothing has waited yet.
    pub fn new() -> Self {
        Self { start: Instant::now(), wary_until: AtomicU64::new(0) }
    }

    /// Whether something waited lately.
    pub fn slow(&self) -> bool {
        let until = self.wary_until.load(Ordering::Relaxed);
        until != 0 && self.start.elapsed().as_millis() < u128::from(until)
    }

    /// Runs an operation and notes if it took long.
    pub fn watch<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        let (begun, slept) = (Instant::now(), sys::times_slept());
        let result = operation();
        if begun.elapsed() >= WAITED_TIME && sys::times_slept() != slept {
            let until = self.start.elapsed() + WARY_TIME;
            self.wary_until.store(until.as_millis() as u64, Ordering::Relaxed);
        }
        result
    }
}

/// How long an answer about free space holds.
const ROOM_TIME: Duration = Duration::from_millis(100);
/// More free than could be written in that time.
const AMPLE_BYTES: u64 = 4 << 30;

/// Remembers whether the file system is far from full.
pub struct Room {
    start: Instant,
    /// Milliseconds after `start`; 0: not known to be ample.
    ample_until: AtomicU64,
}

impl Room {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { start: Instant::now(), ample_until: AtomicU64::new(0) }
    }

    /// Whether so much is free for everybody that short writes cannot meet the blocks reserved for root.
    pub fn ample(&self, file_system: BorrowedFd<'_>) -> bool {
        let now = self.start.elapsed();
        if now.as_millis() < u128::from(self.ample_until.load(Ordering::Relaxed)) {
            return true;
        }
        let ample = rustix::fs::fstatvfs(file_system)
            .is_ok_and(|found| found.f_bavail.saturating_mul(found.f_frsize) >= AMPLE_BYTES);
        if ample {
            self.ample_until.store((now + ROOM_TIME).as_millis() as u64, Ordering::Relaxed);
        }
        ample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_sleeps_has_waited() {
        let pace = Pace::new();
        let begun = Instant::now();
        let busy = || {
            while begun.elapsed() < WAITED_TIME * 2 {
                std::hint::spin_loop();
            }
            Ok(())
        };
        assert!(pace.watch(busy).is_ok());
        assert!(!pace.slow());
        let asleep = || {
            std::thread::sleep(WAITED_TIME * 2);
            Ok(())
        };
        assert!(pace.watch(asleep).is_ok());
        assert!(pace.slow());
    }
}
