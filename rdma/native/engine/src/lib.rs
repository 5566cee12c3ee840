//! The engine of Weft: memory table, queue pairs, completion rings, connection management and the TCP driver.
//!
//! Layers, from the wire up: [`socket`] (raw system calls), [`memory`] (regions and pins), [`conn`] (one connection: start-up, then [`rx`] and [`tx`]),
//! [`listener`], [`device`] (epoll, background thread, leases), [`ring`] (completions), [`abi`] (what TypeScript calls).
//!
//! RFC 5040, 5041, 5044 and 6581 live in `weft-proto`; this crate adds memory, sockets and threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

/// A place where tests of this crate inject a panic (`faults.rs`); elsewhere it is nothing at all.
macro_rules! fault {
    ($point:ident, $handle:expr) => {
        #[cfg(test)]
        crate::faults::trip(crate::faults::Point::$point, $handle);
    };
}

pub mod abi;
pub mod admission;
pub mod conn;
pub mod counters;
pub mod device;
#[cfg(test)]
mod faults;
pub mod listener;
pub mod memory;
pub mod registry;
pub mod ring;
pub mod rx;
pub mod shared;
pub mod socket;
pub mod status;
pub mod tx;
pub mod work;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, whatever a panicking thread left behind: the state that a mutex guards here is failed as a whole when a body panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
