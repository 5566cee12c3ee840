//! Raw system calls that rustix lacks, or whose memory must never become a Rust slice. The only unsafe code besides `abi`.

use crate::Result;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Errno;

/// A handle is not one of ours (the kernel's own EBADHANDLE, include/linux/errno.h).
pub const EBADHANDLE: Errno = Errno::from_raw_os_error(521);
/// The operation would have to wait: submit it to the pool.
pub const EINPROGRESS: Errno = Errno::from_raw_os_error(libc::EINPROGRESS);

/// Most bytes of a kernel file handle (MAX_HANDLE_SZ).
pub const KERNEL_HANDLE_BYTES_MAX: usize = 128;
/// `AT_HANDLE_FID`: a handle that identifies, but need not open (since Linux 6.5).
const AT_HANDLE_FID: libc::c_int = 0x200;

/// How often this thread has gone to sleep by itself (`ru_nvcsw`, getrusage(2)).
pub fn times_slept() -> i64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the structure is filled, or stays as it is; zeros are valid.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nvcsw
    }
}

/// The kernel's name of an inode: `struct file_handle`.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct KernelHandle {
    length: u32,
    kind: i32,
    bytes: [u8; KERNEL_HANDLE_BYTES_MAX],
}

impl KernelHandle {
    /// A handle of the given type and bytes; `None` where they are too many.
    pub fn new(kind: i32, bytes: &[u8]) -> Option<Self> {
        let mut handle = Self { length: bytes.len() as u32, kind, bytes: [0; KERNEL_HANDLE_BYTES_MAX] };
        handle.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(handle)
    }

    /// The file system's own type number.
    pub fn kind(&self) -> i32 {
        self.kind
    }

    /// The opaque bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length as usize).unwrap_or_default()
    }
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        Err(last_error())
    } else {
        Ok(result)
    }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn name_to_handle_with(fd: BorrowedFd<'_>, flags: libc::c_int) -> Result<KernelHandle> {
    let mut handle =
        KernelHandle { length: KERNEL_HANDLE_BYTES_MAX as u32, kind: 0, bytes: [0; KERNEL_HANDLE_BYTES_MAX] };
    let mut mount_id: libc::c_int = 0;
    // SAFETY: the structure is laid out as the kernel's, and its length field says how many bytes follow.
    check(unsafe {
        libc::name_to_handle_at(
            fd.as_raw_fd(),
            c"".as_ptr(),
            (&raw mut handle).cast(),
            &raw mut mount_id,
            libc::AT_EMPTY_PATH | flags,
        )
    })?;
    Ok(handle)
}

/// The kernel handle of what a descriptor stands for, one that `open_by_handle` takes. Needs no privilege.
pub fn name_to_handle(fd: BorrowedFd<'_>) -> Result<KernelHandle> {
    name_to_handle_with(fd, 0)
}

/// A kernel handle good for telling files apart, also on file systems whose handles cannot be opened (overlayfs).
pub fn name_to_identifier(fd: BorrowedFd<'_>) -> Result<KernelHandle> {
    name_to_handle_with(fd, 0).or_else(|_| name_to_handle_with(fd, AT_HANDLE_FID))
}

/// Opens what a handle names, as a bare reference (`O_PATH`). Needs CAP_DAC_READ_SEARCH.
pub fn open_by_handle(mount: BorrowedFd<'_>, handle: &KernelHandle) -> Result<OwnedFd> {
    let mut handle = *handle;
    // SAFETY: the structure is laid out as the kernel's; the descriptor that comes back is ours alone.
    unsafe {
        let fd = check(libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut handle).cast(),
            libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC,
        ))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// A run of memory that belongs to the caller: an address and a length, never a slice, since others may write to it.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    address: usize,
    length: usize,
}

impl Memory {
    /// # Safety
    /// The memory must stay valid (writable, where it is read into) for as long as the value and its parts are used.
    pub unsafe fn new(address: usize, length: usize) -> Self {
        Self { address, length }
    }

    /// None.
    pub const EMPTY: Self = Self { address: 0, length: 0 };

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// What is left of it behind the first `count` bytes.
    pub fn after(&self, count: usize) -> Self {
        let count = count.min(self.length);
        Self { address: self.address + count, length: self.length - count }
    }

    fn vector(&self) -> libc::iovec {
        libc::iovec { iov_base: self.address as *mut libc::c_void, iov_len: self.length }
    }
}

/// Vectors of one call (IOV_MAX).
const VECTORS_MAX: usize = 1024;

/// `preadv2` into one run of memory; returns the bytes read, 0 at the end of the file.
pub fn read_at(fd: BorrowedFd<'_>, into: Memory, offset: i64, flags: i32) -> Result<usize> {
    let vector = into.vector();
    loop {
        // SAFETY: `Memory` vouches for the vector.
        let count = unsafe { libc::preadv2(fd.as_raw_fd(), &raw const vector, 1, offset, flags) };
        if count >= 0 {
            return Ok(count as usize);
        }
        match last_error() {
            Errno::INTR => {}
            error => return Err(error),
        }
    }
}

/// `pwritev2` of the pieces behind one another; returns the bytes written, which may be fewer than asked for.
pub fn write_at(fd: BorrowedFd<'_>, pieces: &[Memory], offset: i64, flags: i32) -> Result<usize> {
    let vectors: Vec<libc::iovec> = pieces.iter().take(VECTORS_MAX).map(Memory::vector).collect();
    loop {
        // SAFETY: `Memory` vouches for each vector, and there are as many as said.
        let count =
            unsafe { libc::pwritev2(fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as libc::c_int, offset, flags) };
        if count >= 0 {
            return Ok(count as usize);
        }
        match last_error() {
            Errno::INTR => {}
            error => return Err(error),
        }
    }
}

/// Whether this thread, with its file-system identity, may access what a descriptor stands for (`R_OK` and so on).
pub fn may_access(fd: BorrowedFd<'_>, mode: i32) -> bool {
    // SAFETY: the path is a static C string. The raw call, because C libraries emulate it with the real identity.
    let result = unsafe {
        libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH | libc::AT_EACCESS)
    };
    result == 0
}

/// Sets the calling thread's file-system user; returns the one before. Whether it worked shows in a second call.
pub fn set_fs_uid(uid: u32) -> u32 {
    // SAFETY: touches nothing but the thread's credentials.
    unsafe { libc::setfsuid(uid) as u32 }
}

/// Sets the calling thread's file-system group; returns the one before.
pub fn set_fs_gid(gid: u32) -> u32 {
    // SAFETY: touches nothing but the thread's credentials.
    unsafe { libc::setfsgid(gid) as u32 }
}

/// Makes a pool thread's own: no signal is delivered to it, and its umask is its own, of 0. Returns whether the latter
/// worked (a container's filter may forbid it).
pub fn settle_pool_thread() -> bool {
    // SAFETY: the set is initialised before it is used; unshare(CLONE_FS) gives this thread a umask of its own.
    unsafe {
        let mut signals = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
        libc::sigfillset(signals.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, signals.as_ptr(), std::ptr::null_mut());
        if libc::unshare(libc::CLONE_FS) != 0 {
            return false;
        }
        libc::umask(0);
        true
    }
}

/// What C libraries say of a file system whose limit they do not know.
const LINK_MAX_UNKNOWN: u32 = 127;

/// The most hard links that a file may have, by the file system's own limits.
pub fn link_max(fd: BorrowedFd<'_>) -> u32 {
    // SAFETY: asks about a descriptor.
    let limit = unsafe { libc::fpathconf(fd.as_raw_fd(), libc::_PC_LINK_MAX) };
    u32::try_from(limit).ok().filter(|&limit| limit > LINK_MAX_UNKNOWN).unwrap_or(i32::MAX as u32)
}
