//! Status codes that cross the ABI: 0 is success, negative values are errors. `rdma/errors.ts` has the same list.

/// Outcome of an ABI call or of a work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Status {
    /// Done.
    Ok = 0,
    /// A handle that was never given out, or whose object is gone.
    BadHandle = -1,
    /// An argument out of its range.
    Invalid = -2,
    /// A panic was caught; the connection that it happened on has failed.
    Panic = -3,
    /// A limit was reached (memory, descriptors, queue depth).
    Exhausted = -4,
    /// The operating system refused; `weft_last_errno` tells what.
    System = -5,
    /// The connection is closed or closing.
    Closed = -6,
    /// Flushed: the connection ended before the work was done.
    Flushed = -7,
    /// Local protection: a work request names memory that is not registered, or beyond its bounds.
    LocalProtection = -8,
    /// The peer ended the connection with a Terminate message.
    PeerTerminated = -9,
    /// The peer broke the protocol; we ended the connection with a Terminate message.
    PeerViolation = -10,
    /// The connection was reset, or ended within a message.
    Reset = -11,
    /// The peer refused the TCP connection.
    Refused = -12,
    /// The peer answered the MPA request with a rejection.
    Rejected = -13,
    /// What answered does not speak MPA.
    NotIwarp = -14,
    /// No answer in time.
    TimedOut = -15,
    /// The peer's MPA frame cannot be agreed with.
    Incompatible = -16,
    /// The address could not be resolved or reached.
    Unreachable = -17,
    /// The connection was aborted from this side.
    Aborted = -18,
}
