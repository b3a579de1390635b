//! From the first try to read a room until it is taken out of use.

use super::Room;

impl Room {
    /// Waits until the room has been live once.
    pub(in crate::hub) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.lock().settled {
                return;
            }
            settled.await;
        }
    }

    /// Whether the room has been live once.
    pub(in crate::hub) fn is_settled(&self) -> bool {
        self.lock().settled
    }

    /// Whether what it reads from does not answer at the moment.
    pub(in crate::hub) fn is_failing(&self) -> bool {
        self.lock().failing
    }

    /// A try to read it has failed, or has not.
    pub(in crate::hub) fn tried(&self, failed: bool) {
        let mut state = self.lock();
        state.failing = failed;
        if failed && state.members.is_empty() {
            self.parts.empty.notify_one();
        }
    }

    /// Whether it was taken out of use.
    pub(in crate::hub) fn is_retired(&self) -> bool {
        self.lock().retired
    }

    /// Takes the room out of use if nobody is in it.
    pub(in crate::hub) fn retire_if_empty(&self) -> bool {
        let mut state = self.lock();
        // One that was never read and cannot be read now is nobody's either: whoever waits for it
        // is told so.
        state.retired = state.members.is_empty() && (state.settled || state.failing);
        state.retired
    }
}
