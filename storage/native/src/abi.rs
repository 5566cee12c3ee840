//! The C ABI for JavaScript. Every function returns a number: what it says, or a negative errno. Nothing unwinds out of here, and
//! what `out` points to holds a result only when the number is not negative.
//!
//! A service (one served directory) goes by a number that is never used twice in a row. Requests and replies are laid out in
//! `message`; operations are numbered in `ops`.

use crate::export::{Export, Options};
use crate::message::{Reply, Request};
use crate::ops::{Context, Operation};
use crate::sys::{self, Memory};
use crate::{lock, pool, Result};
use rustix::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Raised whenever a function, a message or an operation changes.
const ABI_VERSION: i32 = 1;
/// Services at a time.
const SERVICES_MAX: usize = 256;
/// Most bytes of a request.
const REQUEST_BYTES_MAX: usize = 1 << 16;

/// A served directory and the way its completions come back.
#[derive(Clone)]
struct Service {
    export: Arc<Export>,
    channel: Arc<Channel>,
}

struct Channel {
    completions: Mutex<Completions>,
    wake: OwnedFd,
}

struct Completions {
    done: VecDeque<Completion>,
    /// Whether JavaScript has seen everything, and waits to be woken by one byte.
    armed: bool,
}

struct Completion {
    token: u32,
    status: i32,
    reply: Vec<u8>,
}

impl Channel {
    fn complete(&self, completion: Completion) {
        let mut completions = lock(&self.completions);
        completions.done.push_back(completion);
        if std::mem::take(&mut completions.armed) {
            // The socket is empty, or JavaScript is gone.
            let _ = rustix::net::send(&self.wake, &[1], SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
        }
    }
}

struct Slot {
    generation: u32,
    service: Option<Service>,
}

static SERVICES: Mutex<Vec<Slot>> = Mutex::new(Vec::new());

fn service(id: u32) -> Result<Service> {
    let slots = lock(&SERVICES);
    let slot = slots.get(id as usize % SERVICES_MAX).filter(|slot| slot.generation == id / SERVICES_MAX as u32);
    slot.and_then(|slot| slot.service.clone()).ok_or(Errno::BADF)
}

fn register(service: Service) -> Result<u32> {
    let mut slots = lock(&SERVICES);
    let free = slots.iter().position(|slot| slot.service.is_none());
    let index = match free {
        Some(index) => index,
        None if slots.len() < SERVICES_MAX => {
            slots.push(Slot { generation: 0, service: None });
            slots.len() - 1
        }
        None => return Err(Errno::MFILE),
    };
    let slot = slots.get_mut(index).ok_or(Errno::MFILE)?;
    slot.generation = (slot.generation + 1) % (1 << 22);
    slot.service = Some(service);
    Ok(slot.generation * SERVICES_MAX as u32 + index as u32)
}

/// Runs a body; an error becomes its negative errno, a panic -EIO.
macro_rules! boundary {
    ($body:block) => {
        match catch_unwind(AssertUnwindSafe(|| -> Result<usize> { $body })) {
            Ok(Ok(value)) => i32::try_from(value).unwrap_or(-Errno::OVERFLOW.raw_os_error()),
            Ok(Err(error)) => -error.raw_os_error(),
            Err(_) => -Errno::IO.raw_os_error(),
        }
    };
}

/// # Safety
/// `bytes` is null or points to `length` bytes that nobody changes during the call.
unsafe fn input<'a>(bytes: *const u8, length: u32) -> Result<&'a [u8]> {
    if bytes.is_null() || length as usize > REQUEST_BYTES_MAX {
        return Err(Errno::INVAL);
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts(bytes, length as usize) })
}

/// # Safety
/// `bytes` is null or points to `length` bytes that are the call's alone.
unsafe fn output<'a>(bytes: *mut u8, length: u32) -> Result<&'a mut [u8]> {
    if bytes.is_null() {
        return Err(Errno::INVAL);
    }
    // SAFETY: as the caller promises.
    Ok(unsafe { std::slice::from_raw_parts_mut(bytes, length as usize) })
}

/// The version of this interface.
#[no_mangle]
pub extern "C" fn weft_fs_abi() -> i32 {
    ABI_VERSION
}

/// The address of a buffer of JavaScript's.
#[no_mangle]
pub extern "C" fn weft_fs_address(memory: *const u8) -> f64 {
    memory.addr() as f64
}

/// Serves a directory. Request: path, state directory (byte strings), flags (1: changes of names and attributes are stable when
/// they return; 2: handles by index only). Returns the service's number. Out: the descriptor that wakes (now the caller's
/// to close), flags (1: kernel handles; 2: takes on identities; 4: memory-backed), the most links of a file, the longest
/// name, the largest file, the root's handle.
///
/// # Safety
/// `request` and `out` point to as many bytes as said.
#[no_mangle]
pub unsafe extern "C" fn weft_fs_open(request: *const u8, request_length: u32, out: *mut u8, out_length: u32) -> i32 {
    boundary!({
        // SAFETY: the caller's promise.
        let (request, out) = unsafe { (input(request, request_length)?, output(out, out_length)?) };
        let mut request = Request::new(request);
        let root = Path::new(OsStr::from_bytes(request.bytes()?));
        let state = Path::new(OsStr::from_bytes(request.bytes()?));
        let flags = request.u32()?;
        let export = Export::open(root, state, &Options { stable: flags & 1 != 0, index: flags & 2 != 0 })?;
        let (read_end, wake) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        let mut reply = Reply::new(out);
        reply.u32(read_end.as_raw_fd() as u32)?;
        let traits = [(export.kernel_handles(), 1), (export.switching, 2), (export.memory_backed, 4)];
        reply.u32(traits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum())?;
        reply.u32(sys::link_max(export.mount.as_fd()))?;
        reply.u32(rustix::fs::fstatvfs(&export.mount)?.f_namemax as u32)?;
        reply.u64(export.file_bytes_max)?;
        reply.bytes(export.root.handle.as_bytes())?;
        let completions = Mutex::new(Completions { done: VecDeque::new(), armed: true });
        let channel = Arc::new(Channel { completions, wake });
        let id = register(Service { export: Arc::new(export), channel })?;
        let _ = read_end.into_raw_fd();
        Ok(id as usize)
    })
}

/// Ends a service. EBUSY: a thread still works for it, if only to close files; call again.
#[no_mangle]
pub extern "C" fn weft_fs_close(id: u32) -> i32 {
    boundary!({
        let service = service(id)?;
        // The registry's and this one's.
        let references = 2;
        if service.export.is_closing()
            || Arc::strong_count(&service.export) > references
            || Arc::strong_count(&service.channel) > references
        {
            return Err(Errno::BUSY);
        }
        let ended = lock(&SERVICES).get_mut(id as usize % SERVICES_MAX).and_then(|slot| slot.service.take());
        drop(ended);
        Ok(0)
    })
}

/// Carries an operation out on this thread, if it need not wait (EINPROGRESS). Returns the operation's number.
///
/// # Safety
/// `request`, `data` (or null) and `out` point to as many bytes as said, `data` writable for a read.
#[no_mangle]
pub unsafe extern "C" fn weft_fs_call(
    id: u32,
    operation: u32,
    request: *const u8,
    request_length: u32,
    data: *mut u8,
    data_length: u32,
    out: *mut u8,
    out_length: u32,
) -> i32 {
    boundary!({
        // SAFETY: the caller's promise.
        let (request, out) = unsafe { (input(request, request_length)?, output(out, out_length)?) };
        // SAFETY: the caller's promise.
        let data = (!data.is_null()).then(|| unsafe { Memory::new(data.addr(), data_length as usize) });
        let service = service(id)?;
        let operation = Operation::from_number(operation)?;
        let context = Context { export: &service.export, reply: &mut Reply::new(out), data, waiting: false };
        service.export.pace.watch(|| operation.run(context, Request::new(request)))
    })
}

/// Has an operation carried out by the pool; its completion comes with `token`. EBUSY: the queue is full.
///
/// # Safety
/// `request` points to as many bytes as said. Memory that it names by address stays valid until the completion.
#[no_mangle]
pub unsafe extern "C" fn weft_fs_submit(
    id: u32,
    operation: u32,
    request: *const u8,
    request_length: u32,
    token: u32,
) -> i32 {
    boundary!({
        // SAFETY: the caller's promise.
        let request = unsafe { input(request, request_length)? }.to_vec();
        let Service { export, channel } = service(id)?;
        let operation = Operation::from_number(operation)?;
        pool::submit(Box::new(move || {
            let mut reply = vec![0; operation.reply_bytes_max()];
            let mut length = 0;
            let status = boundary!({
                let mut writer = Reply::new(&mut reply);
                let context = Context { export: &export, reply: &mut writer, data: None, waiting: true };
                let result = operation.run(context, Request::new(&request));
                length = writer.len();
                result
            });
            reply.truncate(length);
            // Whoever learns of the completion may count on this being gone.
            drop(export);
            channel.complete(Completion { token, status, reply });
        }))?;
        Ok(0)
    })
}

/// Takes completions, as many as fit: token, number or negative errno, length of the reply (32 bits each), the reply. Returns
/// the bytes written. When it has left none behind, the next completion wakes by a byte.
///
/// # Safety
/// `out` points to as many bytes as said.
#[no_mangle]
pub unsafe extern "C" fn weft_fs_poll(id: u32, out: *mut u8, out_length: u32) -> i32 {
    boundary!({
        // SAFETY: the caller's promise.
        let mut reply = Reply::new(unsafe { output(out, out_length)? });
        let service = service(id)?;
        let mut completions = lock(&service.channel.completions);
        while let Some(completion) = completions.done.front() {
            if completion.reply.len() + 12 > reply.room() {
                break;
            }
            reply.u32(completion.token)?;
            reply.u32(completion.status as u32)?;
            reply.bytes(&completion.reply)?;
            completions.done.pop_front();
        }
        completions.armed = completions.done.is_empty();
        Ok(reply.len())
    })
}

/// Lets go of files that lie idle. Returns how many are still held; call again in a while if any are.
#[no_mangle]
pub extern "C" fn weft_fs_sweep(id: u32) -> i32 {
    boundary!({ Ok(service(id)?.export.sweep()) })
}
