//! The C ABI that `rdma/_ffi/symbols.ts` declares.
//!
//! Handles and lengths cross as `f64` (integers below 2^53), because a fresh bigint costs more than the call. Every body runs in [`boundary!`], which turns a panic into
//! [`Status::Panic`]. Results are negative [`Status`] values on failure; outputs are written on success only. Buffers are the caller's and used during the call
//! only, except registered and posted memory, which stays in use until deregistered or completed.
use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::Duration;

use weft_proto::{Rtr, StartupOptions};

use crate::admission::Limits;
use crate::conn::{Conn, Mulpdu, Options, POSTED_MAX};
use crate::counters::TALLY_ELSEWHERE;
use crate::device::{Device, CONNS, DEVICES, LISTENERS, SHARED};
use crate::listener::{Listener, CONNECTIONS_MAX};
use crate::memory::{Grant, Region, REREGISTER};
use crate::owner;
use crate::resolver;
use crate::shared::SharedReceives;
use crate::socket::Congestion;
use crate::status::Status;
use crate::work::decode::decode;

/// Changes whenever a symbol or a layout does; TypeScript refuses a library with another number.
pub const ABI_VERSION: u32 = 13;
/// Words of a work request in front of its scatter/gather elements.
pub const WORK_WORDS: usize = 6;
/// Words of a scatter/gather element.
pub const SGE_WORDS: usize = 4;
/// Words of an atomic operation's operands, behind its element: data, mask, compare, compare mask, each low and high.
pub const ATOMIC_WORDS: usize = 8;
/// Elements of a scatter/gather list at the most.
pub const SGES_MAX: usize = 1024;
/// The longest message (RFC 5041 §5.1: message offsets have 32 bits).
pub const MESSAGE_BYTES_MAX: u64 = u32::MAX as u64;
/// Words of connection settings.
pub const SETTINGS_WORDS: usize = 20;
/// Words of a listener's limits.
pub const LIMITS_WORDS: usize = 4;
/// Bytes that `weft_facts` writes.
pub const FACTS_BYTES: usize = 32 + 64 + 64 + 512 + 16;

thread_local! {
    static LAST_ERRNO: Cell<i32> = const { Cell::new(0) };
}

fn set_errno(code: i32) {
    LAST_ERRNO.with(|cell| cell.set(code));
}

macro_rules! boundary {
    ($body:block) => {{
        let run = || -> Result<i32, Status> { $body };
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(Ok(value)) => value,
            Ok(Err(status)) => status as i32,
            Err(_) => Status::Panic as i32,
        }
    }};
}

fn device(handle: f64) -> Result<Arc<Device>, Status> {
    DEVICES.get(handle as u64).ok_or(Status::BadHandle)
}

fn conn(handle: f64) -> Result<Arc<Conn>, Status> {
    CONNS.get(handle as u64).ok_or(Status::BadHandle)
}

fn length(value: f64) -> Result<u64, Status> {
    if (0.0..=9_007_199_254_740_991.0).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(Status::Invalid)
    }
}

/// # Safety
/// `pointer` is null with `count` 0, or names `count` readable elements during the call.
unsafe fn input<'a, T>(pointer: *const T, count: usize) -> Result<&'a [T], Status> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Status::Invalid);
    }
    // SAFETY: by this function's contract.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

/// # Safety
/// `pointer` names `N` writable elements during the call.
unsafe fn output<T: Copy, const N: usize>(pointer: *mut T, values: [T; N]) -> Result<(), Status> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(Status::Invalid);
    }
    // SAFETY: by this function's contract.
    unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), pointer, N) };
    Ok(())
}

/// The ABI's version.
#[no_mangle]
pub extern "C" fn weft_abi_version() -> u32 {
    ABI_VERSION
}

/// The errno behind the last [`Status::System`] of this thread.
#[no_mangle]
pub extern "C" fn weft_last_errno() -> i32 {
    LAST_ERRNO.with(Cell::get)
}

/// The address of a buffer, for memory that JavaScript keeps in place.
#[no_mangle]
pub extern "C" fn weft_address(buffer: *const u8) -> f64 {
    buffer as usize as f64
}

/// Opens a device, which is closed at the latest when this thread ends. `out`: handle, ring address, ring bytes.
///
/// # Safety
/// `out` has room for 3 values.
#[no_mangle]
pub unsafe extern "C" fn weft_device_open(out: *mut f64) -> i32 {
    boundary!({
        let device = Device::open().map_err(|error| {
            set_errno(error.raw_os_error().unwrap_or(0));
            Status::System
        })?;
        let (address, bytes) = device.ring.memory();
        let mut handle = 0;
        DEVICES
            .insert_with(|new| {
                handle = new;
                device
            })
            .ok_or(Status::Exhausted)?;
        owner::own(handle);
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, [handle as f64, address as usize as f64, bytes as f64]) }?;
        Ok(0)
    })
}

/// Closes a device: aborts its connections, closes its listeners, ends its thread. The ring's memory is gone when this returns.
#[no_mangle]
pub extern "C" fn weft_device_close(handle: f64) -> i32 {
    boundary!({
        let device = DEVICES.remove(handle as u64).ok_or(Status::BadHandle)?;
        device.close();
        Ok(0)
    })
}

/// Makes progress on this thread, spinning up to `spin_ns` for a ring entry or for payload that moves; returns how many ring entries are ready.
#[no_mangle]
pub extern "C" fn weft_progress(handle: f64, spin_ns: u32) -> i32 {
    boundary!({ Ok(device(handle)?.progress(u64::from(spin_ns)).min(i32::MAX as u32) as i32) })
}

/// Makes progress on this thread, asleep in the kernel for up to `wait_us` until something completes; returns how many ring entries are ready.
#[no_mangle]
pub extern "C" fn weft_wait(handle: f64, wait_us: u32) -> i32 {
    boundary!({
        let ready = device(handle)?.wait(Duration::from_micros(u64::from(wait_us)));
        Ok(ready.min(i32::MAX as u32) as i32)
    })
}

/// The descriptor, the caller's from now on, of the pipe on which an armed device wakes its thread: one byte each time. It can be had once.
#[no_mangle]
pub extern "C" fn weft_channel(handle: f64) -> i32 {
    boundary!({ Ok(device(handle)?.channel().ok_or(Status::Exhausted)?.into_raw_fd()) })
}

/// Announces that this thread goes to sleep. 1: it must not, entries are ready.
#[no_mangle]
pub extern "C" fn weft_arm(handle: f64) -> i32 {
    boundary!({ Ok(i32::from(device(handle)?.arm())) })
}

/// # Safety
/// `out` has room for `count` values.
unsafe fn numbers(out: *mut f64, count: u32, values: &[u64]) -> Result<i32, Status> {
    for (i, value) in values.iter().enumerate().take(count as usize) {
        // SAFETY: by this function's contract.
        unsafe { output(out.add(i), [*value as f64]) }?;
    }
    Ok(values.len() as i32)
}

/// Copies the first `count` counters of a device out; returns how many there are.
///
/// # Safety
/// `out` has room for `count` values.
#[no_mangle]
pub unsafe extern "C" fn weft_counters(handle: f64, out: *mut f64, count: u32) -> i32 {
    boundary!({
        let mut values = device(handle)?.counters.snapshot();
        values.push(device(handle)?.memory.len() as u64);
        values.push(device(handle)?.alive.load(Ordering::SeqCst));
        values.extend(device(handle)?.tally().values().iter().skip(TALLY_ELSEWHERE));
        // SAFETY: the caller vouches for `count` values.
        unsafe { numbers(out, count, &values) }
    })
}

/// Copies the first `count` counters of a connection out; returns how many there are.
///
/// # Safety
/// `out` has room for `count` values.
#[no_mangle]
pub unsafe extern "C" fn weft_connection_counters(handle: f64, out: *mut f64, count: u32) -> i32 {
    boundary!({
        let values = conn(handle)?.tally().values();
        // SAFETY: the caller vouches for `count` values.
        unsafe { numbers(out, count, &values) }
    })
}

/// Has a sleeping JavaScript woken only for `count` completions of a queue, by its number in the settings of its connections, or for fewer when the first of them has
/// waited for `period_us`; `count` 0 or 1: for each. A queue that no connection uses has nothing to change.
#[no_mangle]
pub extern "C" fn weft_moderate(handle: f64, queue: u32, count: u32, period_us: u32) -> i32 {
    boundary!({
        device(handle)?.moderations.set(queue, count, period_us);
        Ok(0)
    })
}

/// What registrations and binds give: STag, address of the first byte, its tagged offset.
fn named(region: &Region) -> [f64; 3] {
    [f64::from(region.stag), region.address as f64, region.base as f64]
}

/// Allocates and registers zeroed memory. `access` may have `ZERO_BASED`, `VOLATILE` and `HUGE_PAGES` beside its flags, or `RESERVED` for
/// huge pages alone. `out`: STag, address, tagged offset.
///
/// # Safety
/// `out` has room for 3 values.
#[no_mangle]
pub unsafe extern "C" fn weft_memory_allocate(handle: f64, pd: u32, bytes: f64, access: u32, out: *mut f64) -> i32 {
    boundary!({
        let region = device(handle)?.memory.allocate(pd, length(bytes)?, Grant { access, connection: 0 })?;
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, named(&region)) }?;
        Ok(0)
    })
}

/// Registers memory in place, for one connection or (0) for all of the domain. `access` may have `ZERO_BASED` and `VOLATILE` beside its flags. `out`: STag, address, tagged
/// offset.
///
/// # Safety
/// `buffer` names `bytes` bytes that stay in place until `weft_memory_invalidate`; `out` has room for 3 values.
#[no_mangle]
pub unsafe extern "C" fn weft_memory_register(
    handle: f64,
    pd: u32,
    buffer: *mut u8,
    bytes: f64,
    access: u32,
    connection: f64,
    out: *mut f64,
) -> i32 {
    boundary!({
        let bytes = length(bytes)?;
        if buffer.is_null() && bytes > 0 {
            return Err(Status::Invalid);
        }
        let region = device(handle)?.memory.register(
            pd,
            buffer as usize as u64,
            bytes,
            Grant { access, connection: connection as u64 },
        )?;
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, named(&region)) }?;
        Ok(0)
    })
}

/// Binds a window to a part of a region, for one connection or (0) for all of the domain; or, with `REREGISTER` in `access`, makes another STag for its memory. `access`
/// may have `ZERO_BASED`, `VOLATILE` and `INACTIVE` beside its flags. `out`: STag, address, tagged offset.
///
/// # Safety
/// `out` has room for 3 values.
#[no_mangle]
pub unsafe extern "C" fn weft_memory_bind(
    handle: f64,
    stag: u32,
    offset: f64,
    bytes: f64,
    access: u32,
    connection: f64,
    out: *mut f64,
) -> i32 {
    boundary!({
        let memory = &device(handle)?.memory;
        let (offset, bytes) = (length(offset)?, length(bytes)?);
        let grant = Grant { access, connection: connection as u64 };
        let region = if access & REREGISTER != 0 {
            memory.reregister(stag, offset, bytes, grant)?
        } else {
            memory.bind(stag, offset, bytes, grant)?
        };
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, named(&region)) }?;
        Ok(0)
    })
}

/// Invalidates a region or window; nobody touches its memory through this STag once this has returned.
#[no_mangle]
pub extern "C" fn weft_memory_invalidate(handle: f64, stag: u32) -> i32 {
    boundary!({
        device(handle)?.memory.invalidate(stag).ok_or(Status::BadHandle)?;
        Ok(0)
    })
}

/// The same for allocated memory that is to stay mapped, for ever: JavaScript has buffers on it that nobody can find.
#[no_mangle]
pub extern "C" fn weft_memory_abandon(handle: f64, stag: u32) -> i32 {
    boundary!({
        device(handle)?.memory.abandon(stag)?;
        Ok(0)
    })
}

fn host_text(bytes: &[u8]) -> Result<String, Status> {
    let text = std::str::from_utf8(bytes).map_err(|_| Status::Invalid)?;
    Ok(text.trim_start_matches('[').trim_end_matches(']').to_owned())
}

/// Listens on an address given as text (an IP address), with the limits that `Limits::from_words` takes. `out`: handle, port. `Status::System` tells more in
/// `weft_last_errno`.
///
/// # Safety
/// `host` has `host_length` bytes, `limits` `LIMITS_WORDS` words; `out` room for 2 values.
#[no_mangle]
pub unsafe extern "C" fn weft_listen(
    handle: f64,
    host: *const u8,
    host_length: u32,
    port: u32,
    tag: u32,
    limits: *const u32,
    out: *mut f64,
) -> i32 {
    boundary!({
        let device = device(handle)?;
        // SAFETY: the caller vouches for `limits` and `host`.
        let (words, host) = unsafe { (input(limits, LIMITS_WORDS)?, host_text(input(host, host_length as usize)?)?) };
        let limits = Limits::from_words(words).ok_or(Status::Invalid)?;
        let ip = host.parse().map_err(|_| Status::Invalid)?;
        let address = SocketAddr::new(ip, u16::try_from(port).map_err(|_| Status::Invalid)?);
        let mut failure = 0;
        let listener = LISTENERS.try_insert_with(|new| match Listener::new(new, &device, &address, tag, limits) {
            Ok(listener) => Some(listener),
            Err(code) => {
                failure = code;
                None
            }
        });
        let Some(listener) = listener else {
            set_errno(failure);
            return Err(if failure == 0 { Status::Exhausted } else { Status::System });
        };
        if let Err(error) = listener.watch() {
            LISTENERS.remove(listener.handle);
            set_errno(error.raw_os_error().unwrap_or(0));
            return Err(Status::System);
        }
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, [listener.handle as f64, f64::from(listener.address.port())]) }?;
        Ok(0)
    })
}

/// Stops listening.
#[no_mangle]
pub extern "C" fn weft_listener_close(handle: f64) -> i32 {
    boundary!({
        let listener = LISTENERS.remove(handle as u64).ok_or(Status::BadHandle)?;
        Ok(listener.close() as i32)
    })
}

/// # Safety
/// `options` has [`SETTINGS_WORDS`] words: stream, crc (0 off, 1 on, 2 with other hosts), protection domain, IRD, ORD, peer-to-peer (0 no, 1 yes, and which
/// ready-to-receive message there may be: 2 any, 3 Send, 4 Write, 5 Read), revision (0: 2, or 1 where the peer speaks no other), handle of a shared receive queue (or 0) low
/// and high, flags (1: only solicited Sends wake, 2: markers are asked for), MULPDU (1: one segment of TCP's), congestion control, time to connect and for the
/// MPA reply in milliseconds; 0 stands for what is usual; and for the send queue and for receives the number of the completion queue (0: none) and its moderation,
/// count and period in microseconds.
unsafe fn options(device: &Device, options: *const u32, private_data: &[u8]) -> Result<Options, Status> {
    // SAFETY: by this function's contract.
    let words = unsafe { input(options, SETTINGS_WORDS) }?;
    let [stream, crc, pd, ird, ord, peer_to_peer, revision, shared_low, shared_high, flags, mulpdu, congestion, connect_ms, reply_ms, queues @ ..] =
        words
    else {
        return Err(Status::Invalid);
    };
    let &[send_queue, send_count, send_period, receive_queue, receive_count, receive_period] = queues else {
        return Err(Status::Invalid);
    };
    let shared = match u64::from(*shared_high) << 32 | u64::from(*shared_low) {
        0 => None,
        handle => Some(SHARED.get(handle).ok_or(Status::BadHandle)?),
    };
    let congestion = Congestion::from_number(*congestion).filter(|congestion| congestion.is_available());
    let depth = |n: &u32| u16::try_from(*n).map_err(|_| Status::Invalid);
    Ok(Options {
        stream: *stream != 0,
        crc: *crc,
        pd: *pd,
        solicited_only: flags & 1 != 0,
        send_moderation: device.moderations.join(send_queue, send_count, send_period),
        receive_moderation: device.moderations.join(receive_queue, receive_count, receive_period),
        mulpdu: Mulpdu::from_number(*mulpdu),
        congestion: congestion.ok_or(Status::Invalid)?,
        connect_timeout: Duration::from_millis(u64::from(*connect_ms)),
        reply_timeout: Duration::from_millis(u64::from(*reply_ms)),
        any_revision: *revision == 0,
        shared,
        startup: StartupOptions {
            revision: u8::try_from(*revision).map_err(|_| Status::Invalid)?,
            crc: false,
            markers: flags & 2 != 0,
            ird: depth(ird)?,
            ord: depth(ord)?,
            peer_to_peer: *peer_to_peer != 0,
            rtr: match peer_to_peer {
                3 => Some(Rtr::Send),
                4 => Some(Rtr::Write),
                5 => Some(Rtr::Read),
                _ => None,
            },
            private_data: private_data.to_vec(),
        },
    })
}

/// Begins to connect; `out`: handle. An `Established` or `Closed` entry with `tag` follows.
///
/// # Safety
/// `host` and `private_data` have the lengths beside them; `settings` has `SETTINGS_WORDS` words, see `options`; `out` room for a value.
#[no_mangle]
pub unsafe extern "C" fn weft_connect(
    handle: f64,
    host: *const u8,
    host_length: u32,
    port: u32,
    tag: u32,
    settings: *const u32,
    private_data: *const u8,
    private_data_length: u32,
    out: *mut f64,
) -> i32 {
    boundary!({
        let device = device(handle)?;
        // SAFETY: the caller vouches for the buffers.
        let (host, options) = unsafe {
            let private_data = input(private_data, private_data_length as usize)?;
            (host_text(input(host, host_length as usize)?)?, options(&device, settings, private_data)?)
        };
        let port = u16::try_from(port).map_err(|_| Status::Invalid)?;
        if device.connections() >= CONNECTIONS_MAX {
            return Err(Status::Exhausted);
        }
        let conn = CONNS.insert_with(|new| Conn::connect(new, &device, tag, options)).ok_or(Status::Exhausted)?;
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, [conn.handle as f64]) }?;
        match host.parse() {
            Ok(ip) => conn.resolved(&[SocketAddr::new(ip, port)]),
            Err(_) if resolver::look_up(host, port, conn.handle) => {}
            Err(_) => {
                conn.forget();
                return Err(Status::Exhausted);
            }
        }
        Ok(0)
    })
}

/// Accepts a requested connection or takes a stream; its entries carry `tag` from now on.
///
/// # Safety
/// `settings` has `SETTINGS_WORDS` words, see `options`; `private_data` has the length beside it.
#[no_mangle]
pub unsafe extern "C" fn weft_accept(
    handle: f64,
    tag: u32,
    settings: *const u32,
    private_data: *const u8,
    private_data_length: u32,
) -> i32 {
    boundary!({
        let conn = conn(handle)?;
        // SAFETY: the caller vouches for the buffers.
        let options = unsafe { options(&conn.device, settings, input(private_data, private_data_length as usize)?) }?;
        Ok(conn.accept(tag, &options) as i32)
    })
}

/// Refuses a requested connection, or closes a stream.
///
/// # Safety
/// `private_data` has the length beside it.
#[no_mangle]
pub unsafe extern "C" fn weft_reject(handle: f64, private_data: *const u8, private_data_length: u32) -> i32 {
    boundary!({
        // SAFETY: the caller vouches for the buffer.
        let private_data = unsafe { input(private_data, private_data_length as usize) }?;
        Ok(conn(handle)?.reject(private_data) as i32)
    })
}

/// What is known of a connection. `out`, `FACTS_BYTES` long: 8 words (revision, 1 with CRCs | 2 with markers sent | 4 received, IRD, ORD, local port, remote port, private data length, MULPDU), the local and
/// the remote address as text of 64 bytes each, padded with zeros, the private data, and the name
/// of TCP's congestion control in 16 bytes.
///
/// # Safety
/// `out` has room for `FACTS_BYTES` bytes, aligned to 4.
#[no_mangle]
pub unsafe extern "C" fn weft_facts(handle: f64, out: *mut u8) -> i32 {
    boundary!({
        let facts = conn(handle)?.facts();
        let mut bytes = Vec::with_capacity(FACTS_BYTES);
        let port = |address: Option<SocketAddr>| address.map_or(0, |a| u32::from(a.port()));
        let words = [
            u32::from(facts.revision),
            u32::from(facts.crc) | u32::from(facts.markers.0) << 1 | u32::from(facts.markers.1) << 2,
            u32::from(facts.ird),
            u32::from(facts.ord),
            port(facts.local),
            port(facts.remote),
            facts.private_data.len() as u32,
            facts.mulpdu,
        ];
        words.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        for (address, end) in [(facts.local, 96), (facts.remote, 160)] {
            if let Some(address) = address {
                bytes.extend_from_slice(address.ip().to_string().as_bytes());
            }
            bytes.resize(end, 0);
        }
        bytes.extend_from_slice(&facts.private_data);
        bytes.resize(FACTS_BYTES - 16, 0);
        bytes.extend_from_slice(facts.congestion.as_bytes());
        bytes.resize(FACTS_BYTES, 0);
        if out.is_null() {
            return Err(Status::Invalid);
        }
        // SAFETY: the caller vouches for FACTS_BYTES bytes at `out`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out, FACTS_BYTES) };
        Ok(0)
    })
}

/// Posts a batch of work requests. Each is 6 words (opcode 0 receive, 1 send, 2 write, 3 read, 4 FetchAdd, 5 Swap, 6 CmpSwap, 7 immediate data, which lies in the offset, 8 activate the STag
/// in place of the one to invalidate, 9 invalidate the STag, which may be gone where that one is 1 | flags << 8: 1 signalled, 2 invalidate, 4 solicited, 8 fence, 16 invalidate the sink, 32 the payload lies here instead of elements, its bytes counted and padded to words | element count << 16;
/// slot; remote STag; STag to invalidate; remote tagged offset, low and high) and 4 for each element (STag, length, address low and high); an atomic
/// operation has 8 more (data, mask, compare, compare mask, each low and high). All or none are taken.
///
/// # Safety
/// `words` has `count` words. Memory named with STag 0 stays in place until the request completes.
#[no_mangle]
pub unsafe extern "C" fn weft_post(handle: f64, words: *const u32, count: u32) -> i32 {
    boundary!({
        let conn = conn(handle)?;
        // SAFETY: the caller vouches for the words.
        let words = unsafe { input(words, count as usize) }?;
        let (mut sends, mut receives) = (Vec::new(), Vec::new());
        decode(words, conn.is_stream(), &mut sends, &mut receives)?;
        Ok(conn.post(sends, receives) as i32)
    })
}

fn shared(handle: f64) -> Result<Arc<SharedReceives>, Status> {
    SHARED.get(handle as u64).ok_or(Status::BadHandle)
}

/// Makes a shared receive queue; its events carry `tag`. `out`: handle.
///
/// # Safety
/// `out` has room for a value.
#[no_mangle]
pub unsafe extern "C" fn weft_shared_create(handle: f64, depth: u32, tag: u32, out: *mut f64) -> i32 {
    boundary!({
        let device = device(handle)?;
        if depth == 0 || depth as usize > POSTED_MAX {
            return Err(Status::Invalid);
        }
        let made = SHARED
            .insert_with(|new| SharedReceives::new(new, &device, depth as usize, tag))
            .ok_or(Status::Exhausted)?;
        // SAFETY: the caller vouches for `out`.
        unsafe { output(out, [made.handle as f64]) }?;
        Ok(0)
    })
}

/// Posts a batch of receives to a shared receive queue, in the form of `weft_post`. All or none are taken.
///
/// # Safety
/// `words` has `count` words.
#[no_mangle]
pub unsafe extern "C" fn weft_shared_post(handle: f64, words: *const u32, count: u32) -> i32 {
    boundary!({
        let shared = shared(handle)?;
        // SAFETY: the caller vouches for the words.
        let words = unsafe { input(words, count as usize) }?;
        let (mut sends, mut receives) = (Vec::new(), Vec::new());
        decode(words, false, &mut sends, &mut receives)?;
        if !sends.is_empty() {
            return Err(Status::Invalid);
        }
        Ok(shared.post(receives) as i32)
    })
}

/// Asks for one `Limit` entry when fewer than `limit` receives are left; 0: for none.
#[no_mangle]
pub extern "C" fn weft_shared_limit(handle: f64, limit: u32) -> i32 {
    boundary!({
        shared(handle)?.set_limit(limit as usize);
        Ok(0)
    })
}

/// Closes a shared receive queue. What is posted to it is gone, without completions: returns how much that was, the receives that were posted last. Those that a Send is
/// coming into complete as ever.
#[no_mangle]
pub extern "C" fn weft_shared_close(handle: f64) -> i32 {
    boundary!({ Ok(SHARED.remove(handle as u64).ok_or(Status::BadHandle)?.close() as i32) })
}

/// Begins to receive on an iWARP connection that nothing was posted to.
#[no_mangle]
pub extern "C" fn weft_start(handle: f64) -> i32 {
    boundary!({
        conn(handle)?.start();
        Ok(0)
    })
}

/// Closes a connection once everything posted has been done. A `Closed` entry follows.
#[no_mangle]
pub extern "C" fn weft_close(handle: f64) -> i32 {
    boundary!({
        conn(handle)?.close();
        Ok(0)
    })
}

/// Resets a connection. Its outstanding work is flushed and a `Closed` entry follows.
#[no_mangle]
pub extern "C" fn weft_abort(handle: f64) -> i32 {
    boundary!({
        conn(handle)?.abort();
        Ok(0)
    })
}

/// Gives a connection's handle back, after its `Closed` entry.
#[no_mangle]
pub extern "C" fn weft_release(handle: f64) -> i32 {
    boundary!({
        let conn = CONNS.remove(handle as u64).ok_or(Status::BadHandle)?;
        conn.abort();
        Ok(0)
    })
}
