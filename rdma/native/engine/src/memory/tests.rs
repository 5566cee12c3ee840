//! What the table lets whom do, and what it remembers.
use super::*;

fn to(access: u32) -> Grant {
    Grant { access, connection: 0 }
}

fn via(pd: u32) -> Through {
    Through { pd, connection: 1 }
}

#[test]
fn a_window_for_one_connection_is_none_for_others() {
    let (t, r) = table();
    let w = t.bind(r.stag, 0, 4096, Grant { access: REMOTE_READ, connection: 5 }).unwrap();
    let pin = |connection| t.pin_remote(Through { pd: 7, connection }, w.stag, w.base, 1, REMOTE_READ).map(drop);
    assert_eq!((pin(5), pin(6)), (Ok(()), Err(AccessError::OtherDomain)));
    assert_eq!(t.invalidate_remote(Through { pd: 7, connection: 6 }, w.stag), Err(AccessError::OtherDomain));
    assert_eq!(t.invalidate_remote(Through { pd: 7, connection: 5 }, w.stag), Ok(()));
}

fn table() -> (MemoryTable, Arc<Region>) {
    let table = MemoryTable::default();
    let region = table.allocate(7, 64 * 1024, to(REMOTE_READ | REMOTE_WRITE)).unwrap();
    (table, region)
}

#[test]
fn checks_every_remote_access() {
    let (t, r) = table();
    assert!(t.pin_remote(via(7), r.stag, r.base, 65536, REMOTE_WRITE).is_ok());
    assert!(t.pin_remote(via(7), r.stag, r.base + 65536, 0, REMOTE_WRITE).is_ok());
    let refuse = |pd, stag, to, n, access| t.pin_remote(via(pd), stag, to, n, access).err();
    assert_eq!(refuse(7, r.stag, r.base, 65537, REMOTE_READ), Some(AccessError::Bounds));
    assert_eq!(refuse(7, r.stag, r.base - 1, 1, REMOTE_READ), Some(AccessError::Bounds));
    assert_eq!(refuse(7, r.stag, u64::MAX, 2, REMOTE_READ), Some(AccessError::Wrap));
    assert_eq!(refuse(8, r.stag, r.base, 1, REMOTE_READ), Some(AccessError::OtherDomain));
    assert_eq!(refuse(7, r.stag ^ 1, r.base, 1, REMOTE_READ), Some(AccessError::InvalidStag));
    let w = t.bind(r.stag, 4096, 4096, to(REMOTE_READ)).unwrap();
    assert!(t.pin_remote(via(7), w.stag, w.base, 4096, REMOTE_READ).is_ok());
    assert_eq!(refuse(7, w.stag, w.base, 4096, REMOTE_WRITE), Some(AccessError::Denied));
    assert_eq!(refuse(7, w.stag, r.base, 1, REMOTE_READ), Some(AccessError::Bounds));
    assert!(t.bind(r.stag, 65536, 1, to(0)).is_err() && t.bind(w.stag, 0, 1, to(0)).is_err());
    t.invalidate(r.stag).unwrap();
    assert_eq!(refuse(7, w.stag, w.base, 1, REMOTE_READ), Some(AccessError::InvalidStag));
}

#[test]
fn a_full_table_takes_nothing_more_and_serves_what_it_has() {
    let table = MemoryTable::with_limit(3);
    let both = to(REMOTE_READ | REMOTE_WRITE);
    let regions: Vec<_> = (0..2).map(|_| table.allocate(7, LARGE, both).unwrap()).collect();
    let window = table.bind(regions[0].stag, 0, LARGE, both).unwrap();
    let large = table.large_writable(7);
    for _ in 0..2 {
        let refused = [
            table.allocate(7, LARGE, both).err(),
            table.register(7, regions[0].address, LARGE, both).err(),
            table.bind(regions[0].stag, 0, LARGE, both).err(),
            table.reregister(regions[0].stag, 0, LARGE, both).err(),
        ];
        assert_eq!(refused, [Some(Status::Exhausted); 4]);
        assert_eq!((table.len(), large.load(Ordering::SeqCst)), (3, 3));
        for region in regions.iter().chain([&window]) {
            assert!(table.pin_remote(via(7), region.stag, region.base, LARGE, REMOTE_WRITE).is_ok());
        }
    }
    table.invalidate(window.stag).unwrap();
    assert!(table.allocate(7, LARGE, both).is_ok() && table.allocate(7, LARGE, both).is_err());
}

#[test]
fn counts_large_writable_regions() {
    let (t, r) = table();
    let count = t.large_writable(7);
    assert_eq!(count.load(Ordering::SeqCst), 1);
    let w = t.bind(r.stag, 0, LARGE, to(REMOTE_WRITE)).unwrap();
    t.bind(r.stag, 0, LARGE - 1, to(REMOTE_WRITE)).unwrap();
    t.bind(r.stag, 0, LARGE, to(REMOTE_READ)).unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    t.invalidate_remote(via(7), w.stag).unwrap();
    assert_eq!(t.invalidate_remote(via(7), w.stag), Err(AccessError::InvalidStag));
    assert_eq!(t.invalidate_remote(via(9), r.stag), Err(AccessError::OtherDomain));
    t.invalidate(r.stag).unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 0);
}

#[test]
fn windows_go_with_their_region() {
    let (t, r) = table();
    let windows: Vec<_> = (0..4).map(|i| t.bind(r.stag, i * LARGE, LARGE, to(REMOTE_WRITE)).unwrap()).collect();
    let other = t.allocate(7, LARGE, to(REMOTE_WRITE)).unwrap();
    let count = t.large_writable(7);
    assert_eq!((t.len(), count.load(Ordering::SeqCst)), (6, 6));
    t.invalidate(windows[0].stag).unwrap();
    assert_eq!((t.len(), count.load(Ordering::SeqCst)), (5, 5));
    t.invalidate(r.stag).unwrap();
    assert_eq!((t.len(), count.load(Ordering::SeqCst)), (1, 1));
    assert!(windows.iter().all(|w| t.invalidate(w.stag).is_none() && t.pin(w.stag).is_none()));
    assert!(t.pin(other.stag).is_some());
}

#[test]
fn a_peer_takes_the_right_and_leaves_the_memory() {
    let (t, r) = table();
    let w = t.bind(r.stag, 0, LARGE, to(REMOTE_WRITE)).unwrap();
    t.invalidate_remote(via(7), r.stag).unwrap();
    assert_eq!(t.invalidate_remote(via(7), r.stag), Err(AccessError::InvalidStag));
    assert!(t.pin(r.stag).is_none() && t.pin(w.stag).is_none() && t.bind(r.stag, 0, 1, to(0)).is_err());
    // still mapped, and still its owner's to give back
    // SAFETY: within the region's mapping, which `r` and the table keep.
    assert_eq!(unsafe { std::ptr::read_volatile(r.address as *const u8) }, 0);
    assert_eq!(t.len(), 2);
    assert!(t.invalidate(r.stag).is_some() && t.is_empty());
    assert_eq!(t.large_writable(7).load(Ordering::SeqCst), 0);
}

#[test]
fn a_peer_takes_no_right_that_it_never_had() {
    let t = MemoryTable::default();
    for access in [0, VOLATILE] {
        let r = t.allocate(7, LARGE, to(access)).unwrap();
        let w = t.bind(r.stag, 0, LARGE, to(access)).unwrap();
        for stag in [w.stag, r.stag] {
            assert_eq!(t.invalidate_remote(via(7), stag), Err(AccessError::Denied), "{access:#x}");
            assert!(t.pin(stag).is_some());
        }
    }
    for access in [REMOTE_READ, REMOTE_WRITE, REMOTE_ATOMIC, REMOTE_READ | VOLATILE] {
        let r = t.allocate(7, LARGE, to(access)).unwrap();
        assert_eq!(t.invalidate_remote(via(7), r.stag), Ok(()), "{access:#x}");
    }
}

#[test]
fn nobody_has_a_pin_after_deregistration() {
    let t = MemoryTable::default();
    for _ in 0..200 {
        let r = t.allocate(7, LARGE, to(REMOTE_WRITE)).unwrap();
        let w = t.bind(r.stag, 0, LARGE, to(REMOTE_WRITE)).unwrap();
        let gone = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for stag in [r.stag, w.stag] {
                let (t, gone) = (&t, &gone);
                scope.spawn(move || {
                    while let Some(pin) = t.pin(stag) {
                        // whoever still holds a pin may write: deregistration must not have returned
                        assert!(!gone.load(Ordering::SeqCst), "pinned after deregistration");
                        drop(pin);
                    }
                });
            }
            std::thread::yield_now();
            t.invalidate(r.stag).unwrap();
            gone.store(true, Ordering::SeqCst);
        });
    }
}

#[test]
fn deregistration_waits_for_pins() {
    let (t, r) = table();
    let t = Arc::new(t);
    let pin = t.pin(r.stag).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let thread = {
        let (t, done, stag) = (Arc::clone(&t), Arc::clone(&done), r.stag);
        std::thread::spawn(move || {
            t.invalidate(stag);
            done.store(true, Ordering::SeqCst);
        })
    };
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!done.load(Ordering::SeqCst), "invalidate returned while the region was pinned");
    drop(pin);
    thread.join().unwrap();
    assert!(t.pin(r.stag).is_none() && t.is_empty());
}

#[test]
fn domains_that_nobody_uses_are_forgotten() {
    let (t, r) = table();
    let held = t.large_writable(8);
    (9..10_000).for_each(|pd| drop(t.large_writable(pd)));
    assert!(lock(&t.large).len() < 100);
    assert!(Arc::ptr_eq(&held, &t.large_writable(8)));
    assert_eq!(t.large_writable(7).load(Ordering::SeqCst), 1);
    t.invalidate(r.stag).unwrap();
    assert_eq!(t.large_writable(7).load(Ordering::SeqCst), 0);
}
