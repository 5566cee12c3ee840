//! Two endpoints joined by two pipes, in virtual time: random messages, cut into FPDUs of random sizes, tagged and
//! untagged ones interleaved, delivered in pieces of any size. Each run is made from a seed, which a failure prints;
//! `WEFT_SEED` runs that one alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::VecDeque;

use support::feeder::{Feeder, Fpdu};
use support::random::Random;
use weft_proto::{tx, Crc32c, Opcode, ReadRequest, Target, Transmitter};

const SEEDS: u64 = 300;
const REGION_LEN: usize = 100_000;
/// Regions of each endpoint, by their steering tags.
const WRITTEN: u32 = 0x100;
const SOURCE: u32 = 0x200;
const SINK: u32 = 0x300;

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

/// A message on its way out.
struct Outgoing {
    opcode: Opcode,
    /// Steering tag and offset of a tagged message.
    sink: (u32, u64),
    msn: u32,
    invalidate_stag: u32,
    payload: Vec<u8>,
    sent: usize,
}

/// A Send as the upper layer sees it.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    opcode: Opcode,
    invalidated: Option<u32>,
    payload: Vec<u8>,
}

struct Endpoint {
    crc: bool,
    transmitter: Transmitter,
    /// The messages that are due, tagged and untagged: each kind in order, the two kinds interleaved.
    tagged: VecDeque<Outgoing>,
    untagged: VecDeque<Outgoing>,
    /// Bytes that have been sent and not yet been delivered.
    wire: VecDeque<u8>,
    feeder: Feeder,
    written: Vec<u8>,
    source: Vec<u8>,
    sink: Vec<u8>,
    arriving: Vec<u8>,
    received: Vec<Message>,
    // what should come of it
    expect_written: Vec<u8>,
    expect_sink: Vec<u8>,
    expect_received: Vec<Message>,
}

impl Endpoint {
    fn new(crc: bool, random: &mut Random) -> Endpoint {
        Endpoint {
            crc,
            transmitter: Transmitter::new(),
            tagged: VecDeque::new(),
            untagged: VecDeque::new(),
            wire: VecDeque::new(),
            feeder: Feeder::new(crc),
            written: vec![0; REGION_LEN],
            source: random.bytes(REGION_LEN),
            sink: vec![0; REGION_LEN],
            arriving: Vec::new(),
            received: Vec::new(),
            expect_written: vec![0; REGION_LEN],
            expect_sink: vec![0; REGION_LEN],
            expect_received: Vec::new(),
        }
    }

    /// Queues a message to the peer, and notes there what should come of it.
    fn post(&mut self, peer: &mut Endpoint, random: &mut Random) {
        let length = if random.one_in(4) { random.below(REGION_LEN) } else { random.below(300) };
        let at = random.below(REGION_LEN - length + 1);
        match random.below(3) {
            0 => {
                let payload = random.bytes(length);
                peer.expect_written[at..at + length].copy_from_slice(&payload);
                let sink = (WRITTEN, at as u64);
                self.tagged.push_back(Outgoing {
                    opcode: Opcode::Write,
                    sink,
                    msn: 0,
                    invalidate_stag: 0,
                    payload,
                    sent: 0,
                });
            }
            1 => {
                let from = random.below(REGION_LEN - length + 1);
                self.expect_sink[at..at + length].copy_from_slice(&peer.source[from..from + length]);
                let request = ReadRequest {
                    sink_stag: SINK,
                    sink_to: at as u64,
                    length: length as u32,
                    source_stag: SOURCE,
                    source_to: from as u64,
                };
                self.push_untagged(Opcode::ReadRequest, 0, request.emit().to_vec());
            }
            _ => {
                let sends =
                    [Opcode::Send, Opcode::SendInvalidate, Opcode::SendSolicited, Opcode::SendSolicitedInvalidate];
                let opcode = sends[random.below(sends.len())];
                let stag = if opcode.invalidates() { random.next() as u32 } else { 0 };
                let payload = random.bytes(length);
                let invalidated = opcode.invalidates().then_some(stag);
                peer.expect_received.push(Message { opcode, invalidated, payload: payload.clone() });
                self.push_untagged(opcode, stag, payload);
            }
        }
    }

    fn push_untagged(&mut self, opcode: Opcode, invalidate_stag: u32, payload: Vec<u8>) {
        let msn = self.transmitter.next_msn(opcode.queue().unwrap());
        self.untagged.push_back(Outgoing { opcode, sink: (0, 0), msn, invalidate_stag, payload, sent: 0 });
    }

    /// Sends the next FPDU of one of the two kinds.
    fn send(&mut self, random: &mut Random) {
        let queue = if random.one_in(2) { &mut self.tagged } else { &mut self.untagged };
        let Some(message) = queue.front_mut() else { return };
        let rest = message.payload.len() - message.sent;
        let max = if random.one_in(2) { 1448 } else { tx::UNTAGGED_PAYLOAD_MAX };
        let whole = message.opcode == Opcode::ReadRequest || random.one_in(4);
        let length = if whole { rest.min(max) } else { random.below(rest.min(max) + 1) };
        let last = length == rest;
        let bytes = encode(message, length, last, self.crc);
        self.wire.extend(bytes);
        message.sent += length;
        if last {
            queue.pop_front();
        }
    }

    /// Takes some of what the peer has sent.
    fn receive(&mut self, wire: &mut VecDeque<u8>, random: &mut Random) {
        let length = if random.one_in(3) { wire.len() } else { random.below(60).min(wire.len()) };
        let piece: Vec<u8> = wire.drain(..length).collect();
        let mut fpdus = Vec::new();
        self.feeder.feed(&piece, |fpdu| fpdus.push(fpdu)).unwrap();
        fpdus.into_iter().for_each(|fpdu| self.handle(fpdu));
    }

    fn handle(&mut self, fpdu: Fpdu) {
        let payload = fpdu.payload();
        match (fpdu.segment.opcode, fpdu.segment.target) {
            (Opcode::ReadRequest, _) => {
                let request = ReadRequest::parse(payload.try_into().unwrap());
                let from = request.source_to as usize;
                self.tagged.push_back(Outgoing {
                    opcode: Opcode::ReadResponse,
                    sink: (request.sink_stag, request.sink_to),
                    msn: 0,
                    invalidate_stag: 0,
                    payload: self.source[from..from + request.length as usize].to_vec(),
                    sent: 0,
                });
            }
            (_, Target::Tagged { stag, to }) => {
                let region = if stag == WRITTEN { &mut self.written } else { &mut self.sink };
                region[to as usize..to as usize + payload.len()].copy_from_slice(payload);
            }
            (opcode, Target::Untagged { mo, invalidate_stag, .. }) => {
                assert_eq!(mo as usize, self.arriving.len());
                self.arriving.extend(payload);
                if fpdu.segment.last {
                    let invalidated = opcode.invalidates().then_some(invalidate_stag);
                    self.received.push(Message { opcode, invalidated, payload: std::mem::take(&mut self.arriving) });
                }
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.tagged.is_empty() && self.untagged.is_empty() && self.wire.is_empty()
    }

    fn check(&self) {
        assert!(self.feeder.is_at_boundary() && self.feeder.receiver.is_between_messages());
        assert!(self.received == self.expect_received, "the Sends differ");
        assert!(self.written == self.expect_written, "the written region differs");
        assert!(self.sink == self.expect_sink, "the sink of the Reads differs");
    }
}

/// The FPDU with the next `length` bytes of a message.
fn encode(message: &Outgoing, length: usize, last: bool, crc: bool) -> Vec<u8> {
    let Outgoing { opcode, sink: (stag, to), msn, invalidate_stag, ref payload, sent } = *message;
    let mut bytes = if opcode.is_tagged() {
        tx::tagged_header(opcode, last, stag, to + sent as u64, length).to_vec()
    } else {
        tx::untagged_header(opcode, last, opcode.queue().unwrap(), msn, sent as u32, invalidate_stag, length).to_vec()
    };
    bytes.extend(&payload[sent..sent + length]);
    let ulpdu_len = bytes.len() - 2;
    let crc = crc.then(|| {
        let (padding, length) = tx::trailer(ulpdu_len, None);
        let mut crc = Crc32c::new();
        crc.update(&bytes);
        crc.update(&padding[..length - 4]);
        crc.finish()
    });
    let (trailer, length) = tx::trailer(ulpdu_len, crc);
    bytes.extend(&trailer[..length]);
    bytes
}

#[test]
fn everything_arrives_as_it_was_sent() {
    for_each_seed(|random| {
        let crc = random.one_in(2);
        let [mut a, mut b] = [(); 2].map(|()| Endpoint::new(crc, random));
        let mut to_post = random.below(40);
        while to_post > 0 || !a.is_quiet() || !b.is_quiet() {
            std::mem::swap(&mut a, &mut b);
            if to_post > 0 && random.one_in(3) {
                a.post(&mut b, random);
                to_post -= 1;
            }
            a.send(random);
            b.receive(&mut a.wire, random);
        }
        a.check();
        b.check();
    });
}

/// The FPDUs of some random messages.
fn random_stream(crc: bool, random: &mut Random) -> Vec<Vec<u8>> {
    let [mut a, mut b] = [(); 2].map(|()| Endpoint::new(crc, random));
    for _ in 0..random.below(10) + 1 {
        a.post(&mut b, random);
    }
    let mut fpdus = Vec::new();
    while !a.tagged.is_empty() || !a.untagged.is_empty() {
        a.send(random);
        if !a.wire.is_empty() {
            fpdus.push(a.wire.drain(..).collect());
        }
    }
    fpdus
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
