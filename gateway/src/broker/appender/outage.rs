//! What becomes of entries that need the database while it does not answer: they are refused, and
//! hold up nobody who needs only the log.

use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::{Job, PAUSE, TryError, unavailable};

/// How long the database may take to answer at first. What it is asked holds up its shard.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long it may take once it has not answered.
const PATIENCE_WHEN_AWAY: Duration = Duration::from_millis(500);

/// How long it is not asked after it has not answered.
const REST: Duration = Duration::from_secs(1);

/// Whether the database answers, as far as one shard has asked it.
#[derive(Debug, Default)]
pub(super) struct Outage {
    failed_at: Option<Instant>,
}

impl Outage {
    /// What the database answers, tried again for a while; `None` where it does not.
    pub(super) async fn ask<T, E, F>(
        &mut self,
        mut ask: impl FnMut() -> F,
    ) -> Result<Option<T>, TryError>
    where
        E: Into<TryError>,
        F: Future<Output = Result<T, E>>,
    {
        if self.failed_at.is_some_and(|at| at.elapsed() < REST) {
            return Ok(None);
        }
        let patience = if self.failed_at.is_some() { PATIENCE_WHEN_AWAY } else { PATIENCE };
        let mut last = TryError::Timeout;
        let asked = tokio::time::timeout(patience, async {
            loop {
                match ask().await.map_err(Into::into) {
                    Err(error @ TryError::Store(_)) => last = error,
                    settled => return settled,
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        match asked.await {
            Ok(answer) => {
                self.failed_at = None;
                answer.map(Some)
            }
            Err(_) => {
                warn!(error = ?last, "what needs the database is refused");
                self.failed_at = Some(Instant::now());
                Ok(None)
            }
        }
    }
}

/// Refuses the jobs at these places, in ascending order; what was accepted before is not refused a
/// second time, and waits.
pub(super) fn refuse(jobs: &mut Vec<Job>, places: &[usize]) -> Result<(), TryError> {
    let mut waits = false;
    for place in places.iter().rev() {
        if jobs[*place].answer.is_none() {
            waits = true;
        } else if let Some(answer) = jobs.remove(*place).answer {
            // The sender may have left.
            let _ = answer.send(Err(unavailable()));
        }
    }
    if waits { Err(TryError::Away) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use shared::store::StoreError;

    use super::*;

    fn away() -> TryError {
        TryError::Store(StoreError::Unavailable("away".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_is_away_is_waited_for_once_and_then_seldom_asked() {
        let (mut outage, mut asked) = (Outage::default(), 0);
        let began = Instant::now();
        let answer = outage.ask(|| async { Err::<(), _>(away()) }).await;
        assert!(matches!(answer, Ok(None)) && began.elapsed() == PATIENCE);
        for _ in 0..3 {
            let answer = outage.ask(|| {
                asked += 1;
                async { Ok::<_, TryError>(()) }
            });
            assert!(matches!(answer.await, Ok(None)), "not asked so soon");
        }
        assert_eq!((asked, began.elapsed()), (0, PATIENCE));
        tokio::time::advance(REST).await;
        let hanging = outage.ask(std::future::pending::<Result<(), TryError>>);
        assert!(matches!(hanging.await, Ok(None)));
        tokio::time::advance(REST).await;
        assert!(matches!(outage.ask(|| ready(Ok::<_, TryError>(7))).await, Ok(Some(7))));
        assert!(matches!(outage.ask(|| ready(Ok::<_, TryError>(8))).await, Ok(Some(8))));
    }

    #[tokio::test(start_paused = true)]
    async fn one_answer_that_fails_is_asked_for_again() {
        let (mut outage, mut tries) = (Outage::default(), 0);
        let answer = outage.ask(|| {
            tries += 1;
            ready(if tries < 3 { Err(away()) } else { Ok(tries) })
        });
        assert!(matches!(answer.await, Ok(Some(3))));
        let other = outage.ask(|| async { Err::<(), _>(TryError::Full) }).await;
        assert!(
            matches!(other, Err(TryError::Full)),
            "what is not the database's is not held back"
        );
    }
}
