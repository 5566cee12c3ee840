//! Reproducible chance: SplitMix64, started from a seed that a failing test prints; or what a fuzzer says, and SplitMix64 behind that.

use std::collections::VecDeque;

pub struct Random {
    state: u64,
    /// Decides first, a byte or two a choice.
    script: VecDeque<u8>,
}

impl Random {
    pub fn new(seed: u64) -> Random {
        Random { state: seed, script: VecDeque::new() }
    }

    pub fn scripted(script: &[u8]) -> Random {
        Random { state: 0, script: script.iter().copied().collect() }
    }

    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let Some(byte) = self.script.pop_front() else { return (self.next() % bound as u64) as usize };
        let more = if bound > 256 { self.script.pop_front().unwrap_or(0) } else { 0 };
        (usize::from(byte) | usize::from(more) << 8) % bound
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}
