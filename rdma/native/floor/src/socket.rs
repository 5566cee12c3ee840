//! The few system calls that the standard library does not have.

use std::io::{self, Error, ErrorKind};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A connected socket with Nagle's algorithm off.
pub struct Socket {
    stream: TcpStream,
}

/// What to wait for.
pub struct Readiness {
    pub to_send: bool,
    pub to_receive: bool,
}

impl Socket {
    pub fn new(stream: TcpStream) -> io::Result<Socket> {
        stream.set_nodelay(true)?;
        Ok(Socket { stream })
    }

    pub fn descriptor(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Chooses the congestion control (`cubic`, `bbr`) by its name.
    pub fn set_congestion(&self, name: &str) -> io::Result<()> {
        // SAFETY: the option's value is the `name.len()` bytes of a live string.
        let result = unsafe {
            libc::setsockopt(
                self.stream.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_CONGESTION,
                name.as_ptr().cast(),
                name.len() as libc::socklen_t,
            )
        };
        check(result as isize).map(drop)
    }

    /// Sends all of `bytes`, waiting as it must.
    pub fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            sent += self.send_some(&bytes[sent..], 0)?;
        }
        Ok(())
    }

    /// Sends what the kernel takes of `bytes` in one call with these flags; returns how many that were.
    pub fn send_some(&self, bytes: &[u8], flags: libc::c_int) -> io::Result<usize> {
        let flags = flags | libc::MSG_NOSIGNAL;
        // SAFETY: `bytes` is a live slice.
        check(unsafe { libc::send(self.stream.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    /// Fills `bytes`, asleep in the kernel until they are there.
    pub fn receive(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.receive_with(bytes, libc::MSG_WAITALL)
    }

    /// Fills `bytes`, asking again and again.
    pub fn receive_polling(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.receive_with(bytes, libc::MSG_DONTWAIT)
    }

    /// Sends what the kernel takes of `bytes` without waiting; returns how many that were.
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        none_if_not_ready(self.send_some(bytes, libc::MSG_DONTWAIT))
    }

    /// Receives what is there of `bytes` without waiting; returns how many that were.
    pub fn try_receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        // SAFETY: `bytes` is a live slice that nothing else refers to.
        let result =
            unsafe { libc::recv(self.stream.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT) };
        match check(result) {
            Ok(0) => Err(Error::from(ErrorKind::UnexpectedEof)),
            other => none_if_not_ready(other),
        }
    }

    /// Sleeps until the socket is ready for one of these.
    pub fn wait(&self, readiness: Readiness) -> io::Result<()> {
        let flag = |wanted: bool, event: libc::c_short| if wanted { event } else { 0 };
        self.poll(flag(readiness.to_send, libc::POLLOUT) | flag(readiness.to_receive, libc::POLLIN))
    }

    /// Sleeps until the error queue has something, or the connection has failed.
    pub fn wait_for_error_queue(&self) -> io::Result<()> {
        self.poll(0)
    }

    fn poll(&self, events: libc::c_short) -> io::Result<()> {
        let mut descriptor = libc::pollfd { fd: self.stream.as_raw_fd(), events, revents: 0 };
        // SAFETY: one live entry is passed.
        uninterrupted(|| unsafe { libc::poll(&mut descriptor, 1, -1) } as isize)
    }

    fn receive_with(&self, bytes: &mut [u8], flags: libc::c_int) -> io::Result<()> {
        let mut received = 0;
        while received < bytes.len() {
            let rest = &mut bytes[received..];
            // SAFETY: `rest` is a live slice that nothing else refers to.
            let result = unsafe { libc::recv(self.stream.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), flags) };
            match check(result) {
                Ok(0) => return Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(count) => received += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Keeps this process on one core.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if core >= libc::CPU_SETSIZE as usize {
        return Err(Error::from(ErrorKind::InvalidInput));
    }
    // SAFETY: `core` is within the set.
    unsafe { libc::CPU_SET(core, &mut set) };
    // SAFETY: `set` is a live set of the size given.
    let result = unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &set) };
    check(result as isize).map(drop)
}

/// Processor time that this process has used.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live timespec. The clock exists on every Linux; where it did not, no time would have passed.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

fn none_if_not_ready(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        other => other,
    }
}

/// What a system call has returned, or its error.
pub fn check(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

/// Sleeps in a call that a process which is stopped and continued comes back from with an error.
pub fn uninterrupted(mut call: impl FnMut() -> isize) -> io::Result<()> {
    loop {
        match check(call()) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other.map(drop),
        }
    }
}
