//! A peer that guesses steering tags (RFC 5042 §6.1.1, §6.3.1): a million tries by each way to use one, through the whole receiver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use weft_engine::counters::Counters;
use weft_engine::memory::{Grant, MemoryTable, Region, Through, INACTIVE, REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE};
use weft_engine::ring::Ring;
use weft_engine::rx::{Context, ReceiveEnd, Rx};
use weft_engine::tx::Tx;
use weft_engine::work::{ReceiveWork, Sges};
use weft_proto::TerminateCode;

const TRIES: u32 = 1_000_000;
const REGIONS: u64 = 64;
const BYTES: u64 = 4096;
const ALL: u32 = REMOTE_READ | REMOTE_WRITE | REMOTE_ATOMIC;
const THROUGH: Through = Through { pd: 1, connection: 1 };

/// FPDUs of one segment each that use `stag`, and what a receiver must say that does not know it. An empty CRC field follows.
fn attempts(stag: u32, to: u64) -> [(Vec<u8>, TerminateCode); 4] {
    let fpdu = |opcode: u8, fields: &[u8], payload: &[u8]| {
        let tagged = if fields.len() == 12 { 0x80 } else { 0 };
        let length = (2 + fields.len() + payload.len()) as u16;
        [&length.to_be_bytes()[..], &[tagged | 0x41, 0x40 | opcode], fields, payload, &[0; 4]].concat()
    };
    let untagged = |invalidate: u32, queue: u32| [invalidate, queue, 1, 0].map(u32::to_be_bytes).concat();
    let named = [&stag.to_be_bytes()[..], &to.to_be_bytes()].concat();
    let read = [&[0; 12][..], &8u32.to_be_bytes(), &named].concat();
    let atomic = [&[0; 8][..], &named, &[0xee; 32]].concat();
    [
        (fpdu(0, &named, &[0xee; 8]), TerminateCode::DDP_TAGGED_INVALID_STAG),
        (fpdu(1, &untagged(0, 1), &read), TerminateCode::RDMAP_PROTECTION_INVALID_STAG),
        (fpdu(10, &untagged(0, 1), &atomic), TerminateCode::RDMAP_PROTECTION_INVALID_STAG),
        (fpdu(4, &untagged(stag, 0), &[]), TerminateCode::RDMAP_OPERATION_CANNOT_INVALIDATE),
    ]
}

fn bytes_of(region: &Region) -> &[u8] {
    // SAFETY: the region is the engine's own mapping, alive as long as the reference, and no other thread writes it here.
    unsafe { std::slice::from_raw_parts(region.address as *const u8, region.length as usize) }
}

/// What peers try their guesses on, each through a receiver of its own.
struct Scene {
    memory: MemoryTable,
    counters: Counters,
    ring: Ring,
    tx: Tx,
    ours: UnixStream,
    theirs: UnixStream,
}

impl Scene {
    fn new() -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut tx = Tx::new();
        tx.ird = 1;
        Self { memory: MemoryTable::default(), counters: Counters::default(), ring: Ring::new(4), tx, ours, theirs }
    }

    fn assert_refused(&mut self, stag: u32, (fpdu, code): (Vec<u8>, TerminateCode)) {
        let mut rx = Rx::new(THROUGH, self.memory.large_writable(THROUGH.pd));
        rx.post(ReceiveWork::new(0, Sges::default()));
        self.theirs.write_all(&fpdu).unwrap();
        let mut context = Context {
            fd: self.ours.as_raw_fd(),
            ending: false,
            memory: &self.memory,
            counters: &self.counters,
            ring: &self.ring,
            tag: 0,
            tx: &mut self.tx,
        };
        match rx.drive(&mut context) {
            ReceiveEnd::Violation(found, _) if found == code => {}
            end => panic!("{stag:#x}: {end:?} instead of {code:?}"),
        }
    }
}

#[test]
fn what_work_is_still_to_make_valid_is_no_steering_tag_yet() {
    let mut scene = Scene::new();
    let region = scene.memory.allocate(1, BYTES, Grant { access: ALL, connection: 0 }).unwrap();
    let grant = Grant { access: ALL | INACTIVE, connection: 0 };
    let window = scene.memory.bind(region.stag, 0, BYTES, grant).unwrap();
    let again = scene.memory.reregister(region.stag, 0, BYTES, grant).unwrap();
    for Region { stag, base, .. } in [&*window, &*again] {
        attempts(*stag, *base).into_iter().for_each(|attempt| scene.assert_refused(*stag, attempt));
        assert!(scene.memory.activate(*stag, 0), "the work still does that");
    }
}

#[test]
fn a_million_guesses_by_every_operation_hit_nothing_and_are_counted() {
    let mut scene = Scene::new();
    let grant = Grant { access: ALL, connection: 0 };
    let regions: Vec<_> = (0..REGIONS).map(|_| scene.memory.allocate(1, BYTES, grant).unwrap()).collect();
    let known: HashSet<u32> = regions.iter().map(|region| region.stag).collect();
    // every second guess is near a STag that is one: neighbours must not be
    let mut state = 1u32;
    let guesses = (0..TRIES).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let near = regions[i as usize % regions.len()].stag;
        if i % 2 == 0 {
            state ^ i
        } else {
            near ^ (1 + i / 2 % 0xffff)
        }
    });
    let mut tried = 0;
    for stag in guesses {
        if known.contains(&stag) {
            continue; // that is no guess
        }
        let region = &regions[stag as usize % regions.len()];
        scene.assert_refused(stag, attempts(stag, region.base).into_iter().nth(tried as usize % 4).unwrap());
        tried += 1;
    }
    let Scene { memory, counters, ring, .. } = scene;
    assert!(tried > TRIES - REGIONS as u32 * 2, "{tried} tries");
    assert_eq!(counters.protection_errors.get(), u64::from(tried));
    assert_eq!((memory.len() as u64, ring.ready()), (REGIONS, 0));
    assert!(regions.iter().all(|region| memory.pin(region.stag).is_some() && bytes_of(region).iter().all(|b| *b == 0)));
}
