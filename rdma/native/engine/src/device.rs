//! A device: one epoll set, one background thread, one completion ring, one memory table.
//!
//! Progress is anybody's work. JavaScript's thread drives while it polls and renews a *lease* with each call; as long as that lasts, and while JavaScript sleeps in epoll
//! itself (`wait`), the background thread stays out of the way. When JavaScript sleeps elsewhere (it has armed the channel) or is busy (the lease has run out), the
//! background thread, asleep in epoll, serves. `handover` has the rules.
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::conn::{Conn, ENDING, READABLE, WRITABLE};
use crate::counters::{Counters, Tally};
use crate::handover::{Watch, GRACE_MAX_NS};
use crate::listener::Listener;
use crate::lock;
use crate::memory::MemoryTable;
use crate::moderation::Moderations;
use crate::registry::Registry;
use crate::ring::Ring;
use crate::shared::SharedReceives;

/// Every device of the process.
pub static DEVICES: Registry<Device> = Registry::new();
/// Every connection.
pub static CONNS: Registry<Conn> = Registry::new();
/// Every listener.
pub static LISTENERS: Registry<Listener> = Registry::new();
/// Every shared receive queue.
pub static SHARED: Registry<SharedReceives> = Registry::new();

/// How long a call of `progress` or `wait` keeps the background thread away once it has returned.
const LEASE_NS: u64 = 1_000_000;
/// How often deadlines are looked at while there are any.
const DEADLINE_TICK: Duration = Duration::from_millis(50);
/// Connections that `progress` tries without asking epoll first.
const HOT_MAX: usize = 2;
/// After so many rounds over hot connections epoll is asked for all the others: the least right after it has told of one, the most while it does not. It saves
/// system calls where one connection is active, and none starves.
const ROUNDS_MIN: u32 = 4;
const ROUNDS_MAX: u32 = 16;
/// What a round counts that has moved something: it took longer than one that has not.
const ROUND_MOVED: u32 = 4;
/// Rounds between two looks at the clock: a power of two.
const ROUNDS_PER_CLOCK: u32 = 4;
const EVENTS_MAX: usize = 64;
/// epoll data with this bit set is a listener's handle.
const LISTENER_BIT: u64 = 1 << 63;
const WAKE_DATA: u64 = u64::MAX;
const NUDGE_DATA: u64 = u64::MAX - 1;
const RING_ENTRIES: u32 = 4096;

/// An engine instance.
pub struct Device {
    /// Registered memory.
    pub memory: MemoryTable,
    /// What was counted.
    pub counters: Counters,
    /// Completions and events.
    pub ring: Ring,
    /// What completions of its queues wait for.
    pub moderations: Moderations,
    /// Connections that are still in memory, in whatever state.
    pub alive: AtomicU64,
    epoll: OwnedFd,
    /// Interrupts the background thread's wait for events,
    wake: OwnedFd,
    /// and the caller's.
    nudge: OwnedFd,
    /// Wakes a JavaScript thread that sleeps on the other end; a pipe, for a pair of sockets takes a µs more.
    channel: OwnedFd,
    /// Its other end, for as long as the device lives: whoever writes without a reader gets a SIGPIPE, which ends a process that does not ignore it.
    _reader: OwnedFd,
    /// The same for JavaScript, until it asks for it: descriptors are reserved when a device is opened, and none is needed later.
    wakes: Mutex<Option<OwnedFd>>,
    origin: Instant,
    watch: Watch,
    stop: AtomicBool,
    /// Connections that are to run again, each of them once.
    ready: Mutex<VecDeque<Arc<Conn>>>,
    hot: Mutex<Vec<Arc<Conn>>>,
    /// Rounds until epoll is asked,
    rounds: AtomicU32,
    /// and how many there will be after that.
    gap: AtomicU32,
    deadlines: Mutex<Vec<Arc<Conn>>>,
    /// Listeners that could take no connection, until the next tick.
    paused: Mutex<Vec<Arc<Listener>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// How many connections have ended, and what they had done.
    ended: Mutex<(u64, Tally)>,
}

/// Whose turn it is.
#[derive(Clone, Copy)]
enum Turn {
    /// It may sleep for so long when there is nothing to do.
    Caller(Duration),
    Background,
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn owned(result: libc::c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes an event of it. A full counter is one as well.
fn raise(event: &OwnedFd) {
    let one = 1u64;
    // SAFETY: eight bytes are read from a local.
    unsafe {
        libc::write(event.as_raw_fd(), std::ptr::from_ref(&one).cast(), 8);
    }
}

/// Undoes `raise`.
fn lower(event: &OwnedFd) {
    let mut waste = 0u64;
    // SAFETY: eight bytes are written to a local.
    unsafe {
        libc::read(event.as_raw_fd(), std::ptr::from_mut(&mut waste).cast(), 8);
    }
}

impl Device {
    /// Opens a device and starts its thread.
    pub fn open() -> io::Result<Arc<Self>> {
        // SAFETY: no memory is passed.
        let epoll = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: no memory is passed.
        let event = || owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) });
        let (wake, nudge) = (event()?, event()?);
        let mut pair = [0; 2];
        // SAFETY: the array has room for the two descriptors.
        check(unsafe { libc::pipe2(pair.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: fresh descriptors that nobody else owns.
        let [reader, channel] = pair.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let device = Arc::new(Self {
            memory: MemoryTable::default(),
            counters: Counters::default(),
            ring: Ring::new(RING_ENTRIES),
            moderations: Moderations::default(),
            alive: AtomicU64::new(0),
            epoll,
            wake,
            nudge,
            channel,
            wakes: Mutex::new(Some(reader.try_clone()?)),
            _reader: reader,
            origin: Instant::now(),
            watch: Watch::default(),
            stop: AtomicBool::new(false),
            ready: Mutex::new(VecDeque::new()),
            hot: Mutex::new(Vec::new()),
            rounds: AtomicU32::new(0),
            gap: AtomicU32::new(ROUNDS_MIN),
            deadlines: Mutex::new(Vec::new()),
            paused: Mutex::new(Vec::new()),
            thread: Mutex::new(None),
            ended: Mutex::default(),
        });
        device.control(&device.wake, WAKE_DATA, libc::EPOLLIN as u32)?;
        device.control(&device.nudge, NUDGE_DATA, libc::EPOLLIN as u32)?;
        let own = Arc::clone(&device);
        let thread = std::thread::Builder::new().name("weft-progress".into()).spawn(move || own.background())?;
        *lock(&device.thread) = Some(thread);
        Ok(device)
    }

    /// The end of the channel on which JavaScript is woken, once it has armed; it can be had once.
    pub fn channel(&self) -> Option<OwnedFd> {
        lock(&self.wakes).take()
    }

    fn control(&self, fd: &OwnedFd, data: u64, events: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: the event outlives the call.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })
            .map(|_| ())
    }

    /// Adds a connection's socket, edge-triggered in both directions once and for all.
    pub fn watch(&self, fd: &OwnedFd, handle: u64) -> io::Result<()> {
        self.control(fd, handle, (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32)
    }

    /// Adds a listener's socket.
    pub fn watch_listener(&self, fd: &OwnedFd, handle: u64) -> io::Result<()> {
        self.control(fd, handle | LISTENER_BIT, libc::EPOLLIN as u32)
    }

    /// Has epoll report a listener's connections, or not.
    pub fn attend(&self, fd: &OwnedFd, handle: u64, events: bool) {
        let events = if events { libc::EPOLLIN as u32 } else { 0 };
        let mut event = libc::epoll_event { events, u64: handle | LISTENER_BIT };
        // SAFETY: the event outlives the call.
        unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_MOD, fd.as_raw_fd(), &mut event);
        }
    }

    /// Has a listener attended to again at the next tick.
    pub fn pause(&self, listener: &Arc<Listener>) {
        lock(&self.paused).push(Arc::clone(listener));
        self.retime();
    }

    /// Drops a connection that JavaScript never heard of.
    pub fn forget(&self, handle: u64) {
        CONNS.remove(handle);
    }

    /// How many connections there are (of all devices: the limit protects the process).
    pub fn connections(&self) -> usize {
        CONNS.count()
    }

    /// Has a connection looked at until its deadline is cleared or has passed.
    pub fn watch_deadline(&self, conn: &Arc<Conn>) {
        let mut deadlines = lock(&self.deadlines);
        if deadlines.iter().any(|known| Arc::ptr_eq(known, conn)) {
            return;
        }
        deadlines.push(Arc::clone(conn));
        if deadlines.len() == 1 {
            self.retime();
        }
    }

    /// Has the background thread see anew for how long it may sleep, and whether it is to go on at all.
    fn retime(&self) {
        self.watch.background.interrupt(|| raise(&self.wake));
    }

    /// Has a connection run again after others.
    pub fn again(&self, conn: &Arc<Conn>, events: u32) {
        if conn.defer(events) {
            lock(&self.ready).push_back(Arc::clone(conn));
            self.watch.interrupt(|| raise(&self.nudge), || raise(&self.wake));
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    /// One round over everything that is ready; where nothing is, it sleeps in epoll for as long as may be.
    fn turn(&self, who: Turn) -> bool {
        let mut moved = false;
        let pending = lock(&self.ready).len();
        for _ in 0..pending {
            let Some(conn) = lock(&self.ready).pop_front() else { break };
            moved |= conn.run_deferred();
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        self.counters.epoll_calls.add(1);
        let (sleeper, may_sleep) = match who {
            Turn::Caller(timeout) => (&self.watch.caller, !timeout.is_zero()),
            Turn::Background => (&self.watch.background, true),
        };
        // What has just run may have completed something, and anybody may have left work: that must be seen to before anybody may sleep.
        let is_idle = || {
            let is_wanted = match who {
                Turn::Caller(_) => self.ring.ready() > 0,
                Turn::Background => self.stop.load(Ordering::SeqCst),
            };
            !is_wanted && lock(&self.ready).is_empty()
        };
        let n = if pending == 0 && may_sleep && sleeper.fall_asleep(is_idle) {
            let timeout = match who {
                Turn::Caller(timeout) => Some(timeout),
                // not before it counts as asleep: whoever adds a deadline before that does not interrupt it
                Turn::Background => self.background_timeout(),
            };
            let n = self.epoll_wait(&mut events, timeout);
            sleeper.wake_up();
            n
        } else {
            self.epoll_wait(&mut events, Some(Duration::ZERO))
        };
        for event in events.iter().take(n) {
            let (data, bits) = (event.u64, event.events);
            if data == WAKE_DATA {
                if !self.watch.background.settle(|| lower(&self.wake), || raise(&self.wake)) {
                    std::thread::yield_now(); // it may need this core to see it, and until it has, epoll tells again
                }
            } else if data == NUDGE_DATA {
                self.watch.caller.settle(|| lower(&self.nudge), || raise(&self.nudge));
            } else if data & LISTENER_BIT != 0 {
                if let Some(listener) = LISTENERS.get(data & !LISTENER_BIT) {
                    let _ = catch_unwind(AssertUnwindSafe(|| listener.run()));
                }
            } else if let Some(conn) = CONNS.get(data) {
                let flag = |mask: libc::c_int, value: u32| if bits & mask as u32 != 0 { value } else { 0 };
                let events = flag(libc::EPOLLIN, READABLE)
                    | flag(libc::EPOLLOUT, WRITABLE)
                    | flag(libc::EPOLLRDHUP | libc::EPOLLHUP | libc::EPOLLERR, ENDING);
                if conn.run_guarded(events) {
                    moved = true;
                    self.note_hot(conn);
                }
            }
        }
        moved
    }

    /// Events, after at most `timeout`. Kernels before 5.11 wait in whole milliseconds, and shorter waits not at all; so does who may not use the newer call, which
    /// a sandbox that does not know it refuses by an error of its own.
    fn epoll_wait(&self, events: &mut [libc::epoll_event; EVENTS_MAX], timeout: Option<Duration>) -> usize {
        let (fd, room) = (self.epoll.as_raw_fd(), EVENTS_MAX as libc::c_int);
        if let Some(timeout) = timeout.filter(|timeout| !timeout.is_zero() && timeout.subsec_nanos() % 1_000_000 != 0) {
            let timeout = libc::timespec {
                tv_sec: timeout.as_secs() as libc::time_t,
                tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
            };
            // SAFETY: the array has room for EVENTS_MAX events, the time is a local, and there is no signal mask.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    fd,
                    events.as_mut_ptr(),
                    room,
                    &timeout,
                    std::ptr::null::<u8>(),
                    0usize,
                )
            };
            if n >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted {
                return usize::try_from(n).unwrap_or(0);
            }
        }
        let milliseconds = timeout.map_or(-1, |timeout| timeout.as_millis().min(i32::MAX as u128) as libc::c_int);
        // SAFETY: the array has room for EVENTS_MAX events.
        let n = unsafe { libc::epoll_wait(fd, events.as_mut_ptr(), room, milliseconds) };
        usize::try_from(n).unwrap_or(0)
    }

    fn note_hot(&self, conn: Arc<Conn>) {
        let mut hot = lock(&self.hot);
        if hot.iter().any(|known| Arc::ptr_eq(known, &conn)) {
            return;
        }
        if hot.len() >= HOT_MAX {
            hot.remove(0);
        }
        hot.push(conn);
        self.gap.store(ROUNDS_MIN, Ordering::Relaxed);
    }

    fn hot(&self) -> [Option<Arc<Conn>>; HOT_MAX] {
        let hot = lock(&self.hot);
        std::array::from_fn(|i| hot.get(i).cloned())
    }

    /// One round over the connections that are hot, or over all that are ready. Returns whether anything moved.
    fn round(&self, hot: &mut [Option<Arc<Conn>>; HOT_MAX]) -> bool {
        let mut moved = false;
        // epoll first: behind it, what a hot connection has just got would have to wait for its answer
        if hot[0].is_none() || self.rounds.load(Ordering::Relaxed) == 0 {
            moved = self.turn(Turn::Caller(Duration::ZERO));
            *hot = self.hot();
            let gap = self.gap.load(Ordering::Relaxed);
            self.rounds.store(gap, Ordering::Relaxed);
            self.gap.store((gap * 2).min(ROUNDS_MAX), Ordering::Relaxed);
        }
        for conn in hot.iter().flatten() {
            // what it could not send is epoll's to report: trying again would only contend for the socket
            moved |= conn.run_guarded(READABLE);
        }
        let rounds = self.rounds.load(Ordering::Relaxed);
        self.rounds.store(rounds.saturating_sub(if moved { ROUND_MOVED } else { 1 }), Ordering::Relaxed);
        moved
    }

    /// JavaScript's turn: makes progress, and returns how many entries are ready. Spins for up to `spin_ns` until there is one, or payload has moved, which may be a
    /// Write that the program looks for.
    pub fn progress(&self, spin_ns: u64) -> u32 {
        let begin = self.now();
        self.watch.renew(begin + LEASE_NS);
        // What the background thread has left is answered first, the sockets can wait.
        let ready = self.ring.ready();
        if ready > 0 {
            return ready;
        }
        let mut hot = self.hot();
        let mut rounds = 0u32;
        loop {
            let moved = self.round(&mut hot);
            let ready = self.ring.ready();
            if ready > 0 || moved || spin_ns == 0 {
                return ready;
            }
            rounds += 1;
            if rounds & (ROUNDS_PER_CLOCK - 1) == 0 {
                let now = self.now();
                if now - begin >= spin_ns {
                    return 0;
                }
                self.watch.renew(now + LEASE_NS);
            }
            std::hint::spin_loop();
        }
    }

    /// JavaScript's turn: makes progress, asleep in the kernel for up to `timeout` until something completes, and returns how many entries are ready.
    pub fn wait(&self, timeout: Duration) -> u32 {
        let end = self.now() + timeout.as_nanos() as u64;
        loop {
            let now = self.now();
            let left = Duration::from_nanos(end.saturating_sub(now));
            // not for as long as it may sleep, which keeps the background thread away by itself: what it returns to may take its time
            self.watch.renew(now + LEASE_NS);
            let ready = self.ring.ready();
            if ready > 0 || left.is_zero() {
                return ready;
            }
            self.turn(Turn::Caller(left));
        }
    }

    /// JavaScript goes to sleep. True where it must not, because entries are ready.
    pub fn arm(&self) -> bool {
        self.ring.rest();
        let sleeps = self.watch.arm(|| self.ring.ready() > 0);
        if sleeps {
            lock(&self.hot).clear();
        }
        !sleeps
    }

    /// Wakes JavaScript if it sleeps and there is something for it, be it in the event loop or in `wait`.
    pub fn signal(&self) {
        if self.watch.is_to_wake(|| self.ring.is_wanted() || self.patience() == Some(Duration::ZERO)) {
            self.counters.wakeups.add(1);
            let byte = [0u8];
            // SAFETY: one byte is read from a local. A full pipe means that wake-ups are under way already.
            unsafe {
                libc::write(self.channel.as_raw_fd(), byte.as_ptr().cast(), 1);
            }
        } else if self.watch.caller.is_asleep() && self.ring.ready() > 0 {
            raise(&self.nudge);
        }
    }

    /// The same by a thread that may be JavaScript's, and does not look at the ring behind this: the background thread knows nothing of what has been completed here,
    /// and is to see for how long that may wait.
    pub fn signal_self(&self) {
        self.signal();
        if self.watch.is_armed() && self.ring.ready() > 0 {
            self.retime();
        }
    }

    /// How long completions that are ready may still wait for more, where there are such.
    fn patience(&self) -> Option<Duration> {
        self.ring.patience(|| self.now())
    }

    /// A connection has ended that had done this.
    pub fn note_end(&self, tally: &Tally) {
        let mut ended = lock(&self.ended);
        ended.0 += 1;
        ended.1.add(tally);
    }

    /// What all connections have done, those that have ended included.
    pub fn tally(self: &Arc<Self>) -> Tally {
        loop {
            let (before, mut sum) = *lock(&self.ended);
            for conn in CONNS.all() {
                if Arc::ptr_eq(&conn.device, self) {
                    conn.tally_unless_ended().inspect(|tally| sum.add(tally));
                }
            }
            // one that ended meanwhile is in neither sum, or in both
            if lock(&self.ended).0 == before {
                return sum;
            }
        }
    }

    fn background(&self) {
        let mut looked = Instant::now();
        let mut grace = 0;
        while !self.stop.load(Ordering::SeqCst) {
            if self.is_timed() && looked.elapsed() >= DEADLINE_TICK {
                looked = Instant::now();
                self.expire(looked);
                self.signal();
            }
            if self.watch.stand_aside(self.now(), grace, DEADLINE_TICK) {
                grace = (grace * 2).clamp(LEASE_NS, GRACE_MAX_NS);
                continue;
            }
            grace = 0;
            self.counters.background_turns.add(1);
            self.turn(Turn::Background);
            self.signal();
        }
    }

    /// Whether something is to be looked at every `DEADLINE_TICK`.
    fn is_timed(&self) -> bool {
        !lock(&self.deadlines).is_empty() || !lock(&self.paused).is_empty()
    }

    /// How long the background thread may sleep; `None`: until something happens.
    fn background_timeout(&self) -> Option<Duration> {
        let tick = self.is_timed().then_some(DEADLINE_TICK);
        let patience = if self.watch.is_armed() { self.patience() } else { None };
        tick.into_iter().chain(patience).min()
    }

    fn expire(&self, now: Instant) {
        for listener in std::mem::take(&mut *lock(&self.paused)) {
            listener.attend(true);
        }
        let watched = std::mem::take(&mut *lock(&self.deadlines));
        for conn in watched {
            let still = catch_unwind(AssertUnwindSafe(|| conn.check_deadline(now))).unwrap_or(false);
            if still {
                lock(&self.deadlines).push(conn);
            }
        }
    }

    /// Ends every connection and listener of the device, and its thread.
    pub fn close(self: &Arc<Self>) {
        for listener in LISTENERS.all() {
            if listener.is_of(self) {
                listener.close();
                LISTENERS.remove(listener.handle);
            }
        }
        self.stop.store(true, Ordering::SeqCst);
        self.watch.release();
        self.retime();
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
        // The background thread may have accepted connections until now.
        for conn in CONNS.all() {
            if Arc::ptr_eq(&conn.device, self) {
                conn.abort();
                CONNS.remove(conn.handle);
            }
        }
        for shared in SHARED.all() {
            if Arc::ptr_eq(&shared.device, self) {
                shared.close();
                SHARED.remove(shared.handle);
            }
        }
        lock(&self.hot).clear();
        lock(&self.ready).clear();
        lock(&self.deadlines).clear();
        lock(&self.paused).clear();
    }
}

#[cfg(test)]
mod tests;
