//! The system calls that Deno lacks, for serving a local directory: opens that the kernel confines beneath the
//! export's root, handles that survive renames and restarts, positioned I/O with the identity of the caller.
//!
//! One `Export` is one served directory. `abi` is the way in from JavaScript: a request is a run of bytes that names an
//! operation's arguments (`message`), and is carried out on the calling thread (`weft_fs_call`) or by the thread
//! pool (`weft_fs_submit`, `weft_fs_poll`). Modules, from the bottom up: `sys` (raw calls), `identity`, `pool`, `handle`,
//! `cache`, `index`, `node`, `pace`, `export`, `find`, `ops` (one file an operation group), `abi`.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod abi;
mod cache;
mod export;
mod find;
mod handle;
mod identity;
mod index;
mod message;
mod node;
mod ops;
mod pace;
mod pool;
mod sys;

/// What every operation here returns: a value, or the errno to hand to the caller.
pub(crate) type Result<T> = core::result::Result<T, rustix::io::Errno>;

/// Takes a lock whether or not a thread panicked while it held it: what these locks guard is valid at every step.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
