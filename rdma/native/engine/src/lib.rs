//! The engine of Weft: memory table, queue pairs, completion rings, connection management and the TCP driver.
//!
//! Layers, from the wire up: [`socket`] (raw system calls), [`memory`] (regions and pins), [`conn`] (one connection: start-up, then [`rx`] and [`tx`]),
//! [`listener`], [`resolver`] (names), [`device`] (epoll, background thread), `owner` (whose it is), [`handover`] (who drives when), [`ring`] (completions), [`moderation`] (how many wake),
//! [`abi`] (what TypeScript calls).
//!
//! RFC 5040, 5041, 5044 and 6581 live in `weft-proto`; this crate adds memory, sockets and threads.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

/// A place where tests inject a panic (`faults.rs`); elsewhere it is nothing at all.
#[cfg(not(loom))]
macro_rules! fault {
    ($point:ident, $handle:expr) => {
        #[cfg(any(test, feature = "faults"))]
        crate::faults::trip(crate::faults::Point::$point, $handle);
    };
}

pub mod handover;
pub mod memory;
pub mod moderation;
pub mod ring;
pub mod status;
pub mod sync;

// Under loom only what is modelled is built: system calls and clocks are not its.
#[cfg(not(loom))]
pub mod abi;
#[cfg(not(loom))]
pub mod admission;
#[cfg(not(loom))]
pub mod conn;
#[cfg(not(loom))]
pub mod counters;
#[cfg(not(loom))]
pub mod device;
#[cfg(all(any(test, feature = "faults"), not(loom)))]
pub mod faults;
#[cfg(not(loom))]
pub mod listener;
#[cfg(all(test, loom))]
mod models;
#[cfg(not(loom))]
mod owner;
#[cfg(not(loom))]
pub mod registry;
#[cfg(not(loom))]
pub mod resolver;
#[cfg(not(loom))]
pub mod rx;
#[cfg(not(loom))]
mod scratch;
#[cfg(not(loom))]
pub mod shared;
#[cfg(not(loom))]
pub mod socket;
#[cfg(not(loom))]
pub mod tx;
#[cfg(not(loom))]
pub mod work;

#[cfg(not(loom))]
pub(crate) use sync::lock;
