//! A listening socket: one port for iWARP and for plain TCP. Who comes in is told apart by [`crate::conn`].
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// It could take no connection the last time.
    starved: AtomicBool,
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
        let code = |error: std::io::Error| error.raw_os_error().unwrap_or(libc::EIO);
        let fd = socket::listen(address, 1024).map_err(code)?;
        let address = socket::local_address(&fd).map_err(code)?;
        let (device, admission) = (Arc::clone(device), Arc::new(Admission::new(limits)));
        let (fd, starved) = (Mutex::new(Some(fd)), AtomicBool::new(false));
        Ok(Arc::new(Self { handle, device, tag, admission, fd, starved, address }))
    }

    /// Whether it belongs to `device`.
    pub fn is_of(&self, device: &Arc<Device>) -> bool {
        Arc::ptr_eq(&self.device, device)
    }

    /// Puts the socket into the device's epoll set.
    pub fn watch(&self) -> bool {
        lock(&self.fd).as_ref().is_some_and(|fd| self.device.watch_listener(fd, self.handle).is_ok())
    }

    /// Takes what connections there are.
    pub fn run(self: &Arc<Self>) {
        for _ in 0..256 {
            let accepted = match lock(&self.fd).as_ref() {
                Some(fd) => socket::accept(fd),
                None => return,
            };
            let Ok((fd, remote)) = accepted else {
                // Out of descriptors or memory: connections stay in the backlog, and epoll is to report them again after a pause only.
                let scarce = |code| matches!(code, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM);
                if accepted.is_err_and(|error| error.raw_os_error().is_some_and(scarce)) {
                    self.attend(false);
                    self.device.pause(self);
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
                    CONNS.remove(conn.handle);
                }
            }
        }
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
        if self.starved.swap(starved, Ordering::SeqCst) != starved {
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
