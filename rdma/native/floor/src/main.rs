//! The floor: what a plain program gets from a TCP socket, in the same run as our own figures.
//!
//! `weft-floor serve [--host ADDRESS] [--core N]` prints its port and serves one connection after the other.
//! `weft-floor run PORT KIND SIZE COUNT [--host ADDRESS] [--core N] [--congestion NAME] [--gap MS] [--request SIZE]` prints one line of JSON. KIND is
//! - `block` or `poll`: ping-pong of SIZE bytes, both ends blocking or busy-polling. With a gap both ends are asleep before each round; with a request
//!   size the client's messages have that one.
//! - `stream`: COUNT messages of SIZE bytes one way, each received into place by one `recv` with MSG_WAITALL.
//! - `duplex`: COUNT messages of SIZE bytes in both directions at once, each end a single thread; the rate is that of both together.
//!
//! Rates come with the processor time of both ends.

mod socket;

use socket::{cpu_time, pin_to_core, Readiness, Socket};
use std::io::{self, Error, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The largest message that a peer may ask for.
const SIZE_MAX: u64 = 1 << 30;
const LOOPBACK: &str = "127.0.0.1";
const KINDS: [(&str, Kind); 4] =
    [("block", Kind::Block), ("poll", Kind::Poll), ("stream", Kind::Stream), ("duplex", Kind::Duplex)];

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Block = 0,
    Poll = 1,
    Stream = 2,
    Duplex = 3,
}

/// What the client tells the server to do: 24 bytes at the start of a connection.
#[derive(Clone, Copy)]
struct Order {
    kind: Kind,
    /// Bytes of a client's message in a ping-pong.
    request: usize,
    size: usize,
    count: u64,
}

impl Order {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0] = self.kind as u8;
        bytes[4..8].copy_from_slice(&(self.request as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.size as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; 24]) -> io::Result<Order> {
        let Some((_, kind)) = KINDS.get(usize::from(bytes[0])) else {
            return Err(Error::new(ErrorKind::InvalidData, "unknown kind"));
        };
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[4..8]);
        let request = u64::from(u32::from_le_bytes(half));
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8..16]);
        let size = u64::from_le_bytes(word);
        word.copy_from_slice(&bytes[16..24]);
        let count = u64::from_le_bytes(word);
        if size == 0 || size > SIZE_MAX || request == 0 || request > SIZE_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "size out of range"));
        }
        Ok(Order { kind: *kind, request: request as usize, size: size as usize, count })
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.first().copied() {
        Some("serve") => serve(&words[1..]),
        Some("run") => run(&words[1..]),
        _ => Err(usage()),
    };
    if let Err(error) = outcome {
        eprintln!("weft-floor: {error}");
        std::process::exit(1);
    }
}

fn usage() -> Error {
    let text = "usage: serve [--host ADDRESS] [--core N] | run PORT block|poll|stream|duplex SIZE COUNT [--host ADDRESS] [--core N] \
        [--congestion NAME] [--gap MS] [--request SIZE]";
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
    let listener = TcpListener::bind((option(words, "--host").unwrap_or(LOOPBACK), 0))?;
    println!("{}", listener.local_addr()?.port());
    for stream in listener.incoming() {
        // a client that breaks off ends its own measurement only
        if let Err(error) = serve_one(&Socket::new(stream?)?) {
            eprintln!("weft-floor: {error}");
        }
    }
    Ok(())
}

fn serve_one(socket: &Socket) -> io::Result<()> {
    let mut head = [0; 24];
    socket.receive(&mut head)?;
    let order = Order::decode(head)?;
    let cpu_before = cpu_time();
    // what tells a sender that everything has come
    let acknowledge = || socket.send(&((cpu_time() - cpu_before).as_nanos() as u64).to_le_bytes());
    if order.kind == Kind::Duplex {
        return duplex(socket, order).and_then(|()| acknowledge());
    }
    let incoming = if order.kind == Kind::Stream { order.size } else { order.request };
    let (mut buffer, answer) = (vec![0; incoming], vec![0x5a; order.size]);
    for _ in 0..order.count {
        match order.kind {
            Kind::Poll => socket.receive_polling(&mut buffer)?,
            _ => socket.receive(&mut buffer)?,
        }
        if order.kind != Kind::Stream {
            socket.send(&answer)?;
        }
    }
    if order.kind == Kind::Stream {
        acknowledge()?;
    }
    Ok(())
}

fn run(words: &[&str]) -> io::Result<()> {
    let port = number(words.first().copied())? as u16;
    let name = words.get(1).copied().unwrap_or_default();
    let (_, kind) = *KINDS.iter().find(|(known, _)| *known == name).ok_or_else(usage)?;
    let size = number(words.get(2).copied())? as usize;
    let count = number(words.get(3).copied())?;
    let request = option(words, "--request").map_or(Ok(size as u64), |text| number(Some(text)))? as usize;
    pin(words)?;
    let socket = Socket::new(TcpStream::connect((option(words, "--host").unwrap_or(LOOPBACK), port))?)?;
    if let Some(name) = option(words, "--congestion") {
        socket.set_congestion(name)?;
    }
    let order = Order { kind, request, size, count };
    socket.send(&order.encode())?;
    match kind {
        Kind::Stream | Kind::Duplex => bulk(&socket, order),
        Kind::Block | Kind::Poll => {
            let gap = option(words, "--gap").map_or(Ok(0), |text| number(Some(text)))?;
            ping_pong(&socket, order, Duration::from_millis(gap))
        }
    }
}

fn bulk(socket: &Socket, order: Order) -> io::Result<()> {
    let mut acknowledgement = [0; 8];
    let (started, cpu_before) = (Instant::now(), cpu_time());
    let directions = if order.kind == Kind::Duplex {
        duplex(socket, order)?;
        2.0
    } else {
        let buffer = vec![0x5a; order.size];
        for _ in 0..order.count {
            socket.send(&buffer)?;
        }
        1.0
    };
    socket.receive(&mut acknowledgement)?;
    let seconds = started.elapsed().as_secs_f64();
    let cpu = cpu_time() - cpu_before + Duration::from_nanos(u64::from_le_bytes(acknowledgement));
    let gigabytes = directions * order.size as f64 * order.count as f64 / 1e9;
    println!("{{\"gigabytesPerSecond\":{:.6},\"cpuSeconds\":{:.6}}}", gigabytes / seconds, cpu.as_secs_f64());
    Ok(())
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

fn ping_pong(socket: &Socket, order: Order, gap: Duration) -> io::Result<()> {
    let (request, mut buffer) = (vec![0x5a; order.request], vec![0; order.size]);
    let mut micros = Vec::with_capacity(order.count.min(1 << 24) as usize);
    for _ in 0..order.count {
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
        let started = Instant::now();
        socket.send(&request)?;
        match order.kind {
            Kind::Poll => socket.receive_polling(&mut buffer)?,
            _ => socket.receive(&mut buffer)?,
        }
        micros.push(started.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    println!("{{\"roundTripMicros\":{:.3},\"p99Micros\":{:.3}}}", at(0.5), at(0.99));
    Ok(())
}
