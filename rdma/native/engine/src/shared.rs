//! Shared receive queues: receives that whichever of several queue pairs takes that gets a Send (RFC 5040 §5.3 leaves to the implementation where they come
//! from), with an event when few are left.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::device::Device;
use crate::lock;
use crate::memory::LARGE;
use crate::ring::{Entry, EntryKind};
use crate::status::Status;
use crate::work::ReceiveWork;

struct Posted {
    queue: VecDeque<ReceiveWork>,
    /// With fewer receives left the event comes, once; 0: it has come, or none is wanted.
    limit: usize,
    closed: bool,
}

/// A shared receive queue.
pub struct SharedReceives {
    /// Its handle.
    pub handle: u64,
    /// Whose it is.
    pub device: Arc<Device>,
    tag: u32,
    depth: usize,
    /// Posted receives of 8 KiB or more: while there are any, receivers read exactly.
    large: AtomicUsize,
    posted: Mutex<Posted>,
}

impl SharedReceives {
    /// An empty queue of up to `depth` receives, whose events carry `tag`.
    pub fn new(handle: u64, device: &Arc<Device>, depth: usize, tag: u32) -> Arc<Self> {
        let posted = Mutex::new(Posted { queue: VecDeque::new(), limit: 0, closed: false });
        Arc::new(Self { handle, device: Arc::clone(device), tag, depth, large: AtomicUsize::new(0), posted })
    }

    /// Queues receives, all or none of them.
    pub fn post(&self, receives: Vec<ReceiveWork>) -> Status {
        let mut posted = lock(&self.posted);
        if posted.closed {
            return Status::Closed;
        }
        if posted.queue.len() + receives.len() > self.depth {
            return Status::Exhausted;
        }
        let large = receives.iter().filter(|work| work.sges.total >= LARGE).count();
        self.large.fetch_add(large, Ordering::SeqCst);
        posted.queue.extend(receives);
        Status::Ok
    }

    /// The receive that was posted first, for a Send that has begun to come in.
    pub fn take(&self) -> Option<ReceiveWork> {
        let mut posted = lock(&self.posted);
        let work = posted.queue.pop_front();
        if work.as_ref().is_some_and(|work| work.sges.total >= LARGE) {
            self.large.fetch_sub(1, Ordering::SeqCst);
        }
        self.tell_limit(&mut posted);
        work
    }

    /// Asks for one event when fewer than `limit` receives are left, which may be so already.
    pub fn set_limit(&self, limit: usize) {
        let mut posted = lock(&self.posted);
        posted.limit = limit;
        self.tell_limit(&mut posted);
    }

    fn tell_limit(&self, posted: &mut Posted) {
        if posted.queue.len() < posted.limit {
            posted.limit = 0;
            let bytes = posted.queue.len() as u32;
            let (kind, status) = (EntryKind::Limit, Status::Ok);
            self.device.ring.push(Entry { tag: self.tag, kind, status, slot: 0, bytes, detail: 0, aux: 0 });
        }
    }

    /// Whether a receive of 8 KiB or more is posted.
    pub fn has_large(&self) -> bool {
        self.large.load(Ordering::SeqCst) > 0
    }

    /// Drops what is posted and returns how much that was: the receives that were posted last. A queue pair that still uses the queue finds none, and keeps the
    /// one that a Send is coming into.
    pub fn close(&self) -> usize {
        let mut posted = lock(&self.posted);
        posted.closed = true;
        posted.limit = 0;
        self.large.store(0, Ordering::SeqCst);
        std::mem::take(&mut posted.queue).len()
    }
}
