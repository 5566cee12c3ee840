//! What a client tells the server to do.

use std::io::{self, Error, ErrorKind};

/// The largest message that a peer may ask for.
const SIZE_MAX: u64 = 1 << 30;
pub const ORDER_BYTES: usize = 24;

const KINDS: [(&str, Kind); 4] =
    [("block", Kind::Block), ("poll", Kind::Poll), ("stream", Kind::Stream), ("duplex", Kind::Duplex)];
const MEANS: [(&str, Means); 5] = [
    ("calls", Means::Calls),
    ("epoll", Means::Epoll),
    ("zero-copy", Means::ZeroCopy),
    ("ring", Means::Ring),
    ("ring-zero-copy", Means::RingZeroCopy),
];

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Block = 0,
    Poll = 1,
    Stream = 2,
    Duplex = 3,
}

/// How both ends move their messages; a receiver knows nothing of zero copies.
#[derive(Clone, Copy, PartialEq)]
pub enum Means {
    Calls = 0,
    Epoll = 1,
    ZeroCopy = 2,
    Ring = 3,
    RingZeroCopy = 4,
}

/// 24 bytes at the start of a connection.
#[derive(Clone, Copy)]
pub struct Order {
    pub kind: Kind,
    pub means: Means,
    /// Bytes of a client's message in a ping-pong.
    pub request: usize,
    pub size: usize,
    pub count: u64,
}

impl Kind {
    pub fn of(name: &str) -> Option<Kind> {
        KINDS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

impl Means {
    pub fn of(name: &str) -> Option<Means> {
        MEANS.iter().find(|(known, _)| *known == name).map(|(_, means)| *means)
    }

    /// Whether a measurement can be made by these.
    pub fn suit(self, kind: Kind) -> bool {
        match self {
            Means::Calls => true,
            Means::Epoll => matches!(kind, Kind::Block | Kind::Stream),
            Means::Ring => kind != Kind::Duplex,
            Means::ZeroCopy | Means::RingZeroCopy => kind == Kind::Stream,
        }
    }
}

impl Order {
    pub fn encode(self) -> [u8; ORDER_BYTES] {
        let mut bytes = [0; ORDER_BYTES];
        bytes[0] = self.kind as u8;
        bytes[1] = self.means as u8;
        bytes[4..8].copy_from_slice(&(self.request as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&(self.size as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.count.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: [u8; ORDER_BYTES]) -> io::Result<Order> {
        let invalid = |what: &str| Error::new(ErrorKind::InvalidData, what);
        let kind = KINDS.iter().map(|(_, kind)| *kind).find(|kind| *kind as u8 == bytes[0]);
        let kind = kind.ok_or_else(|| invalid("unknown kind"))?;
        let means = MEANS.iter().map(|(_, means)| *means).find(|means| *means as u8 == bytes[1]);
        let means = means.ok_or_else(|| invalid("unknown means"))?;
        let mut half = [0; 4];
        half.copy_from_slice(&bytes[4..8]);
        let request = u64::from(u32::from_le_bytes(half));
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8..16]);
        let size = u64::from_le_bytes(word);
        word.copy_from_slice(&bytes[16..24]);
        let count = u64::from_le_bytes(word);
        if size == 0 || size > SIZE_MAX || request == 0 || request > SIZE_MAX {
            return Err(invalid("size out of range"));
        }
        if !means.suit(kind) {
            return Err(invalid("means that do not suit the kind"));
        }
        Ok(Order { kind, means, request: request as usize, size: size as usize, count })
    }
}
