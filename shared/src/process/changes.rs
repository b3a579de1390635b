//! Waits for a state that others change.

use tokio::sync::Notify;

/// Waits until `look` finds what is wanted. It is asked once at first and then after each
/// [`Notify::notify_waiters`] of `changed`; no change falls between.
pub async fn until<T>(changed: &Notify, mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        let notified = changed.notified();
        tokio::pin!(notified);
        // Registered before looking, so that no wake-up falls between.
        notified.as_mut().enable();
        if let Some(found) = look() {
            return found;
        }
        notified.await;
    }
}
