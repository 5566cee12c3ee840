//! Raw socket calls. Vectors are addresses, not slices: a peer may write the memory behind them at any time.
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The most vectors of one call: Linux takes no more (UIO_MAXIOV).
pub const VECTORS_MAX: usize = 1024;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn set_option(fd: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option value is an int that outlives the call.
    check(unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            std::mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    })
    .map(|_| ())
}

fn get_option(fd: RawFd, level: libc::c_int, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = std::mem::size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: value and length outlive the call and agree.
    check(unsafe { libc::getsockopt(fd, level, name, std::ptr::from_mut(&mut value).cast(), &mut length) })?;
    Ok(value)
}

fn to_storage(address: &SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            // SAFETY: sockaddr_storage is large and aligned enough for sockaddr_in.
            let sin = unsafe { &mut *std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>() };
            sin.sin_family = libc::AF_INET as libc::sa_family_t;
            sin.sin_port = v4.port().to_be();
            sin.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            std::mem::size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            // SAFETY: sockaddr_storage is large and aligned enough for sockaddr_in6.
            let sin6 = unsafe { &mut *std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>() };
            sin6.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            sin6.sin6_port = v6.port().to_be();
            sin6.sin6_addr.s6_addr = v6.ip().octets();
            sin6.sin6_scope_id = v6.scope_id();
            std::mem::size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

fn from_storage(storage: &libc::sockaddr_storage) -> SocketAddr {
    if libc::c_int::from(storage.ss_family) == libc::AF_INET6 {
        // SAFETY: the family says that this is a sockaddr_in6.
        let sin6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
        let ip = Ipv6Addr::from(sin6.sin6_addr.s6_addr);
        match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::from((v4, u16::from_be(sin6.sin6_port))),
            None => SocketAddr::from((ip, u16::from_be(sin6.sin6_port))),
        }
    } else {
        // SAFETY: sockaddr_storage is at least as large as sockaddr_in; another family yields an address nobody uses.
        let sin = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
        SocketAddr::from((Ipv4Addr::from(sin.sin_addr.s_addr.to_ne_bytes()), u16::from_be(sin.sin_port)))
    }
}

fn new_socket(address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is passed.
    let fd = check(unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Starts to listen; port 0 lets the system choose.
pub fn listen(address: &SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let fd = new_socket(address)?;
    set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let (storage, length) = to_storage(address);
    // SAFETY: the address outlives the calls and its length is right.
    check(unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&storage).cast(), length) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(fd)
}

/// Starts to connect, without waiting.
pub fn connect(address: &SocketAddr) -> io::Result<OwnedFd> {
    let fd = new_socket(address)?;
    let (storage, length) = to_storage(address);
    // SAFETY: the address outlives the call and its length is right.
    match check(unsafe { libc::connect(fd.as_raw_fd(), std::ptr::from_ref(&storage).cast(), length) }) {
        Ok(_) => Ok(fd),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => Ok(fd),
        Err(e) => Err(e),
    }
}

/// How a connect that was started went.
pub fn take_error(fd: &OwnedFd) -> io::Result<()> {
    match get_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR)? {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Whether there is a peer.
pub fn is_connected(fd: &OwnedFd) -> bool {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = std::mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length outlive the call and agree.
    unsafe { libc::getpeername(fd.as_raw_fd(), std::ptr::from_mut(&mut storage).cast(), &mut length) == 0 }
}

/// Takes a connection; `WouldBlock` where there is none.
pub fn accept(fd: &OwnedFd) -> io::Result<(OwnedFd, SocketAddr)> {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = std::mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length outlive the call and agree.
    let new = check(unsafe {
        libc::accept4(
            fd.as_raw_fd(),
            std::ptr::from_mut(&mut storage).cast(),
            &mut length,
            libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
        )
    })?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok((unsafe { OwnedFd::from_raw_fd(new) }, from_storage(&storage)))
}

/// Whether a descriptor is among the last `count` that the process may open (half of them where it may open few). The system gives the lowest free number.
pub fn is_among_last(fd: &OwnedFd, count: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes the limits to a local.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    known && u64::try_from(fd.as_raw_fd()).is_ok_and(|number| number >= limit.rlim_cur - count.min(limit.rlim_cur / 2))
}

/// The local address of a socket.
pub fn local_address(fd: &OwnedFd) -> io::Result<SocketAddr> {
    // SAFETY: all-zero bytes are a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = std::mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    // SAFETY: storage and length outlive the call and agree.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), std::ptr::from_mut(&mut storage).cast(), &mut length) })?;
    Ok(from_storage(&storage))
}

/// TCP's congestion control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Congestion {
    /// Cubic within this host, because bbr halves a stream on loopback; the system's choice elsewhere.
    #[default]
    Suitable,
    /// The system's choice.
    System,
    /// The one of this name.
    Named(&'static str),
}

impl Congestion {
    /// By the number that `rdma/_ffi/layout.ts` has for it.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Congestion::Suitable,
            1 => Congestion::System,
            2 => Congestion::Named("cubic"),
            3 => Congestion::Named("reno"),
            4 => Congestion::Named("bbr"),
            5 => Congestion::Named("dctcp"),
            _ => return None,
        })
    }

    /// Whether this system has it.
    pub fn is_available(self) -> bool {
        let Congestion::Named(name) = self else { return true };
        new_socket(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).is_ok_and(|fd| set_congestion_name(&fd, name).is_ok())
    }
}

fn set_congestion_name(fd: &OwnedFd, name: &str) -> io::Result<()> {
    // SAFETY: the name outlives the call and its length is right.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_ptr().cast(),
            name.len() as libc::socklen_t,
        )
    })
    .map(|_| ())
}

/// Options of a connected socket.
pub fn tune(fd: &OwnedFd, local: bool) {
    // Each is an optimisation: a system without it works all the same.
    let _ = set_option(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
    if !local {
        let _ = set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1);
    }
}

/// Chooses TCP's congestion control.
pub fn set_congestion(fd: &OwnedFd, congestion: Congestion, local: bool) {
    let name = match congestion {
        Congestion::Suitable if local => "cubic",
        Congestion::Suitable | Congestion::System => return,
        Congestion::Named(name) => name,
    };
    // what was asked for by name has been found available
    let _ = set_congestion_name(fd, name);
}

/// The name of the congestion control in use.
pub fn congestion(fd: &OwnedFd) -> String {
    let mut name = [0u8; 16];
    let mut length = name.len() as libc::socklen_t;
    // SAFETY: name and length outlive the call and agree.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_CONGESTION, name.as_mut_ptr().cast(), &mut length)
    };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = name.get(..end).unwrap_or(&[]);
    if result == 0 {
        String::from_utf8_lossy(name).into_owned()
    } else {
        String::new()
    }
}

/// What TCP puts into a segment to the peer, its options taken off (EMSS); 0 where it does not say.
pub fn segment_len(fd: &OwnedFd) -> usize {
    get_option(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_MAXSEG)
        .ok()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .unwrap_or(0)
}

/// Lets epoll report the socket readable only from `bytes` on (or at the end of the stream).
pub fn set_receive_low_water(fd: &OwnedFd, bytes: usize) {
    let _ = set_option(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes as libc::c_int);
}

/// Ends the sending direction: the peer sees the end of the stream.
pub fn shutdown_send(fd: &OwnedFd) {
    // SAFETY: no memory is passed.
    unsafe {
        libc::shutdown(fd.as_raw_fd(), libc::SHUT_WR);
    }
}

/// Whether the peer's TCP has not acknowledged all that was sent.
pub fn has_unsent(fd: &OwnedFd) -> bool {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes an int to a local.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut bytes)) };
    result == 0 && bytes > 0
}

/// Makes the coming close a reset.
pub fn reset_on_close(fd: &OwnedFd) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option value outlives the call and its length is right.
    unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&linger).cast(),
            std::mem::size_of::<libc::linger>() as libc::socklen_t,
        );
    }
}

/// What a non-blocking transfer came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes, at least one.
    Bytes(usize),
    /// Nothing now.
    WouldBlock,
    /// The peer has ended its direction.
    End,
    /// The connection is gone.
    Failed(i32),
}

fn outcome(result: isize) -> Transfer {
    match result {
        0 => Transfer::End,
        n if n > 0 => Transfer::Bytes(n as usize),
        _ => match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN) => Transfer::WouldBlock,
            Some(libc::EINTR) => Transfer::WouldBlock,
            code => Transfer::Failed(code.unwrap_or(libc::EIO)),
        },
    }
}

/// Receives into the vectors.
///
/// # Safety
/// Every vector names memory that stays mapped and writable during the call.
pub unsafe fn receive(fd: RawFd, vectors: &mut [libc::iovec]) -> Transfer {
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    // SAFETY: the caller vouches for the vectors; the header outlives the call.
    outcome(unsafe { libc::recvmsg(fd, &mut message, libc::MSG_DONTWAIT) })
}

/// Receives into our own buffer, or only looks (`peek`).
pub fn receive_buffer(fd: RawFd, buffer: &mut [u8], peek: bool) -> Transfer {
    let flags = libc::MSG_DONTWAIT | if peek { libc::MSG_PEEK } else { 0 };
    // SAFETY: the buffer is ours and outlives the call.
    outcome(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) })
}

/// Sends the vectors.
///
/// # Safety
/// Every vector names memory that stays mapped and readable during the call.
pub unsafe fn send(fd: RawFd, vectors: &mut [libc::iovec]) -> Transfer {
    const FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if let [only] = vectors {
        // SAFETY: the caller vouches for the vector.
        return outcome(unsafe { libc::send(fd, only.iov_base, only.iov_len, FLAGS) });
    }
    // SAFETY: all-zero bytes are a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    // SAFETY: the caller vouches for the vectors; the header outlives the call.
    outcome(unsafe { libc::sendmsg(fd, &message, FLAGS) })
}
