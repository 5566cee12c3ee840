//! A device goes with the thread that opened it: when a Worker ends without having closed its device, the memory that it registered goes back to the system, and
//! peers must not reach it any more.
use std::cell::RefCell;
use std::sync::Arc;
use std::thread;

use crate::device::DEVICES;

thread_local! {
    static OWNED: RefCell<Owned> = const { RefCell::new(Owned(Vec::new())) };
}

/// Handles of the devices of a thread, closed ones perhaps among them.
struct Owned(Vec<u64>);

impl Drop for Owned {
    fn drop(&mut self) {
        // The end of the main thread is that of the process, which takes the memory along; what the kernel has taken to send is still to leave.
        // SAFETY: no memory is passed.
        if unsafe { libc::gettid() == libc::getpid() } {
            return;
        }
        let devices: Arc<[_]> = self.0.drain(..).filter_map(|handle| DEVICES.remove(handle)).collect();
        if devices.is_empty() {
            return;
        }
        let close = {
            let devices = Arc::clone(&devices);
            move || devices.iter().for_each(|device| device.close())
        };
        // On a thread of its own: what closing uses of this one may be gone already.
        match thread::Builder::new().name("weft-end".into()).spawn(close) {
            Ok(closing) => _ = closing.join(),
            Err(_) => devices.iter().for_each(|device| device.close()),
        }
    }
}

/// Has a device closed when this thread ends, if it is still open then.
pub fn own(handle: u64) {
    OWNED.with_borrow_mut(|Owned(handles)| {
        handles.retain(|&handle| DEVICES.get(handle).is_some());
        handles.push(handle);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{weft_device_close, weft_device_open};

    fn open() -> u64 {
        let mut out = [0.0; 3];
        // SAFETY: the array has room for three values.
        assert_eq!(unsafe { weft_device_open(out.as_mut_ptr()) }, 0);
        out[0] as u64
    }

    #[test]
    fn a_thread_that_ends_takes_its_devices_along_and_no_others() {
        let mine = open();
        let theirs = thread::spawn(|| {
            let closed = open();
            assert_eq!(weft_device_close(closed as f64), 0);
            [open(), open()]
        });
        assert!(theirs.join().unwrap().iter().all(|&handle| DEVICES.get(handle).is_none()));
        assert!(DEVICES.get(mine).is_some());
        assert_eq!(weft_device_close(mine as f64), 0);
    }
}
