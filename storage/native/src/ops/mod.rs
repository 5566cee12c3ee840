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
                let (export, waiting) = (context.export, context.waiting);
                let result = match self { $(Self::$name => $function(&mut context, &mut request),)* };
                export.settle(waiting);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Options;
    use std::path::PathBuf;

    struct Scratch {
        base: PathBuf,
        export: Export,
    }

    impl Scratch {
        fn new(name: &str) -> Self {
            let base = std::env::temp_dir().join(format!("weft-ops-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&base);
            std::fs::create_dir_all(base.join("served/d")).unwrap();
            std::fs::write(base.join("served/f"), "contents").unwrap();
            let options = Options { stable: false, index: true };
            let export = Export::open(&base.join("served"), &base.join("state"), &options).unwrap();
            Self { base, export }
        }

        fn run(&self, operation: Operation, request: &[u8], waiting: bool) -> Result<Vec<u8>> {
            let mut out = vec![0; operation.reply_bytes_max()];
            let mut reply = Reply::new(&mut out);
            let context = Context { export: &self.export, reply: &mut reply, data: None, waiting };
            operation.run(context, Request::new(request))?;
            let length = reply.len();
            out.truncate(length);
            Ok(out)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.base);
        }
    }

    fn string(request: &mut Vec<u8>, value: &[u8]) {
        request.extend_from_slice(&(value.len() as u32).to_le_bytes());
        request.extend_from_slice(value);
    }

    /// As this process, on a file by its handle, with a name.
    fn request(handle: &[u8], name: &[u8]) -> Vec<u8> {
        let who = crate::identity::own();
        let mut request = [who.uid, who.gid, 0].map(u32::to_le_bytes).concat();
        string(&mut request, handle);
        string(&mut request, name);
        request
    }

    const OPERATIONS: std::ops::RangeInclusive<u32> = 1..=18;

    #[test]
    fn every_operation_refuses_a_request_cut_at_any_byte() {
        let scratch = Scratch::new("cut");
        let root = scratch.export.root.handle;
        for number in OPERATIONS {
            let operation = Operation::from_number(number).unwrap();
            // Whatever it takes: zeros name no memory, no changes, and nothing to do.
            let mut whole = request(root.as_bytes(), b"d");
            string(&mut whole, root.as_bytes());
            whole.extend_from_slice(&[0; 200]);
            for length in 0..whole.len() {
                // Only the shortest are certain to be cut; none may do worse than fail.
                let result = scratch.run(operation, &whole[..length], true);
                assert!(
                    length >= 12 + 4 + root.as_bytes().len() || result.is_err(),
                    "{operation:?} took {length} bytes"
                );
            }
        }
        assert!(Operation::from_number(0).is_err() && Operation::from_number(19).is_err());
    }

    #[test]
    fn random_requests_do_no_harm() {
        let scratch = Scratch::new("random");
        let seed = std::env::var("WEFT_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).unwrap();
            u64::from_ne_bytes(seed)
        });
        println!("WEFT_TEST_SEED={seed}");
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let root = scratch.export.root.handle;
        for _ in 0..20_000 {
            let operation = Operation::from_number((random() % 18) as u32 + 1).unwrap();
            // These take addresses, which nobody but JavaScript's side of this interface may make up.
            if matches!(operation, Operation::Read | Operation::Write) {
                continue;
            }
            let mut bytes = request(root.as_bytes(), &[b'a' + (random() % 6) as u8]);
            for _ in 0..random() % 80 {
                bytes.push(if random() % 2 == 0 { 0 } else { random() as u8 });
            }
            for _ in 0..random() % 3 {
                // Past the identity, which a test must not change.
                let at = 12 + random() as usize % (bytes.len() - 12);
                bytes[at] = random() as u8;
            }
            let _ = scratch.run(operation, &bytes, random() % 2 == 0);
        }
        let found = scratch.run(Operation::GetAttributes, &request(root.as_bytes(), b""), false).unwrap();
        assert_eq!(found.len(), crate::message::STAT_BYTES);
    }

    #[test]
    fn modes_are_exact_under_any_umask() {
        // Not a thread of the pool's: its umask is the process's.
        let scratch = Scratch::new("umask");
        let root = scratch.export.root.handle;
        for (operation, name, mode) in
            [(Operation::MakeDirectory, b"x", 0o1777), (Operation::MakeDirectory, b"y", 0o2775)]
        {
            let mut bytes = request(root.as_bytes(), name);
            bytes.extend_from_slice(&[1u32, mode, 0, 0].map(u32::to_le_bytes).concat());
            bytes.extend_from_slice(&[0; 32]);
            let made = scratch.run(operation, &bytes, true).unwrap();
            assert_eq!(made[4 + 64 + 4..][..4], mode.to_le_bytes());
        }
    }
}
