//! The engine of Weft: memory table, queue pairs, completion rings, connection management and the TCP driver.
//!
//! Layers, from the wire up: [`socket`] (raw system calls), [`memory`] (regions and pins), [`conn`] (one connection: start-up, then [`rx`] and [`tx`]),
//! [`listener`], [`device`] (epoll, background thread, leases), [`ring`] (completions), [`abi`] (what TypeScript calls).
//!
//! RFC 5040, 5041, 5044 and 6581 live in `weft-proto`; this crate adds memory, sockets and threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod abi;
pub mod conn;
pub mod counters;
pub mod device;
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
