//! File handles as clients hold them: what names the file, sealed with a keyed hash, so that a handle that we did not
//! make is refused before the kernel sees it.
//!
//! Layout: form (1 byte), kernel handle type (1), export (8), body, seal (16). At most 64 bytes (RFC 1813 §2.4).

use crate::sys::{KernelHandle, EBADHANDLE};
use crate::Result;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::hash::{Hash, Hasher};
use std::path::Path;

/// NFS3_FHSIZE.
pub const HANDLE_BYTES_MAX: usize = 64;
const SEAL_BYTES: usize = 16;
const HEAD_BYTES: usize = 10;
/// The longest kernel handle that fits.
pub const KERNEL_BYTES_MAX: usize = HANDLE_BYTES_MAX - HEAD_BYTES - SEAL_BYTES;

/// Version 1, the body is the kernel's own handle.
const FORM_KERNEL: u8 = 0x11;
/// Version 1, the body is what the index goes by.
const FORM_INDEXED: u8 = 0x12;

/// A sealed handle.
#[derive(Clone, Copy)]
pub struct Handle {
    length: u8,
    bytes: [u8; HANDLE_BYTES_MAX],
}

impl Handle {
    /// Takes over bytes without looking at them; `Sealer::open` does.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut handle = Self { length: bytes.len() as u8, bytes: [0; HANDLE_BYTES_MAX] };
        handle.bytes.get_mut(..bytes.len()).ok_or(EBADHANDLE)?.copy_from_slice(bytes);
        Ok(handle)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length as usize).unwrap_or_default()
    }
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The seal is a hash of all the rest already.
        state.write(self.as_bytes().last_chunk::<8>().unwrap_or(&[0; 8]));
    }
}

/// A file, as the index knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileId {
    /// Differs for any two files, also if they had the same inode number one after the other.
    pub id: u64,
    /// Inode number, to look for it in a directory.
    pub ino: u64,
}

/// What a handle names.
pub enum Body {
    /// What `open_by_handle_at` takes.
    Kernel(KernelHandle),
    /// To be found through the index.
    Indexed(FileId),
}

/// The key, and what it is used for: one export.
pub struct Sealer {
    key: [u8; 32],
    export: [u8; 8],
}

impl Sealer {
    /// A sealer for the export that `identity` (file system and root directory) tells apart from all others.
    pub fn new(key: [u8; 32], identity: &[u8]) -> Self {
        let mut sealer = Self { key, export: [0; 8] };
        sealer.export = sealer.digest(&[b"export", identity]).to_le_bytes();
        sealer
    }

    /// The export's number, the same whenever the same directory is served with the same key.
    pub fn export(&self) -> u64 {
        u64::from_le_bytes(self.export)
    }

    /// A number that tells byte strings apart, secret to others.
    pub fn digest(&self, parts: &[&[u8]]) -> u64 {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let hash = hasher.finalize();
        u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap_or(&[0; 8]))
    }

    /// Makes the handle. EOVERFLOW where the kernel's is too long to fit.
    pub fn seal(&self, body: &Body) -> Result<Handle> {
        let mut handle = Handle { length: 0, bytes: [0; HANDLE_BYTES_MAX] };
        let mut at = 0;
        let mut push = |part: &[u8]| -> Result<()> {
            handle.bytes.get_mut(at..at + part.len()).ok_or(Errno::OVERFLOW)?.copy_from_slice(part);
            at += part.len();
            Ok(())
        };
        match body {
            Body::Kernel(kernel) => {
                let kind = u8::try_from(kernel.kind()).map_err(|_| Errno::OVERFLOW)?;
                push(&[FORM_KERNEL, kind])?;
                push(&self.export)?;
                push(kernel.bytes())?;
            }
            Body::Indexed(file) => {
                push(&[FORM_INDEXED, 0])?;
                push(&self.export)?;
                push(&file.id.to_le_bytes())?;
                push(&file.ino.to_le_bytes())?;
            }
        }
        let sealed = at;
        let seal = self.mac(handle.bytes.get(..sealed).unwrap_or_default());
        handle.bytes.get_mut(sealed..sealed + SEAL_BYTES).ok_or(Errno::OVERFLOW)?.copy_from_slice(&seal);
        handle.length = (sealed + SEAL_BYTES) as u8;
        Ok(handle)
    }

    /// Checks a handle and tells what it names. EBADHANDLE: we did not make it. ESTALE: made for another export.
    pub fn open(&self, handle: &Handle) -> Result<Body> {
        let (sealed, seal) = handle.as_bytes().split_last_chunk::<SEAL_BYTES>().ok_or(EBADHANDLE)?;
        if !same(&self.mac(sealed), seal) {
            return Err(EBADHANDLE);
        }
        let (head, body) = sealed.split_first_chunk::<HEAD_BYTES>().ok_or(EBADHANDLE)?;
        if head[2..] != self.export {
            return Err(Errno::STALE);
        }
        match (head[0], body.len()) {
            (FORM_KERNEL, _) => Ok(Body::Kernel(KernelHandle::new(i32::from(head[1]), body).ok_or(EBADHANDLE)?)),
            (FORM_INDEXED, 16) => Ok(Body::Indexed(FileId { id: word(body, 0), ino: word(body, 8) })),
            _ => Err(EBADHANDLE),
        }
    }

    fn mac(&self, bytes: &[u8]) -> [u8; SEAL_BYTES] {
        let hash = blake3::keyed_hash(&self.key, bytes);
        *hash.as_bytes().first_chunk().unwrap_or(&[0; SEAL_BYTES])
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default())
}

/// Comparison that takes as long wherever the difference is.
fn same(one: &[u8; SEAL_BYTES], other: &[u8; SEAL_BYTES]) -> bool {
    u128::from_ne_bytes(*one) ^ u128::from_ne_bytes(*other) == 0
}

/// Name of the key in the state directory.
const KEY_NAME: &str = "handle.key";

/// Reads the key from the state directory, making it (and the directory) first where there is none. EACCES where others
/// than its owner may read it.
pub fn load_key(state: &Path) -> Result<[u8; 32]> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(state).map_err(|error| errno(&error))?;
    let path = state.join(KEY_NAME);
    loop {
        match rustix::fs::open(&path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => {
                if rustix::fs::fstat(&file)?.st_mode & 0o077 != 0 {
                    return Err(Errno::ACCESS);
                }
                let mut key = [0; 32];
                let count = rustix::io::pread(&file, &mut key, 0)?;
                return if count == key.len() { Ok(key) } else { Err(Errno::IO) };
            }
            Err(Errno::NOENT) => make_key(state, &path)?,
            Err(error) => return Err(error),
        }
    }
}

/// Puts a new key in place whole, unless another process was faster.
fn make_key(state: &Path, path: &Path) -> Result<()> {
    let (mut key, mut suffix) = ([0; 32], [0; 8]);
    getrandom::fill(&mut key).map_err(|_| Errno::IO)?;
    getrandom::fill(&mut suffix).map_err(|_| Errno::IO)?;
    let draft = state.join(format!("{KEY_NAME}.{:016x}", u64::from_ne_bytes(suffix)));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&draft, flags, Mode::RUSR | Mode::WUSR)?;
    let written = rustix::io::write(&file, &key).and_then(|_| rustix::fs::fsync(&file));
    let placed = written.and_then(|()| match rustix::fs::link(&draft, path) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    });
    let removed = rustix::fs::unlink(&draft);
    placed.and(removed)
}

/// The errno behind an error of the standard library's.
pub fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn sealer(export: &[u8]) -> Sealer {
        Sealer::new([7; 32], export)
    }

    #[test]
    fn opens_what_it_sealed() {
        let sealer = sealer(b"one");
        let kernel = KernelHandle::new(0x81, &[9; KERNEL_BYTES_MAX]).unwrap();
        let handle = sealer.seal(&Body::Kernel(kernel)).unwrap();
        assert_eq!(handle.as_bytes().len(), HANDLE_BYTES_MAX);
        let Ok(Body::Kernel(opened)) = sealer.open(&handle) else { panic!("no kernel handle") };
        assert_eq!((opened.kind(), opened.bytes()), (0x81, &[9; KERNEL_BYTES_MAX][..]));
        let file = FileId { id: u64::MAX, ino: 1 };
        let handle = sealer.seal(&Body::Indexed(file)).unwrap();
        assert!(matches!(sealer.open(&handle), Ok(Body::Indexed(opened)) if opened == file));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let long = KernelHandle::new(1, &[0; KERNEL_BYTES_MAX + 1]).unwrap();
        assert_eq!(sealer(b"one").seal(&Body::Kernel(long)).err(), Some(Errno::OVERFLOW));
        let strange = KernelHandle::new(256, &[]).unwrap();
        assert_eq!(sealer(b"one").seal(&Body::Kernel(strange)).err(), Some(Errno::OVERFLOW));
        assert!(KernelHandle::new(1, &[0; 129]).is_none());
        assert_eq!(Handle::from_bytes(&[0; 65]).err(), Some(EBADHANDLE));
    }

    #[test]
    fn refuses_every_change_and_every_cut() {
        let sealer = sealer(b"one");
        let handle = sealer.seal(&Body::Indexed(FileId { id: 3, ino: 4 })).unwrap();
        let bytes = handle.as_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut forged = bytes.to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sealer.open(&Handle::from_bytes(&forged).unwrap()).err(), Some(EBADHANDLE));
        }
        for length in 0..bytes.len() {
            assert_eq!(sealer.open(&Handle::from_bytes(&bytes[..length]).unwrap()).err(), Some(EBADHANDLE));
        }
    }

    #[test]
    fn tells_exports_and_keys_apart() {
        let handle = sealer(b"one").seal(&Body::Indexed(FileId { id: 3, ino: 4 })).unwrap();
        assert_eq!(sealer(b"two").open(&handle).err(), Some(Errno::STALE));
        assert_eq!(Sealer::new([8; 32], b"one").open(&handle).err(), Some(EBADHANDLE));
        assert_ne!(sealer(b"one").export(), sealer(b"two").export());
        assert_ne!(sealer(b"one").digest(&[b"ab", b"c"]), sealer(b"one").digest(&[b"a", b"bc"]));
    }

    #[test]
    fn a_key_is_made_once_and_kept_from_others() {
        let state = std::env::temp_dir().join(format!("weft-key-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&state);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let state = state.clone();
                std::thread::spawn(move || load_key(&state).unwrap())
            })
            .collect();
        let keys: Vec<[u8; 32]> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(keys.iter().all(|key| *key == keys[0] && *key != [0; 32]));
        let path = state.join(KEY_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        std::fs::write(&path, [1; 31]).unwrap();
        assert_eq!(load_key(&state).err(), Some(Errno::IO));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o604)).unwrap();
        assert_eq!(load_key(&state).err(), Some(Errno::ACCESS));
        std::fs::remove_dir_all(&state).unwrap();
    }
}
