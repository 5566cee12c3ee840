//! The C ABI as a careless or hostile program would call it: any call in any order, with handles of any kind and numbers of any size. Only what the contract asks of
//! pointers is kept: they are null, or name memory that is there.
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use weft_engine::abi::*;
use weft_engine::device::{Device, CONNS, DEVICES, LISTENERS, SHARED};
use weft_engine::resolver::settle;
use weft_engine::ring::{EntryKind, ENTRY_WORDS, HEADER_WORDS};
use weft_engine::socket::reset_on_close;
use weft_engine::status::Status;

const ARENA_BYTES: usize = 256 * 1024;
const HEAD_WORD: usize = 16;
/// Objects of one kind that an input may make.
const KIND_MAX: usize = 8;
/// An MPA Request of revision 2 without private data (RFC 6581 §4).
const MPA_REQUEST: &[u8] = b"MPA ID Req Frame\x10\x02\x00\x04\x00\x08\x00\x08";

/// Memory that is lent to the engine and never taken back, so that nothing that is still under way outlives it.
fn arena() -> usize {
    static ARENA: OnceLock<usize> = OnceLock::new();
    *ARENA.get_or_init(|| Box::leak(vec![0u64; ARENA_BYTES / 8].into_boxed_slice()).as_mut_ptr() as usize)
}

/// What the input still has to say; zeros behind its end.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([(); 4].map(|()| self.byte()))
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.byte()).collect()
    }

    /// A length: small, or anything that the type holds.
    fn length(&mut self) -> f64 {
        match self.below(4) {
            0 => f64::from_bits(u64::from(self.word()) << 32 | u64::from(self.word())),
            1 => f64::from(self.word()),
            _ => f64::from(self.word() & 0xffff),
        }
    }
}

#[derive(Default)]
struct Objects {
    devices: Vec<f64>,
    /// Address of each device's ring.
    rings: Vec<(f64, usize, usize)>,
    connections: Vec<f64>,
    listeners: Vec<f64>,
    shared: Vec<f64>,
    ports: Vec<u32>,
    /// STag, address and tagged offset of regions.
    regions: Vec<[f64; 3]>,
    peers: Vec<TcpStream>,
    /// Devices that were closed.
    closed: Vec<Arc<Device>>,
}

fn check(status: i32) -> bool {
    assert_ne!(status, Status::Panic as i32, "a panic behind the ABI");
    status >= 0
}

impl Objects {
    /// A handle, mostly of the kind that is asked for.
    fn handle(&self, script: &mut Script<'_>, kind: &[f64]) -> f64 {
        let kinds = [&self.devices, &self.connections, &self.listeners, &self.shared];
        let pool = if script.one_in(16) { kinds[script.below(4)] } else { kind };
        match (script.below(24), pool) {
            (0, _) => f64::from_bits(u64::from(script.word()) << 32 | u64::from(script.word())),
            (1, _) | (_, []) => f64::from(script.word()),
            (2, [first, ..]) => first + f64::from(1 << 24),
            (n, pool) => pool[n % pool.len()],
        }
    }

    fn device(&self, script: &mut Script<'_>) -> f64 {
        self.handle(script, &self.devices)
    }

    fn connection(&self, script: &mut Script<'_>) -> f64 {
        self.handle(script, &self.connections)
    }

    /// Where results go: room for 4 values, or nowhere.
    fn out(script: &mut Script<'_>, room: &mut [f64; 4]) -> *mut f64 {
        if script.one_in(16) {
            std::ptr::null_mut()
        } else {
            room.as_mut_ptr()
        }
    }

    fn stag(&self, script: &mut Script<'_>) -> u32 {
        match self.regions.as_slice() {
            [] => script.word(),
            regions => {
                if script.one_in(8) {
                    script.word()
                } else {
                    regions[script.below(regions.len())][0] as u32
                }
            }
        }
    }

    fn settings(&self, script: &mut Script<'_>) -> [u32; SETTINGS_WORDS] {
        let shared = if script.one_in(4) { self.handle(script, &self.shared) as u64 } else { 0 };
        let mut words =
            [0, script.below(3) as u32, script.below(2) as u32, 4, 4, script.below(6) as u32, script.below(3) as u32];
        words[0] = u32::from(script.one_in(6));
        let mut all = [0; SETTINGS_WORDS];
        all[..7].copy_from_slice(&words);
        let flags = script.below(4) as u32;
        all[7..10].copy_from_slice(&[shared as u32, (shared >> 32) as u32, flags]);
        all[14..20].copy_from_slice(&[flags, 2, 1000, flags / 2, 3, 0]); // queues, moderated
        if script.one_in(4) {
            all[script.below(SETTINGS_WORDS)] = script.word();
        }
        all
    }

    /// Work requests as the ABI has them, or words that are none. No element names memory that is not there (STag 0 is taken at its word).
    fn work(&self, script: &mut Script<'_>) -> Vec<u32> {
        if script.one_in(8) {
            return (0..script.below(40)).map(|_| script.word().max(1)).collect();
        }
        let mut words = Vec::new();
        for _ in 0..script.below(6) {
            let opcode = script.below(12) as u32;
            let count = [1, 1, 1, 0, 2, 33][script.below(6)];
            let flags = u32::from(script.byte());
            let remote = self.regions.get(script.below(self.regions.len().max(1)));
            let (stag, to) = remote.map_or((1, 0), |[stag, _, base]| (*stag as u32, *base as u64));
            let to = to.wrapping_add(u64::from(script.byte()) << script.below(60));
            words.extend([
                opcode | flags << 8 | count << 16,
                script.word(),
                stag,
                self.stag(script),
                to as u32,
                (to >> 32) as u32,
            ]);
            for _ in 0..count {
                let length = [1, 64, 3000, 70_000, 0][script.below(5)];
                let own = arena() as u64 + script.below(100) as u64;
                let (stag, address) = match self.regions.get(script.below(KIND_MAX)) {
                    Some([stag, address, _]) => {
                        (*stag as u32, (*address as u64).wrapping_add(script.below(100) as u64))
                    }
                    None => (0, own),
                };
                words.extend([stag, length, address as u32, (address >> 32) as u32]);
            }
            if (4..=6).contains(&opcode) {
                words.extend((0..ATOMIC_WORDS).map(|_| script.word()));
            }
        }
        words.truncate(words.len() - usize::from(script.one_in(16)).min(words.len()));
        words
    }

    /// Takes what is in a device's ring, as JavaScript does.
    fn take_entries(&mut self, device: f64, ready: i32) {
        let Some(&(_, address, bytes)) = self.rings.iter().find(|(handle, ..)| *handle == device) else { return };
        let capacity = (bytes / 4 - HEADER_WORDS) / ENTRY_WORDS;
        let word = |index: usize| {
            // SAFETY: the ring's memory, which lies there until its device is closed.
            unsafe { &*((address as *const AtomicU32).add(index)) }
        };
        use Ordering::{Relaxed, Release};
        for _ in 0..ready {
            let head = word(HEAD_WORD).load(Relaxed);
            let at = HEADER_WORDS + (head as usize % capacity) * ENTRY_WORDS;
            let (kind, status) = (word(at + 1).load(Relaxed), word(at + 2).load(Relaxed) as i32);
            assert!((1..=EntryKind::Port as u32).contains(&kind), "an entry of kind {kind}");
            check(status);
            if (4..=5).contains(&kind) && self.connections.len() < KIND_MAX {
                let handle = u64::from(word(at + 7).load(Relaxed)) << 32 | u64::from(word(at + 6).load(Relaxed));
                self.connections.push(handle as f64);
            }
            word(HEAD_WORD).store(head.wrapping_add(1), Release);
        }
    }

    fn close_device(&mut self, handle: f64) {
        let device = DEVICES.get(handle as u64);
        if check(weft_device_close(handle)) {
            self.closed.extend(device);
            let as_found = handle as u64 as f64;
            self.devices.retain(|device| *device != as_found);
            self.rings.retain(|(device, ..)| *device != as_found);
        }
    }

    fn open_device(&mut self) {
        let mut room = [0f64; 3];
        // SAFETY: there is room for 3 values. A device whose handle is not told could never be closed.
        if check(unsafe { weft_device_open(room.as_mut_ptr()) }) {
            self.devices.push(room[0]);
            self.rings.push((room[0], room[1] as usize, room[2] as usize));
        }
    }

    /// A device with a region, a listener and a connection to itself, as an orderly program would have them.
    fn prepare(&mut self, script: &mut Script<'_>) {
        self.open_device();
        let device = self.devices[0];
        let mut room = [0f64; 4];
        let (out, host, settings) = (room.as_mut_ptr(), b"127.0.0.1", self.settings(script));
        // SAFETY: every pointer names memory of the length that stands beside it.
        unsafe {
            assert!(check(weft_memory_allocate(device, settings[2], 65_536.0, 7, out)));
            self.regions.push([room[0], room[1], room[2]]);
            assert!(check(weft_listen(device, host.as_ptr(), 9, 0, 1, [0; LIMITS_WORDS].as_ptr(), out)));
            self.listeners.push(room[0]);
            self.ports.push(room[1] as u32);
            if check(weft_connect(
                device,
                host.as_ptr(),
                9,
                room[1] as u32,
                2,
                settings.as_ptr(),
                host.as_ptr(),
                9,
                out,
            )) {
                self.connections.push(room[0]);
            }
            for _ in 0..100 {
                let ready = weft_progress(device, 50_000);
                self.take_entries(device, ready);
                if let [_, accepted] = self.connections[..] {
                    check(weft_accept(accepted, 3, settings.as_ptr(), host.as_ptr(), 9));
                    break;
                }
            }
        }
    }

    /// One call.
    fn step(&mut self, script: &mut Script<'_>) {
        let mut room = [0f64; 4];
        let out = Self::out(script, &mut room);
        let tag = script.word();
        // SAFETY: every pointer below is null or names memory of the length that stands beside it, which stays for good where it is lent.
        unsafe {
            match script.below(26) {
                0 if self.devices.len() < 2 => self.open_device(),
                1 if script.one_in(8) => {
                    let device = self.device(script);
                    self.close_device(device);
                }
                2..=4 => {
                    let device = self.device(script);
                    let time = u32::from(script.byte());
                    let ready =
                        if tag & 3 == 0 { weft_wait(device, time << 2) } else { weft_progress(device, time << 8) };
                    check(ready);
                    self.take_entries(device, ready);
                }
                5 => {
                    let device = self.device(script);
                    if tag & 7 == 0 {
                        check(weft_moderate(device, tag >> 3 & 3, tag >> 8 & 7, tag >> 16));
                    }
                    if tag >> 24 & 7 == 0 {
                        let fd = weft_channel(device);
                        if check(fd) {
                            drop(OwnedFd::from_raw_fd(fd)); // the caller's
                        }
                    }
                    check(weft_arm(device));
                }
                6 => {
                    let mut values = [0f64; 64];
                    check(weft_counters(self.device(script), values.as_mut_ptr(), script.below(65) as u32));
                    check(weft_connection_counters(self.connection(script), values.as_mut_ptr(), tag & 63));
                }
                7 if self.regions.len() < KIND_MAX => {
                    let bytes = script.length();
                    let access = if script.one_in(4) { tag } else { script.below(8) as u32 };
                    if check(weft_memory_allocate(self.device(script), script.below(2) as u32, bytes, access, out)) {
                        self.regions.push([room[0], room[1], room[2]]);
                    }
                }
                8 if self.regions.len() < KIND_MAX => {
                    let bytes = script.length();
                    let at = (arena() + script.below(256)) as *mut u8;
                    let fits = bytes.is_nan() || bytes < (ARENA_BYTES - 256) as f64;
                    let at = if fits { at } else { std::ptr::null_mut() };
                    let access = if script.one_in(4) { tag } else { script.below(8) as u32 };
                    let only = if script.one_in(4) { self.connection(script) } else { 0.0 };
                    let device = self.device(script);
                    if check(weft_memory_register(device, script.below(2) as u32, at, bytes, access, only, out)) {
                        self.regions.push([room[0], room[1], room[2]]);
                    }
                }
                9 if self.regions.len() < KIND_MAX => {
                    let (offset, bytes) = (script.length(), script.length());
                    let access = if script.one_in(2) { tag } else { script.below(8) as u32 };
                    let stag = self.stag(script);
                    let only = if script.one_in(4) { self.connection(script) } else { 0.0 };
                    if check(weft_memory_bind(self.device(script), stag, offset, bytes, access, only, out)) {
                        self.regions.push([room[0], room[1], room[2]]);
                    }
                }
                10 => {
                    let stag = self.stag(script);
                    let device = self.device(script);
                    check(weft_memory_abandon(device, tag)); // one that is there would never be unmapped
                    check(weft_memory_invalidate(device, stag));
                    self.regions.retain(|[known, ..]| *known as u32 != stag);
                }
                11 if self.listeners.len() < KIND_MAX => {
                    let hosts: [&[u8]; 5] = [b"127.0.0.1", b"::1", b"[::1]", b"", b"\xff\xfe"];
                    let host = hosts[script.below(8).min(4) % 5];
                    let port = if script.one_in(16) { tag | 0x1_0000 } else { 0 };
                    let mut limits = [script.below(3) as u32 * 10, script.below(3) as u32, script.below(3) as u32, 20];
                    if script.one_in(8) {
                        limits[script.below(LIMITS_WORDS)] = tag;
                    }
                    let device = self.device(script);
                    if check(weft_listen(device, host.as_ptr(), host.len() as u32, port, tag, limits.as_ptr(), out)) {
                        self.listeners.push(room[0]);
                        self.ports.push(room[1] as u32);
                    }
                }
                12 if script.one_in(4) => {
                    let listener = self.handle(script, &self.listeners);
                    check(weft_listener_close(listener));
                }
                13..=14 if self.connections.len() < KIND_MAX => {
                    // names that the resolver would ask others for are left out
                    let hosts: [&[u8]; 4] = [b"127.0.0.1", b"[::1]", b"a\0b", b"\xff"];
                    let host = hosts[script.below(12).saturating_sub(8) % 4];
                    let port = self.ports.get(script.below(KIND_MAX)).copied().unwrap_or(if tag & 1 == 0 {
                        1
                    } else {
                        tag | 0x1_0000
                    });
                    let (settings, private) = (self.settings(script), script.bytes(255));
                    let settings = if script.one_in(32) { std::ptr::null() } else { settings.as_ptr() };
                    let (device, length) = (self.device(script), host.len() as u32);
                    let private_length = private.len() as u32;
                    if check(weft_connect(
                        device,
                        host.as_ptr(),
                        length,
                        port,
                        tag,
                        settings,
                        private.as_ptr(),
                        private_length,
                        out,
                    )) {
                        self.connections.push(room[0]);
                    }
                }
                15 => {
                    let (settings, private) = (self.settings(script), script.bytes(255));
                    check(weft_accept(
                        self.connection(script),
                        tag,
                        settings.as_ptr(),
                        private.as_ptr(),
                        private.len() as u32,
                    ));
                }
                16 => {
                    let private = vec![tag as u8; script.below(600)];
                    check(weft_reject(self.connection(script), private.as_ptr(), private.len() as u32));
                }
                17 => {
                    let mut facts = [0u32; FACTS_BYTES / 4 + 1];
                    let null = out.is_null();
                    let to = if null { std::ptr::null_mut() } else { facts.as_mut_ptr().cast() };
                    check(weft_facts(self.connection(script), to));
                }
                18..=20 => {
                    let words = self.work(script);
                    check(weft_post(self.connection(script), words.as_ptr(), words.len() as u32));
                }
                21 => match script.below(4) {
                    0 if self.shared.len() < KIND_MAX => {
                        let depth = if script.one_in(4) { tag } else { 16 };
                        if check(weft_shared_create(self.device(script), depth, tag, out)) {
                            self.shared.push(room[0]);
                        }
                    }
                    1 => {
                        let words = self.work(script);
                        let shared = self.handle(script, &self.shared);
                        check(weft_shared_post(shared, words.as_ptr(), words.len() as u32));
                    }
                    2 => _ = check(weft_shared_limit(self.handle(script, &self.shared), script.word() % 20)),
                    _ => _ = check(weft_shared_close(self.handle(script, &self.shared))),
                },
                22 => _ = check(weft_start(self.connection(script))),
                23 => match script.below(3) {
                    0 => _ = check(weft_close(self.connection(script))),
                    1 => _ = check(weft_abort(self.connection(script))),
                    _ => {
                        let connection = self.connection(script);
                        if check(weft_release(connection)) {
                            self.connections.retain(|known| *known as u64 != connection as u64);
                        }
                    }
                },
                24 if self.peers.len() < KIND_MAX && !self.ports.is_empty() => {
                    // a peer that is no engine
                    let port = self.ports[script.below(self.ports.len())] as u16;
                    if let Ok(mut peer) = TcpStream::connect(("127.0.0.1", port)) {
                        _ = peer.set_write_timeout(Some(Duration::from_millis(20)));
                        _ = peer.write_all(if script.one_in(4) { &[] } else { MPA_REQUEST });
                        self.peers.push(peer);
                    }
                }
                25 => {
                    let bytes = script.bytes(255);
                    let which = script.below(self.peers.len().max(1));
                    match self.peers.get_mut(which) {
                        Some(peer) => _ = peer.write_all(&bytes),
                        None => std::thread::sleep(Duration::from_micros(200)),
                    }
                }
                _ => std::thread::yield_now(),
            }
        }
    }
}

/// Calls as the input says, then the end of everything that they made: nothing panics, and nothing is left.
pub fn c_abi(input: &[u8]) {
    let mut objects = Objects::default();
    let mut script = Script(input);
    if !script.one_in(4) {
        objects.prepare(&mut script);
    }
    while !script.0.is_empty() {
        objects.step(&mut script);
    }
    for device in std::mem::take(&mut objects.devices) {
        objects.close_device(device);
    }
    for peer in std::mem::take(&mut objects.peers) {
        reset_on_close(&OwnedFd::from(peer)); // or thousands of closed connections would hold on to their ports
    }
    // No thread of the engine's may be left when leaks are looked for. Once the kernel has begun to give the numbers of threads out again, the sanitizer takes a thread for
    // the ended one that had its number before, and what it alone points to for lost.
    settle();
    let end = Instant::now() + Duration::from_secs(10);
    let is_gone = |device: &Arc<Device>| Arc::strong_count(device) == 1 && device.alive.load(Ordering::SeqCst) == 0;
    let known = || (DEVICES.count(), CONNS.count(), LISTENERS.count(), SHARED.count());
    while !objects.closed.iter().all(is_gone) {
        if Instant::now() > end {
            let held =
                objects.closed.iter().map(|device| (Arc::strong_count(device), device.alive.load(Ordering::SeqCst)));
            let held: Vec<_> = held.collect();
            panic!(
                "closed devices are still held, (by how many, connections and queues alive): {held:?}; known: {:?}",
                known()
            );
        }
        std::thread::yield_now();
    }
    let left = known();
    assert_eq!(left, (0, 0, 0, 0), "devices, connections, listeners, shared queues are left");
}
