//! Waiting for a condition, with a deadline: what stands in the place of every sleep.

use std::fmt::{Debug, Display};
use std::panic::Location;
use std::time::Duration;
use tokio::time::Instant;

/// How often the condition is looked at. It is a level, not an event, so nothing can be missed.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// What a condition may answer: `bool`, `Option` or `Result`.
pub trait Verdict {
    /// What the caller gets once the condition holds.
    type Yield;

    /// The value, or what still stands in the way.
    fn settle(self) -> Result<Self::Yield, String>;
}

impl Verdict for bool {
    type Yield = ();

    fn settle(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("it is still false".to_owned()) }
    }
}

impl<T> Verdict for Option<T> {
    type Yield = T;

    fn settle(self) -> Result<T, String> {
        self.ok_or_else(|| "there is still none".to_owned())
    }
}

impl<T: Debug, E: Display> Verdict for Result<T, E> {
    type Yield = T;

    fn settle(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks `condition` until it holds. Panics at the caller's line when `within` has passed, with
/// `what` was waited for and the last thing that stood in the way.
#[track_caller]
pub fn eventually<C, F>(
    within: Duration,
    what: &str,
    condition: C,
) -> impl Future<Output = <F::Output as Verdict>::Yield>
where
    C: FnMut() -> F,
    F: Future<Output: Verdict>,
{
    poll(within, what, condition, Location::caller())
}

async fn poll<C, F>(
    within: Duration,
    what: &str,
    mut condition: C,
    caller: &Location<'_>,
) -> <F::Output as Verdict>::Yield
where
    C: FnMut() -> F,
    F: Future<Output: Verdict>,
{
    let deadline = Instant::now() + within;
    let mut obstacle = "it was never asked".to_owned();
    loop {
        if let Ok(verdict) = tokio::time::timeout_at(deadline, condition()).await {
            match verdict.settle() {
                Ok(value) => return value,
                Err(still) => obstacle = still,
            }
        }
        if Instant::now() >= deadline {
            panic!("{caller}: {what}: not within {within:?}; last: {obstacle}");
        }
        tokio::time::sleep_until(deadline.min(Instant::now() + POLL_EVERY)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_asked_until_it_holds() {
        let asked = Cell::new(0);
        let found = eventually(Duration::from_secs(1), "the third time", || async {
            asked.set(asked.get() + 1);
            (asked.get() == 3).then_some("here")
        });
        assert_eq!(found.await, "here");
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "a miracle: not within 1s; last: still water")]
    async fn a_condition_that_never_holds_panics_with_what_stood_in_the_way() {
        let never = || async { Err::<(), _>("still water") };
        eventually(Duration::from_secs(1), "a miracle", never).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "an answer: not within 1s")]
    async fn a_condition_that_hangs_is_given_up() {
        eventually(Duration::from_secs(1), "an answer", std::future::pending::<bool>).await;
    }
}
