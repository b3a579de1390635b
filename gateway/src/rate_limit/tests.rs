use shared::contract::timestamp::Timestamp;
use shared::log::memory::MemoryLog;

use super::*;

const LIMIT: u32 = 3;
const BLOCK_AFTER: u32 = 4;
const BLOCK_MS: u64 = 10_000;

struct Running {
    limiter: Arc<RateLimiter>,
    clock: Clock,
    /// What the limiter tells other nodes comes out here too.
    _deliveries: shared::log::deliveries::DeliveryReceiver,
}

impl Running {
    fn start(block_after: u32) -> Running {
        let clock = Clock::system();
        let (log, deliveries) = MemoryLog::new(clock.clone(), 100);
        let rules = Rules {
            limits: [LIMIT; RateClass::COUNT],
            windows_ms: [RATE_WINDOW_MS; RateClass::COUNT],
            block_after,
            block_ms: i64::try_from(BLOCK_MS).unwrap(),
        };
        let parts = Deps {
            clock: clock.clone(),
            metrics: Arc::new(Metrics::register(&prometheus::Registry::new())),
            broker: Arc::new(log),
            fleet: None,
        };
        let limiter = Arc::new(RateLimiter::new(rules, parts));
        Running { limiter, clock, _deliveries: deliveries }
    }

    async fn count(&self, identity: &Identity) -> Result<RatePermit, Refusal> {
        self.limiter.count(identity, RateClass::Messages).await
    }

    /// The refusal of one use too many.
    async fn refused(&self, identity: &Identity) -> Refusal {
        let refusal = self.count(identity).await.unwrap_err();
        self.limiter.refused(&identity.user, RateClass::Messages);
        refusal
    }

    fn later(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

fn anybody(name: &str) -> Identity {
    Identity::anybody(UserId::parse(name).unwrap(), Timestamp(0))
}

#[tokio::test]
async fn a_window_begins_with_the_first_use_and_its_rest_is_told() {
    let running = Running::start(0);
    let (ann, bob) = (anybody("ann"), anybody("bob"));
    let _first = running.count(&ann).await.unwrap();
    running.later(40_000);
    for _ in 1..LIMIT {
        let _one = running.count(&ann).await.unwrap();
    }
    let refusal = running.refused(&ann).await;
    assert_eq!(refusal.code, RefusalCode::RateLimited);
    let rest_ms = refusal.retry_after_ms.unwrap();
    assert!((19_000..=20_000).contains(&rest_ms), "{rest_ms}");
    // Others, and what else she does, are counted apart.
    let _his = running.count(&bob).await.unwrap();
    let _typing = running.limiter.count(&ann, RateClass::Typing).await.unwrap();
    // What was told is true.
    running.later(rest_ms);
    for _ in 0..LIMIT {
        let _again = running.count(&ann).await.unwrap();
    }
    running.refused(&ann).await;
}

#[tokio::test]
async fn what_was_given_back_may_be_used_again() {
    let running = Running::start(0);
    let ann = anybody("ann");
    for _ in 0..10 * LIMIT {
        let counted = running.count(&ann).await.unwrap();
        running.limiter.refund(counted);
    }
    let mut all = Vec::new();
    for _ in 0..LIMIT {
        all.push(running.count(&ann).await.unwrap());
    }
    running.refused(&ann).await;
    running.limiter.refund(all.pop().unwrap());
    let _one = running.count(&ann).await.unwrap();
    running.refused(&ann).await;
    // What comes too late takes nothing from the next window.
    running.later(60_000);
    running.limiter.refund(all.pop().unwrap());
    for _ in 0..LIMIT {
        let _fresh = running.count(&ann).await.unwrap();
    }
    running.refused(&ann).await;
}

#[tokio::test]
async fn whoever_hammers_on_is_blocked_for_a_while() {
    let running = Running::start(BLOCK_AFTER);
    let (ann, bob) = (anybody("ann"), anybody("bob"));
    for _ in 0..LIMIT {
        let _one = running.count(&ann).await.unwrap();
    }
    for _ in 1..BLOCK_AFTER {
        running.refused(&ann).await;
        running.limiter.check(&ann).unwrap();
    }
    running.refused(&ann).await;
    let refusal = running.limiter.check(&ann).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Blocked);
    let rest_ms = refusal.retry_after_ms.unwrap();
    assert!((BLOCK_MS - 1000..=BLOCK_MS).contains(&rest_ms), "{rest_ms}");
    running.limiter.check(&bob).unwrap();
    running.later(rest_ms);
    running.limiter.check(&ann).unwrap();
}

#[tokio::test]
async fn refusals_of_different_minutes_block_nobody() {
    let running = Running::start(BLOCK_AFTER);
    let ann = anybody("ann");
    for _ in 0..5 {
        for _ in 0..LIMIT {
            let _one = running.count(&ann).await.unwrap();
        }
        for _ in 1..BLOCK_AFTER {
            running.refused(&ann).await;
        }
        running.limiter.check(&ann).unwrap();
        running.later(60_000);
    }
}

#[tokio::test]
async fn another_nodes_word_blocks_for_no_longer_than_ones_own() {
    let running = Running::start(BLOCK_AFTER);
    let ann = anybody("ann");
    let rest_ms = || running.limiter.check(&ann).unwrap_err().retry_after_ms.unwrap();
    let now_ms = running.clock.now_ms();
    running.limiter.apply_block(&ann.user, now_ms);
    running.limiter.check(&ann).unwrap();
    running.limiter.apply_block(&ann.user, now_ms + 5000);
    assert!(rest_ms() <= 5000);
    running.limiter.apply_block(&ann.user, now_ms + 3_600_000);
    assert!(rest_ms() <= BLOCK_MS);
    assert_eq!(running.limiter.parts.metrics.blocks_total.get(), 1);
}

#[tokio::test]
async fn what_is_over_is_forgotten() {
    let running = Running::start(BLOCK_AFTER);
    for number in 0..100 {
        let user = anybody(&format!("user-{number}"));
        for _ in 0..LIMIT {
            let _one = running.count(&user).await.unwrap();
        }
        running.refused(&user).await;
    }
    let now_ms = running.clock.now_ms();
    running.limiter.windows.sweep(now_ms);
    assert_eq!(running.limiter.windows.len(), 100);
    running.limiter.windows.sweep(now_ms + 60_000);
    assert_eq!(running.limiter.windows.len(), 0);
}

/// What a window says of uses that the fleet is asked for.
struct Asked {
    windows: Windows,
    ann: UserId,
}

impl Asked {
    fn take(&self, now_ms: i64) -> LocalCount {
        self.windows.take(&self.ann, RateClass::Messages, 100, now_ms)
    }

    fn given(&self, count: u32, rest_ms: i64, is_first: bool, now_ms: i64) -> LocalCount {
        let given = Portion { count, rest_ms, is_first };
        self.windows.given(&self.ann, RateClass::Messages, given, now_ms)
    }
}

#[test]
fn the_fleet_is_asked_once_for_a_portion_and_not_again_before_its_window_ends() {
    let asked = Asked {
        windows: Windows::new([60_000; RateClass::COUNT]),
        ann: UserId::parse("ann").unwrap(),
    };
    assert_eq!(asked.take(1000), LocalCount::Locally);
    assert_eq!(asked.given(3, 30_000, false, 1000), LocalCount::Held);
    assert_eq!(asked.take(1001), LocalCount::Held);
    assert_eq!(asked.take(1002), LocalCount::Held);
    assert_eq!(asked.take(1003), LocalCount::Locally);
    assert_eq!(asked.given(0, 29_000, false, 2000), LocalCount::Over { rest_ms: 29_000 });
    assert_eq!(asked.take(3000), LocalCount::Over { rest_ms: 28_000 });
    // What is given back here is had here.
    asked.windows.refund(&asked.ann, RateClass::Messages, 3000);
    assert_eq!(asked.take(3001), LocalCount::Held);
    assert_eq!(asked.take(3002), LocalCount::Over { rest_ms: 27_998 });
    // The fleet's window ends where it said.
    assert_eq!(asked.take(31_000), LocalCount::Locally);
    assert_eq!(asked.given(1, 60_000, true, 31_000), LocalCount::Held);
    // A clock that was set back makes no window longer.
    assert_eq!(asked.take(-100_000), LocalCount::Locally);
}
