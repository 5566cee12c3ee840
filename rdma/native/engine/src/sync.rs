//! The locks and atomics of what threads share: the standard library's, or loom's where `models` has it try every interleaving.
#[cfg(not(loom))]
pub use std::{
    sync::atomic::{fence, AtomicBool, AtomicU32, AtomicU64, Ordering},
    sync::{Condvar, Mutex, MutexGuard, RwLock},
    thread::yield_now,
};

#[cfg(loom)]
pub use {
    loom::sync::atomic::{fence, Ordering},
    loom::sync::{Condvar, Mutex, MutexGuard, RwLock},
    loom::thread::yield_now,
    sequential::{AtomicBool, AtomicU32, AtomicU64},
};

/// Locks, whatever a panicking thread left behind: the state that a mutex guards here is failed as a whole when a body panics.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// loom takes a sequentially consistent access for one that acquires and releases; fences, which it does know, make up for that.
#[cfg(loom)]
mod sequential {
    use loom::sync::atomic::{self, fence, Ordering};

    fn ordered<R>(order: Ordering, access: impl FnOnce() -> R) -> R {
        let sequential = order == Ordering::SeqCst;
        if sequential {
            fence(Ordering::SeqCst);
        }
        let result = access();
        if sequential {
            fence(Ordering::SeqCst);
        }
        result
    }

    macro_rules! atomic {
        ($name:ident: $value:ty, $($method:ident($($argument:ident)?) $(-> $result:ty)?,)*) => {
            /// The atomic of that name.
            #[derive(Debug, Default)]
            pub struct $name(atomic::$name);

            impl $name {
                /// Holds `value` at first.
                pub fn new(value: $value) -> Self {
                    Self(atomic::$name::new(value))
                }
                $(
                    /// The method of that name.
                    pub fn $method(&self, $($argument: $value,)? order: Ordering) $(-> $result)? {
                        ordered(order, || self.0.$method($($argument,)? order))
                    }
                )*
            }
        };
    }

    atomic!(AtomicBool: bool, load() -> bool, store(value), swap(value) -> bool,);
    atomic!(AtomicU32: u32, load() -> u32, store(value), swap(value) -> u32, fetch_or(bits) -> u32, fetch_add(n) -> u32, fetch_sub(n) -> u32,);
    atomic!(AtomicU64: u64, load() -> u64, store(value), swap(value) -> u64,);
}
