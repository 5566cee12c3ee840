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

macro_rules! tally {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one connection has done, or several together. Kept under the connection's lock; those of a device are the sums over its connections.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Tally { $($(#[$doc])* pub $name: u64,)* }
        impl Tally {
            /// Every value, in declaration order.
            pub fn values(&self) -> Vec<u64> { vec![$(self.$name,)*] }
            /// Adds another one.
            pub fn add(&mut self, other: &Tally) { $(self.$name += other.$name;)* }
        }
    };
}

tally! {
    /// FPDUs built to be sent, a Terminate not included.
    fpdus_sent,
    /// FPDUs received and accepted.
    fpdus_received,
    /// Bytes that the socket took, headers and all.
    wire_bytes_sent,
    /// Bytes that came from the socket, headers and all.
    wire_bytes_received,
    /// Sends of ours that are done; of a stream, its sends.
    sends,
    /// Writes of ours that are done.
    writes,
    /// Reads of ours that are done.
    reads,
    /// Atomic operations of ours that are done.
    atomics,
    /// Immediate Data of ours that has left.
    immediates,
    /// Work requests on our own steering tags that are done.
    memory_operations,
    /// Receives that were filled.
    receives,
    /// Writes of the peer's that are placed.
    writes_received,
    /// Reads of the peer's that were answered, from their first segment on.
    reads_served,
    /// Atomic operations of the peer's that were answered.
    atomics_served,
    /// Work requests of either queue that ended without success.
    flushed,
}

/// How many of a tally's values a device counts by other means: its first ones.
pub const TALLY_ELSEWHERE: usize = 2;
