//! The floor: what a plain program gets from a loopback TCP socket, in the same run as our own figures.
//!
//! `weft-floor serve [--core N]` prints its port and serves one connection after the other.
//! `weft-floor run PORT KIND SIZE COUNT [--core N] [--congestion NAME] [--gap MS]` prints one line of JSON. KIND is `block` or `poll`
//! (ping-pong of SIZE bytes, both ends blocking or busy-polling; with a gap both ends are asleep before each round) or `stream` (COUNT messages of SIZE bytes one way, each received into place by one
//! `recv` with MSG_WAITALL).

mod socket;

use socket::{pin_to_core, Socket};
use std::io::{self, Error, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// The largest message that a peer may ask for.
const SIZE_MAX: u64 = 64 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Block,
    Poll,
    Stream,
}

/// What the client tells the server to do: 24 bytes at the start of a connection.
#[derive(Clone, Copy)]
struct Order {
    kind: Kind,
    size: usize,
    count: u64,
}

impl Order {
    fn encode(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        bytes[0] = match self.kind {
            Kind::Block => 0,
            Kind::Poll => 1,
            Kind::Stream => 2,
        };
        bytes[8..16].copy_from_slice(&(self.size as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; 24]) -> io::Result<Order> {
        let kind = match bytes[0] {
            0 => Kind::Block,
            1 => Kind::Poll,
            2 => Kind::Stream,
            _ => return Err(Error::new(ErrorKind::InvalidData, "unknown kind")),
        };
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8..16]);
        let size = u64::from_le_bytes(word);
        word.copy_from_slice(&bytes[16..24]);
        let count = u64::from_le_bytes(word);
        if size == 0 || size > SIZE_MAX {
            return Err(Error::new(ErrorKind::InvalidData, "size out of range"));
        }
        Ok(Order { kind, size: size as usize, count })
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
    let text =
        "usage: serve [--core N] | run PORT block|poll|stream SIZE COUNT [--core N] [--congestion NAME] [--gap MS]";
    Error::new(ErrorKind::InvalidInput, text)
}

fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied()
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.parse().ok()).ok_or_else(usage)
}

fn serve(words: &[&str]) -> io::Result<()> {
    if let Some(core) = option(words, "--core") {
        pin_to_core(number(Some(core))? as usize)?;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
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
    let mut buffer = vec![0; order.size];
    for _ in 0..order.count {
        match order.kind {
            Kind::Block => {
                socket.receive(&mut buffer)?;
                socket.send(&buffer)?;
            }
            Kind::Poll => {
                socket.receive_polling(&mut buffer)?;
                socket.send(&buffer)?;
            }
            Kind::Stream => socket.receive(&mut buffer)?,
        }
    }
    if order.kind == Kind::Stream {
        socket.send(&[1])?;
    }
    Ok(())
}

fn run(words: &[&str]) -> io::Result<()> {
    let port = number(words.first().copied())? as u16;
    let kind = match words.get(1).copied() {
        Some("block") => Kind::Block,
        Some("poll") => Kind::Poll,
        Some("stream") => Kind::Stream,
        _ => return Err(usage()),
    };
    let size = number(words.get(2).copied())? as usize;
    let count = number(words.get(3).copied())?;
    if let Some(core) = option(words, "--core") {
        pin_to_core(number(Some(core))? as usize)?;
    }
    let socket = Socket::new(TcpStream::connect(("127.0.0.1", port))?)?;
    if let Some(name) = option(words, "--congestion") {
        socket.set_congestion(name)?;
    }
    let order = Order { kind, size, count };
    socket.send(&order.encode())?;
    if kind == Kind::Stream {
        stream(&socket, order)
    } else {
        let gap = option(words, "--gap").map_or(Ok(0), |text| number(Some(text)))?;
        ping_pong(&socket, order, Duration::from_millis(gap))
    }
}

fn stream(socket: &Socket, order: Order) -> io::Result<()> {
    let buffer = vec![0x5a; order.size];
    let mut acknowledgement = [0];
    let started = Instant::now();
    for _ in 0..order.count {
        socket.send(&buffer)?;
    }
    socket.receive(&mut acknowledgement)?;
    let seconds = started.elapsed().as_secs_f64();
    let bytes = order.size as f64 * order.count as f64;
    println!("{{\"gigabytesPerSecond\":{:.4}}}", bytes / 1e9 / seconds);
    Ok(())
}

fn ping_pong(socket: &Socket, order: Order, gap: Duration) -> io::Result<()> {
    let mut buffer = vec![0; order.size];
    let mut micros = Vec::with_capacity(order.count as usize);
    for _ in 0..order.count {
        if !gap.is_zero() {
            std::thread::sleep(gap);
        }
        let started = Instant::now();
        socket.send(&buffer)?;
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
