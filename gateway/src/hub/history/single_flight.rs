//! One read for all who ask for the same at the same time.
//!
//! Ten thousand clients that come back from one place behind a room's memory want the same pages;
//! whoever asks first reads, the others wait for the answer. Nothing is kept beyond that: what is
//! read a moment later is read anew.

use std::hash::Hash;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::OnceCell;

/// Readings under way, by what is read.
#[derive(Debug)]
pub(crate) struct SingleFlight<K: Eq + Hash, V> {
    under_way: DashMap<K, Arc<OnceCell<V>>>,
}

impl<K: Eq + Hash, V> Default for SingleFlight<K, V> {
    fn default() -> SingleFlight<K, V> {
        SingleFlight { under_way: DashMap::new() }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> SingleFlight<K, V> {
    /// The outcome of `read`, or of one for the same key that is under way. Where that one fails,
    /// or whoever began it gives up, the next who waits reads.
    pub(crate) async fn share<E>(
        &self,
        key: K,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        // The guard of the entry ends with the statement.
        let cell = Arc::clone(&self.under_way.entry(key.clone()).or_default());
        let passenger = Passenger { flights: self, key, cell };
        passenger.cell.get_or_try_init(|| read).await.cloned()
    }
}

/// Somebody who waits for a reading. With the first to be answered, or the last to give up, it is
/// under way no longer: whoever comes then is to see what has changed since.
struct Passenger<'a, K: Eq + Hash, V> {
    flights: &'a SingleFlight<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Drop for Passenger<'_, K, V> {
    fn drop(&mut self) {
        // Held by this passenger and by the map: nobody else waits.
        let last = || Arc::strong_count(&self.cell) <= 2;
        self.flights.under_way.remove_if(&self.key, |_, standing| {
            Arc::ptr_eq(standing, &self.cell) && (self.cell.initialized() || last())
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn those_who_ask_together_are_answered_by_one_reading() {
        let (flights, reads) = (SingleFlight::<u8, usize>::default(), AtomicUsize::new(0));
        let gate = Notify::new();
        let ask = || {
            flights.share(1, async {
                gate.notified().await;
                Ok::<_, ()>(reads.fetch_add(1, Ordering::Relaxed))
            })
        };
        let open = async {
            tokio::task::yield_now().await;
            gate.notify_one();
        };
        let (a, b, c, ()) = tokio::join!(ask(), ask(), ask(), open);
        assert_eq!((a, b, c), (Ok(0), Ok(0), Ok(0)));
        gate.notify_one();
        assert_eq!(ask().await, Ok(1), "a later one reads anew");
        assert!(flights.under_way.is_empty());
    }

    #[tokio::test]
    async fn a_reading_that_fails_or_is_given_up_is_no_answer_for_the_others() {
        let flights = SingleFlight::<u8, u8>::default();
        let hangs = flights.share(1, std::future::pending::<Result<u8, ()>>());
        let given_up = tokio::time::timeout(std::time::Duration::from_millis(1), hangs).await;
        assert!(given_up.is_err());
        assert_eq!(flights.share(1, async { Err("away") }).await, Err("away"));
        assert_eq!(flights.share(1, async { Ok::<_, ()>(7) }).await, Ok(7));
        assert!(flights.under_way.is_empty());
    }
}
