//! Panics and pauses that tests inject where `fault!` stands. Compiled for tests of this crate and with the feature `faults` only: nothing of it is in the library
//! that is built otherwise.
#![allow(clippy::panic)]
use std::sync::{Arc, Barrier, Mutex};

use crate::lock;

/// Where something can be injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A listener takes a connection (its handle).
    Accept,
    /// MPA start-up goes on.
    Startup,
    /// The connection's turn begins.
    Turn,
    /// Something is to be sent.
    Send,
    /// Payload is about to be placed, its memory pinned.
    Place,
    /// An atomic operation is about to be carried out, its memory pinned.
    Atomic,
    /// A name is about to be looked up (the port it is for).
    Resolve,
    /// A deadline is looked at.
    Deadline,
    /// Outstanding work is about to be flushed.
    Flush,
}

/// What is injected.
enum Fault {
    Panic,
    /// Waits for the test twice: to tell it that it is here, and to be told to go on.
    #[cfg_attr(not(test), allow(dead_code))]
    Pause(Arc<Barrier>),
}

static PLAN: Mutex<Vec<(Point, u64, Fault)>> = Mutex::new(Vec::new());

/// Does what is planned for this place and object, once.
pub fn trip(point: Point, handle: u64) {
    let mut plan = lock(&PLAN);
    let Some(at) = plan.iter().position(|planned| (planned.0, planned.1) == (point, handle)) else { return };
    let (.., fault) = plan.swap_remove(at);
    drop(plan);
    match fault {
        Fault::Panic => panic!("injected: {point:?}"),
        Fault::Pause(meet) => {
            meet.wait();
            meet.wait();
        }
    }
}

/// Has the core panic, once, where the connection of this handle next comes to a point: 0 its turn begins, 1 something is to be sent, 2 payload is about to be placed,
/// 3 outstanding work is about to be flushed. Returns 0, or -1 where there is no such point.
#[no_mangle]
pub extern "C" fn weft_inject(point: u32, handle: f64) -> i32 {
    let points = [Point::Turn, Point::Send, Point::Place, Point::Flush];
    let Some(point) = points.get(point as usize) else { return -1 };
    lock(&PLAN).push((*point, handle as u64, Fault::Panic));
    0
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::abi::*;
    use crate::device::{CONNS, DEVICES};
    use crate::memory::{REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE};
    use crate::resolver::{settle, THREADS_MAX};
    use crate::ring::{EntryKind, ENTRY_WORDS, HEADER_WORDS};
    use crate::status::Status;

    const LISTENER: u32 = 1;
    const VICTIM: u32 = 2;
    const BYSTANDER: u32 = 3;
    const BYTES: u32 = 64 * 1024;

    /// A device that is driven as JavaScript does it.
    struct Node {
        device: f64,
        ring: *const AtomicU32,
        capacity: u32,
        /// Entries that nobody has asked for yet.
        entries: Vec<[u32; ENTRY_WORDS]>,
        /// Memory that peers may use: STag and address.
        memory: (u32, u64),
    }

    impl Node {
        fn open() -> Self {
            let mut out = [0.0; 3];
            // SAFETY: room for what is written.
            assert_eq!(unsafe { weft_device_open(out.as_mut_ptr()) }, 0);
            let [device, ring, bytes] = out;
            let all = REMOTE_READ | REMOTE_WRITE | REMOTE_ATOMIC;
            // SAFETY: as above.
            assert_eq!(unsafe { weft_memory_allocate(device, 1, f64::from(BYTES), all, out.as_mut_ptr()) }, 0);
            Self {
                device,
                ring: ring as usize as *const AtomicU32,
                capacity: (bytes as usize / 4 - HEADER_WORDS) as u32 / ENTRY_WORDS as u32,
                entries: Vec::new(),
                memory: (out[0] as u32, out[1] as u64),
            }
        }

        fn word(&self, at: usize) -> &AtomicU32 {
            // SAFETY: within the ring, which lives as long as the device.
            unsafe { &*self.ring.add(at) }
        }

        fn poll(&mut self) {
            let ready = weft_progress(self.device, 0);
            assert!(ready >= 0, "progress: {ready}");
            for _ in 0..ready {
                let head = self.word(16).load(Ordering::Relaxed);
                let at = HEADER_WORDS + (head & (self.capacity - 1)) as usize * ENTRY_WORDS;
                self.entries.push(std::array::from_fn(|i| self.word(at + i).load(Ordering::Relaxed)));
                self.word(16).store(head.wrapping_add(1), Ordering::Release);
            }
        }

        /// The next entry of this kind: status, slot, and what `aux` says.
        fn next(&mut self, tag: u32, kind: EntryKind) -> (i32, u32, u64) {
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                self.poll();
                let found = self.entries.iter().position(|entry| entry[..2] == [tag, kind as u32]);
                if let Some(at) = found {
                    let [_, _, status, slot, _, _, low, high] = self.entries.remove(at);
                    return (status as i32, slot, u64::from(high) << 32 | u64::from(low));
                }
                assert!(Instant::now() < end, "no {kind:?} of {tag}: {:?}", self.entries);
                std::thread::yield_now();
            }
        }

        fn listen(&self) -> (u64, u32) {
            let mut out = [0.0; 2];
            // SAFETY: the lengths are those of what is passed.
            let status = unsafe {
                weft_listen(
                    self.device,
                    b"127.0.0.1".as_ptr(),
                    9,
                    0,
                    LISTENER,
                    [0; LIMITS_WORDS].as_ptr(),
                    out.as_mut_ptr(),
                )
            };
            assert_eq!(status, 0);
            (out[0] as u64, out[1] as u32)
        }

        fn connect(&self, port: u32, tag: u32) -> u64 {
            self.connect_to(b"127.0.0.1", port, tag)
        }

        fn connect_to(&self, host: &[u8], port: u32, tag: u32) -> u64 {
            let (mut out, settings) = ([0.0], settings());
            let (host, length, settings) = (host.as_ptr(), host.len() as u32, settings.as_ptr());
            // SAFETY: the lengths are those of what is passed.
            let status = unsafe {
                weft_connect(self.device, host, length, port, tag, settings, std::ptr::null(), 0, out.as_mut_ptr())
            };
            assert_eq!(status, 0);
            out[0] as u64
        }

        /// Posts work on this node's memory: opcode, slot, and what is at the other side.
        fn post(&self, handle: u64, (opcode, slot): (u32, u32), remote: (u32, u64), length: u32) -> i32 {
            let (stag, address) = self.memory;
            let mut words =
                vec![opcode | 1 << 8 | 1 << 16, slot, remote.0, 0, remote.1 as u32, (remote.1 >> 32) as u32];
            words.extend([stag, length, address as u32, (address >> 32) as u32]);
            if opcode == FETCH_ADD {
                words.extend([1, 0, 0, 0, 0, 0, 0, 0]);
            }
            // SAFETY: the words are a list of this length, and the memory is registered.
            unsafe { weft_post(handle as f64, words.as_ptr(), words.len() as u32) }
        }

        /// Whether memory can be taken back at once: no pin is left on it.
        fn close(self) {
            assert_eq!(weft_memory_invalidate(self.device, self.memory.0), 0);
            assert_eq!(weft_device_close(self.device), 0);
        }
    }

    const RECEIVE: u32 = 0;
    const SEND: u32 = 1;
    const WRITE: u32 = 2;
    const READ: u32 = 3;
    const FETCH_ADD: u32 = 4;

    fn settings() -> [u32; SETTINGS_WORDS] {
        let mut words = [0; SETTINGS_WORDS];
        // no CRC, domain 1, read depths, peer-to-peer mode
        (words[2], words[3], words[4], words[5]) = (1, 16, 16, 1);
        words
    }

    /// Two connections between two devices; a panic on one of them, and what comes of everything.
    struct Scene {
        client: Node,
        server: Node,
        port: u32,
        listener: u64,
        /// Handles at the client and at the server.
        victim: (u64, u64),
        bystander: (u64, u64),
    }

    impl Scene {
        fn new() -> Self {
            let (client, server) = (Node::open(), Node::open());
            let (listener, port) = server.listen();
            let mut scene = Self { client, server, port, listener, victim: (0, 0), bystander: (0, 0) };
            scene.victim = scene.join(VICTIM);
            scene.bystander = scene.join(BYSTANDER);
            scene
        }

        fn join(&mut self, tag: u32) -> (u64, u64) {
            let client = self.client.connect(self.port, tag);
            let (_, _, server) = self.server.next(LISTENER, EntryKind::Request);
            // SAFETY: the settings have their length.
            assert_eq!(unsafe { weft_accept(server as f64, tag, settings().as_ptr(), std::ptr::null(), 0) }, 0);
            assert_eq!(self.client.next(tag, EntryKind::Established).0, 0);
            assert_eq!((weft_start(client as f64), weft_start(server as f64)), (0, 0));
            assert_eq!(self.server.next(tag, EntryKind::Ready).0, 0);
            (client, server)
        }

        fn panics(&self) -> f64 {
            let at = crate::counters::Counters::NAMES.iter().position(|name| *name == "panics").unwrap();
            let mut values = vec![0.0; at + 1];
            // SAFETY: as many values as are said.
            assert!(unsafe { weft_counters(self.server.device, values.as_mut_ptr(), at as u32 + 1) } > at as i32);
            values[at]
        }

        /// A Write and a Read through a connection that was there before or is made now.
        fn works(&mut self, handle: u64, tag: u32) {
            let there = self.server.memory;
            for (slot, opcode) in [WRITE, READ].into_iter().enumerate() {
                assert_eq!(self.client.post(handle, (opcode, slot as u32), there, BYTES), 0);
                while self
                    .client
                    .entries
                    .iter()
                    .all(|entry| entry[..4] != [tag, EntryKind::Send as u32, 0, slot as u32])
                {
                    self.server.poll();
                    self.client.poll();
                    assert!(self
                        .client
                        .entries
                        .iter()
                        .all(|entry| entry[1] != EntryKind::Closed as u32 || entry[0] != tag));
                }
            }
        }

        /// The server's end of the victim is over, with this outcome; its receive was flushed; everybody else goes on.
        fn only_the_victim_ends(mut self, is_flushed: bool) {
            if is_flushed {
                assert_eq!(self.server.next(VICTIM, EntryKind::Receive), (Status::Flushed as i32, 7, 0));
            }
            assert_eq!(self.server.next(VICTIM, EntryKind::Closed).0, Status::Panic as i32);
            assert_eq!(self.client.next(VICTIM, EntryKind::Closed).0, Status::Reset as i32);
            self.works(self.bystander.0, BYSTANDER);
            let (again, _) = self.join(BYSTANDER + 1);
            self.works(again, BYSTANDER + 1);
            assert_eq!(self.panics(), 1.0);
            assert_eq!(weft_release(self.victim.1 as f64), 0);
            self.close();
        }

        fn close(self) {
            self.client.close();
            self.server.close();
        }
    }

    fn plan(point: Point, handle: u64) {
        lock(&PLAN).push((point, handle, Fault::Panic));
    }

    #[test]
    fn a_connection_accepted_while_its_device_is_closed_goes_with_it() {
        let node = Node::open();
        let device = DEVICES.get(node.device as u64).unwrap();
        let (listener, port) = node.listen();
        let meet = Arc::new(Barrier::new(2));
        lock(&PLAN).push((Point::Accept, listener, Fault::Pause(Arc::clone(&meet))));
        let _peer = std::net::TcpStream::connect(("127.0.0.1", port as u16)).unwrap();
        meet.wait(); // the background thread has taken it, and nobody knows of it
        std::thread::scope(|scope| {
            let handle = node.device;
            let closing = scope.spawn(move || weft_device_close(handle));
            // to where it waits for the background thread: sooner would be no test, and no failure
            std::thread::sleep(Duration::from_millis(50));
            meet.wait();
            assert_eq!(closing.join().unwrap(), 0);
        });
        assert_eq!(device.alive.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_panic_while_receiving_ends_its_connection() {
        let cases = [
            (Point::Turn, WRITE, BYTES),
            (Point::Place, WRITE, BYTES),
            (Point::Place, WRITE, 8),
            (Point::Place, SEND, 64),
            (Point::Atomic, FETCH_ADD, 8),
            (Point::Send, READ, BYTES),
        ];
        for (point, opcode, length) in cases {
            let scene = Scene::new();
            let (client, server) = scene.victim;
            assert_eq!(scene.server.post(server, (RECEIVE, 7), (0, 0), 64), 0);
            plan(point, server);
            assert_eq!(scene.client.post(client, (opcode, 0), scene.server.memory, length), 0);
            scene.only_the_victim_ends(true);
        }
    }

    #[test]
    fn a_panic_in_a_call_is_its_status() {
        let mut scene = Scene::new();
        let (_, server) = scene.victim;
        assert_eq!(scene.server.post(server, (RECEIVE, 7), (0, 0), 64), 0);
        plan(Point::Send, server);
        assert_eq!(scene.server.post(server, (WRITE, 3), scene.client.memory, 64), Status::Panic as i32);
        assert_eq!(scene.server.next(VICTIM, EntryKind::Send), (Status::Flushed as i32, 3, 0));
        assert_eq!(scene.server.post(server, (WRITE, 4), scene.client.memory, 64), Status::Closed as i32);
        scene.only_the_victim_ends(true);
    }

    #[test]
    fn a_second_panic_in_the_flush_of_the_first_still_ends_in_an_event() {
        let scene = Scene::new();
        let (client, server) = scene.victim;
        plan(Point::Place, server);
        plan(Point::Flush, server);
        assert_eq!(scene.client.post(client, (WRITE, 0), scene.server.memory, BYTES), 0);
        scene.only_the_victim_ends(false);
    }

    #[test]
    fn a_panic_on_the_background_thread_leaves_that_running() {
        let scene = Scene::new();
        let (client, server) = scene.victim;
        plan(Point::Place, server);
        // the server's application does nothing: its thread receives
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(scene.client.post(client, (WRITE, 0), scene.server.memory, BYTES), 0);
        let end = Instant::now() + Duration::from_secs(5);
        while scene.panics() == 0.0 {
            assert!(Instant::now() < end, "the background thread has not received");
            std::thread::yield_now();
        }
        assert!(scene.server.entries.is_empty());
        scene.only_the_victim_ends(false);
    }

    #[test]
    fn a_panic_at_a_deadline_ends_its_connection() {
        let mut scene = Scene::new();
        // somebody who never answers the MPA request
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let handle = scene.client.connect(silent.local_addr().unwrap().port().into(), 9);
        plan(Point::Deadline, handle);
        assert_eq!(scene.client.next(9, EntryKind::Closed).0, Status::Panic as i32);
        scene.works(scene.bystander.0, BYSTANDER);
        scene.close();
    }

    #[test]
    fn a_panic_at_start_up_leaves_the_listener_be() {
        let mut scene = Scene::new();
        // the listener loses the connection that it was about to take
        plan(Point::Accept, scene.listener);
        scene.client.connect(scene.port, 9);
        assert_eq!(scene.client.next(9, EntryKind::Closed).0, Status::NotIwarp as i32);
        // the next one goes well, and panics at its start-up on our side
        let handle = scene.client.connect(scene.port, 10);
        plan(Point::Startup, handle);
        // the background thread may have been through it before that: then the reply is what it panics at
        let end = Instant::now() + Duration::from_secs(5);
        let is = |entry: &[u32; ENTRY_WORDS], tag, kind| entry[..2] == [tag, kind as u32];
        while !scene.client.entries.iter().any(|entry| is(entry, 10, EntryKind::Closed)) && Instant::now() < end {
            scene.client.poll();
            scene.server.poll();
            let request = scene.server.entries.iter().position(|entry| is(entry, LISTENER, EntryKind::Request));
            if let Some([.., low, high]) = request.map(|at| scene.server.entries.remove(at)) {
                let asked = (u64::from(high) << 32 | u64::from(low)) as f64;
                // SAFETY: the settings have their length. The connection may be gone by now.
                unsafe { weft_accept(asked, 10, settings().as_ptr(), std::ptr::null(), 0) };
            }
        }
        assert_eq!(scene.client.next(10, EntryKind::Closed).0, Status::Panic as i32);
        // its request may have come nevertheless
        scene.server.poll();
        scene.server.entries.clear();
        let (again, _) = scene.join(11);
        scene.works(again, 11);
        scene.works(scene.bystander.0, BYSTANDER);
        scene.close();
    }

    #[test]
    fn names_are_looked_up_by_a_few_threads_for_which_no_device_waits() {
        // the resolver refuses it without asking anybody
        const NAME: &[u8] = b"a\0b";
        let threads = || {
            let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
            names.filter(|name| std::fs::read_to_string(name).is_ok_and(|name| name.trim() == "weft-resolve")).count()
        };
        let (busy, mut waiting) = (Node::open(), Node::open());
        let device = DEVICES.get(busy.device as u64).unwrap();
        // as many as there may be threads are in the middle of it
        let pauses: Vec<_> = (0..THREADS_MAX as u32)
            .map(|port| {
                let meet = Arc::new(Barrier::new(2));
                lock(&PLAN).push((Point::Resolve, port.into(), Fault::Pause(Arc::clone(&meet))));
                busy.connect_to(NAME, port, port);
                meet.wait();
                meet
            })
            .collect();
        // others wait in line; one of them is given up, and one panics
        plan(Point::Resolve, 101);
        let [_, panics, _] = [100, 101, 102].map(|port| waiting.connect_to(NAME, port, port));
        plan(Point::Resolve, 103);
        assert_eq!(weft_release(waiting.connect_to(NAME, 103, 103) as f64), 0);
        assert_eq!(threads(), THREADS_MAX);
        // they do not hold up the end of their device, and nothing of it is left with them
        busy.close();
        assert_eq!((Arc::strong_count(&device), device.alive.load(Ordering::SeqCst)), (1, 0));
        pauses.iter().for_each(|meet| _ = meet.wait());
        for tag in [100, 102] {
            assert_eq!(waiting.next(tag, EntryKind::Closed).0, Status::Unreachable as i32);
        }
        settle();
        // its deadline will end it
        assert!(CONNS.get(panics).is_some());
        // nobody has looked up what nobody wanted any more
        assert!(lock(&PLAN).iter().any(|planned| (planned.0, planned.1) == (Point::Resolve, 103)));
        waiting.close();
    }
}
