//! A listening socket: one port for iWARP and for plain TCP. Who comes in is told apart by [`crate::conn`].
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::admission::{Admission, Limits};
use crate::conn::Conn;
use crate::device::{Device, CONNS};
use crate::lock;
use crate::ring::{Entry, EntryKind};
use crate::socket;
use crate::status::Status;

/// Connections of a device at the most, those that have not said yet what they are included.
pub const CONNECTIONS_MAX: usize = 16 * 1024;

/// Descriptors that connections leave to the rest of the process, which may not survive without: peers must not be able to take the last.
const DESCRIPTORS_RESERVED: u64 = 64;

/// A listening socket.
pub struct Listener {
    /// Its handle.
    pub handle: u64,
    device: Arc<Device>,
    tag: u32,
    /// Whom it lets in.
    admission: Arc<Admission>,
    fd: Mutex<Option<OwnedFd>>,
    /// It could take no connection the last time. Locked until that is told, so that what is told last is so.
    starved: Mutex<bool>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Listener {
    /// Starts to listen. Entries about new connections carry `tag`.
    pub fn new(
        handle: u64,
        device: &Arc<Device>,
        address: &SocketAddr,
        tag: u32,
        limits: Limits,
    ) -> Result<Arc<Self>, i32> {
        let code = |error: io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let fd = socket::listen(address, 1024).map_err(code)?;
        let address = socket::local_address(&fd).map_err(code)?;
        let (device, admission) = (Arc::clone(device), Arc::new(Admission::new(limits)));
        let (fd, starved) = (Mutex::new(Some(fd)), Mutex::new(false));
        Ok(Arc::new(Self { handle, device, tag, admission, fd, starved, address }))
    }

    /// Whether it belongs to `device`.
    pub fn is_of(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// Puts the socket into the device's epoll set.
    pub fn watch(&self) -> io::Result<()> {
        lock(&self.fd).as_ref().map_or(Ok(()), |fd| self.device.watch_listener(fd, self.handle))
    }

    /// Takes what connections there are.
    pub fn run(self: &Arc<Self>) {
        let ring = &self.device.ring;
        for _ in 0..256 {
            if ring.ready() >= ring.capacity() {
                // JavaScript takes nothing out: of whom came now, an entry would wait on our side, even when they have gone again.
                self.pause();
                return;
            }
            let accepted = match lock(&self.fd).as_ref() {
                Some(fd) => socket::accept(fd),
                None => return,
            };
            let Ok((fd, remote)) = accepted else {
                // out of descriptors or memory
                let scarce = |code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
                if accepted.is_err_and(|error| error.raw_os_error().is_some_and(scarce)) {
                    self.pause();
                    self.tell(true);
                }
                return;
            };
            fault!(Accept, self.handle);
            let starved =
                self.device.connections() >= CONNECTIONS_MAX || socket::is_among_last(&fd, DESCRIPTORS_RESERVED);
            if starved || self.admission.is_barred(remote.ip(), Instant::now()) {
                self.device.counters.connections_refused.add(1);
                if starved {
                    self.tell(true);
                }
                continue; // closed by dropping it
            }
            self.tell(false);
            let conn =
                CONNS.insert_with(|handle| Conn::accepted(handle, &self.device, fd, remote, self.tag, &self.admission));
            if let Some(conn) = conn {
                self.make_room(conn.handle);
                if !conn.watch() {
                    conn.forget();
                }
            }
        }
    }

    /// Leaves connections in the backlog, of which epoll is to report again at the next tick only.
    fn pause(self: &Arc<Self>) {
        self.attend(false);
        self.device.pause(self);
    }

    /// Gives the connection up that has been at start-up for the longest time, where there are too many with the new one.
    fn make_room(&self, new: u64) {
        let is_starting = |handle| CONNS.get(handle).is_some_and(|conn| conn.is_starting());
        if let Some(oldest) = self.admission.begin(new, is_starting).and_then(|oldest| CONNS.get(oldest)) {
            if oldest.displace() {
                self.device.counters.startups_displaced.add(1);
            }
        }
    }

    /// Tells once that no connection could be taken, and once that they can be again.
    fn tell(&self, starved: bool) {
        let mut known = lock(&self.starved);
        if *known != starved {
            *known = starved;
            let (kind, status) = (EntryKind::Port, if starved { Status::Exhausted } else { Status::Ok });
            let entry = Entry { tag: self.tag, kind, status, slot: 0, bytes: 0, detail: 0, aux: self.handle };
            self.device.ring.push(entry);
        }
    }

    /// Has epoll report connections, or not.
    pub fn attend(&self, events: bool) {
        if let Some(fd) = lock(&self.fd).as_ref() {
            self.device.attend(fd, self.handle, events);
        }
    }

    /// Stops listening; connections that it brought go on.
    pub fn close(&self) -> Status {
        match lock(&self.fd).take() {
            Some(_) => Status::Ok,
            None => Status::Closed,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::TcpStream;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use crate::ring::{ENTRY_WORDS, HEADER_WORDS, HEAD_WORD};

    /// Takes every entry that is ready, and returns how many requests for a connection were among them.
    fn take(device: &Device) -> usize {
        let ring = &device.ring;
        let mut requests = 0;
        while ring.ready() > 0 {
            let head = ring.word(HEAD_WORD).load(Ordering::Relaxed);
            let at = HEADER_WORDS + (head % ring.capacity()) as usize * ENTRY_WORDS;
            requests += usize::from(ring.word(at + 1).load(Ordering::Relaxed) == EntryKind::Request as u32);
            ring.word(HEAD_WORD).store(head.wrapping_add(1), Ordering::Release);
        }
        requests
    }

    #[test]
    fn what_several_threads_tell_of_a_port_is_in_order() {
        let device = Device::open().unwrap();
        let limits = Limits::from_words(&[0; 4]).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::new(1, &device, &address, 1, limits).unwrap();
        let (ring, listener) = (&device.ring, &listener);
        for _ in 0..200 {
            std::thread::scope(|scope| {
                for starved in [true, false] {
                    scope.spawn(move || (0..800).for_each(|_| listener.tell(starved)));
                }
            });
            let mut expected = Status::Exhausted;
            let head = ring.word(HEAD_WORD).load(Ordering::Relaxed);
            for n in 0..ring.ready() {
                let at = HEADER_WORDS + (head.wrapping_add(n) % ring.capacity()) as usize * ENTRY_WORDS;
                assert_eq!(ring.word(at + 2).load(Ordering::Relaxed), expected as u32, "told twice");
                expected = if expected == Status::Ok { Status::Exhausted } else { Status::Ok };
            }
            take(&device);
            listener.tell(false);
            take(&device);
        }
        device.close();
    }

    #[test]
    fn nobody_is_let_in_whom_nobody_would_hear_of() {
        let device = Device::open().unwrap();
        let limits = Limits::from_words(&[0; 4]).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let listener =
            crate::device::LISTENERS.insert_with(|new| Listener::new(new, &device, &address, 1, limits).unwrap());
        let listener = listener.unwrap();
        listener.watch().unwrap();
        // what a busy program leaves in the ring
        let entry = Entry { tag: 2, kind: EntryKind::Send, status: Status::Ok, slot: 0, bytes: 0, detail: 0, aux: 0 };
        (0..device.ring.capacity()).for_each(|_| device.ring.push(entry));
        let peers: Vec<TcpStream> = (0..50)
            .map(|_| {
                let mut peer = TcpStream::connect(listener.address).unwrap();
                peer.write_all(b"MPA ID Req Frame\x10\x02\x00\x04\x00\x10\x00\x10").unwrap();
                peer
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(device.alive.load(Ordering::SeqCst), 0, "they wait in the backlog");
        let begin = Instant::now();
        let mut requests = 0;
        while requests < peers.len() {
            assert!(begin.elapsed() < Duration::from_secs(20), "{requests} requests");
            requests += take(&device);
            std::thread::yield_now();
        }
        device.close();
    }
}
