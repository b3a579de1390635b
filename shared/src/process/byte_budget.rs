//! A bound in bytes, shared by many parts of a process.
//!
//! Counts per part bound nothing: a thousand rooms of a few MiB each are more than a node has.
//! Whoever keeps something takes its bytes out of the budget first, or does not keep it; what was
//! taken goes back when the [`ByteShare`] is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes, for all who share it.
#[derive(Debug)]
pub struct ByteBudget {
    used: AtomicUsize,
    max: usize,
}

impl ByteBudget {
    /// A budget of `max` bytes.
    #[must_use]
    pub fn new(max: usize) -> Arc<ByteBudget> {
        Arc::new(ByteBudget { used: AtomicUsize::new(0), max })
    }

    /// Bytes that are held.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether more is held than there is; what must be kept is counted beyond it, see
    /// [`ByteShare::set`].
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.used() > self.max
    }

    /// A share without any bytes yet.
    #[must_use]
    pub fn share(self: &Arc<Self>) -> ByteShare {
        ByteShare { budget: Arc::clone(self), bytes: 0 }
    }

    /// A share of so many bytes, or nothing where they are not there.
    #[must_use]
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<ByteShare> {
        let mut share = self.share();
        share.grow(bytes).then_some(share)
    }
}

/// Bytes of a budget that somebody holds.
#[derive(Debug)]
pub struct ByteShare {
    budget: Arc<ByteBudget>,
    bytes: usize,
}

impl ByteShare {
    /// Bytes that it holds.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes so many bytes more; `false`, and nothing taken, where they are not there.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.budget.max);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        if taken.is_ok() {
            self.bytes += bytes;
        }
        taken.is_ok()
    }

    /// Holds so many bytes from now on, whether they are there or not: for what is kept already and
    /// changes its size. Whoever calls it looks at [`ByteShare::is_exceeded`] and gives way.
    pub fn set(&mut self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = bytes;
    }

    /// Hands all of it over; nothing is left here.
    #[must_use]
    pub fn take(&mut self) -> ByteShare {
        let bytes = std::mem::take(&mut self.bytes);
        ByteShare { budget: Arc::clone(&self.budget), bytes }
    }

    /// See [`ByteBudget::is_exceeded`].
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.budget.is_exceeded()
    }
}

impl Drop for ByteShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_no_more_is_given_than_there_is() {
        let budget = ByteBudget::new(10);
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(!first.grow(usize::MAX), "no overflow");
        let second = budget.take(4).unwrap();
        assert!(!budget.is_exceeded() && !first.grow(1));
        first.set(8);
        assert!(budget.is_exceeded() && first.is_exceeded());
        drop(second);
        assert_eq!((budget.used(), first.bytes()), (8, 8));
        let handed_over = first.take();
        drop(first);
        assert_eq!(budget.used(), 8);
        drop(handed_over);
        assert_eq!(budget.used(), 0);
    }
}
