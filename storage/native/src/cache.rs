//! The files held open: bounded, the least recently used go first, and what lies idle goes too, so that a file
//! deleted behind our back does not keep its space for long.

use crate::handle::Handle;
use crate::node::Node;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Files held at most. Each takes one to three descriptors.
pub const NODES_MAX: usize = 1024;
/// Files held at most where descriptors are few.
pub const NODES_MIN: usize = 64;
/// Unused for so long, a file is let go of.
pub const IDLE_TIME: Duration = Duration::from_secs(5);

struct Held {
    node: Arc<Node>,
    used: Instant,
}

/// Files by handle. What it hands out or drops lives on while somebody works with it.
pub struct Cache {
    held: HashMap<Handle, Held>,
    nodes_max: usize,
}

impl Cache {
    /// An empty one, for at most so many files.
    pub fn new(nodes_max: usize) -> Self {
        Self { held: HashMap::new(), nodes_max }
    }

    /// The file, where it is held.
    pub fn get(&mut self, handle: &Handle) -> Option<Arc<Node>> {
        let held = self.held.get_mut(handle)?;
        held.used = Instant::now();
        Some(held.node.clone())
    }

    /// Holds a file, or returns the one that is held under the same handle. Files to close come back too, so that
    /// it happens when the lock on the cache is no longer held.
    pub fn insert(&mut self, node: Node) -> (Arc<Node>, Vec<Arc<Node>>) {
        if let Some(node) = self.get(&node.handle) {
            return (node, Vec::new());
        }
        let evicted = if self.held.len() >= self.nodes_max { self.evict() } else { Vec::new() };
        let node = Arc::new(node);
        self.held.insert(node.handle, Held { node: node.clone(), used: Instant::now() });
        (node, evicted)
    }

    /// Lets go of a file.
    pub fn remove(&mut self, handle: &Handle) -> Option<Arc<Node>> {
        self.held.remove(handle).map(|held| held.node)
    }

    /// Lets go of what lies idle. Returns it, to be closed.
    pub fn sweep(&mut self) -> Vec<Arc<Node>> {
        self.drain(|held| held.used.elapsed() >= IDLE_TIME)
    }

    /// Files held now.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Lets go of the older quarter, so that the search for the oldest is rare.
    fn evict(&mut self) -> Vec<Arc<Node>> {
        let mut times: Vec<Instant> = self.held.values().map(|held| held.used).collect();
        let quarter = times.len() / 4;
        let (_, limit, _) = times.select_nth_unstable(quarter);
        let limit = *limit;
        self.drain(|held| held.used <= limit)
    }

    fn drain(&mut self, mut idle: impl FnMut(&Held) -> bool) -> Vec<Arc<Node>> {
        self.held.extract_if(|_, held| idle(held)).map(|(_, held)| held.node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handle::{Body, FileId, Sealer};
    use crate::node::Stat;
    use rustix::fd::AsFd;
    use rustix::fs::{Mode, OFlags};

    fn node(ino: u64) -> Node {
        let fd = rustix::fs::open(c"/", OFlags::PATH, Mode::empty()).unwrap();
        let stat = Stat::of(fd.as_fd()).unwrap();
        let handle = Sealer::new([0; 32], b"").seal(&Body::Indexed(FileId { id: ino, ino })).unwrap();
        Node::new(fd, (handle, ino), &stat)
    }

    #[test]
    fn holds_no_more_than_it_may_and_keeps_what_is_used() {
        let mut cache = Cache::new(16);
        let favourite = cache.insert(node(0)).0;
        for ino in 1..200 {
            assert!(cache.get(&favourite.handle).is_some());
            let (added, evicted) = cache.insert(node(ino));
            assert!(cache.get(&added.handle).is_some());
            assert!(evicted.iter().all(|gone| gone.id != 0 && gone.id < ino));
            assert!(cache.len() <= 16);
        }
    }

    #[test]
    fn the_same_file_is_held_once() {
        let mut cache = Cache::new(16);
        let first = cache.insert(node(1)).0;
        assert!(Arc::ptr_eq(&first, &cache.insert(node(1)).0));
        assert!(cache.remove(&first.handle).is_some());
        assert!(cache.get(&first.handle).is_none());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn only_idle_files_are_swept() {
        let mut cache = Cache::new(16);
        let (idle, fresh) = (cache.insert(node(1)).0, cache.insert(node(2)).0);
        if let Some(held) = cache.held.get_mut(&idle.handle) {
            held.used = Instant::now().checked_sub(IDLE_TIME).unwrap();
        }
        assert!(cache.sweep().iter().all(|node| node.id == 1));
        assert_eq!(cache.len(), 1);
        assert!(cache.get(&fresh.handle).is_some());
    }
}
