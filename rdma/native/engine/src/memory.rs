//! The memory table: which stretches of memory a queue pair or a peer may touch, under which steering tags.
//!
//! Nothing is pinned in the operating system's sense. A *pin* here lasts one system call or one CRC pass: it is taken after the checks of RFC 5040 §5.1 and RFC 5041 §7
//! (STag valid, domain, access, bounds) and keeps deregistration from returning in between. So nothing is written to a region after
//! `deregister` has returned, whatever thread was about to.
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, PoisonError};

use crate::status::Status;
use crate::sync::{lock, yield_now, AtomicBool, AtomicU32, Mutex, Ordering, RwLock};

/// A peer may read the region with RDMA Read.
pub const REMOTE_READ: u32 = 1;
/// A peer may write the region with RDMA Write.
pub const REMOTE_WRITE: u32 = 2;
/// A peer may carry out atomic operations on the region.
pub const REMOTE_ATOMIC: u32 = 4;
const REMOTE_ALL: u32 = REMOTE_READ | REMOTE_WRITE | REMOTE_ATOMIC;
/// Beside the access flags: the STag is not valid before a work request makes it so.
pub const INACTIVE: u32 = 1 << 8;
/// Beside the access flags: another STag for the memory of a region instead of a window on it.
pub const REREGISTER: u32 = 1 << 9;
/// Beside the access flags: the tagged offset of the first byte is 0.
pub const ZERO_BASED: u32 = 1 << 10;
/// Beside the access flags: huge pages are wished for.
pub const HUGE_PAGES: u32 = 1 << 11;
/// Beside the access flags: the memory changes while peers read it, so that answers with a CRC are copies.
pub const VOLATILE: u32 = 1 << 12;
/// Beside the access flags: nothing but huge pages will do, of those that the system has reserved.
pub const RESERVED: u32 = 1 << 13;
/// From this length on a message's payload is never staged.
pub const LARGE: u64 = 8 * 1024;
/// The most regions and windows of one device.
pub const REGIONS_MAX: usize = 1 << 20;

/// STags are random already, so the identity will do as their hash; a peer cannot insert.
#[derive(Default)]
struct StagHasher(u64);

impl Hasher for StagHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &b in bytes {
            self.0 = (self.0 << 8) | u64::from(b);
        }
    }
    fn write_u32(&mut self, n: u32) {
        // the high bits choose the control byte of a hash table's slot, the low ones the slot
        self.0 = u64::from(n) | (u64::from(n) << 32);
    }
}

/// Anonymous memory of the engine's own, unmapped when the last user is gone.
struct Mapping {
    address: usize,
    length: usize,
}

impl Mapping {
    /// At least `length` zeroed bytes, with `HUGE_PAGES` or `RESERVED` in `access`.
    fn new(length: u64, access: u32) -> Result<Self, Status> {
        let mut length = usize::try_from(length).map_err(|_| Status::Invalid)?;
        if length == 0 || length > isize::MAX as usize {
            return Err(Status::Invalid);
        }
        let mut flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        if access & RESERVED == 0 {
            flags |= libc::MAP_NORESERVE;
        } else {
            // such a mapping ends as it began: in whole pages
            let page = reserved_page_bytes().ok_or(Status::Exhausted)?;
            length = length.checked_next_multiple_of(page).ok_or(Status::Invalid)?;
            flags |= libc::MAP_HUGETLB;
        }
        // SAFETY: a fresh anonymous mapping; no existing memory is touched.
        let pointer =
            unsafe { libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if pointer == libc::MAP_FAILED {
            return Err(Status::Exhausted);
        }
        let mapping = Self { address: pointer as usize, length };
        if access & RESERVED != 0 {
            // A page that a limit (cgroup, NUMA) keeps from this process is to be missed now, not by a signal when it is touched.
            // SAFETY: advice about our own fresh mapping.
            let populated = unsafe { libc::madvise(pointer, length, libc::MADV_POPULATE_WRITE) } == 0;
            // kernels before 5.14 do not know of it
            if !populated && std::io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
                return Err(Status::Exhausted);
            }
        } else if access & HUGE_PAGES != 0 {
            // SAFETY: advice about our own fresh mapping. A kernel without huge pages goes on with small ones.
            unsafe { libc::madvise(pointer, length, libc::MADV_HUGEPAGE) };
        }
        Ok(mapping)
    }
}

/// Bytes of the huge pages that `MAP_HUGETLB` takes unless told otherwise; `None` where the system has none.
fn reserved_page_bytes() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was returned by mmap with this length and is unmapped only here.
        unsafe {
            libc::munmap(self.address as *mut libc::c_void, self.length);
        }
    }
}

/// One registered stretch of memory, or a window on one.
pub struct Region {
    /// Its steering tag.
    pub stag: u32,
    /// The protection domain.
    pub pd: u32,
    /// Where it begins in this process.
    pub address: u64,
    /// The tagged offset of its first byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// What peers may do, and whether it is `VOLATILE`.
    pub access: u32,
    /// The only connection on which a peer may use it; 0: every one of the domain.
    pub connection: u64,
    parent: Option<Arc<Region>>,
    valid: AtomicBool,
    pins: AtomicU32,
    /// Windows on it in the table.
    windows: AtomicU32,
    /// Address and length of the memory that it was registered with at first.
    whole: (u64, u64),
    mapping: Option<Arc<Mapping>>,
}

impl Region {
    fn new(stag: u32, pd: u32, (address, length): (u64, u64), grant: Grant) -> Self {
        Self {
            stag,
            pd,
            address,
            base: if grant.access & ZERO_BASED != 0 { 0 } else { address },
            length,
            access: grant.access & (REMOTE_ALL | VOLATILE),
            connection: grant.connection,
            parent: None,
            valid: AtomicBool::new(grant.access & INACTIVE == 0),
            pins: AtomicU32::new(0),
            windows: AtomicU32::new(0),
            whole: (address, length),
            mapping: None,
        }
    }

    fn is_large_writable(&self) -> bool {
        self.access & REMOTE_WRITE != 0 && self.length >= LARGE
    }

    fn is_valid(&self) -> bool {
        self.valid.load(Ordering::SeqCst) && self.parent.as_ref().is_none_or(|p| p.valid.load(Ordering::SeqCst))
    }
}

/// Leave to touch a region until dropped.
pub struct Pin {
    region: Arc<Region>,
}

impl Pin {
    fn new(region: Arc<Region>) -> Option<Self> {
        region.pins.fetch_add(1, Ordering::SeqCst);
        if let Some(parent) = &region.parent {
            parent.pins.fetch_add(1, Ordering::SeqCst);
        }
        let pin = Self { region };
        // Checked after counting: whoever invalidates looks at the count after having cleared the flag.
        pin.region.is_valid().then_some(pin)
    }

    /// The address of `length` bytes at tagged offset `to`, or `None` beyond the region's bounds.
    pub fn at(&self, to: u64, length: u64) -> Option<*mut u8> {
        let offset = to.checked_sub(self.region.base)?;
        if offset.checked_add(length)? > self.region.length {
            return None;
        }
        Some((self.region.address + offset) as *mut u8)
    }

    /// The address `address` itself, if `length` bytes from there lie within the region.
    pub fn local(&self, address: u64, length: u64) -> Option<*mut u8> {
        self.at(self.region.base.wrapping_add(address.checked_sub(self.region.address)?), length)
    }

    /// The region.
    pub fn region(&self) -> &Region {
        &self.region
    }
}

/// The pins of one call. The usual single one takes no allocation.
#[derive(Default)]
pub struct Pins {
    first: Option<Pin>,
    rest: Vec<Pin>,
}

impl Pins {
    /// Holds one more.
    pub fn push(&mut self, pin: Pin) {
        if self.first.is_none() {
            self.first = Some(pin);
        } else {
            self.rest.push(pin);
        }
    }

    /// The one that came last.
    pub fn last(&self) -> Option<&Pin> {
        self.rest.last().or(self.first.as_ref())
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(parent) = &self.region.parent {
            parent.pins.fetch_sub(1, Ordering::SeqCst);
        }
        self.region.pins.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a peer's access comes through: a connection (its handle) and the protection domain of that.
#[derive(Clone, Copy, Debug)]
pub struct Through {
    /// Protection domain of the queue pair.
    pub pd: u32,
    /// Handle of the connection.
    pub connection: u64,
}

impl Through {
    /// Whether `region` is associated with this connection (RFC 5041 §7.1, RFC 5042 §6.2).
    fn reaches(self, region: &Region) -> bool {
        region.pd == self.pd && (region.connection == 0 || region.connection == self.connection)
    }
}

/// What a region is registered or a window bound for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grant {
    /// `REMOTE_READ | REMOTE_WRITE`.
    pub access: u32,
    /// The only connection that may use it; 0: all of the domain.
    pub connection: u64,
}

/// Why a peer's access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessError {
    /// No valid region has this STag.
    InvalidStag,
    /// The STag belongs to another protection domain.
    OtherDomain,
    /// Outside the region.
    Bounds,
    /// The address arithmetic wraps.
    Wrap,
    /// The region does not permit it.
    Denied,
}

type Table = HashMap<u32, Arc<Region>, BuildHasherDefault<StagHasher>>;

/// Counts, for one protection domain, the valid regions that are large and that a peer may write: while there are any, receivers read exactly.
pub type LargeWritable = Arc<AtomicU32>;

/// All regions of a device.
pub struct MemoryTable {
    table: RwLock<Table>,
    large: Mutex<HashMap<u32, LargeWritable>>,
    limit: usize,
}

impl Default for MemoryTable {
    fn default() -> Self {
        Self::with_limit(REGIONS_MAX)
    }
}

impl MemoryTable {
    /// A table for up to `limit` regions and windows.
    pub fn with_limit(limit: usize) -> Self {
        Self { table: RwLock::default(), large: Mutex::default(), limit }
    }

    /// The counter of large remotely writable regions of a domain.
    pub fn large_writable(&self, pd: u32) -> LargeWritable {
        let mut large = lock(&self.large);
        if large.len() == large.capacity() && !large.contains_key(&pd) {
            // A domain without connections and such regions is forgotten: there may be one for each connection.
            large.retain(|_, count| Arc::strong_count(count) > 1 || count.load(Ordering::SeqCst) > 0);
        }
        Arc::clone(large.entry(pd).or_default())
    }

    fn insert(&self, make: impl FnOnce(u32) -> Region) -> Result<Arc<Region>, Status> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() >= self.limit {
            return Err(Status::Exhausted);
        }
        let stag = loop {
            let candidate = getrandom::u32().map_err(|_| Status::System)?;
            if candidate != 0 && !table.contains_key(&candidate) {
                break candidate;
            }
        };
        let region = Arc::new(make(stag));
        // Asked again under the lock: an invalidation takes with a region what windows it finds here.
        if region.parent.as_ref().is_some_and(|parent| !parent.is_valid()) {
            return Err(Status::BadHandle);
        }
        // Its own validity counts, as where it ends: what it is a window on may be invalidated at this moment.
        if region.is_large_writable() && region.valid.load(Ordering::SeqCst) {
            self.large_writable(region.pd).fetch_add(1, Ordering::SeqCst);
        }
        if let Some(parent) = &region.parent {
            parent.windows.fetch_add(1, Ordering::SeqCst);
        }
        table.insert(stag, Arc::clone(&region));
        Ok(region)
    }

    /// Registers `length` bytes at `address`, which the caller keeps alive and in place until deregistration.
    pub fn register(&self, pd: u32, address: u64, length: u64, grant: Grant) -> Result<Arc<Region>, Status> {
        if address.checked_add(length).is_none() {
            return Err(Status::Invalid);
        }
        self.insert(|stag| Region::new(stag, pd, (address, length), grant))
    }

    /// Maps zeroed memory of the engine's own and registers it.
    pub fn allocate(&self, pd: u32, length: u64, grant: Grant) -> Result<Arc<Region>, Status> {
        let mapping = Arc::new(Mapping::new(length, grant.access)?);
        let memory = (mapping.address as u64, length);
        self.insert(|stag| Region { mapping: Some(mapping), ..Region::new(stag, pd, memory, grant) })
    }

    /// A separately revocable STag on a part of a region.
    pub fn bind(&self, stag: u32, offset: u64, length: u64, grant: Grant) -> Result<Arc<Region>, Status> {
        let parent = self.find(stag).filter(|region| region.is_valid()).ok_or(Status::BadHandle)?;
        let fits = offset.checked_add(length).is_some_and(|end| end <= parent.length);
        if !fits || parent.parent.is_some() {
            return Err(Status::Invalid);
        }
        let memory = (parent.address + offset, length);
        let base = if grant.access & ZERO_BASED != 0 { 0 } else { parent.base + offset };
        self.insert(|stag| Region {
            base,
            parent: Some(Arc::clone(&parent)),
            ..Region::new(stag, parent.pd, memory, grant)
        })
    }

    /// Another STag on the memory that a region was registered with, whatever part of it that one has now, and whether it is valid or not.
    pub fn reregister(&self, stag: u32, offset: u64, length: u64, grant: Grant) -> Result<Arc<Region>, Status> {
        let old = self.find(stag).ok_or(Status::BadHandle)?;
        let (address, whole) = old.whole;
        let fits = offset.checked_add(length).is_some_and(|end| end <= whole);
        if !fits || old.parent.is_some() {
            return Err(Status::Invalid);
        }
        let memory = (address + offset, length);
        self.insert(|stag| Region {
            whole: old.whole,
            mapping: old.mapping.clone(),
            ..Region::new(stag, old.pd, memory, grant)
        })
    }

    /// Makes a STag valid that was made `INACTIVE`, and ends the one that it replaces (0: none). False where it cannot be valid any more.
    pub fn activate(&self, stag: u32, old: u32) -> bool {
        if old != 0 {
            self.invalidate(old);
        }
        // Held to the end: what an invalidation has taken out of the table stays invalid, for those, too, who found it before.
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let Some(region) = table.get(&stag) else { return false };
        if region.parent.as_ref().is_some_and(|parent| !parent.is_valid()) {
            return false;
        }
        if !region.valid.swap(true, Ordering::SeqCst) && region.is_large_writable() {
            self.large_writable(region.pd).fetch_add(1, Ordering::SeqCst);
        }
        true
    }

    /// Makes a STag of our own invalid. The memory of a region stays its owner's until that one takes it back. False where there is no such STag.
    pub fn invalidate_local(&self, stag: u32) -> bool {
        let Some(region) = self.find(stag) else { return false };
        match region.parent {
            Some(_) => self.invalidate(stag).is_some(),
            None => {
                let was_valid = self.revoke(&region);
                while region.pins.load(Ordering::SeqCst) != 0 {
                    yield_now();
                }
                was_valid
            }
        }
    }

    fn find(&self, stag: u32) -> Option<Arc<Region>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(&stag).cloned()
    }

    /// Pins a region for the local side, which posted work naming it.
    pub fn pin(&self, stag: u32) -> Option<Pin> {
        Pin::new(self.find(stag)?)
    }

    /// Pins a region for a peer's access to `length` bytes at `to`, after every check that RFC 5041 §7.1 and RFC 5040 §7 name.
    pub fn pin_remote(
        &self,
        through: Through,
        stag: u32,
        to: u64,
        length: u64,
        access: u32,
    ) -> Result<Pin, AccessError> {
        if to.checked_add(length).is_none() {
            return Err(AccessError::Wrap);
        }
        let pin = self.pin(stag).ok_or(AccessError::InvalidStag)?;
        if !through.reaches(&pin.region) {
            return Err(AccessError::OtherDomain);
        }
        if pin.region.access & access != access {
            return Err(AccessError::Denied);
        }
        pin.at(to, length).ok_or(AccessError::Bounds)?;
        Ok(pin)
    }

    /// Takes a region, and the windows on it, or a window out of the table, and returns once nobody is touching its memory through it. `None`: no such STag.
    pub fn invalidate(&self, stag: u32) -> Option<Arc<Region>> {
        let region = {
            let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
            let region = table.remove(&stag)?;
            if let Some(parent) = &region.parent {
                parent.windows.fetch_sub(1, Ordering::SeqCst);
            }
            if region.windows.load(Ordering::SeqCst) > 0 {
                table.retain(|_, window| {
                    let gone = window.parent.as_ref().is_some_and(|parent| Arc::ptr_eq(parent, &region));
                    if gone {
                        self.revoke(window);
                    }
                    !gone
                });
            }
            self.revoke(&region);
            region
        };
        // A pin lasts one non-blocking system call, so this wait is short.
        while region.pins.load(Ordering::SeqCst) != 0 {
            yield_now();
        }
        Some(region)
    }

    /// The same, and memory of the engine's stays mapped for ever.
    pub fn abandon(&self, stag: u32) -> Result<(), Status> {
        let region = self.invalidate(stag).ok_or(Status::BadHandle)?;
        std::mem::forget(region.mapping.clone());
        Ok(())
    }

    /// Makes a region invalid; false where it was so already.
    fn revoke(&self, region: &Region) -> bool {
        let was_valid = region.valid.swap(false, Ordering::SeqCst);
        if was_valid && region.is_large_writable() {
            self.large_writable(region.pd).fetch_sub(1, Ordering::SeqCst);
        }
        was_valid
    }

    /// Invalidates for a peer (Send with Invalidate, RFC 5040 §5.3): only windows and regions associated with its connection that it had been given access to. A
    /// region's memory stays its owner's until that one invalidates it, too.
    pub fn invalidate_remote(&self, through: Through, stag: u32) -> Result<(), AccessError> {
        let region = self.find(stag).ok_or(AccessError::InvalidStag)?;
        if !through.reaches(&region) {
            return Err(AccessError::OtherDomain);
        }
        if region.access & REMOTE_ALL == 0 {
            return Err(AccessError::Denied);
        }
        let done = match region.parent {
            Some(_) => region.valid.load(Ordering::SeqCst) && self.invalidate(stag).is_some(),
            None => self.revoke(&region),
        };
        while region.pins.load(Ordering::SeqCst) != 0 {
            yield_now();
        }
        done.then_some(()).ok_or(AccessError::InvalidStag)
    }

    /// How many regions and windows there are.
    pub fn len(&self) -> usize {
        self.table.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
