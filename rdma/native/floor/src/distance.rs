//! How far two cores are apart: what a cache line takes from one to the other.
//!
//! On a virtual machine that changes while it runs: the host moves a virtual core to another group of cores, with a cache of its own, and every copy
//! through a socket between the two takes several times as long.
use crate::socket::pin_to_core;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Round trips: a few milliseconds at most, and long enough to wake either core up.
const ROUNDS: u32 = 20_000;

/// The time that a word takes from the one core to the other, which must be another one.
pub fn measure(cores: (usize, usize)) -> io::Result<Duration> {
    if cores.0 == cores.1 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let word = AtomicU32::new(0);
    let (tell, told) = std::sync::mpsc::channel();
    pin_to_core(cores.0)?;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let pinned = pin_to_core(cores.1);
            let is_there = pinned.is_ok();
            let _ = tell.send(pinned);
            for round in 0..if is_there { ROUNDS } else { 0 } {
                pass(&word, 2 * round + 1);
            }
        });
        told.recv().map_err(io::Error::other)??;
        let begin = Instant::now();
        for round in 0..ROUNDS {
            pass(&word, 2 * round);
        }
        Ok(begin.elapsed() / (2 * ROUNDS))
    })
}

/// Waits for a value and answers with the next one.
fn pass(word: &AtomicU32, expected: u32) {
    while word.load(Ordering::Acquire) != expected {
        std::hint::spin_loop();
    }
    word.store(expected + 1, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_is_not_there_and_the_same_one_twice_are_errors() {
        assert!(measure((0, 1023)).is_err());
        assert!(measure((1023, 0)).is_err());
        assert!(measure((0, 0)).is_err());
    }
}
