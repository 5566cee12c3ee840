//! Recorded traffic: a pcap file of Ethernet or Linux cooked frames, and the two byte streams of each TCP connection in
//! it.
//!
//! It trusts the recording, and panics where that is not as expected.

use std::collections::BTreeMap;
use std::path::Path;

/// An IPv4 address and a port.
pub type Endpoint = ([u8; 4], u16);

/// One TCP connection, with everything that each side sent.
pub struct Connection {
    /// Sent the first SYN.
    pub client: Endpoint,
    pub server: Endpoint,
    pub from_client: Vec<u8>,
    pub from_server: Vec<u8>,
}

struct Packet<'a> {
    from: Endpoint,
    to: Endpoint,
    sequence: u32,
    is_syn: bool,
    is_ack: bool,
    payload: &'a [u8],
}

/// One direction while it is put together: its segments by their distance from the first byte.
#[derive(Default)]
struct Direction {
    first_byte: u32,
    segments: BTreeMap<u32, Vec<u8>>,
}

/// The connections of a capture, in the order in which they were opened.
pub fn connections(path: &Path) -> Vec<Connection> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut opened: Vec<(Endpoint, Endpoint)> = Vec::new();
    let mut directions: BTreeMap<(Endpoint, Endpoint), Direction> = BTreeMap::new();
    for packet in packets(&file) {
        let key = (packet.from, packet.to);
        if packet.is_syn {
            let first_byte = packet.sequence.wrapping_add(1);
            directions.insert(key, Direction { first_byte, ..Direction::default() });
            if !packet.is_ack {
                opened.push(key);
            }
        } else if !packet.payload.is_empty() {
            let direction = directions.get_mut(&key).expect("a connection whose opening was not recorded");
            let offset = packet.sequence.wrapping_sub(direction.first_byte);
            let segment = direction.segments.entry(offset).or_default();
            if packet.payload.len() > segment.len() {
                *segment = packet.payload.to_vec();
            }
        }
    }
    let mut stream = |from, to| directions.remove(&(from, to)).map_or_else(Vec::new, Direction::into_stream);
    opened
        .into_iter()
        .map(|(client, server)| Connection {
            client,
            server,
            from_client: stream(client, server),
            from_server: stream(server, client),
        })
        .collect()
}

impl Direction {
    /// The bytes in order. Segments that were sent again, whole or in part, count once.
    fn into_stream(self) -> Vec<u8> {
        let mut stream = Vec::new();
        for (offset, segment) in self.segments {
            let offset = offset as usize;
            assert!(offset <= stream.len(), "{} bytes are missing in the recording", offset - stream.len());
            if let Some(news) = segment.get(stream.len() - offset..) {
                stream.extend_from_slice(news);
            }
        }
        stream
    }
}

fn packets(file: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert!([0xa1b2_c3d4, 0xa1b2_3c4d].contains(&word(0)), "not a little-endian pcap file");
    let link_header_len = match word(20) {
        1 => 14,
        113 => 16,
        276 => 20,
        other => panic!("link type {other}"),
    };
    let mut at = 24;
    std::iter::from_fn(move || {
        let captured = (at < file.len()).then(|| word(at + 8) as usize)?;
        assert_eq!(captured, word(at + 12) as usize, "a packet was cut");
        let frame = &file[at + 16..at + 16 + captured];
        at += 16 + captured;
        Some(tcp_packet(&frame[link_header_len..]))
    })
    .flatten()
}

fn tcp_packet(ip: &[u8]) -> Option<Packet<'_>> {
    if ip[0] >> 4 != 4 || ip[9] != 6 {
        return None;
    }
    let half = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let tcp = &ip[usize::from(ip[0] & 0x0f) * 4..usize::from(half(ip, 2))];
    let address = |at: usize| [ip[at], ip[at + 1], ip[at + 2], ip[at + 3]];
    Some(Packet {
        from: (address(12), half(tcp, 0)),
        to: (address(16), half(tcp, 2)),
        sequence: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        is_syn: tcp[13] & 0x02 != 0,
        is_ack: tcp[13] & 0x10 != 0,
        payload: &tcp[usize::from(tcp[12] >> 4) * 4..],
    })
}
