//! Names are looked up by threads of their own, as the system's resolver may block for long and cannot be told to stop. A few threads at the most, however many names there are: the
//! rest wait in line. Nobody waits for these threads, the end of a device least of all; they hold no connection, only its handle.
use std::collections::VecDeque;
use std::net::ToSocketAddrs;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Mutex;
use std::thread::{Builder, JoinHandle};

use crate::device::CONNS;
use crate::lock;

/// Threads that look up names at the same time, in the process.
pub const THREADS_MAX: usize = 16;

/// A name, a port, and the handle of the connection that is to go there.
struct Lookup {
    host: String,
    port: u16,
    handle: u64,
}

struct Resolver {
    waiting: VecDeque<Lookup>,
    /// Threads that will look at `waiting` again.
    serving: usize,
    /// Those, and some that have ended since the last lookup was asked for.
    threads: Vec<JoinHandle<()>>,
}

static RESOLVER: Mutex<Resolver> = Mutex::new(Resolver { waiting: VecDeque::new(), serving: 0, threads: Vec::new() });

/// Has a name looked up for a connection, which is told by `Conn::resolved`. False where there is no thread to do it.
pub fn look_up(host: String, port: u16, handle: u64) -> bool {
    let mut resolver = lock(&RESOLVER);
    let (ended, threads) = resolver.threads.drain(..).partition(JoinHandle::is_finished);
    resolver.threads = threads;
    join(ended);
    // connections that were given up while they waited need no place any more, so that there are no more places than connections
    resolver.waiting.retain(|lookup| CONNS.get(lookup.handle).is_some());
    resolver.waiting.push_back(Lookup { host, port, handle });
    if resolver.serving < THREADS_MAX {
        match Builder::new().name("weft-resolve".into()).spawn(serve) {
            Ok(thread) => {
                resolver.serving += 1;
                resolver.threads.push(thread);
            }
            Err(_) if resolver.serving == 0 => {
                resolver.waiting.pop_back();
                return false;
            }
            Err(_) => {} // the others come to it
        }
    }
    true
}

/// Waits for all threads that look up names to end, which may take as long as the system's resolver does: for a program that looks for leaks.
pub fn settle() {
    let threads = std::mem::take(&mut lock(&RESOLVER).threads);
    join(threads);
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        let _ = thread.join();
    }
}

/// Looks up names until none waits.
fn serve() {
    loop {
        let mut resolver = lock(&RESOLVER);
        let Some(lookup) = resolver.waiting.pop_front() else {
            resolver.serving -= 1;
            return;
        };
        drop(resolver);
        // a panic concerns its connection alone, which has ended by it or will at its deadline
        let _ = catch_unwind(AssertUnwindSafe(|| lookup.run()));
    }
}

impl Lookup {
    fn run(&self) {
        if CONNS.get(self.handle).is_none() {
            return;
        }
        fault!(Resolve, u64::from(self.port));
        let addresses: Vec<_> =
            (self.host.as_str(), self.port).to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        CONNS.get(self.handle).inspect(|conn| conn.resolved(&addresses));
    }
}
