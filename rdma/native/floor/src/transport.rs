//! The ways to move messages over a socket.

use crate::epoll::Epoll;
use crate::order::{Kind, Means, Order};
use crate::ring::Ring;
use crate::socket::Socket;
use crate::zero_copy::ZeroCopy;
use std::io;

/// How many sends without a copy may have the kernel still refer to their memory.
pub const LENT_MAX: u64 = 16;

/// What the kernel has said about sends without a copy.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct Completions {
    pub all: u64,
    /// How many of them say that it has copied after all.
    pub copied: u64,
}

pub trait Transport {
    /// Sends all of a message, waiting as it must.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Fills `bytes`.
    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()>;

    /// Sends a message and receives another.
    fn exchange(&mut self, out: &[u8], into: &mut [u8]) -> io::Result<()> {
        self.send(out)?;
        self.receive(into)
    }

    /// Sends a message so often. The kernel does not refer to it any more when this returns.
    fn send_repeatedly(&mut self, bytes: &[u8], count: u64) -> io::Result<Completions> {
        for _ in 0..count {
            self.send(bytes)?;
        }
        Ok(Completions::default())
    }
}

/// One end's way, as an order says. Fails where the kernel has it not.
pub fn open<'a>(socket: &'a Socket, order: Order, is_sender: bool) -> io::Result<Box<dyn Transport + 'a>> {
    let is_polling = order.kind == Kind::Poll;
    Ok(match order.means {
        Means::ZeroCopy if is_sender => Box::new(ZeroCopy::new(socket)?),
        Means::Calls | Means::ZeroCopy => Box::new(Calls { socket, is_polling }),
        Means::Epoll => Box::new(Epoll::new(socket)?),
        Means::Ring => Box::new(Ring::new(socket, is_polling, false)?),
        Means::RingZeroCopy => Box::new(Ring::new(socket, is_polling, is_sender)?),
    })
}

/// `send` and `recv`, which sleep until they are done, or ask again and again.
struct Calls<'a> {
    socket: &'a Socket,
    is_polling: bool,
}

impl Transport for Calls<'_> {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send(bytes)
    }

    fn receive(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        if self.is_polling {
            self.socket.receive_polling(bytes)
        } else {
            self.socket.receive(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::ORDER_BYTES;
    use std::net::{TcpListener, TcpStream};

    fn pair() -> io::Result<(Socket, Socket)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let client = TcpStream::connect(listener.local_addr()?)?;
        Ok((Socket::new(client)?, Socket::new(listener.accept()?.0)?))
    }

    /// Runs both ends of an order; `None` where the kernel has no such means.
    fn both(order: Order) -> io::Result<Option<Completions>> {
        let (client, server) = pair()?;
        let mut sender = match open(&client, order, true) {
            Err(error) if [libc::ENOSYS, libc::EPERM].map(Some).contains(&error.raw_os_error()) => {
                eprintln!("LEFT OUT: this kernel has no such means: {error}");
                return Ok(None);
            }
            other => other?,
        };
        let message: Vec<u8> = (0..order.size).map(|at| (at % 251) as u8).collect();
        let expected = message.clone();
        let peer = std::thread::spawn(move || -> io::Result<bool> {
            let mut receiver = open(&server, order, false)?;
            let mut into = vec![0; expected.len()];
            let mut is_equal = true;
            for _ in 0..order.count {
                into.fill(0);
                receiver.receive(&mut into)?;
                is_equal &= into == expected;
                if order.kind != Kind::Stream {
                    receiver.send(&into)?;
                }
            }
            Ok(is_equal)
        });
        let mut completions = Completions::default();
        if order.kind == Kind::Stream {
            completions = sender.send_repeatedly(&message, order.count)?;
        } else {
            let mut into = vec![0; order.size];
            for _ in 0..order.count {
                into.fill(0);
                sender.exchange(&message, &mut into)?;
                assert_eq!(into, message);
            }
        }
        assert!(peer.join().map_err(|_| io::Error::other("the receiver panicked"))??);
        Ok(Some(completions))
    }

    #[test]
    fn all_means_move_what_was_sent() -> io::Result<()> {
        for means in [Means::Calls, Means::Epoll, Means::ZeroCopy, Means::Ring, Means::RingZeroCopy] {
            for (kind, size, count) in [(Kind::Block, 64, 100), (Kind::Poll, 64, 100), (Kind::Stream, 100_000, 100)] {
                if means.suit(kind) {
                    both(Order { kind, means, request: size, size, count })?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn sends_without_a_copy_complete_each_by_itself() -> io::Result<()> {
        for means in [Means::ZeroCopy, Means::RingZeroCopy] {
            let order = Order { kind: Kind::Stream, means, request: 1, size: 3_000_000, count: 20 };
            if let Some(completions) = both(order)? {
                assert!(completions.all >= order.count && completions.copied <= completions.all, "{completions:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn an_end_that_goes_away_is_an_error() -> io::Result<()> {
        for means in [Means::Calls, Means::Epoll, Means::Ring] {
            let (client, server) = pair()?;
            let order = Order { kind: Kind::Block, means, request: 64, size: 64, count: 1 };
            let Ok(mut end) = open(&client, order, true) else { continue };
            drop(server);
            assert!(end.receive(&mut [0; 64]).is_err());
        }
        Ok(())
    }

    #[test]
    fn an_order_arrives_as_it_was_given() -> io::Result<()> {
        let order = Order { kind: Kind::Stream, means: Means::RingZeroCopy, request: 7, size: 8, count: 9 };
        let bytes: [u8; ORDER_BYTES] = order.encode();
        let arrived = Order::decode(bytes)?;
        assert_eq!((arrived.request, arrived.size, arrived.count), (7, 8, 9));
        assert!(arrived.kind == order.kind && arrived.means == order.means);
        let unsuitable = Order { kind: Kind::Duplex, ..order };
        assert!(Order::decode(unsuitable.encode()).is_err());
        Ok(())
    }
}
