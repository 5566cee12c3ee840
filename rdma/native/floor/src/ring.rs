//! io_uring: requests and their completions in memory that is shared with the kernel, so that one call makes many requests and waits for them.

use crate::socket::Socket;
use crate::transport::{Completions, Transport, LENT_MAX};
use io_uring::squeue::{Entry, Flags};
use io_uring::{cqueue, opcode, types, IoUring, Probe};
use std::io::{self, Error, ErrorKind};

const ENTRIES: u32 = 64;
/// The only file that is registered, and the only buffer.
const SOCKET: types::Fixed = types::Fixed(0);
const BUFFER: u16 = 0;
/// How much one call sends of a stream, in several requests where they are small.
const BATCH_BYTES: usize = 1 << 20;
// of the kernel's header linux/io_uring.h
const SEND_ZC_REPORT_USAGE: u16 = 1 << 3;
const NOTIFICATION_COPIED: u32 = 1 << 31;

pub struct Ring {
    ring: IoUring,
    /// Looks for completions in the shared memory, again and again.
    is_polling: bool,
    is_zero_copy: bool,
    /// Requests that have not completed.
    pending: usize,
    failure: Option<Error>,
    /// Sends that have completed while the kernel still refers to their memory.
    lent: u64,
    completions: Completions,
}

impl Ring {
    pub fn new(socket: &Socket, is_polling: bool, is_zero_copy: bool) -> io::Result<Ring> {
        // Completions are then handed over when we enter the kernel, or look whether there are any, and do not interrupt us.
        let modern = IoUring::builder().setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag().build(ENTRIES);
        let ring = match modern {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => IoUring::new(ENTRIES)?, // Linux before 6.1
            other => other?,
        };
        if is_zero_copy {
            let mut probe = Probe::new();
            ring.submitter().register_probe(&mut probe)?;
            if !probe.is_supported(opcode::SendZc::CODE) {
                return Err(Error::new(ErrorKind::Unsupported, "io_uring of this kernel has no SEND_ZC"));
            }
        }
        ring.submitter().register_files(&[socket.descriptor()])?;
        let completions = Completions::default();
        Ok(Ring { ring, is_polling, is_zero_copy, pending: 0, failure: None, lent: 0, completions })
    }

    /// Queues a request. It is complete if its result is as many bytes as its user data says.
    ///
    /// # Safety
    /// Its memory must live until `complete` has returned.
    unsafe fn queue(&mut self, entry: Entry, size: usize) -> io::Result<()> {
        // SAFETY: as the caller promises.
        unsafe { self.ring.submission().push(&entry.user_data(size as u64)) }.map_err(Error::other)?;
        self.pending += 1;
        Ok(())
    }

    /// Hands over what is queued, and waits until all of it has completed.
    fn complete(&mut self) -> io::Result<()> {
        self.enter(if self.is_polling { 0 } else { self.pending });
        self.take_completions();
        while self.pending > 0 {
            if !self.is_polling {
                self.enter(self.pending);
            } else if self.has_work() {
                self.enter(0);
            }
            self.take_completions();
        }
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Whether the kernel has something to hand over.
    fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || !queue.is_empty()
    }

    fn enter(&self, wanted: usize) {
        match self.ring.submit_and_wait(wanted) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY)) => {}
            Err(error) => {
                // requests that are under way refer to our memory, and nothing can be known of them any more
                eprintln!("weft-floor: io_uring_enter: {error}");
                std::process::exit(1);
            }
        }
    }

    fn take_completions(&mut self) {
        for entry in self.ring.completion() {
            if cqueue::notif(entry.flags()) {
                self.lent -= 1;
                self.completions.all += 1;
                self.completions.copied += u64::from(entry.result() as u32 & NOTIFICATION_COPIED != 0);
                continue;
            }
            self.lent += u64::from(cqueue::more(entry.flags()));
            self.pending -= 1;
            if entry.result() as u64 != entry.user_data() && self.failure.is_none() {
                let is_short = entry.result() >= 0;
                let os_error = || Error::from_raw_os_error(-entry.result());
                self.failure = Some(if is_short { Error::from(ErrorKind::UnexpectedEof) } else { os_error() });
            }
        }
    }

    /// Waits until the kernel refers to the memory of at most so many sends that have completed.
    fn settle(&mut self, lent: u64) {
        while self.lent > lent {
            self.enter(1);
            self.take_completions();
        }
    }

    fn send_entry(&self, bytes: &[u8]) -> Entry {
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let (at, size) = (bytes.as_ptr(), bytes.len() as u32);
        if self.is_zero_copy {
            let send = opcode::SendZc::new(SOCKET, at, size).flags(flags);
            send.buf_index(Some(BUFFER)).zc_flags(SEND_ZC_REPORT_USAGE).build()
        } else {
            opcode::Send::new(SOCKET, at, size).flags(flags).build()
        }
    }

    /// Sends a message so often, several in a call, one behind the other.
    fn send_batches(&mut self, bytes: &[u8], count: u64) -> io::Result<()> {
        let batch_max = (BATCH_BYTES / bytes.len()).clamp(1, LENT_MAX as usize) as u64;
        let mut left = count;
        while left > 0 {
            let batch = left.min(batch_max);
            self.settle(LENT_MAX - batch);
            for behind in (0..batch).rev() {
                let link = if behind > 0 { Flags::IO_LINK } else { Flags::empty() };
                // SAFETY: `bytes` lives for longer than this call, which waits.
                unsafe { self.queue(self.send_entry(bytes).flags(link), bytes.len()) }?;
            }
            self.complete()?;
            left -= batch;
        }
        Ok(())
    }
}

fn receive_entry(bytes: &mut [u8]) -> Entry {
    opcode::Recv::new(SOCKET, bytes.as_mut_ptr(), bytes.len() as u32).flags(libc::MSG_WAITALL).build()
}

impl Transport for Ring {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.send_batches(bytes, 1)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        // SAFETY: `bytes` lives for longer than this call, which waits.
        unsafe { self.queue(receive_entry(bytes), bytes.len()) }?;
        self.complete()
    }

    fn exchange(&mut self, out: &[u8], into: &mut [u8]) -> io::Result<()> {
        // SAFETY: both live for longer than this call, which waits.
        unsafe {
            self.queue(self.send_entry(out), out.len())?;
            self.queue(receive_entry(into), into.len())?;
        }
        self.complete()
    }

    fn send_repeatedly(&mut self, bytes: &[u8], count: u64) -> io::Result<Completions> {
        if self.is_zero_copy {
            let buffer = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            // SAFETY: `bytes` lives for longer than the registration, and the kernel only reads it.
            unsafe { self.ring.submitter().register_buffers(&[buffer]) }?;
        }
        let sent = self.send_batches(bytes, count);
        self.settle(0);
        if self.is_zero_copy {
            self.ring.submitter().unregister_buffers()?;
        }
        sent.map(|()| self.completions)
    }
}
