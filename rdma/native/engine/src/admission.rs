//! Whom a listener lets in: how many may be at start-up at once, and from which addresses peers have tried too often what they may not (RFC 5042 §6.4.1, §6.1.1).
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::listener::CONNECTIONS_MAX;
use crate::lock;

/// How long a peer that connected may take to say what it wants, unless told otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many peers may be at start-up at once, unless told otherwise.
const STARTING_MAX: usize = 1024;
/// Addresses that are remembered at the most; the one whose time is over first makes room.
const ADDRESSES_MAX: usize = 4096;

/// What a listener allows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a peer that connects may take to say what it wants.
    pub request_timeout: Duration,
    /// How many may be at that at once; who comes then takes the place of the one that has been at it for the longest time.
    pub starting: usize,
    /// From how many refused accesses to memory on an address's connections are refused; 0: never.
    pub refusals: u32,
    /// How long they count, and so the connections are refused, from the first one on.
    pub refusal_period: Duration,
}

impl Limits {
    /// From the words of the ABI: the time for requests in milliseconds, how many may be at that, refusals, their period in milliseconds; 0 stands for what is usual.
    pub fn from_words(words: &[u32]) -> Option<Self> {
        let [timeout, starting, refusals, period] = words else { return None };
        let milliseconds = |n: u32| Duration::from_millis(u64::from(n));
        Some(Self {
            request_timeout: if *timeout == 0 { REQUEST_TIMEOUT } else { milliseconds(*timeout) },
            // those that have ended their start-up are forgotten when the limit is reached, which must come to pass
            starting: if *starting == 0 { STARTING_MAX } else { (*starting as usize).min(CONNECTIONS_MAX) },
            refusals: *refusals,
            refusal_period: milliseconds(*period),
        })
    }
}

struct Offence {
    count: u32,
    until: Instant,
}

/// What a listener knows of those who came.
pub struct Admission {
    /// What it allows.
    pub limits: Limits,
    starting: Mutex<VecDeque<u64>>,
    offences: Mutex<HashMap<IpAddr, Offence>>,
}

/// What stands for a host: an IPv6 host has a whole /64 to itself.
fn host(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip => ip,
    }
}

impl Admission {
    /// Nobody has come yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, starting: Mutex::default(), offences: Mutex::default() }
    }

    /// Whether connections of an address are refused at `now`.
    pub fn is_barred(&self, ip: IpAddr, now: Instant) -> bool {
        if self.limits.refusals == 0 {
            return false;
        }
        let offences = lock(&self.offences);
        offences.get(&host(ip)).is_some_and(|known| now < known.until && known.count >= self.limits.refusals)
    }

    /// A peer of this address was refused memory.
    pub fn offended(&self, ip: IpAddr, now: Instant) {
        if self.limits.refusals == 0 {
            return;
        }
        let mut offences = lock(&self.offences);
        let ip = host(ip);
        if offences.len() >= ADDRESSES_MAX && !offences.contains_key(&ip) {
            offences.retain(|_, known| now < known.until);
            if offences.len() >= ADDRESSES_MAX {
                let first = offences.iter().min_by_key(|(_, known)| known.until).map(|(ip, _)| *ip);
                first.map(|ip| offences.remove(&ip));
            }
        }
        let fresh = Offence { count: 0, until: now + self.limits.refusal_period };
        let known = offences.entry(ip).or_insert(Offence { ..fresh });
        if now >= known.until {
            *known = fresh;
        }
        known.count = known.count.saturating_add(1);
    }

    /// A connection begins its start-up. Returns the one that has to go for it; `is_starting` tells of a connection whether it is still at that.
    pub fn begin(&self, handle: u64, is_starting: impl Fn(u64) -> bool) -> Option<u64> {
        let mut starting = lock(&self.starting);
        if starting.len() >= self.limits.starting {
            starting.retain(|handle| is_starting(*handle));
        }
        let oldest = if starting.len() >= self.limits.starting { starting.pop_front() } else { None };
        starting.push_back(handle);
        oldest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(starting: usize, refusals: u32) -> Admission {
        let refusal_period = Duration::from_secs(60);
        Admission::new(Limits { request_timeout: REQUEST_TIMEOUT, starting, refusals, refusal_period })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_one_that_has_been_starting_for_the_longest_time_goes() {
        let admission = admission(3, 0);
        let all = |_| true;
        assert_eq!([1, 2, 3].map(|handle| admission.begin(handle, all)), [None; 3]);
        assert_eq!(admission.begin(4, all), Some(1));
        // 3 has said what it wants: nobody has to go
        assert_eq!(admission.begin(5, |handle| handle != 3), None);
        assert_eq!([6, 7, 8, 9].map(|handle| admission.begin(handle, all)), [2, 4, 5, 6].map(Some));
    }

    #[test]
    fn who_is_no_longer_starting_is_forgotten_whatever_the_limit() {
        let admission = Admission::new(Limits::from_words(&[0, u32::MAX, 0, 0]).unwrap());
        (0..100_000).for_each(|handle| assert_eq!(admission.begin(handle, |_| false), None));
        assert!(lock(&admission.starting).len() <= CONNECTIONS_MAX);
    }

    #[test]
    fn an_address_is_barred_from_the_limit_on_until_its_time_is_over() {
        let admission = admission(1, 2);
        let begin = Instant::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let barred = |text, now| admission.is_barred(ip(text), now);
        admission.offended(ip("192.0.2.1"), begin);
        assert!(!barred("192.0.2.1", begin));
        admission.offended(ip("192.0.2.1"), after(59));
        assert!(barred("192.0.2.1", after(59)) && barred("::ffff:192.0.2.1", after(59)));
        assert!(!barred("192.0.2.2", after(59)));
        assert!(!barred("192.0.2.1", after(60)));
        // counted afresh
        admission.offended(ip("192.0.2.1"), after(61));
        assert!(!barred("192.0.2.1", after(61)));
        admission.offended(ip("192.0.2.1"), after(62));
        assert!(barred("192.0.2.1", after(120)) && !barred("192.0.2.1", after(121)));
    }

    #[test]
    fn a_host_of_ipv6_has_many_addresses() {
        let admission = admission(1, 2);
        let now = Instant::now();
        admission.offended(ip("2001:db8::1"), now);
        admission.offended(ip("2001:db8::ffff:1"), now);
        assert!(admission.is_barred(ip("2001:db8::2"), now) && !admission.is_barred(ip("2001:db8:0:1::2"), now));
    }

    #[test]
    fn without_a_limit_nothing_is_remembered() {
        let admission = admission(1, 0);
        let now = Instant::now();
        (0..100).for_each(|_| admission.offended(ip("192.0.2.1"), now));
        assert!(!admission.is_barred(ip("192.0.2.1"), now) && lock(&admission.offences).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let admission = admission(1, 1);
        let now = Instant::now();
        for n in 0..ADDRESSES_MAX as u32 + 10 {
            admission.offended(IpAddr::V4(n.into()), now + Duration::from_micros(n.into()));
        }
        assert_eq!(lock(&admission.offences).len(), ADDRESSES_MAX);
        let known = |n: u32| admission.is_barred(IpAddr::V4(n.into()), now);
        assert!(!known(9) && known(10));
        // those whose time is over go first, all of them
        admission.offended(ip("192.0.2.1"), now + Duration::from_secs(61));
        assert_eq!(lock(&admission.offences).len(), 1);
    }
}
