//! One end of a connection without connection management: a receiver, a sender, memory, and a model of that memory.
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use weft_engine::counters::Counters;
use weft_engine::memory::{Grant, MemoryTable, Region, Through, REMOTE_ATOMIC, REMOTE_READ, REMOTE_WRITE};
use weft_engine::ring::{EntryKind, Ring, ENTRY_WORDS, HEADER_WORDS};
use weft_engine::rx::{Context, ReceiveEnd, Rx};
use weft_engine::socket::{self, Transfer};
use weft_engine::tx::{SendEnd, SendError, Tx};
use weft_engine::work::{Operation, ReceiveWork, SendWork, Sge, Sges};

/// Bytes of the region that work is gathered from and peers read.
pub const SOURCE_BYTES: usize = 64 * 1024;
/// Bytes of the region that peers write, and of the one that Reads go to.
pub const TARGET_BYTES: usize = 128 * 1024;
/// Bytes of the region that Sends go to.
const INBOX_BYTES: usize = 4 << 20;
/// Between the pieces of a receive, so that a byte beyond one is noticed.
const GAP: usize = 5;

/// How two ends are joined.
#[derive(Clone, Debug)]
pub struct Setting {
    /// FPDUs carry CRCs.
    pub crc: bool,
    /// The largest ULPDU.
    pub mulpdu: usize,
    /// Reads under way at once.
    pub depth: usize,
    /// Nothing large may be written by the peer, so that the receiver reads as much as it can.
    pub bulk: bool,
}

/// An entry of the ring, its slot checked already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// What was done.
    pub kind: EntryKind,
    /// How it went.
    pub status: i32,
    /// Bytes moved.
    pub bytes: u32,
    /// Invalidated STag.
    pub detail: u32,
    /// Immediate Data.
    pub aux: u64,
}

/// One end.
pub struct End {
    fd: OwnedFd,
    /// The receiving half.
    pub rx: Rx,
    /// The sending half.
    pub tx: Tx,
    /// Counters.
    pub counters: Counters,
    /// Completions.
    pub ring: Ring,
    memory: MemoryTable,
    /// Read by peers and gathered from.
    pub source: Arc<Region>,
    /// The bytes of `source`, which never change.
    pub source_bytes: Vec<u8>,
    /// Written by peers.
    pub target: Arc<Region>,
    /// What `target` must hold in the end.
    pub model: Vec<u8>,
    /// Where Reads go.
    sink: Arc<Region>,
    /// What `sink` must hold in the end.
    pub sink_model: Vec<u8>,
    inbox: Arc<Region>,
    inbox_model: Vec<u8>,
    inbox_used: usize,
    slots: [u32; 2],
    taken: [u32; 2],
    head: u32,
}

fn bytes_of(region: &Region) -> &[u8] {
    // SAFETY: the region is the engine's own mapping, alive as long as the reference, and no other thread writes it here.
    unsafe { std::slice::from_raw_parts(region.address as *const u8, region.length as usize) }
}

impl End {
    fn new(fd: OwnedFd, setting: &Setting, seed: u8) -> Self {
        let memory = MemoryTable::default();
        let grant = |access| Grant { access, connection: 0 };
        let source = memory.allocate(1, SOURCE_BYTES as u64, grant(REMOTE_READ)).unwrap();
        let source_bytes: Vec<u8> = (0..SOURCE_BYTES).map(|i| (i * 7 + i / 251) as u8 ^ seed).collect();
        // SAFETY: as long as the source; nobody else uses the fresh mapping.
        unsafe { std::ptr::copy_nonoverlapping(source_bytes.as_ptr(), source.address as *mut u8, SOURCE_BYTES) };
        // A domain without any large region has the receiver read in bulk; here another domain stands for that.
        let access = REMOTE_READ | REMOTE_WRITE | REMOTE_ATOMIC;
        let target = memory.allocate(1, TARGET_BYTES as u64, grant(access)).unwrap();
        let sink = memory.allocate(1, TARGET_BYTES as u64, grant(0)).unwrap();
        let inbox = memory.allocate(1, INBOX_BYTES as u64, grant(0)).unwrap();
        let large = memory.large_writable(if setting.bulk { 2 } else { 1 });
        let mut rx = Rx::new(Through { pd: 1, connection: 1 }, large);
        rx.crc = setting.crc;
        let mut tx = Tx::new();
        tx.crc = setting.crc;
        tx.mulpdu = setting.mulpdu;
        tx.ord = setting.depth;
        tx.ird = setting.depth;
        tx.open = true;
        Self {
            fd,
            rx,
            tx,
            counters: Counters::default(),
            ring: Ring::new(4096),
            memory,
            source,
            source_bytes,
            target,
            model: vec![0; TARGET_BYTES],
            sink,
            sink_model: vec![0; TARGET_BYTES],
            inbox,
            inbox_model: vec![0; INBOX_BYTES],
            inbox_used: 0,
            slots: [0; 2],
            taken: [0; 2],
            head: 0,
        }
    }

    /// The bytes of a list of places in `source`.
    pub fn gather(&self, local: &[(usize, usize)]) -> Vec<u8> {
        local.iter().flat_map(|(at, length)| &self.source_bytes[*at..*at + *length]).copied().collect()
    }

    fn slot(&mut self, queue: usize) -> u32 {
        self.slots[queue] += 1;
        self.slots[queue] - 1
    }

    /// Posts work that is gathered from `source`.
    pub fn post(&mut self, operation: Operation, local: &[(usize, usize)]) {
        let mut sges = Sges::default();
        for (at, length) in local {
            let address = self.source.address + *at as u64;
            sges.push(Sge { stag: self.source.stag, length: *length as u32, address });
        }
        let slot = self.slot(0);
        self.tx.post(SendWork::new(slot, true, operation, sges));
    }

    /// Posts a Read into `sink`.
    pub fn post_read(&mut self, operation: Operation, to: usize, length: usize) {
        let mut sges = Sges::default();
        sges.push(Sge { stag: self.sink.stag, length: length as u32, address: self.sink.address + to as u64 });
        let slot = self.slot(0);
        self.tx.post(SendWork::new(slot, true, operation, sges));
    }

    /// Posts a receive for a message, scattered at the cuts, and notes where its bytes must be.
    pub fn receive(&mut self, message: &[u8], cuts: &[usize]) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (message.len() + 1)).chain([message.len()]).collect();
        ends.sort_unstable();
        let mut sges = Sges::default();
        let mut begin = 0;
        for end in ends {
            let piece = &message[begin..end];
            let at = self.inbox_used;
            self.inbox_model[at..at + piece.len()].copy_from_slice(piece);
            let address = self.inbox.address + at as u64;
            sges.push(Sge { stag: self.inbox.stag, length: piece.len() as u32, address });
            self.inbox_used += piece.len() + GAP;
            begin = end;
        }
        let slot = self.slot(1);
        self.rx.post(ReceiveWork::new(slot, sges));
    }

    /// A window that the peer may invalidate.
    pub fn window(&mut self) -> u32 {
        let grant = Grant { access: REMOTE_READ, connection: 0 };
        self.memory.bind(self.target.stag, 0, 8, grant).unwrap().stag
    }

    /// Takes back what Reads go to.
    pub fn lose_sink(&mut self) {
        self.memory.invalidate(self.sink.stag).unwrap();
    }

    /// Has the system refuse what is written to `target`, which stays registered.
    pub fn lock_target(&mut self) {
        // SAFETY: the mapping is the engine's own, and nothing here reads it any more.
        let result = unsafe { libc::mprotect(self.target.address as *mut libc::c_void, TARGET_BYTES, libc::PROT_NONE) };
        assert_eq!(result, 0);
    }

    /// Sends what can be sent.
    pub fn send(&mut self) -> Result<SendEnd, SendError> {
        let end = self.tx.drive(self.fd.as_raw_fd(), &self.memory, &self.counters);
        self.tx.retire(&self.ring, 0);
        end
    }

    /// Receives what there is.
    pub fn receive_bytes(&mut self) -> ReceiveEnd {
        let mut context = Context {
            fd: self.fd.as_raw_fd(),
            ending: false,
            memory: &self.memory,
            counters: &self.counters,
            ring: &self.ring,
            tag: 0,
            tx: &mut self.tx,
        };
        self.rx.drive(&mut context)
    }

    /// Reads raw bytes, up to `limit` of what there is.
    pub fn read(&mut self, limit: usize) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = [0u8; 16 * 1024];
        while all.len() < limit {
            let room = buffer.len().min(limit - all.len());
            match socket::receive_buffer(self.fd.as_raw_fd(), &mut buffer[..room], false) {
                Transfer::Bytes(n) => all.extend_from_slice(&buffer[..n]),
                Transfer::WouldBlock => break,
                other => panic!("{other:?}"),
            }
        }
        all
    }

    /// Takes every entry of the ring. Each queue's slots must come in their order.
    pub fn completions(&mut self) -> Vec<Completion> {
        let (words, bytes) = self.ring.memory();
        assert_eq!(bytes, (HEADER_WORDS + self.ring.capacity() as usize * ENTRY_WORDS) * 4);
        let mut all = Vec::new();
        let ready = self.ring.ready();
        for _ in 0..ready {
            let at = HEADER_WORDS + (self.head % self.ring.capacity()) as usize * ENTRY_WORDS;
            // SAFETY: the ring's memory lives as long as the ring; this thread is the only one that touches it.
            let entry = unsafe { std::slice::from_raw_parts(words.cast::<u32>().add(at), ENTRY_WORDS) };
            self.head += 1;
            let kinds = [EntryKind::Send, EntryKind::Receive, EntryKind::Immediate];
            let kind = kinds.into_iter().find(|kind| *kind as u32 == entry[1]).unwrap();
            let queue = usize::from(kind != EntryKind::Send);
            assert_eq!(entry[3], self.taken[queue], "out of order");
            self.taken[queue] += 1;
            all.push(Completion {
                kind,
                status: entry[2] as i32,
                bytes: entry[4],
                detail: entry[5],
                aux: u64::from(entry[7]) << 32 | u64::from(entry[6]),
            });
        }
        assert_eq!(self.ring.ready(), ready, "more completions than the test takes");
        all
    }

    /// Whether every byte is what the model says.
    pub fn memory_is_as_the_model(&self) -> bool {
        bytes_of(&self.target) == self.model
            && bytes_of(&self.sink) == self.sink_model
            && bytes_of(&self.inbox) == self.inbox_model
            && bytes_of(&self.source) == self.source_bytes
    }
}

/// Two ends, joined by sockets with small buffers.
pub fn pair(setting: &Setting) -> (End, End) {
    let mut fds = [0; 2];
    // SAFETY: the array has room for the two descriptors.
    let result =
        unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    assert_eq!(result, 0);
    let [a, b] = fds.map(|fd| {
        let size: libc::c_int = 16 * 1024;
        // SAFETY: the option value is an int that outlives the call.
        let result =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, std::ptr::from_ref(&size).cast(), 4) };
        assert_eq!(result, 0);
        // SAFETY: a fresh descriptor that nobody else owns.
        unsafe { OwnedFd::from_raw_fd(fd) }
    });
    (End::new(a, setting, 0), End::new(b, setting, 0x5a))
}
