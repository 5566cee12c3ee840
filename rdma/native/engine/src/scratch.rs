//! Scratch buffers of connections, lent while there is something in them: an idle connection has none, and those that take turns find the same ones in the cache.
use std::cell::RefCell;

/// Buffers that are kept for the next user; more are needed at once only while peers are slow to take what is sent.
const KEPT_MAX: usize = 64;

/// Buffers of one size, of one thread. A buffer may be given back on another thread than it was lent on.
pub struct Pool {
    size_bytes: usize,
    free: RefCell<Vec<Box<[u8]>>>,
}

impl Pool {
    /// An empty pool of buffers of `size_bytes`.
    pub const fn new(size_bytes: usize) -> Self {
        Self { size_bytes, free: RefCell::new(Vec::new()) }
    }

    /// Fills an empty place with a buffer, whose content is whatever its last user left.
    pub fn lend(&self, place: &mut Box<[u8]>) {
        if place.is_empty() {
            let kept = self.free.borrow_mut().pop();
            *place = kept.unwrap_or_else(|| vec![0; self.size_bytes].into_boxed_slice());
        }
    }

    /// Takes the buffer back, if there is one.
    pub fn take_back(&self, place: &mut Box<[u8]>) {
        let mut free = self.free.borrow_mut();
        let buffer = std::mem::take(place);
        if !buffer.is_empty() && free.len() < KEPT_MAX {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_was_given_back_is_lent_again_and_no_other() {
        let pool = Pool::new(16);
        let (mut first, mut second) = (Box::default(), Box::default());
        pool.lend(&mut first);
        first[0] = 1;
        pool.lend(&mut first); // has one already
        pool.lend(&mut second);
        assert_eq!((first[0], first.len(), second[0], second.len()), (1, 16, 0, 16));
        pool.take_back(&mut first);
        pool.take_back(&mut first); // has none any more
        assert!(first.is_empty());
        let mut third = Box::default();
        pool.lend(&mut third);
        assert_eq!((third[0], third.len(), pool.free.borrow().len()), (1, 16, 0));
    }

    #[test]
    fn a_pool_keeps_so_many_and_no_more() {
        let pool = Pool::new(16);
        let mut places: Vec<Box<[u8]>> = (0..KEPT_MAX + 1).map(|_| Box::default()).collect();
        places.iter_mut().for_each(|place| pool.lend(place));
        places.iter_mut().for_each(|place| pool.take_back(place));
        assert_eq!(pool.free.borrow().len(), KEPT_MAX);
    }
}
