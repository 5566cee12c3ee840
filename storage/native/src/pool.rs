//! Threads for work that may wait: a few, started when needed, with a bounded queue. One pool serves the process.

use crate::{identity, lock, sys, Result};
use rustix::io::Errno;
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Threads at most.
pub const THREADS_MAX: usize = 8;
/// Jobs that wait for a thread, at most.
pub const QUEUE_MAX: usize = 1024;
/// A thread without work ends after so long.
const IDLE_TIME: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

/// Threads and their queue. There is one; tests have their own.
struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

static POOL: Pool = Pool::new();

thread_local! {
    static UMASK_IS_OWN: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread's umask is its own, of 0.
pub fn umask_is_own() -> bool {
    UMASK_IS_OWN.get()
}

/// Queues a job. EBUSY where the queue is full; EAGAIN where no thread could be started at all.
pub fn submit(job: Job) -> Result<()> {
    POOL.submit(job)
}

impl Pool {
    const fn new() -> Self {
        let state = State { queue: VecDeque::new(), threads: 0, idle: 0 };
        Self { state: Mutex::new(state), work: Condvar::new() }
    }

    fn submit(&'static self, job: Job) -> Result<()> {
        let mut state = lock(&self.state);
        if state.queue.len() >= QUEUE_MAX {
            return Err(Errno::BUSY);
        }
        if state.idle <= state.queue.len() && state.threads < THREADS_MAX {
            match std::thread::Builder::new().name("weft-storage".into()).spawn(|| self.work()) {
                Ok(_) => state.threads += 1,
                Err(_) if state.threads == 0 => return Err(Errno::AGAIN),
                Err(_) => {}
            }
        }
        state.queue.push_back(job);
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    fn work(&self) {
        UMASK_IS_OWN.set(sys::settle_pool_thread());
        identity::respect_quotas();
        let mut state = lock(&self.state);
        loop {
            if let Some(job) = state.queue.pop_front() {
                drop(state);
                // A job reports its own panics; this one must not end the thread uncounted.
                let _ = catch_unwind(AssertUnwindSafe(job));
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            let (next, waited) = self.work.wait_timeout(state, IDLE_TIME).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::sync::{Arc, Barrier};

    #[test]
    fn is_bounded_and_survives_panics() {
        let pool: &'static Pool = Box::leak(Box::new(Pool::new()));
        let (sender, receiver) = channel();
        for _ in 0..20 {
            pool.submit(Box::new(|| panic!("on purpose"))).unwrap();
        }
        let gate = Arc::new(Barrier::new(THREADS_MAX + 1));
        let busy: Vec<_> = (0..THREADS_MAX).map(|_| (gate.clone(), sender.clone())).collect();
        for (gate, sender) in busy {
            pool.submit(Box::new(move || {
                gate.wait();
                gate.wait();
                sender.send(umask_is_own()).unwrap();
            }))
            .unwrap();
        }
        gate.wait();
        assert_eq!(lock(&pool.state).threads, THREADS_MAX);
        for _ in 0..QUEUE_MAX {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(umask_is_own()).unwrap())).unwrap();
        }
        assert_eq!(pool.submit(Box::new(|| {})).err(), Some(Errno::BUSY));
        gate.wait();
        drop(sender);
        assert_eq!(receiver.iter().count(), THREADS_MAX + QUEUE_MAX);
        assert!(!umask_is_own());
    }
}
