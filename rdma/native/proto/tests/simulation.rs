//! Two endpoints joined by two pipes, in virtual time: random messages, cut into FPDUs of random sizes, tagged and
//! untagged ones interleaved, delivered in pieces of any size. Each run is made from a seed, which a failure prints;
//! `WEFT_SEED` runs that one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use support::feeder::Feeder;
use support::pair::{random_stream, run_with_faults, Endpoint, REGION_LEN};
use support::random::Random;

const SEEDS: u64 = 300;

fn for_each_seed(run: impl Fn(&mut Random)) {
    let seeds = match std::env::var("WEFT_SEED") {
        Ok(seed) => seed.parse().unwrap()..=seed.parse().unwrap(),
        Err(_) => 1..=SEEDS,
    };
    for seed in seeds {
        let failure = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(&mut Random::new(seed))));
        assert!(failure.is_ok(), "failed with WEFT_SEED={seed}");
    }
}

#[test]
fn everything_arrives_as_it_was_sent() {
    for_each_seed(|random| {
        let crc = random.one_in(2);
        let [mut a, mut b] = [(); 2].map(|()| Endpoint::new(crc, REGION_LEN, random));
        let mut to_post = random.below(40);
        while to_post > 0 || !a.is_quiet() || !b.is_quiet() {
            std::mem::swap(&mut a, &mut b);
            if to_post > 0 && random.one_in(3) {
                a.post(&mut b, random);
                to_post -= 1;
            }
            a.send(random);
            b.receive(&mut a, None, random).unwrap();
        }
        a.check();
        b.check();
    });
}

#[test]
fn a_fault_of_a_pipe_is_noticed_or_harmless() {
    for_each_seed(run_with_faults);
}

fn corrupt(stream: &mut [u8], random: &mut Random) {
    for _ in 0..random.below(3) + 1 {
        let at = random.below(stream.len());
        stream[at] ^= 1 << random.below(8);
    }
}

#[test]
fn with_checksums_nothing_corrupt_is_delivered() {
    for_each_seed(|random| {
        let sent = random_stream(true, random);
        let intact = sent.concat();
        let mut stream = intact.clone();
        corrupt(&mut stream, random);
        let mut feeder = Feeder::new(true);
        let mut delivered = Vec::new();
        let outcome = feeder.feed(&stream, |fpdu| delivered.push(fpdu.bytes));
        assert!(sent.starts_with(&delivered), "an FPDU that was not sent was delivered");
        if stream != intact {
            // either an error, or a length that now wants more bytes than will ever come
            assert!(delivered.len() < sent.len());
            assert!(outcome.is_err() || !feeder.is_at_boundary());
        }
    });
}

#[test]
fn without_checksums_corruption_is_refused_or_stays_within_the_formats() {
    for_each_seed(|random| {
        let mut stream = random_stream(false, random).concat();
        corrupt(&mut stream, random);
        let mut feeder = Feeder::new(false);
        let outcome = feeder.feed(&stream, |fpdu| {
            assert_eq!(fpdu.bytes.len(), fpdu.segment.fpdu_len());
            assert_eq!(fpdu.header().len() + fpdu.payload().len() + fpdu.trailer().len(), fpdu.bytes.len());
        });
        if let Err(code) = outcome {
            assert!(code.is_known());
        }
    });
}

#[test]
fn a_connection_that_ends_anywhere_delivers_whole_fpdus_only() {
    for_each_seed(|random| {
        let sent = random_stream(true, random);
        let stream = sent.concat();
        let end = random.below(stream.len() + 1);
        let mut feeder = Feeder::new(true);
        let mut delivered = 0;
        feeder.feed(&stream[..end], |fpdu| delivered += fpdu.bytes.len()).unwrap();
        let boundaries = sent.iter().scan(0, |at, fpdu| {
            *at += fpdu.len();
            Some(*at)
        });
        let whole = boundaries.take_while(|&boundary| boundary <= end).last().unwrap_or(0);
        assert_eq!(delivered, whole);
        assert_eq!(feeder.is_at_boundary(), whole == end);
    });
}
