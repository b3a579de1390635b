use shared::contract::id::{MessageId, RoomId, UserId};
use shared::contract::message::{MessageType, Metadata};
use shared::log::Delivery;
use shared::log::deliveries::DeliveryReceiver;
use shared::log::memory::MemoryLog;
use shared::process::clock::Clock;

use shared::contract::limits::STREAMS_BYTES_MAX;

use super::*;
use crate::stream::memory::MemoryStreamStore;

const SILENCE: Duration = Duration::from_secs(30);

struct Scene {
    buffers: Arc<StreamBuffers>,
    store: Arc<MemoryStreamStore>,
    deliveries: DeliveryReceiver,
    key: StreamKey,
    beginning: StreamHeader,
}

impl Scene {
    async fn new() -> Scene {
        let (log, deliveries) = MemoryLog::new(Clock::system(), 100);
        let broker = Arc::new(log);
        let key =
            StreamKey { room: RoomId::parse("r").unwrap(), id: MessageId::parse("a1").unwrap() };
        broker.subscribe(&key.room).await.unwrap();
        let store = Arc::new(MemoryStreamStore::default());
        let metrics = Arc::new(Metrics::register(&prometheus::Registry::new()));
        let buffers =
            Arc::new(StreamBuffers::new(store.clone(), broker, metrics, STREAMS_BYTES_MAX));
        let user = UserId::parse("bot").unwrap();
        let metadata = Metadata::default();
        let beginning = StreamHeader { user, kind: MessageType::Assistant, metadata };
        Scene { buffers, store, deliveries, key, beginning }
    }

    /// An answer that is new in store and buffers.
    async fn begun(&self) -> Arc<StreamBuffer> {
        assert_eq!(self.store.begin(&self.key, &self.beginning).await.unwrap(), ClaimResult::Begun);
        self.put()
    }

    fn put(&self) -> Arc<StreamBuffer> {
        let (beginning, text) = (self.beginning.clone(), String::new());
        self.buffers.put(&self.key, StoredStream { beginning, text, mine: true })
    }

    async fn shelved(&self) -> String {
        self.store.open_in(&self.key.room).await.unwrap()[0].1.text.clone()
    }

    /// Every part so far.
    fn parts(&mut self) -> Vec<StreamPart> {
        let mut parts = Vec::new();
        while let Ok(delivery) = self.deliveries.try_recv() {
            let Delivery::Signal(Signal::Room { what: RoomSignal::Stream(part), .. }) = delivery
            else {
                panic!("{delivery:?}")
            };
            parts.push(part);
        }
        parts
    }
}

/// The parts, one after the other; each has to begin where the one before ended.
fn joined(parts: &[StreamPart]) -> String {
    let mut text = String::new();
    for part in parts {
        assert_eq!(part.offset, text::units(&text));
        text.push_str(&part.delta);
    }
    text
}

#[tokio::test(start_paused = true)]
async fn deltas_gather_for_a_tick_and_each_is_told_once() {
    const TOKENS: usize = 4000;
    const PACE: Duration = Duration::from_millis(5);
    let mut scene = Scene::new().await;
    let answer = scene.begun().await;
    let (mut text, mut offset) = (String::new(), 0);
    let mut parts = Vec::new();
    for token in 0..TOKENS {
        let delta = format!("t{} ", token % 10);
        offset = scene.buffers.add(&answer, offset, &delta).unwrap();
        text.push_str(&delta);
        tokio::time::sleep(PACE).await;
        parts.extend(scene.parts());
    }
    tokio::time::sleep(2 * TICK).await;
    parts.extend(scene.parts());
    assert_eq!(joined(&parts), text, "what is told is the text, each of it once");
    let ticks = TOKENS * PACE.as_millis() as usize / TICK.as_millis() as usize;
    assert!(parts.len() <= ticks + 2, "{} parts in {ticks} ticks", parts.len());
    assert!(parts.len() >= ticks / 2, "{} parts: nothing waits long", parts.len());
    assert_eq!(scene.shelved().await, text);
}

#[tokio::test(start_paused = true)]
async fn a_delta_goes_out_at_once_when_nothing_is_under_way() {
    let mut scene = Scene::new().await;
    let answer = scene.begun().await;
    scene.buffers.add(&answer, 0, "first").unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(joined(&scene.parts()), "first");
}

#[tokio::test(start_paused = true)]
async fn what_is_offered_again_or_does_not_fit_is_told_to_nobody() {
    let mut scene = Scene::new().await;
    let answer = scene.begun().await;
    assert_eq!(scene.buffers.add(&answer, 0, "👍 yes"), Ok(6));
    assert_eq!(scene.buffers.add(&answer, 0, "👍 yes"), Ok(6));
    assert_eq!(scene.buffers.add(&answer, 3, "yes, no"), Ok(10));
    let gap = AppendError::Piece(PieceError::Gap { units: 10 });
    assert_eq!(scene.buffers.add(&answer, 11, "x"), Err(gap));
    let huge = "x".repeat(shared::contract::limits::CONTENT_BYTES_MAX);
    assert_eq!(scene.buffers.add(&answer, 10, &huge), Err(PieceError::TooLong.into()));
    scene.buffers.flush(&answer).await;
    assert_eq!(joined(&scene.parts()), "👍 yes, no");
    assert_eq!(answer.text(), "👍 yes, no");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_shelf_has_forgotten_is_put_there_anew_as_a_whole() {
    let mut scene = Scene::new().await;
    // In the buffers, and not in the stream store.
    let answer = scene.put();
    scene.buffers.add(&answer, 0, "one ").unwrap();
    scene.buffers.flush(&answer).await;
    scene.buffers.add(&answer, 4, "two").unwrap();
    scene.buffers.flush(&answer).await;
    assert_eq!(scene.shelved().await, "one two");
    assert_eq!(joined(&scene.parts()), "one two");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_closed_elsewhere_leaves_the_desk() {
    let mut scene = Scene::new().await;
    let answer = scene.begun().await;
    let beginning = scene.beginning.clone();
    let closed = ClosedStream { beginning, aborted: true, text: String::new() };
    scene.store.close(&scene.key, &closed).await.unwrap();
    scene.buffers.add(&answer, 0, "too late").unwrap();
    scene.buffers.flush(&answer).await;
    assert!(scene.buffers.get(&scene.key).is_none());
    assert_eq!(scene.buffers.add(&answer, 8, "!"), Err(AppendError::Gone));
    assert!(scene.parts().is_empty(), "nobody hears of it");
    assert_eq!(scene.buffers.bytes.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn any_delta_is_a_sign_of_life_and_silence_is_found() {
    let scene = Scene::new().await;
    let answer = scene.begun().await;
    for _ in 0..4 {
        tokio::time::sleep(SILENCE / 2).await;
        scene.buffers.add(&answer, 0, "").unwrap();
        tokio::time::sleep(TICK).await;
        assert!(scene.buffers.silent(SILENCE).is_empty());
        assert!(scene.store.silent(SILENCE).await.unwrap().is_empty());
    }
    tokio::time::sleep(SILENCE).await;
    assert_eq!(scene.buffers.silent(SILENCE), std::slice::from_ref(&scene.key));
    let silent = scene.store.silent(SILENCE).await.unwrap();
    assert_eq!(silent, std::slice::from_ref(&scene.key));
}

#[tokio::test(start_paused = true)]
async fn the_desk_holds_so_many_bytes_and_gives_them_back() {
    let scene = Scene::new().await;
    let answer = scene.begun().await;
    scene.buffers.bytes.store(STREAMS_BYTES_MAX - 10, Ordering::Relaxed);
    assert_eq!(scene.buffers.add(&answer, 0, "0123456789"), Ok(10));
    assert_eq!(scene.buffers.add(&answer, 10, "x"), Err(AppendError::Full));
    scene.buffers.close(&answer, false).await;
    assert_eq!(scene.buffers.bytes.load(Ordering::Relaxed), STREAMS_BYTES_MAX - 10);
}
