//! What the engine counts. Relaxed atomics: each is exact, a snapshot of several is not.
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one device, in the order in which `weft_counters` writes them.
        #[derive(Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Count,)* }
        impl Counters {
            /// Every value, in declaration order.
            pub fn snapshot(&self) -> Vec<u64> { vec![$(self.$name.get(),)*] }
            /// Every name, in the same order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];
        }
    };
}

/// One counter.
#[derive(Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters! {
    /// Payload bytes that the kernel wrote at their final address.
    bytes_placed,
    /// Payload bytes that were copied from a staging buffer to their final address.
    bytes_staged,
    /// The part of `bytes_staged` that belongs to messages of 8 KiB and more: payload copies, held at zero.
    bytes_staged_large,
    /// Payload bytes that the kernel took from where they lay.
    bytes_sent,
    /// Payload bytes of small messages that were copied next to their header to be sent.
    bytes_inlined,
    /// FPDUs sent.
    fpdus_sent,
    /// FPDUs received and accepted.
    fpdus_received,
    /// Socket calls to receive.
    receive_calls,
    /// Socket calls to send.
    send_calls,
    /// Calls to epoll.
    epoll_calls,
    /// Bytes written to wake a sleeping JavaScript thread.
    wakeups,
    /// Times the background thread came to life.
    background_turns,
    /// Connections established, both roles, streams included.
    connections,
    /// Connections ended by a Terminate of ours.
    terminates_sent,
    /// Connections ended by a Terminate of the peer's.
    terminates_received,
    /// Accesses to memory that a peer was refused.
    protection_errors,
    /// Connections that never became one: no MPA, bad frames, time-outs.
    startup_failures,
    /// Connections that were given up at start-up, to make room for those that came later.
    startups_displaced,
    /// Connections that were not taken: there were too many, or their address's peers had been refused memory too often.
    connections_refused,
    /// Panics that were caught; each ended its connection.
    panics,
}
