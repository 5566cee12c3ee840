//! MSG_ZEROCOPY: the kernel sends the pages themselves, and says in the socket's error queue when it has done with them.

use crate::socket::{check, Socket};
use crate::transport::{Completions, Transport, LENT_MAX};
use std::io::{self, Error, ErrorKind};
use std::mem::size_of;

// of the kernel's headers asm-generic/socket.h and linux/errqueue.h
const SO_ZEROCOPY: libc::c_int = 60;
const SO_EE_ORIGIN_ZEROCOPY: u8 = 5;
const SO_EE_CODE_ZEROCOPY_COPIED: u8 = 1;

pub struct ZeroCopy<'a> {
    socket: &'a Socket,
    /// Calls so far; the kernel numbers them from 0, and answers each.
    calls: u64,
    completions: Completions,
}

/// Room for one control message, aligned as they are.
#[repr(C, align(8))]
struct Control([u8; 128]);

impl<'a> ZeroCopy<'a> {
    pub fn new(socket: &'a Socket) -> io::Result<ZeroCopy<'a>> {
        let on: libc::c_int = 1;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the option's value is a live integer.
        let result = unsafe {
            libc::setsockopt(socket.descriptor(), libc::SOL_SOCKET, SO_ZEROCOPY, (&raw const on).cast(), size)
        };
        check(result as isize)?;
        Ok(ZeroCopy { socket, calls: 0, completions: Completions::default() })
    }

    /// Waits until the kernel refers to the memory of at most so many calls.
    fn settle(&mut self, lent: u64) -> io::Result<()> {
        while self.calls - self.completions.all > lent {
            if !self.take_notice()? {
                self.socket.wait_for_error_queue()?;
                if !self.take_notice()? {
                    return Err(Error::from(ErrorKind::ConnectionReset));
                }
            }
        }
        Ok(())
    }

    /// Reads one notice of the error queue; false where it has none. A notice is about a range of calls.
    fn take_notice(&mut self) -> io::Result<bool> {
        let mut control = Control([0; 128]);
        // SAFETY: an all-zero msghdr is one without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: `message` names live memory that nothing else refers to.
        match check(unsafe { libc::recvmsg(self.socket.descriptor(), &mut message, flags) }) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            other => other?,
        };
        // SAFETY: the kernel has filled in `message`, and its control messages lie in `control`.
        let header = unsafe { libc::CMSG_FIRSTHDR(&message) };
        let needed = size_of::<libc::cmsghdr>() + size_of::<libc::sock_extended_err>();
        if header.is_null() || (message.msg_controllen as usize) < needed {
            return Err(Error::new(ErrorKind::InvalidData, "a notice without its data"));
        }
        // SAFETY: the control message is long enough for one.
        let notice: libc::sock_extended_err =
            unsafe { libc::CMSG_DATA(header).cast::<libc::sock_extended_err>().read_unaligned() };
        if notice.ee_errno != 0 || notice.ee_origin != SO_EE_ORIGIN_ZEROCOPY {
            return Err(Error::from_raw_os_error(notice.ee_errno as i32));
        }
        let count = u64::from(notice.ee_data.wrapping_sub(notice.ee_info)) + 1;
        self.completions.all += count;
        if notice.ee_code & SO_EE_CODE_ZEROCOPY_COPIED != 0 {
            self.completions.copied += count;
        }
        Ok(true)
    }
}

impl Transport for ZeroCopy<'_> {
    /// Some calls' memory may be the kernel's for longer than this takes.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        while sent < bytes.len() {
            self.settle(LENT_MAX - 1)?;
            match self.socket.send_some(&bytes[sent..], libc::MSG_ZEROCOPY) {
                Ok(count) => {
                    self.calls += 1;
                    sent += count;
                }
                // it will refer to no more memory (net.core.optmem_max, RLIMIT_MEMLOCK) until it has done with some
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) && self.calls > self.completions.all => {
                    self.settle(self.calls - self.completions.all - 1)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.socket.receive(bytes)
    }

    fn send_repeatedly(&mut self, bytes: &[u8], count: u64) -> io::Result<Completions> {
        for _ in 0..count {
            self.send(bytes)?;
        }
        self.settle(0)?;
        Ok(self.completions)
    }
}
