//! Acting as the caller: the file-system user, group and supplementary groups of this one thread.

use crate::{sys, Result};
use rustix::io::Errno;
use rustix::process::Gid;
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::sync::OnceLock;

/// Most supplementary groups of a caller; AUTH_SYS carries 16 (RFC 5531 appendix A).
pub const GROUPS_MAX: usize = 64;
/// (uid_t) -1 and (gid_t) -1 mean "leave it" to the kernel and cannot be anybody's.
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Whose rights an operation is carried out with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// Checks that the numbers can be used at all.
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>) -> Result<Self> {
        if uid == NOBODY_AT_ALL || gid == NOBODY_AT_ALL || groups.contains(&NOBODY_AT_ALL) || groups.len() > GROUPS_MAX
        {
            return Err(Errno::INVAL);
        }
        Ok(Self { uid, gid, groups })
    }

    /// Runs `body` with the calling thread's file-system identity set to this one. The thread's own is put back before
    /// this returns or unwinds; should that fail the process ends, because it would go on with wrong rights.
    pub fn act<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<T> {
        let _restore = Assumed::assume(self)?;
        body()
    }
}

/// The identity that the process runs with, for threads to go back to; read once.
pub fn own() -> &'static Identity {
    static OWN: OnceLock<Identity> = OnceLock::new();
    OWN.get_or_init(|| Identity {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        groups: rustix::process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()).collect(),
    })
}

/// While this lives the thread has another identity. What is `None` was not changed.
struct Assumed {
    own: &'static Identity,
    groups: bool,
    gid: bool,
    uid: bool,
}

impl Assumed {
    fn assume(identity: &Identity) -> Result<Self> {
        let own = own();
        let mut assumed = Self { own, groups: false, gid: false, uid: false };
        // The user comes last: with it go the capabilities that override permissions.
        if assumed.own.groups != identity.groups {
            set_groups(&identity.groups)?;
            assumed.groups = true;
        }
        if assumed.own.gid != identity.gid {
            sys::set_fs_gid(identity.gid);
            assumed.gid = true;
            if sys::set_fs_gid(identity.gid) != identity.gid {
                return Err(Errno::PERM);
            }
        }
        if assumed.own.uid != identity.uid {
            sys::set_fs_uid(identity.uid);
            assumed.uid = true;
            if sys::set_fs_uid(identity.uid) != identity.uid {
                return Err(Errno::PERM);
            }
        }
        Ok(assumed)
    }

    fn restore(&self) -> bool {
        let mut restored = true;
        if self.uid {
            sys::set_fs_uid(self.own.uid);
            restored &= sys::set_fs_uid(self.own.uid) == self.own.uid;
        }
        if self.gid {
            sys::set_fs_gid(self.own.gid);
            restored &= sys::set_fs_gid(self.own.gid) == self.own.gid;
        }
        if self.groups {
            restored &= set_groups(&self.own.groups).is_ok();
        }
        restored
    }
}

impl Drop for Assumed {
    fn drop(&mut self) {
        if !self.restore() {
            std::process::abort();
        }
    }
}

/// Sets this thread's groups only; the C library's function would set every thread's.
fn set_groups(groups: &[u32]) -> Result<()> {
    let groups: Vec<Gid> = groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    rustix::thread::set_thread_groups(&groups)
}

/// Whether this process takes on other identities: it is root, and allowed to. EPERM where root cannot: everybody would act as
/// root. Except in a user namespace of its own, where root is only somebody's name for himself.
pub fn can_switch() -> Result<bool> {
    if !rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    let somebody = Identity { uid: 65534, gid: 65534, groups: Vec::new() };
    // With another identity must go what overrides permissions (it would not under SECBIT_NO_SETUID_FIXUP).
    let overrides = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH | CapabilitySet::FOWNER;
    match somebody.act(|| rustix::thread::capabilities(None)) {
        Ok(sets) if !sets.effective.intersects(overrides) => Ok(true),
        _ if in_own_user_namespace() => Ok(false),
        _ => Err(Errno::PERM),
    }
}

fn in_own_user_namespace() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Lets go of the calling thread's right to exceed disk quotas, which does not go away with the user identity.
pub fn respect_quotas() {
    if let Ok(sets) = rustix::thread::capabilities(None) {
        if sets.effective.contains(CapabilitySet::SYS_RESOURCE) {
            let effective = sets.effective.difference(CapabilitySet::SYS_RESOURCE);
            // Without the right there is nothing to let go of.
            let _ = rustix::thread::set_capabilities(None, CapabilitySets { effective, ..sets });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As /proc tells: file-system user and group, and supplementary groups, of this thread.
    fn of_this_thread() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status
            .lines()
            .filter(|line| line.starts_with("Uid") || line.starts_with("Gid") || line.starts_with("Groups"))
            .collect()
    }

    #[test]
    fn impossible_identities_are_refused() {
        for (uid, gid, groups) in
            [(u32::MAX, 0, vec![]), (0, u32::MAX, vec![]), (0, 0, vec![u32::MAX]), (0, 0, vec![1; 65])]
        {
            assert_eq!(Identity::new(uid, gid, groups).err(), Some(Errno::INVAL));
        }
        assert!(Identity::new(u32::MAX - 1, 0, vec![1; GROUPS_MAX]).is_ok());
    }

    #[test]
    fn the_thread_gets_its_own_identity_back() {
        if !can_switch().unwrap_or(false) {
            eprintln!("SKIPPED, NEEDS ROOT: the_thread_gets_its_own_identity_back");
            return;
        }
        let before = of_this_thread();
        let somebody = Identity::new(1234, 2345, vec![7, 8, 9]).unwrap();
        let inside = somebody.act(|| Ok(of_this_thread())).unwrap();
        assert!(
            inside.contains("0\t0\t0\t1234") && inside.contains("0\t0\t0\t2345") && inside.contains("7 8 9"),
            "{inside}"
        );
        assert_eq!(of_this_thread(), before);
        assert_eq!(somebody.act(|| -> Result<()> { Err(Errno::IO) }).err(), Some(Errno::IO));
        assert_eq!(of_this_thread(), before);
        let unwound = std::panic::catch_unwind(|| somebody.act(|| -> Result<()> { panic!("on purpose") }));
        assert!(unwound.is_err());
        assert_eq!(of_this_thread(), before);
    }
}
