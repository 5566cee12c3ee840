//! Generation-checked handles: integers below 2^53, never pointers. A handle whose object is gone finds nothing, even when its slot is used again.
use std::sync::{Arc, PoisonError, RwLock};

const INDEX_BITS: u32 = 24;
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << 28) - 1;

struct Slot<T> {
    generation: u32,
    value: Option<Arc<T>>,
}

struct Slots<T> {
    entries: Vec<Slot<T>>,
    free: Vec<u32>,
    count: usize,
}

/// A table of shared objects by handle.
pub struct Registry<T> {
    slots: RwLock<Slots<T>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Registry<T> {
    /// An empty table.
    pub const fn new() -> Self {
        Self { slots: RwLock::new(Slots { entries: Vec::new(), free: Vec::new(), count: 0 }) }
    }

    /// Makes an object that knows its own handle, and puts it in. `None` where the table is full.
    pub fn insert_with(&self, make: impl FnOnce(u64) -> Arc<T>) -> Option<Arc<T>> {
        self.try_insert_with(|handle| Some(make(handle)))
    }

    /// The same where making may fail: then nothing is put in.
    pub fn try_insert_with(&self, make: impl FnOnce(u64) -> Option<Arc<T>>) -> Option<Arc<T>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let index = match slots.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(slots.entries.len()).ok()?;
                if u64::from(index) > INDEX_MASK {
                    return None;
                }
                slots.entries.push(Slot { generation: 1, value: None });
                index
            }
        };
        let slot = slots.entries.get_mut(index as usize)?;
        let handle = (u64::from(slot.generation) << INDEX_BITS) | u64::from(index);
        let Some(value) = make(handle) else {
            slots.free.push(index);
            return None;
        };
        slot.value = Some(Arc::clone(&value));
        slots.count += 1;
        Some(value)
    }

    /// The object of a handle, if it is still there.
    pub fn get(&self, handle: u64) -> Option<Arc<T>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entries.get((handle & INDEX_MASK) as usize)?;
        if u64::from(slot.generation) != handle >> INDEX_BITS {
            return None;
        }
        slot.value.clone()
    }

    /// Takes an object out; its handle is worthless from then on.
    pub fn remove(&self, handle: u64) -> Option<Arc<T>> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entries.get_mut((handle & INDEX_MASK) as usize)?;
        if u64::from(slot.generation) != handle >> INDEX_BITS {
            return None;
        }
        let value = slot.value.take()?;
        // A slot whose generations are used up stays empty: with the first one again, whoever kept a handle from then would reach a stranger.
        if slot.generation < GENERATION_MASK {
            slot.generation += 1;
            slots.free.push((handle & INDEX_MASK) as u32);
        }
        slots.count -= 1;
        Some(value)
    }

    /// How many objects there are now.
    pub fn count(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.count
    }

    /// Every object there is now.
    pub fn all(&self) -> Vec<Arc<T>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.entries.iter().filter_map(|slot| slot.value.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_handle_finds_nothing() {
        let registry = Registry::new();
        let mut handles = Vec::new();
        registry.insert_with(|h| {
            handles.push(h);
            Arc::new(1)
        });
        let first = handles[0];
        assert_eq!(registry.get(first).as_deref(), Some(&1));
        assert_eq!(registry.remove(first).as_deref(), Some(&1));
        assert!(registry.get(first).is_none());
        registry.insert_with(|h| {
            handles.push(h);
            Arc::new(2)
        });
        assert_ne!(first, handles[1]);
        assert!(registry.get(first).is_none() && registry.remove(first).is_none());
        assert_eq!(registry.get(handles[1]).as_deref(), Some(&2));
        assert!(registry.get(u64::MAX).is_none() && registry.get(0).is_none());
        assert_eq!((registry.all().len(), registry.count()), (1, 1));
    }

    #[test]
    fn a_slot_whose_generations_are_used_up_is_not_used_again() {
        let registry: Registry<u64> = Registry::new();
        let first = registry.insert_with(Arc::new).unwrap();
        registry.remove(*first).unwrap();
        registry.slots.write().unwrap().entries[0].generation = GENERATION_MASK;
        let last = registry.insert_with(Arc::new).unwrap();
        assert_eq!(*last, u64::from(GENERATION_MASK) << INDEX_BITS);
        assert_eq!((registry.count(), registry.remove(*last)), (1, Some(Arc::clone(&last))));
        let next = registry.insert_with(Arc::new).unwrap();
        assert_eq!((*next, registry.count()), (1 << INDEX_BITS | 1, 1));
        // neither 0, which stands for no handle, nor what was one before finds anything
        assert!([0, *first, *last].iter().all(|handle| registry.get(*handle).is_none()));
        assert!(registry.remove(*last).is_none());
        registry.remove(*next).unwrap();
        assert_eq!((registry.count(), registry.all().len()), (0, 0));
    }

    #[test]
    fn what_cannot_be_made_takes_no_place() {
        let registry: Registry<u64> = Registry::new();
        assert!(registry.try_insert_with(|_| None).is_none());
        let kept = registry.insert_with(Arc::new).unwrap();
        assert_eq!((registry.count(), registry.get(*kept)), (1, Some(kept)));
    }

    #[test]
    fn a_handle_never_finds_another_s_object() {
        let registry: Registry<u64> = Registry::new();
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let mut gone = Vec::new();
                    for round in 0..5000u64 {
                        // every object is its own handle
                        let mine = registry.insert_with(Arc::new).unwrap();
                        assert_eq!(registry.get(*mine).as_deref(), Some(&*mine));
                        if round % 3 != 0 {
                            assert_eq!(registry.remove(*mine).as_deref(), Some(&*mine));
                            gone.push(*mine);
                        }
                        assert!(gone.iter().rev().take(8).all(|handle| registry.get(*handle).is_none()));
                        assert!(*mine < 1 << 53);
                    }
                });
            }
        });
        assert!(registry.all().iter().all(|object| registry.get(**object).is_some()));
        assert_eq!(registry.count(), 4 * 1667);
    }
}
