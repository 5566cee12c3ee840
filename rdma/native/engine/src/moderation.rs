//! Moderation: completions of one queue wait for one another before a sleeping JavaScript is woken for them. What they wait for is counted in the ring.
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::{lock, AtomicU32, AtomicU64, Mutex, Ordering};

/// When completions of a queue wake: for so many, or when the first of fewer has waited for so long.
#[derive(Default)]
pub struct Moderation {
    count: AtomicU32,
    period_us: AtomicU32,
    /// In which sleep of JavaScript's `waiting` were counted.
    sleep: AtomicU64,
    waiting: AtomicU32,
}

impl Moderation {
    /// Wakes from now on for `count` completions, or fewer after `period_us`; `count` 0 or 1: for each.
    pub fn set(&self, count: u32, period_us: u32) {
        self.period_us.store(period_us, Ordering::Relaxed);
        self.count.store(count, Ordering::Relaxed);
    }

    /// How long a completion may wait for others.
    pub(crate) fn period(&self) -> Duration {
        Duration::from_micros(u64::from(self.period_us.load(Ordering::Relaxed)))
    }

    /// Counts a completion of the `sleep` with that number: whether it is the first of those that wait, and whether there are enough of them. The caller has the ring's lock.
    pub(crate) fn note(&self, sleep: u64) -> (bool, bool) {
        let count = self.count.load(Ordering::Relaxed);
        if count <= 1 {
            return (false, true);
        }
        let mut waiting = 0;
        if self.sleep.load(Ordering::Relaxed) == sleep {
            waiting = self.waiting.load(Ordering::Relaxed);
        } else {
            self.sleep.store(sleep, Ordering::Relaxed);
        }
        self.waiting.store(waiting.saturating_add(1), Ordering::Relaxed);
        (waiting == 0, waiting >= count - 1)
    }
}

/// The moderation of each completion queue of a device that connections use, by JavaScript's number for it.
#[derive(Default)]
pub struct Moderations {
    queues: Mutex<HashMap<u32, Weak<Moderation>>>,
}

impl Moderations {
    /// That of a queue which a connection begins to use; `None` for number 0, which is no queue.
    pub fn join(&self, queue: u32, count: u32, period_us: u32) -> Option<Arc<Moderation>> {
        if queue == 0 {
            return None;
        }
        let mut queues = lock(&self.queues);
        let moderation = queues.get(&queue).and_then(Weak::upgrade).unwrap_or_default();
        moderation.set(count, period_us);
        if queues.len() == queues.capacity() {
            queues.retain(|_, moderation| moderation.strong_count() > 0);
        }
        queues.insert(queue, Arc::downgrade(&moderation));
        Some(moderation)
    }

    /// Changes that of a queue, for the connections that use it.
    pub fn set(&self, queue: u32, count: u32, period_us: u32) {
        if let Some(moderation) = lock(&self.queues).get(&queue).and_then(Weak::upgrade) {
            moderation.set(count, period_us);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn enough_is_counted_for_each_sleep_anew() {
        let moderation = Moderation::default();
        assert_eq!(moderation.note(1), (false, true), "without terms nothing waits");
        moderation.set(3, 7);
        assert_eq!(moderation.period(), Duration::from_micros(7));
        for sleep in 1..4 {
            let noted = [(); 4].map(|()| moderation.note(sleep));
            assert_eq!(noted, [(true, false), (false, false), (false, true), (false, true)]);
        }
        moderation.set(2, 0);
        assert_eq!([(); 2].map(|()| moderation.note(4)), [(true, false), (false, true)]);
    }

    #[test]
    fn connections_of_one_queue_share_its_moderation_as_long_as_there_are_any() {
        let all = Moderations::default();
        assert!(all.join(0, 2, 0).is_none());
        let (one, same, other) = (all.join(1, 2, 0).unwrap(), all.join(1, 2, 0).unwrap(), all.join(2, 2, 0).unwrap());
        assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
        all.set(1, 0, 0);
        all.set(3, 0, 0);
        assert_eq!((one.note(1), other.note(1)), ((false, true), (true, false)));
        (10..10_000).for_each(|queue| drop(all.join(queue, 2, 0)));
        let queues = lock(&all.queues);
        assert!(queues.contains_key(&1) && queues.contains_key(&2) && queues.len() < 64, "{}", queues.len());
    }
}
