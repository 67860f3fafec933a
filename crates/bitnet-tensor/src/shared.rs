//! A value with a count of its owners, like `Arc`, in a node that each thread keeps for its next one.
//!
//! The owner of a tensor's memory is made and dropped with every small tensor; what the system's allocator asks for a
//! node is as much as the pool asks for the memory itself. With the standard library's `Arc` in its place a tensor of
//! four elements takes a fifth longer to make and drop, and one of 32 × 32 an eighth.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared value; the last owner drops it.
pub(crate) struct Shared<T>(NonNull<Node<T>>);

struct Node<T> {
    owners: AtomicUsize,
    value: T,
}

// SAFETY: as for `Arc`: owners on several threads see the value, and any of them may drop it.
unsafe impl<T: Send + Sync> Send for Shared<T> {}
// SAFETY: as for Send; a shared owner can be cloned into an owner.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The value with one owner.
    #[inline]
    pub(crate) fn new(value: T) -> Self {
        const {
            assert!(size_of::<Node<T>>() <= NODE.size() && align_of::<Node<T>>() <= NODE.align());
        };
        let node = take_node().cast();
        let owners = AtomicUsize::new(1);
        // SAFETY: a node is nobody's, and has room for this, as asserted.
        unsafe { node.write(Node { owners, value }) };
        Self(node)
    }

    /// The value, if it has no other owner.
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        if self.node().owners.load(Ordering::Acquire) == 1 {
            // SAFETY: the only owner is borrowed mutably, so nobody else can look or become one.
            Some(unsafe { &mut self.0.as_mut().value })
        } else {
            None
        }
    }

    /// Whether both own one value.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    #[inline]
    fn node(&self) -> &Node<T> {
        // SAFETY: the node lives as long as it has an owner, and only `get_mut` writes to it.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.node().value
    }
}

impl<T> Clone for Shared<T> {
    #[inline]
    fn clone(&self) -> Self {
        // Who makes an owner has one: nothing is to be ordered. As many as this are leaked, not used.
        if self.node().owners.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        Self(self.0)
    }
}

impl<T> Drop for Shared<T> {
    #[inline]
    fn drop(&mut self) {
        let owners = &self.node().owners;
        // The only owner has nobody to tell, and nobody can become one meanwhile. What other owners did comes before the
        // end of the value.
        let last =
            owners.load(Ordering::Acquire) == 1 || owners.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            // SAFETY: this was the last owner; the value is dropped once, and its node then is nobody's.
            unsafe {
                (&raw mut (*self.0.as_ptr()).value).drop_in_place();
                put_node(self.0.cast());
            }
        }
    }
}

/// Room for any node.
const NODE: Layout = match Layout::from_size_align(128, 16) {
    Ok(layout) => layout,
    Err(_) => panic!("a power of two"),
};
/// The most nodes that a thread keeps.
const KEPT: usize = 64;

/// A node that nobody uses.
struct Spare {
    next: Option<NonNull<Spare>>,
}

/// The nodes that a thread keeps.
struct Kept {
    first: Cell<Option<NonNull<Spare>>>,
    count: Cell<usize>,
}

thread_local! {
    static NODES: Kept = const { Kept { first: Cell::new(None), count: Cell::new(0) } };
}

impl Kept {
    #[inline]
    fn pop(&self) -> Option<NonNull<Spare>> {
        let first = self.first.get()?;
        // SAFETY: nodes in the list are alive, and this thread's alone.
        self.first.set(unsafe { first.as_ref() }.next);
        self.count.set(self.count.get() - 1);
        Some(first)
    }
}

impl Drop for Kept {
    /// The thread ends.
    fn drop(&mut self) {
        while let Some(node) = self.pop() {
            // SAFETY: `take_node` allocated it with this layout, and it is in no list any more.
            unsafe { dealloc(node.as_ptr().cast(), NODE) };
        }
    }
}

/// A node that is nobody's: [`NODE`] bytes of any value.
#[inline]
fn take_node() -> NonNull<Spare> {
    let kept = NODES.try_with(Kept::pop);
    kept.ok().flatten().unwrap_or_else(allocate)
}

#[cold]
fn allocate() -> NonNull<Spare> {
    // SAFETY: the size is not zero.
    let node = unsafe { alloc(NODE) };
    NonNull::new(node.cast()).unwrap_or_else(|| handle_alloc_error(NODE))
}

/// # Safety
/// `node` must come from [`take_node`], and be nobody's any more.
#[inline]
unsafe fn put_node(node: NonNull<Spare>) {
    let kept = NODES.try_with(|kept| {
        let room = kept.count.get() < KEPT;
        if room {
            let next = kept.first.get();
            // SAFETY: the node has room for this, and is nobody's, as the caller promises.
            unsafe { node.write(Spare { next }) };
            kept.first.set(Some(node));
            kept.count.set(kept.count.get() + 1);
        }
        room
    });
    if kept != Ok(true) {
        // SAFETY: `take_node` allocated it with this layout, and it is nobody's.
        unsafe { dealloc(node.as_ptr().cast(), NODE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn the_last_owner_drops_the_value_once() {
        let value = Arc::new(7);
        let mut one = Shared::new(Arc::clone(&value));
        assert!(one.get_mut().is_some());
        let two = one.clone();
        assert!(one.get_mut().is_none() && one.is_same(&two));
        let other = thread::spawn(move || **two);
        assert_eq!(other.join().unwrap(), 7);
        assert_eq!(Arc::strong_count(&value), 2);
        drop(one);
        assert_eq!(Arc::strong_count(&value), 1);
    }

    #[test]
    fn nodes_wander_between_threads() {
        let values: Vec<_> = (0..4 * KEPT).map(Shared::new).collect();
        let clones = values.clone();
        let sum: usize = (0..4 * KEPT).sum();
        let worker = thread::spawn(move || clones.iter().map(|value| **value).sum::<usize>());
        drop(values);
        assert_eq!(worker.join().unwrap(), sum);
        let again: Vec<_> = (0..4 * KEPT).map(Shared::new).collect();
        assert!(again.iter().enumerate().all(|(i, value)| **value == i));
    }
}
