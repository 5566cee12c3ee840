//! A caller that waits beside the background thread: who is interrupted, who sleeps, and who does what the other leaves.
use std::cell::OnceCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{scope, sleep};

use super::*;
use crate::abi::{
    weft_accept, weft_connect, weft_device_close, weft_device_open, weft_last_errno, weft_listen, LIMITS_WORDS,
    SETTINGS_WORDS,
};
use crate::ring::{Entry, EntryKind, Wake, HEAD_WORD};
use crate::status::Status;
use crate::work::{ReceiveWork, Sge, Sges};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(10);
const ROUNDS: u64 = 9;
/// What most hand-overs must not take: several times what they may, and half of what they took where nothing but a tick ended a sleep.
const LATE: Duration = Duration::from_millis(25);

fn until(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG);
        sleep(Duration::from_micros(100));
    }
}

/// A device that listens, and the port.
struct Node {
    handle: f64,
    device: Arc<Device>,
    port: u16,
}

impl Node {
    fn open() -> Self {
        let (mut out, mut listener) = ([0.0; 3], [0.0; 2]);
        // SAFETY: there is room for what is written, and the lengths are those of what is passed.
        unsafe {
            assert_eq!(weft_device_open(out.as_mut_ptr()), 0);
            let (host, limits) = (b"127.0.0.1", [0; LIMITS_WORDS]);
            assert_eq!(weft_listen(out[0], host.as_ptr(), 9, 0, 1, limits.as_ptr(), listener.as_mut_ptr()), 0);
        }
        Self { handle: out[0], device: DEVICES.get(out[0] as u64).unwrap(), port: listener[1] as u16 }
    }

    /// Completes something, which ends a wait.
    fn complete(&self) {
        let kind = EntryKind::Send;
        self.device.ring.push(Entry { tag: 9, kind, status: Status::Ok, slot: 0, bytes: 0, detail: 0, aux: 0 });
        self.device.signal();
    }

    /// The connection of its, when there is one.
    fn connection(&self) -> Arc<Conn> {
        let mut conn = None;
        until(|| {
            conn = CONNS.all().into_iter().find(|conn| Arc::ptr_eq(&conn.device, &self.device));
            conn.is_some()
        });
        conn.unwrap()
    }

    /// Waits, and takes what was completed.
    fn wait(&self) {
        assert_eq!(self.device.wait(LONG), 1);
        self.device.ring.word(HEAD_WORD).fetch_add(1, Ordering::SeqCst);
    }

    /// Has the background thread stand aside for a caller that waits.
    fn set_aside(&self) {
        let Watch { caller, background, .. } = &self.device.watch;
        until(|| caller.is_asleep());
        // once may not do: where the caller comes to life by it, too, the other one finds itself on watch, and sleeps again
        until(|| {
            let is_asleep = background.is_asleep();
            if is_asleep {
                raise(&self.device.wake);
            }
            !is_asleep
        });
        sleep(Duration::from_millis(2));
    }

    /// Has nobody else take turns.
    fn keep(&self) {
        self.device.watch.renew(self.device.now() + LONG.as_nanos() as u64);
        until(|| {
            raise(&self.device.wake);
            !self.device.watch.background.is_asleep()
        });
        sleep(Duration::from_millis(2));
    }

    /// Does it while another thread waits.
    fn meanwhile<R>(&self, body: impl FnOnce() -> R) -> R {
        scope(|scope| {
            scope.spawn(|| self.wait());
            self.set_aside();
            let result = body();
            self.complete();
            result
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        assert_eq!(weft_device_close(self.handle), 0);
    }
}

/// Fails where most of them took long.
fn assert_prompt(times: impl Iterator<Item = Duration>) {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    assert!(times[times.len() / 2] < LATE, "{times:?}");
}

#[test]
fn who_waits_is_asleep_whatever_the_background_thread_is_interrupted_for() {
    let node = Node::open();
    let calls = || node.device.counters.epoll_calls.get();
    let during = |interrupt: &dyn Fn()| {
        let before = calls();
        interrupt();
        sleep(Duration::from_millis(300));
        calls() - before
    };
    let peer = OnceCell::new();
    let (connected, late) = node.meanwhile(|| {
        // the first connection at start-up, and so the first deadline, which is the background thread's to look at
        let connected = during(&|| {
            _ = peer.set(TcpStream::connect(("127.0.0.1", node.port)).unwrap());
            until(|| node.device.alive.load(Ordering::SeqCst) == 1);
        });
        // that thread had come to life by something else when it was interrupted
        (connected, during(&|| raise(&node.device.wake)))
    });
    assert!(connected < 1000 && late < 1000, "epoll was asked {connected} and {late} times");
}

#[test]
fn who_waits_takes_over_what_others_leave() {
    let node = Node::open();
    let _peer = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    let conn = node.connection();
    assert_prompt((0..ROUNDS).map(|_| {
        node.meanwhile(|| {
            let begin = Instant::now();
            node.device.again(&conn, READABLE);
            until(|| lock(&node.device.ready).is_empty());
            begin.elapsed()
        })
    }));
}

#[test]
fn the_background_thread_is_soon_back_when_a_wait_is_over() {
    let node = Node::open();
    assert_prompt((0..ROUNDS).map(|round| {
        // short waits, and some for which the background thread has stood aside without looking
        node.meanwhile(|| sleep(Duration::from_millis(round * 2)));
        let begin = Instant::now();
        until(|| node.device.watch.background.is_asleep());
        begin.elapsed()
    }));
}

#[test]
fn a_connection_is_in_line_once_however_much_it_has_to_do() {
    let node = Node::open();
    let _peer = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    let conn = node.connection();
    node.keep();
    for _ in 0..3 {
        (0..9).for_each(|_| [READABLE, WRITABLE].iter().for_each(|events| node.device.again(&conn, *events)));
        assert_eq!(lock(&node.device.ready).len(), 1);
        node.device.turn(Turn::Caller(Duration::ZERO));
        assert!(lock(&node.device.ready).is_empty());
    }
}

#[test]
fn a_poll_lasts_while_a_stream_has_what_nobody_receives() {
    let node = Node::open();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (_conn, mut peer) = connect_stream(&node, 2, &listener);
    node.wait();
    let spin = Duration::from_millis(20);
    for _ in 0..3 {
        peer.write_all(b"for nobody").unwrap();
        sleep(Duration::from_millis(5));
        let begin = Instant::now();
        assert_eq!(node.device.progress(spin.as_nanos() as u64), 0);
        assert!(begin.elapsed() >= spin, "{:?}", begin.elapsed());
    }
}

/// A connection to a plain listener, as JavaScript begins it.
fn connect_stream(node: &Node, tag: u32, listener: &TcpListener) -> (Arc<Conn>, TcpStream) {
    let port = u32::from(listener.local_addr().unwrap().port());
    let mut settings = [0; SETTINGS_WORDS];
    settings[0] = 1;
    let (words, host, none, mut out) = (settings.as_ptr(), b"127.0.0.1", std::ptr::null(), [0.0]);
    // SAFETY: the lengths are those of what is passed.
    assert_eq!(unsafe { weft_connect(node.handle, host.as_ptr(), 9, port, tag, words, none, 0, out.as_mut_ptr()) }, 0);
    (CONNS.get(out[0] as u64).unwrap(), listener.accept().unwrap().0)
}

#[test]
fn what_a_look_at_a_connection_brings_about_is_told_to_who_sleeps() {
    let node = Node::open();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let looks: [fn(&Arc<Conn>); 3] =
        [|conn| drop(conn.facts()), |conn| _ = conn.tally(), |conn| _ = conn.device.tally()];
    let mut told = std::fs::File::from(node.device.channel().unwrap());
    for look in looks {
        let (conn, mut peer) = connect_stream(&node, 2, &listener);
        node.wait();
        let mut memory = [0u8; 1];
        let mut sges = Sges::default();
        sges.push(Sge { stag: 0, length: 1, address: memory.as_mut_ptr() as u64 });
        assert_eq!(conn.post(Vec::new(), vec![ReceiveWork::new(0, sges)]), Status::Ok);
        until(|| !node.device.is_timed()); // what is looked at from time to time is found out by that
        assert!(!node.device.arm());
        let (turns, background) = (|| node.device.counters.background_turns.get(), &node.device.watch.background);
        until(|| background.is_asleep());
        conn.while_locked(|| {
            let before = turns();
            peer.write_all(b"x").unwrap();
            // the background thread leaves a note and sleeps again
            until(|| turns() > before && background.is_asleep());
            sleep(Duration::from_millis(20));
        });
        look(&conn);
        assert_eq!(node.device.ring.ready(), 1);
        sleep(Duration::from_millis(20));
        assert_eq!(told.read(&mut [0; 9]).ok(), Some(1), "nobody is told");
        node.device.ring.word(HEAD_WORD).fetch_add(1, Ordering::SeqCst);
        conn.abort();
        node.device.ring.ready();
        node.device.ring.word(HEAD_WORD).fetch_add(1, Ordering::SeqCst);
        node.device.watch.renew(0);
        while told.read(&mut [0; 9]).is_ok() {}
    }
}

#[test]
fn what_a_look_at_a_connection_brings_about_waits_for_no_longer_than_it_may() {
    let node = Node::open();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (conn, _peer) = connect_stream(&node, 2, &listener);
    node.wait();
    until(|| !node.device.is_timed());
    let mut told = std::fs::File::from(node.device.channel().unwrap());
    let moderation = node.device.moderations.join(1, 9, 5000).unwrap();
    assert!(!node.device.arm());
    until(|| node.device.watch.background.is_asleep());
    let entry = Entry { tag: 2, kind: EntryKind::Receive, status: Status::Ok, slot: 0, bytes: 1, detail: 0, aux: 0 };
    node.device.ring.append(entry, Wake::Moderated(&moderation));
    drop(conn.facts());
    until(|| told.read(&mut [0; 9]).is_ok());
}

#[test]
fn a_stream_is_known_for_one_when_it_is_told_that_it_is_established() {
    let node = Node::open();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    for _ in 0..300 {
        let tail = node.device.ring.word(0).load(Ordering::SeqCst);
        let (conn, _peer) = connect_stream(&node, 2, &listener);
        while node.device.ring.word(0).load(Ordering::SeqCst) == tail {}
        assert!(conn.is_stream(), "what is posted now leaves as an iWARP message");
        node.device.ring.word(HEAD_WORD).fetch_add(1, Ordering::SeqCst);
    }
}

/// Has a system call refused from now on, for this thread, as sandboxes do with those that they do not know.
fn refuse(call: libc::c_long, error: libc::c_int) {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the call's number
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the filter outlives the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
}

#[test]
fn who_may_not_wait_for_microseconds_waits_for_milliseconds() {
    let node = Node::open();
    scope(|scope| {
        scope.spawn(|| {
            refuse(libc::SYS_epoll_pwait2, libc::EPERM);
            let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
            let begin = Instant::now();
            assert_eq!(node.device.epoll_wait(&mut events, Some(Duration::from_micros(20_500))), 0);
            assert!(begin.elapsed() >= Duration::from_millis(20), "{:?}", begin.elapsed());
        });
    });
}

#[test]
fn who_cannot_be_watched_is_told_at_once() {
    let node = Node::open();
    let listener = LISTENERS.all().into_iter().find(|listener| listener.is_of(&node.device)).unwrap();
    node.keep();
    let mut peer = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    scope(|scope| {
        scope.spawn(|| {
            refuse(libc::SYS_epoll_ctl, libc::ENOSPC);
            listener.run();
        });
    });
    assert_eq!(peer.read(&mut [0]).map_err(|error| error.kind()), Ok(0));
}

#[test]
fn who_cannot_be_listened_for_is_told_why_whatever_went_wrong_before() {
    let node = Node::open();
    let (limits, mut out) = ([0; LIMITS_WORDS], [0.0; 2]);
    let mut listen = |port| {
        // SAFETY: the lengths are those of what is passed.
        let status =
            unsafe { weft_listen(node.handle, b"127.0.0.1".as_ptr(), 9, port, 1, limits.as_ptr(), out.as_mut_ptr()) };
        (status, weft_last_errno())
    };
    scope(|scope| {
        scope.spawn(|| {
            assert_eq!(listen(node.port.into()), (Status::System as i32, libc::EADDRINUSE));
            refuse(libc::SYS_epoll_ctl, libc::ENOSPC);
            assert_eq!(listen(0), (Status::System as i32, libc::ENOSPC));
        });
    });
}

/// An MPA reply with read depths, and without private data.
const REPLY_BYTES: usize = 24;

/// A node that has been asked for a connection, that, and its peer.
fn asked() -> (Node, Arc<Conn>, TcpStream) {
    let node = Node::open();
    let mut peer = TcpStream::connect(("127.0.0.1", node.port)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    peer.write_all(b"MPA ID Req Frame\x10\x02\x00\x04\x00\x10\x00\x10").unwrap();
    node.wait();
    let conn = node.connection();
    (node, conn, peer)
}

/// Answers, on a thread whose sockets have no room.
fn answer_in_want_of_room(answer: impl FnOnce() -> Status + Send) {
    scope(|scope| {
        scope.spawn(|| {
            refuse(libc::SYS_sendto, libc::EAGAIN);
            assert_eq!(answer(), Status::Ok);
        });
    });
}

fn accept(conn: &Conn) -> Status {
    let (settings, none) = ([0; SETTINGS_WORDS], std::ptr::null());
    // SAFETY: the lengths are those of what is passed.
    assert_eq!(unsafe { weft_accept(conn.handle as f64, 2, settings.as_ptr(), none, 0) }, 0);
    Status::Ok
}

/// What the peer gets once there is room again.
fn all_that_leaves(conn: &Arc<Conn>, peer: &mut TcpStream) -> Vec<u8> {
    conn.run(WRITABLE);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn a_reply_that_the_socket_has_no_room_for_is_sent_when_it_has() {
    let (_node, conn, mut peer) = asked();
    answer_in_want_of_room(|| accept(&conn));
    conn.run(WRITABLE);
    let mut reply = [0; 16];
    peer.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"MPA ID Rep Frame");
}

#[test]
fn a_refusal_that_the_socket_has_no_room_for_is_sent_when_it_has() {
    let (_node, conn, mut peer) = asked();
    answer_in_want_of_room(|| conn.reject(b"no"));
    let reply = all_that_leaves(&conn, &mut peer);
    assert!(reply.starts_with(b"MPA ID Rep Frame") && reply.ends_with(b"no"), "{reply:?}");
}

#[test]
fn a_close_waits_for_a_reply_that_has_not_left_whole() {
    let (_node, conn, mut peer) = asked();
    answer_in_want_of_room(|| {
        accept(&conn);
        conn.close();
        Status::Ok
    });
    let reply = all_that_leaves(&conn, &mut peer);
    assert_eq!((reply.get(..16), reply.len()), (Some(&b"MPA ID Rep Frame"[..]), REPLY_BYTES));
}

#[test]
fn a_terminate_follows_a_reply_that_has_not_left_whole() {
    let (_node, conn, mut peer) = asked();
    peer.write_all(&[[0, 18].as_slice(), &[0; 22]].concat()).unwrap(); // of no version of DDP's
    answer_in_want_of_room(|| {
        accept(&conn);
        conn.start();
        Status::Ok
    });
    let reply = all_that_leaves(&conn, &mut peer);
    assert_eq!(reply.get(..16), Some(&b"MPA ID Rep Frame"[..]));
    assert_eq!(reply.get(REPLY_BYTES + 3), Some(&0x47), "a Terminate");
}
