//! The queue of deliveries to the hub, bounded in number and in bytes.
//!
//! What is published cannot be slowed down. What does not fit is dropped, and a gap is told in its
//! place as soon as something fits again: every room then reads what it missed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;

use super::Delivery;
use crate::process::byte_budget::{ByteBudget, ByteShare};

/// Deliveries that may wait.
const COUNT_MAX: usize = 16 * 1024;

/// A queue in which at most so many bytes wait, and where its deliveries come out.
#[must_use]
pub fn channel(bytes_max: usize) -> (Deliveries, DeliveryReceiver) {
    let (sender, receiver) = mpsc::channel(COUNT_MAX);
    let budget = ByteBudget::new(bytes_max);
    (Deliveries { sender, budget, lost: AtomicBool::new(false) }, DeliveryReceiver(receiver))
}

/// Where deliveries go in.
#[derive(Debug)]
pub struct Deliveries {
    sender: mpsc::Sender<(Delivery, ByteShare)>,
    budget: Arc<ByteBudget>,
    /// Something did not fit; a gap has to be told.
    lost: AtomicBool,
}

impl Deliveries {
    /// Hands over a delivery, without waiting.
    pub fn put(&self, delivery: Delivery) {
        // No gap before something fits again: each makes every room read.
        let share = self.budget.take(delivery.bytes()).filter(|_| self.tell_gap());
        let sent = share.is_some_and(|share| self.sender.try_send((delivery, share)).is_ok());
        if !sent {
            self.lose();
        }
    }

    /// Something was missed: a gap is due.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Tells of a gap if one is due; says whether there is none left to tell.
    pub fn tell_gap(&self) -> bool {
        let gap = || (Delivery::Gap, self.budget.share());
        if self.lost.swap(false, Ordering::AcqRel) && self.sender.try_send(gap()).is_err() {
            self.lose();
            return false;
        }
        true
    }
}

/// Where deliveries come out, in order.
#[derive(Debug)]
pub struct DeliveryReceiver(mpsc::Receiver<(Delivery, ByteShare)>);

impl DeliveryReceiver {
    /// The next; `None` when nothing more can come.
    pub async fn recv(&mut self) -> Option<Delivery> {
        self.0.recv().await.map(|(delivery, _)| delivery)
    }

    /// The next, if there is one now.
    ///
    /// # Errors
    /// There is none now, or there never will be.
    pub fn try_recv(&mut self) -> Result<Delivery, TryRecvError> {
        self.0.try_recv().map(|(delivery, _)| delivery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::position::Position;
    use crate::log::RingEntry;

    const BYTES_MAX: usize = 64 * 1024 * 1024;

    fn entry(bytes: usize) -> Delivery {
        let raw = vec![0; bytes].into();
        Delivery::Entry(RingEntry { position: Position::new(1, 1), raw })
    }

    #[test]
    fn what_does_not_fit_in_bytes_becomes_one_gap() {
        let (deliveries, mut receiver) = channel(BYTES_MAX);
        let mebibyte = 1024 * 1024;
        (0..BYTES_MAX / mebibyte + 3).for_each(|_| deliveries.put(entry(mebibyte)));
        assert!(deliveries.budget.used() <= BYTES_MAX, "no more than is allowed");
        let mut count = 0;
        while let Ok(delivery) = receiver.try_recv() {
            assert!(matches!(delivery, Delivery::Entry(_)));
            count += 1;
        }
        assert_eq!(count, BYTES_MAX / mebibyte - 1, "each costs a little more than its bytes");
        assert_eq!(deliveries.budget.used(), 0);
        deliveries.put(entry(1));
        assert!(matches!(receiver.try_recv(), Ok(Delivery::Gap)), "told before what comes next");
        assert!(matches!(receiver.try_recv(), Ok(Delivery::Entry(_))));
    }

    #[test]
    fn what_does_not_fit_in_number_becomes_one_gap() {
        let (deliveries, mut receiver) = channel(BYTES_MAX);
        (0..COUNT_MAX + 3).for_each(|_| deliveries.put(entry(1)));
        (0..COUNT_MAX).for_each(|_| drop(receiver.try_recv().unwrap()));
        assert!(deliveries.tell_gap());
        assert!(matches!(receiver.try_recv(), Ok(Delivery::Gap)));
        assert!(receiver.try_recv().is_err());
    }
}
