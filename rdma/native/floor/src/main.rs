//! The floor: what a plain program gets from a TCP socket, in the same run as our own figures.
//!
//! `weft-floor serve [--host ADDRESS] [--core N] [--to FILE]` prints its port and serves one connection after the other. With a file, what streams
//! bring is written to it from its start.
//! `weft-floor run PORT KIND SIZE COUNT [--host ADDRESS] [--core N] [--congestion NAME] [--gap MS] [--request SIZE] [--by MEANS] [--from FILE]`
//! prints one line of JSON. KIND is
//! - `block` or `poll`: ping-pong of SIZE bytes, both ends blocking or busy-polling. With a gap both ends are asleep before each round; with a request
//!   size the client's messages have that one.
//! - `stream`: COUNT messages of SIZE bytes one way, each received into place by one `recv` with MSG_WAITALL. With a file they are read from its
//!   start; by calls only.
//! - `duplex`: COUNT messages of SIZE bytes in both directions at once, each end a single thread; the rate is that of both together.
//!
//! `weft-floor distance CORE CORE` prints how many nanoseconds a cache line takes from one core to the other.
//!
//! Rates come with the processor time of both ends, and of the sender alone.
//!
//! MEANS is how both ends move their messages:
//! - `calls`: `send` and `recv`, the floor. What else there is, is measured against it.
//! - `epoll`: calls that do not wait, and epoll when there is nothing to do; not for `poll`.
//! - `zero-copy`: MSG_ZEROCOPY; streams only. `completions` says how many sends there were, `copied` how many of them the kernel copied after all.
//! - `ring`: io_uring; `poll` looks for completions in the memory that is shared with the kernel, and enters it only to fetch them.
//! - `ring-zero-copy`: io_uring, with SEND_ZC from a registered buffer; streams only.
//!
//! What of these cannot be used here, or fails, is `{"failure": "…"}`, and no error.

mod distance;
mod epoll;
mod order;
mod ring;
mod socket;
mod transport;
mod zero_copy;

use order::{Kind, Means, Order, ORDER_BYTES};
use socket::{cpu_time, pin_to_core, Readiness, Socket};
use std::fs::{File, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use transport::{Completions, Transport};

const LOOPBACK: &str = "127.0.0.1";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.first().copied() {
        Some("serve") => serve(&words[1..]),
        Some("run") => run(&words[1..]),
        Some("distance") => distance(&words[1..]),
        _ => Err(usage()),
    };
    if let Err(error) = outcome {
        eprintln!("weft-floor: {error}");
        std::process::exit(1);
    }
}

fn usage() -> Error {
    let text = "usage: serve [--host ADDRESS] [--core N] [--to FILE] | run PORT block|poll|stream|duplex SIZE COUNT [--host ADDRESS] [--core N] \
        [--congestion NAME] [--gap MS] [--request SIZE] [--by calls|epoll|zero-copy|ring|ring-zero-copy] [--from FILE] | distance CORE CORE";
    Error::new(ErrorKind::InvalidInput, text)
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied()
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(usage)
}

fn pin(words: &[&str]) -> io::Result<()> {
    match option(words, "--core") {
        Some(core) => pin_to_core(number(Some(core))? as usize),
        None => Ok(()),
    }
}

fn serve(words: &[&str]) -> io::Result<()> {
    pin(words)?;
    let to = option(words, "--to").map(|path| OpenOptions::new().write(true).open(path)).transpose()?;
    let listener = TcpListener::bind((option(words, "--host").unwrap_or(LOOPBACK), 0))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        // a client that breaks off ends its own measurement only
        if let Err(error) = serve_one(&Socket::new(stream?)?, to.as_ref()) {
            eprintln!("weft-floor: {error}");
        }
    }
    Ok(())
}

fn serve_one(socket: &Socket, to: Option<&File>) -> io::Result<()> {
    let mut head = [0; ORDER_BYTES];
    match socket.receive(&mut head) {
        // a client that has found that it cannot measure says nothing
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
        other => other?,
    }
    let order = Order::decode(head)?;
    let cpu_before = cpu_time();
    // what tells a sender that everything has come
    let acknowledge = || socket.send(&((cpu_time() - cpu_before).as_nanos() as u64).to_le_bytes());
    if order.kind == Kind::Duplex {
        return duplex(socket, order).and_then(|()| acknowledge());
    }
    let mut transport = transport::open(socket, order, false)?;
    if order.kind == Kind::Stream {
        let mut buffer = vec![0; order.size];
        for message in 0..order.count {
            transport.receive(&mut buffer)?;
            if let Some(file) = to {
                file.write_all_at(&buffer, message * order.size as u64)?;
            }
        }
        return acknowledge();
    }
    let (mut buffer, answer) = (vec![0; order.request], vec![0x5a; order.size]);
    if order.count > 0 {
        transport.receive(&mut buffer)?;
        for _ in 1..order.count {
            transport.exchange(&answer, &mut buffer)?;
        }
        transport.send(&answer)?;
    }
    Ok(())
}

fn distance(words: &[&str]) -> io::Result<()> {
    let core = |at: usize| number(words.get(at).copied()).map(|core| core as usize);
    println!("{}", distance::measure((core(0)?, core(1)?))?.as_nanos());
    Ok(())
}

fn run(words: &[&str]) -> io::Result<()> {
    let port = number(words.first().copied())? as u16;
    let kind = words.get(1).and_then(|name| Kind::of(name)).ok_or_else(usage)?;
    let size = number(words.get(2).copied())? as usize;
    let count = number(words.get(3).copied())?;
    let request = option(words, "--request").map_or(Ok(size as u64), |text| number(Some(text)))? as usize;
    let gap = option(words, "--gap").map_or(Ok(0), |text| number(Some(text)))?;
    let means = option(words, "--by").map_or(Some(Means::Calls), Means::of).ok_or_else(usage)?;
    let from = option(words, "--from").map(File::open).transpose()?;
    if !means.suit(kind) || (from.is_some() && (kind != Kind::Stream || means != Means::Calls)) {
        return Err(usage());
    }
    pin(words)?;
    let socket = Socket::new(TcpStream::connect((option(words, "--host").unwrap_or(LOOPBACK), port))?)?;
    if let Some(name) = option(words, "--congestion") {
        socket.set_congestion(name)?;
    }
    let order = Order { kind, means, request, size, count };
    match measure(&socket, order, Work { gap: Duration::from_millis(gap), from: from.as_ref() }) {
        Err(error) if means != Means::Calls => println!("{{\"failure\":{:?}}}", error.to_string()),
        outcome => println!("{}", outcome?),
    }
    Ok(())
}

/// What of an order only the client has to know.
struct Work<'a> {
    /// The pause before each round of a ping-pong.
    gap: Duration,
    /// Where a stream's messages are read.
    from: Option<&'a File>,
}

/// Carries an order out; returns its figures in JSON.
fn measure(socket: &Socket, order: Order, work: Work<'_>) -> io::Result<String> {
    let mut transport = transport::open(socket, order, true)?;
    socket.send(&order.encode())?;
    match order.kind {
        Kind::Stream | Kind::Duplex => bulk(socket, &mut *transport, order, work.from),
        Kind::Block | Kind::Poll => ping_pong(&mut *transport, order, work.gap),
    }
}

fn bulk(socket: &Socket, transport: &mut dyn Transport, order: Order, from: Option<&File>) -> io::Result<String> {
    let mut acknowledgement = [0; 8];
    let mut buffer = vec![0x5a; order.size];
    let (started, cpu_before) = (Instant::now(), cpu_time());
    let (directions, Completions { all, copied }) = if order.kind == Kind::Duplex {
        duplex(socket, order)?;
        (2.0, Completions::default())
    } else if let Some(file) = from {
        for message in 0..order.count {
            file.read_exact_at(&mut buffer, message * order.size as u64)?;
            transport.send(&buffer)?;
        }
        (1.0, Completions::default())
    } else {
        (1.0, transport.send_repeatedly(&buffer, order.count)?)
    };
    socket.receive(&mut acknowledgement)?;
    let seconds = started.elapsed().as_secs_f64();
    let sender = cpu_time() - cpu_before;
    let both = sender + Duration::from_nanos(u64::from_le_bytes(acknowledgement));
    let gigabytes = directions * order.size as f64 * order.count as f64 / 1e9;
    Ok(format!(
        "{{\"gigabytesPerSecond\":{:.6},\"cpuSeconds\":{:.6},\"senderCpuSeconds\":{:.6},\"completions\":{all},\"copied\":{copied}}}",
        gigabytes / seconds,
        both.as_secs_f64(),
        sender.as_secs_f64()
    ))
}

/// Sends and receives all messages of an order at once, on this one thread.
fn duplex(socket: &Socket, order: Order) -> io::Result<()> {
    let (out, mut into) = (vec![0x5a; order.size], vec![0; order.size]);
    let total = order.count.saturating_mul(order.size as u64);
    let (mut sent, mut received) = (0u64, 0u64);
    while sent < total || received < total {
        let mut moved = 0;
        if sent < total {
            let at = (sent % order.size as u64) as usize;
            moved = socket.try_send(out.get(at..).unwrap_or_default())?;
            sent += moved as u64;
        }
        if received < total {
            let at = (received % order.size as u64) as usize;
            let count = socket.try_receive(into.get_mut(at..).unwrap_or_default())?;
            received += count as u64;
            moved += count;
        }
        if moved == 0 {
            socket.wait(Readiness { to_send: sent < total, to_receive: received < total })?;
        }
    }
    Ok(())
}

fn ping_pong(transport: &mut dyn Transport, order: Order, gap: Duration) -> io::Result<String> {
    let (request, mut buffer) = (vec![0x5a; order.request], vec![0; order.size]);
    let mut micros = Vec::with_capacity(order.count.min(1 << 24) as usize);
    for _ in 0..order.count {
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
        let started = Instant::now();
        transport.exchange(&request, &mut buffer)?;
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    Ok(format!("{{\"roundTripMicros\":{:.3},\"p99Micros\":{:.3}}}", at(0.5), at(0.99)))
}
