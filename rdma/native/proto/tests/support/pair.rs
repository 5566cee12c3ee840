//! Two endpoints joined by two pipes, in virtual time: what they send, in which FPDUs and when it arrives is chance's choice, and so is what the pipes do to it.

use std::collections::VecDeque;

use super::feeder::{Feeder, Fpdu};
use super::random::Random;
use weft_proto::{
    tx, Crc32c, Initiator, Opcode, ReadRequest, Responder, StartupOptions, Target, TerminateCode, Transmitter,
};

/// Bytes of each region where nothing else is said.
pub const REGION_LEN: usize = 100_000;
/// Regions of each endpoint, by their steering tags.
const WRITTEN: u32 = 0x100;
const SOURCE: u32 = 0x200;
const SINK: u32 = 0x300;

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

pub struct Endpoint {
    crc: bool,
    transmitter: Transmitter,
    /// The messages that are due, tagged and untagged: each kind in order, the two kinds interleaved.
    tagged: VecDeque<Outgoing>,
    untagged: VecDeque<Outgoing>,
    /// Bytes that have been sent and not yet been delivered.
    pub wire: VecDeque<u8>,
    /// The FPDUs of which they are.
    under_way: VecDeque<Vec<u8>>,
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
    pub fn new(crc: bool, region_len: usize, random: &mut Random) -> Endpoint {
        Endpoint {
            crc,
            transmitter: Transmitter::new(),
            tagged: VecDeque::new(),
            untagged: VecDeque::new(),
            wire: VecDeque::new(),
            under_way: VecDeque::new(),
            feeder: Feeder::new(crc),
            written: vec![0; region_len],
            source: random.bytes(region_len),
            sink: vec![0; region_len],
            arriving: Vec::new(),
            received: Vec::new(),
            expect_written: vec![0; region_len],
            expect_sink: vec![0; region_len],
            expect_received: Vec::new(),
        }
    }

    /// Queues a message to the peer, and notes there what should come of it.
    pub fn post(&mut self, peer: &mut Endpoint, random: &mut Random) {
        let region_len = self.source.len();
        let length = if random.one_in(4) { random.below(region_len) } else { random.below(300) };
        let at = random.below(region_len - length + 1);
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
                let from = random.below(region_len - length + 1);
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
    pub fn send(&mut self, random: &mut Random) {
        let queue = if random.one_in(2) { &mut self.tagged } else { &mut self.untagged };
        let Some(message) = queue.front_mut() else { return };
        let rest = message.payload.len() - message.sent;
        let max = if random.one_in(2) { 1448 } else { tx::UNTAGGED_PAYLOAD_MAX };
        let whole = message.opcode == Opcode::ReadRequest || random.one_in(4);
        let length = if whole { rest.min(max) } else { random.below(rest.min(max) + 1) };
        let last = length == rest;
        let bytes = encode(message, length, last, self.crc);
        self.wire.extend(&bytes);
        self.under_way.push_back(bytes);
        message.sent += length;
        if last {
            queue.pop_front();
        }
    }

    /// Takes some of what the peer has sent, and says what is wrong with it. `tampered`: the pipe has not been faithful.
    pub fn receive(
        &mut self,
        peer: &mut Endpoint,
        tampered: Option<Fault>,
        random: &mut Random,
    ) -> Result<(), TerminateCode> {
        let length = if random.one_in(3) { peer.wire.len() } else { random.below(60).min(peer.wire.len()) };
        let piece: Vec<u8> = peer.wire.drain(..length).collect();
        let mut fpdus = Vec::new();
        let outcome = self.feeder.feed(&piece, |fpdu| fpdus.push(fpdu));
        for fpdu in fpdus {
            if self.crc || tampered.is_none() {
                let place = peer.under_way.iter().position(|sent| *sent == fpdu.bytes);
                let place = place.expect("an FPDU was delivered that was not sent, or not in this order");
                match tampered {
                    // whole ones, come again, look like those that were sent
                    Some(Fault::Repeat) => {}
                    // and whole ones that are lost leave no trace
                    Some(Fault::Lose) => drop(peer.under_way.drain(..=place)),
                    _ => {
                        assert_eq!(place, 0, "FPDUs were left out with {tampered:?}");
                        peer.under_way.pop_front();
                    }
                }
            }
            self.handle(&fpdu)?;
        }
        outcome
    }

    fn handle(&mut self, fpdu: &Fpdu) -> Result<(), TerminateCode> {
        let payload = fpdu.payload();
        match (fpdu.segment.opcode, fpdu.segment.target) {
            (Opcode::ReadRequest, _) => {
                let request = payload.try_into().map_err(|_| TerminateCode::RDMAP_OPERATION_UNSPECIFIED)?;
                let request = ReadRequest::parse(request);
                let from = usize::try_from(request.source_to).unwrap();
                let source = from.checked_add(request.length as usize).and_then(|end| self.source.get(from..end));
                self.tagged.push_back(Outgoing {
                    opcode: Opcode::ReadResponse,
                    sink: (request.sink_stag, request.sink_to),
                    msn: 0,
                    invalidate_stag: 0,
                    payload: source.ok_or(TerminateCode::RDMAP_PROTECTION_BASE_OR_BOUNDS)?.to_vec(),
                    sent: 0,
                });
            }
            (_, Target::Tagged { stag, to }) => {
                let region = if stag == WRITTEN { &mut self.written } else { &mut self.sink };
                let to = usize::try_from(to).unwrap();
                let place = to.checked_add(payload.len()).and_then(|end| region.get_mut(to..end));
                place.ok_or(TerminateCode::DDP_TAGGED_BASE_OR_BOUNDS)?.copy_from_slice(payload);
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
        Ok(())
    }

    pub fn is_quiet(&self) -> bool {
        self.tagged.is_empty() && self.untagged.is_empty() && self.wire.is_empty()
    }

    pub fn check(&self) {
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

/// The FPDUs of some random messages.
pub fn random_stream(crc: bool, random: &mut Random) -> Vec<Vec<u8>> {
    let [mut a, mut b] = [(); 2].map(|()| Endpoint::new(crc, REGION_LEN, random));
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

/// What a pipe may do to the bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Changes up to three bits.
    Flip,
    /// Delivers some bytes and then nothing any more.
    Cut,
    /// Leaves some bytes out.
    Lose,
    /// Delivers some bytes twice.
    Repeat,
}

impl Fault {
    fn befall(self, wire: &mut VecDeque<u8>, random: &mut Random) {
        let at = random.below(wire.len());
        let end = at + random.below(wire.len() - at + 1);
        match self {
            Fault::Flip => {
                for _ in 0..random.below(3) + 1 {
                    let at = random.below(wire.len());
                    wire[at] ^= 1 << random.below(8);
                }
            }
            Fault::Cut => wire.truncate(at),
            Fault::Lose => drop(wire.drain(at..end)),
            Fault::Repeat => {
                let repeated: Vec<u8> = wire.range(at..end).copied().collect();
                let behind = wire.split_off(end);
                wire.extend(repeated.iter().chain(&behind));
            }
        }
    }
}

/// Both sides' start-up, whose frames may be changed on the way. Whether there are to be CRCs, where each side accepts what the other one says.
fn start_up(random: &mut Random) -> Option<bool> {
    let mut options = || StartupOptions {
        revision: random.below(2) as u8 + 1,
        crc: random.one_in(2),
        ird: random.below(0x4001) as u16,
        ord: random.below(0x4001) as u16,
        peer_to_peer: random.one_in(2),
        private_data: vec![7; random.below(40)],
        ..StartupOptions::default()
    };
    let (asked, offered) = (options(), options());
    let flips = random.one_in(4);
    let mut carry = |mut frame: Vec<u8>| {
        if flips {
            let at = random.below(frame.len());
            frame[at] ^= 1 << random.below(8);
        }
        frame
    };
    let (initiator, request) = Initiator::new(asked.clone());
    let responder = match Responder::handle_request(&carry(request)) {
        Ok(responder) => responder,
        Err(error) => {
            assert!(flips, "{error}");
            return None;
        }
    };
    let (reply, accepted) = responder.accept(offered.clone());
    match initiator.handle_reply(&carry(reply)) {
        Err(error) => assert!(flips, "{error}"),
        Ok(established) if !flips => {
            assert_eq!((established.crc, established.revision), (accepted.crc, accepted.revision));
            assert_eq!(accepted.crc, asked.crc || offered.crc);
            assert_eq!(established.private_data, offered.private_data);
            assert!(accepted.revision == 1 || established.ord <= offered.ird && accepted.ord <= asked.ird);
            return Some(accepted.crc);
        }
        Ok(established) if established.crc == accepted.crc => return Some(accepted.crc),
        Ok(_) => {}
    }
    None
}

/// A pair from start-up on, over pipes of which one may have a fault at some time.
pub fn run_with_faults(random: &mut Random) {
    let Some(crc) = start_up(random) else { return };
    let [mut a, mut b] = [(); 2].map(|()| Endpoint::new(crc, 6000, random));
    let faults = [None, Some(Fault::Flip), Some(Fault::Cut), Some(Fault::Lose), Some(Fault::Repeat)];
    let mut fault = faults[random.below(faults.len())];
    let fault_time = random.below(100);
    // what has befallen the stream of a, and that of b; whether each is still received
    let mut befallen = [None; 2];
    let mut open = [true; 2];
    let mut to_post = random.below(40);
    for time in 0.. {
        std::mem::swap(&mut a, &mut b);
        befallen.swap(0, 1);
        open.swap(0, 1);
        if to_post > 0 && random.one_in(3) {
            a.post(&mut b, random);
            to_post -= 1;
        }
        // nothing comes behind a cut
        if !open[0] || befallen[0] != Some(Fault::Cut) {
            a.send(random);
        }
        if time >= fault_time && !a.wire.is_empty() && open[0] {
            if let Some(fault) = fault.take() {
                fault.befall(&mut a.wire, random);
                befallen[0] = Some(fault);
            }
        }
        if open[0] {
            if let Err(code) = b.receive(&mut a, befallen[0], random) {
                assert!(befallen[0].is_some() || befallen[1].is_some(), "{code} on a faithful pipe");
                assert!(code.is_known());
                open[0] = false;
            }
        }
        if !open[0] || befallen[0] == Some(Fault::Cut) && a.wire.is_empty() {
            open[0] = false;
            a.wire.clear();
        }
        if to_post == 0 && a.is_quiet() && b.is_quiet() {
            break;
        }
    }
    if befallen == [None, None] {
        a.check();
        b.check();
    }
}
