//! Calls that do not wait, and epoll when there is nothing to do: what a program with many sockets makes.

use crate::socket::{check, uninterrupted, Socket};
use crate::transport::Transport;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub struct Epoll<'a> {
    socket: &'a Socket,
    epoll: OwnedFd,
}

impl<'a> Epoll<'a> {
    pub fn new(socket: &'a Socket) -> io::Result<Epoll<'a>> {
        // SAFETY: no pointer is passed.
        let descriptor = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) } as isize)?;
        // SAFETY: the descriptor is new, and nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
        let events = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
        let mut event = libc::epoll_event { events, u64: 0 };
        // SAFETY: `event` is live.
        let added = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, socket.descriptor(), &mut event) };
        check(added as isize)?;
        Ok(Epoll { socket, epoll })
    }

    /// Sleeps until something has changed since the last time.
    fn wait(&self) -> io::Result<()> {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        // SAFETY: there is room for the one event that is asked for.
        uninterrupted(|| unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1) } as isize)
    }
}

impl Transport for Epoll<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.socket.try_send(&bytes[sent..])? {
                0 => self.wait()?,
                count => sent += count,
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut received = 0;
        while received < bytes.len() {
            match self.socket.try_receive(&mut bytes[received..])? {
                0 => self.wait()?,
                count => received += count,
            }
        }
        Ok(())
    }
}
