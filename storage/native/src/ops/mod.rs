//! The operations, by number, as storage/backend/local_message.ts has them.

mod attributes;
mod data;
mod listing;
mod names;

use crate::export::Export;
use crate::message::{Reply, Request, ENTRY_BYTES};
use crate::sys::Memory;
use crate::Result;
use rustix::io::Errno;

/// Bytes of the longest reply, that of a listing.
pub const REPLY_BYTES_MAX: usize = 1 << 16;

/// What an operation works with besides its arguments.
pub struct Context<'a, 'b> {
    /// Where.
    pub export: &'a Export,
    /// Where the reply goes.
    pub reply: &'a mut Reply<'b>,
    /// Payload given beside the request.
    pub data: Option<Memory>,
    /// Whether the thread may wait for a disk. Where it may not, EINPROGRESS sends the operation to the pool.
    pub waiting: bool,
}

macro_rules! operations {
    ($($number:literal $name:ident => $function:path, $bytes:expr;)*) => {
        /// An operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Operation { $($name = $number,)* }

        impl Operation {
            /// By its number. ENOSYS where there is none such.
            pub fn from_number(number: u32) -> Result<Self> {
                match number { $($number => Ok(Self::$name),)* _ => Err(Errno::NOSYS) }
            }

            /// The most bytes that its reply can take.
            pub fn reply_bytes_max(self) -> usize {
                match self { $(Self::$name => $bytes,)* }
            }

            /// Carries it out. Returns its number: bytes moved, or 0.
            pub fn run(self, mut context: Context<'_, '_>, mut request: Request<'_>) -> Result<usize> {
                let result = match self { $(Self::$name => $function(&mut context, &mut request),)* };
                context.export.settle();
                result
            }
        }
    };
}

operations! {
    1 GetAttributes => attributes::get, ENTRY_BYTES;
    2 SetAttributes => attributes::set, ENTRY_BYTES;
    3 Lookup => names::lookup, ENTRY_BYTES;
    4 Access => attributes::access, ENTRY_BYTES;
    5 ReadLink => attributes::read_link, 4 + 4096;
    6 Read => data::read, ENTRY_BYTES;
    7 Write => data::write, ENTRY_BYTES;
    8 Create => names::create, ENTRY_BYTES;
    9 MakeDirectory => names::make_directory, ENTRY_BYTES;
    10 Symlink => names::symlink, ENTRY_BYTES;
    11 MakeNode => names::make_node, ENTRY_BYTES;
    12 Remove => names::remove, ENTRY_BYTES;
    13 RemoveDirectory => names::remove_directory, ENTRY_BYTES;
    14 Rename => names::rename, ENTRY_BYTES;
    15 Link => names::link, ENTRY_BYTES;
    16 ReadDirectory => listing::read_directory, REPLY_BYTES_MAX;
    17 Status => attributes::status, ENTRY_BYTES;
    18 Commit => data::commit, ENTRY_BYTES;
}
