//! The start-up negotiation: what each side asks for, and what both have agreed on at its end (RFC 5044 §7.1, RFC
//! 6581).
//!
//! - CRCs are on when either side asks for them.
//! - Each side says whether it wants to receive markers; the other one then sends them (RFC 5044 §7.1.1).
//! - With revision 2 the sides exchange read depths. What one may have outstanding (ORD) is bounded by what the other
//!   serves (IRD).
//! - A responder sends nothing before the initiator's first FPDU (RFC 5044 §7.1.2). In peer-to-peer mode (RFC 6581)
//!   that FPDU is a zero-length one whose kind the responder picks, so that either side's upper layer may speak first.

use std::fmt;

use super::frame::{Enhanced, Frame, FrameKind, MpaError, DEPTH_MAX, DEPTH_UNSTATED};
use crate::rdmap::TerminateCode;

/// The most Reads that this side ever keeps outstanding. Linux's siw refuses a larger ORD in a reply.
pub const ORD_MAX: u16 = 128;

/// What this side brings to the negotiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartupOptions {
    /// The revision to ask for: 1 or 2. A responder answers with the initiator's.
    pub revision: u8,
    /// Whether to ask for CRCs.
    pub crc: bool,
    /// Whether to ask for markers in what the peer sends.
    pub markers: bool,
    /// How many RDMA Reads of the peer's this side serves at once.
    pub ird: u16,
    /// How many RDMA Reads this side wants to have outstanding.
    pub ord: u16,
    /// Whether to ask for peer-to-peer mode; of no meaning in a responder, which goes by the request.
    pub peer_to_peer: bool,
    /// The only ready-to-receive message to offer, or the one to pick where it is offered; `None`: any but a Send.
    pub rtr: Option<Rtr>,
    /// The upper layer's data: at most 508 bytes with revision 2, 512 with revision 1. More is cut off.
    pub private_data: Vec<u8>,
}

impl Default for StartupOptions {
    fn default() -> Self {
        StartupOptions {
            revision: 2,
            crc: false,
            markers: false,
            ird: ORD_MAX,
            ord: ORD_MAX,
            peer_to_peer: false,
            rtr: None,
            private_data: Vec::new(),
        }
    }
}

impl StartupOptions {
    /// Whether an initiator offers this ready-to-receive message.
    fn offers(&self, rtr: Rtr) -> bool {
        self.peer_to_peer && self.rtr.map_or(rtr != Rtr::Send, |only| only == rtr)
    }
}

/// Which side of the connection this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection, and sends the first FPDU.
    Initiator,
    /// Took it, and sends no FPDU before it has received one.
    Responder,
}

/// The zero-length message by which an initiator in peer-to-peer mode says that it is ready to receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rtr {
    /// A Send; it takes no posted receive, and the upper layer does not hear of it.
    Send,
    /// An RDMA Write.
    Write,
    /// An RDMA Read; it is answered by an empty Read Response.
    Read,
}

/// What both sides have agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// This side's role.
    pub role: Role,
    /// The revision spoken.
    pub revision: u8,
    /// Whether every FPDU carries a CRC that must match.
    pub crc: bool,
    /// Whether this side sends markers, which the peer asked for.
    pub send_markers: bool,
    /// Whether the peer sends markers, which this side asked for.
    pub receive_markers: bool,
    /// How many Reads of the peer's this side serves at once.
    pub ird: u16,
    /// How many Reads this side may have outstanding.
    pub ord: u16,
    /// The ready-to-receive message that the initiator must send, and the responder awaits.
    pub rtr: Option<Rtr>,
    /// The peer's private data.
    pub private_data: Vec<u8>,
}

/// Why a connection did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartupError {
    /// The peer's frame is malformed.
    Mpa(MpaError),
    /// The responder rejected the connection.
    Rejected {
        /// What it said about it.
        private_data: Vec<u8>,
    },
    /// The responder speaks an older revision than was asked for; asking again with `revision` on a new connection may
    /// succeed.
    OlderRevision {
        /// The revision that it answered with.
        revision: u8,
        /// Whether it rejected the connection as well.
        rejected: bool,
    },
    /// The responder wants more Reads outstanding than this side said it serves.
    InsufficientIrd {
        /// What the Request offered.
        offered: u16,
        /// What the Reply asks for.
        wanted: u16,
    },
    /// The responder picked none of the ready-to-receive messages that were offered.
    NoMatchingRtr,
    /// The reply can't be worked with for another reason.
    IncompatibleReply(&'static str),
}

impl StartupError {
    /// What an initiator tells the peer in a Terminate before it closes (RFC 6581 §8): only where the Reply accepted,
    /// and so put the peer in a state to receive FPDUs.
    pub fn terminate_code(&self) -> Option<TerminateCode> {
        match self {
            StartupError::InsufficientIrd { .. } => Some(TerminateCode::MPA_INSUFFICIENT_IRD),
            StartupError::NoMatchingRtr => Some(TerminateCode::MPA_NO_MATCHING_RTR),
            StartupError::IncompatibleReply(_) => Some(TerminateCode::MPA_INVALID_FRAME),
            _ => None,
        }
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartupError::Mpa(error) => error.fmt(f),
            StartupError::Rejected { private_data } => {
                write!(f, "the peer rejected the connection ({} bytes of private data)", private_data.len())
            }
            StartupError::OlderRevision { revision, .. } => {
                write!(f, "the peer speaks MPA revision {revision}, which is older than the one asked for")
            }
            StartupError::InsufficientIrd { offered, wanted } => {
                write!(f, "the peer wants {wanted} RDMA Reads outstanding, but {offered} were offered")
            }
            StartupError::NoMatchingRtr => write!(f, "the peer picked no ready-to-receive message that was offered"),
            StartupError::IncompatibleReply(reason) => write!(f, "incompatible MPA Reply: {reason}"),
        }
    }
}

impl std::error::Error for StartupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartupError::Mpa(error) => Some(error),
            _ => None,
        }
    }
}

impl From<MpaError> for StartupError {
    fn from(error: MpaError) -> Self {
        StartupError::Mpa(error)
    }
}

/// The side that opens the connection, between its Request and the peer's Reply.
#[derive(Clone, Debug)]
pub struct Initiator {
    options: StartupOptions,
}

impl Initiator {
    /// Starts the negotiation; the bytes are the Request to send. A revision other than 1 counts as 2.
    pub fn new(options: StartupOptions) -> (Initiator, Vec<u8>) {
        let revision = if options.revision == 1 { 1 } else { 2 };
        let options =
            StartupOptions { revision, ird: options.ird.min(DEPTH_MAX), ord: options.ord.min(ORD_MAX), ..options };
        let request = Frame {
            kind: FrameKind::Request,
            revision,
            markers: options.markers,
            crc: options.crc,
            reject: false,
            enhanced: (revision == 2).then_some(Enhanced {
                ird: options.ird,
                ord: options.ord,
                peer_to_peer: options.peer_to_peer,
                rtr_send: options.offers(Rtr::Send),
                rtr_write: options.offers(Rtr::Write),
                rtr_read: options.offers(Rtr::Read),
            }),
            private_data: options.private_data.clone(),
        };
        (Initiator { options }, request.emit())
    }

    /// Takes the whole of the peer's Reply.
    pub fn handle_reply(&self, bytes: &[u8]) -> Result<Established, StartupError> {
        let options = &self.options;
        let reply = Frame::parse(bytes)?;
        if reply.kind != FrameKind::Reply {
            return Err(MpaError::UnexpectedKind(reply.kind).into());
        }
        if reply.revision < options.revision {
            return Err(StartupError::OlderRevision { revision: reply.revision, rejected: reply.reject });
        }
        if reply.revision > options.revision {
            return Err(StartupError::IncompatibleReply("it is of a newer revision than was asked for"));
        }
        if reply.reject {
            return Err(StartupError::Rejected { private_data: reply.private_data });
        }
        let (ord, rtr) = match (options.revision, reply.enhanced) {
            (1, _) => (options.ord, None),
            (_, None) => {
                return Err(StartupError::IncompatibleReply("the enhanced data that was asked for is missing"))
            }
            (_, Some(enhanced)) => (options.ord.min(enhanced.ird), self.rtr(&enhanced)?),
        };
        match reply.enhanced {
            Some(Enhanced { ord, .. }) if ord > options.ird && ord != DEPTH_UNSTATED => {
                return Err(StartupError::InsufficientIrd { offered: options.ird, wanted: ord });
            }
            _ => {}
        }
        Ok(Established {
            role: Role::Initiator,
            revision: reply.revision,
            crc: options.crc || reply.crc,
            send_markers: reply.markers,
            receive_markers: options.markers,
            ird: options.ird,
            ord,
            rtr,
            private_data: reply.private_data,
        })
    }

    /// Which ready-to-receive message the responder has picked of those that were offered.
    fn rtr(&self, reply: &Enhanced) -> Result<Option<Rtr>, StartupError> {
        if !self.options.peer_to_peer || !reply.peer_to_peer {
            return Ok(None);
        }
        let picked = [(reply.rtr_write, Rtr::Write), (reply.rtr_read, Rtr::Read), (reply.rtr_send, Rtr::Send)];
        let rtr = picked.into_iter().find(|&(is_picked, rtr)| is_picked && self.options.offers(rtr));
        rtr.map(|(_, rtr)| Some(rtr)).ok_or(StartupError::NoMatchingRtr)
    }
}

/// The side that takes the connection, between the peer's Request and its own Reply.
#[derive(Clone, Debug)]
pub struct Responder {
    request: Frame,
}

impl Responder {
    /// Takes the whole of the peer's Request.
    pub fn handle_request(bytes: &[u8]) -> Result<Responder, StartupError> {
        let request = Frame::parse(bytes)?;
        if request.kind != FrameKind::Request {
            return Err(MpaError::UnexpectedKind(request.kind).into());
        }
        Ok(Responder { request })
    }

    /// The initiator's private data.
    pub fn private_data(&self) -> &[u8] {
        &self.request.private_data
    }

    /// How many Reads of ours the initiator serves at once; `None` where the request does not say.
    pub fn ird(&self) -> Option<u16> {
        self.request.enhanced.map(|enhanced| enhanced.ird)
    }

    /// How many Reads the initiator wants to have outstanding; `None` where the request does not say.
    pub fn ord(&self) -> Option<u16> {
        self.request.enhanced.map(|enhanced| enhanced.ord)
    }

    /// The initiator's revision, which the reply will have too.
    pub fn revision(&self) -> u8 {
        self.request.revision
    }

    /// Accepts: the Reply to send, and what is agreed on once it has left.
    pub fn accept(&self, options: StartupOptions) -> (Vec<u8>, Established) {
        let ird = options.ird.min(DEPTH_MAX);
        let wanted = options.ord.min(ORD_MAX);
        let ord = self.ird().map_or(wanted, |peer_ird| wanted.min(peer_ird));
        let rtr = self.request.enhanced.and_then(|enhanced| pick_rtr(&enhanced, options.rtr, ird));
        let crc = options.crc || self.request.crc;
        let reply = Frame {
            kind: FrameKind::Reply,
            revision: self.request.revision,
            markers: options.markers,
            crc,
            reject: false,
            enhanced: self.request.enhanced.map(|request| Enhanced {
                ird,
                // siw sizes its inbound queue by this field, and answers the first Read with a Terminate where it is 0
                ord: ord.max(1).min(request.ird),
                peer_to_peer: rtr.is_some(),
                rtr_send: rtr == Some(Rtr::Send),
                rtr_write: rtr == Some(Rtr::Write),
                rtr_read: rtr == Some(Rtr::Read),
            }),
            private_data: options.private_data,
        };
        let established = Established {
            role: Role::Responder,
            revision: reply.revision,
            crc,
            send_markers: self.request.markers,
            receive_markers: options.markers,
            ird,
            ord,
            rtr,
            private_data: self.request.private_data.clone(),
        };
        (reply.emit(), established)
    }

    /// Rejects: the Reply to send before the connection closes.
    pub fn reject(&self, private_data: &[u8]) -> Vec<u8> {
        Frame {
            kind: FrameKind::Reply,
            revision: self.request.revision,
            markers: false,
            crc: self.request.crc,
            reject: true,
            enhanced: self.request.enhanced.map(|_| Enhanced::default()),
            private_data: private_data.to_vec(),
        }
        .emit()
    }
}

/// The one preferred, or the cheapest, of what the initiator offers; a Read is the last choice of a side that says it serves none. An initiator that names none gets a
/// Write proposed, as Linux's siw does.
fn pick_rtr(request: &Enhanced, preferred: Option<Rtr>, ird: u16) -> Option<Rtr> {
    if !request.peer_to_peer {
        return None;
    }
    let is_offered = |rtr: &Rtr| match rtr {
        Rtr::Send => request.rtr_send,
        Rtr::Write => request.rtr_write,
        Rtr::Read => request.rtr_read,
    };
    let others = if ird > 0 { [Rtr::Write, Rtr::Read, Rtr::Send] } else { [Rtr::Write, Rtr::Send, Rtr::Read] };
    Some(preferred.into_iter().chain(others).find(is_offered).unwrap_or(Rtr::Write))
}

#[cfg(test)]
mod tests;
