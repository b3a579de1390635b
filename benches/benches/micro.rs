//! Micro-benchmarks of the steps of a message: `cargo bench -p benches --bench micro`.

#![expect(missing_docs, reason = "criterion's macros make what nobody documents")]

mod inputs;

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join;
use gateway::micro::{FanOut, Rates, read_commands};
use shared::contract::envelope::Envelope;
use shared::contract::id::{MessageKey, UserId};
use shared::contract::position::Position;
use shared::contract::timestamp::Timestamp;
use shared::log::memory::MemoryLog;
use shared::log::{Append, Claim, Epoch, Hydration, Log, LogId, LogLoad, Past, Watermark};
use shared::process::clock::Clock;
use uuid::Uuid;

const MESSAGE_BYTES_MAX: usize = 1 << 20;

fn frames(criterion: &mut Criterion) {
    const FRAMES: usize = 64;
    let input = inputs::frames(FRAMES);
    let mut group = criterion.benchmark_group("commands from frames");
    group.throughput(Throughput::Elements(FRAMES as u64));
    group.bench_function("a message of 200 bytes", |bencher| {
        let read = |input| assert_eq!(read_commands(input, MESSAGE_BYTES_MAX), FRAMES);
        bencher.iter_batched(|| input.clone(), read, BatchSize::SmallInput);
    });
}

fn envelopes(criterion: &mut Criterion) {
    let envelope = inputs::envelope();
    let raw = Bytes::from(envelope.encode().expect("it fits"));
    let mut group = criterion.benchmark_group("envelope");
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&envelope).encode()));
    group.bench_function("decode", |bencher| bencher.iter(|| Envelope::decode(black_box(&raw))));
}

fn fan_out(criterion: &mut Criterion) {
    let raw = Bytes::from(inputs::envelope().encode().expect("it fits"));
    let mut group = criterion.benchmark_group("fan-out");
    for members in [1, 100, 10_000] {
        let room = FanOut::new(members);
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(BenchmarkId::from_parameter(members), |bencher| {
            bencher.iter(|| room.publish(black_box(&raw), 1));
        });
    }
}

/// An id that the log knows: it is answered where it stands.
fn dedup(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let (log, _deliveries) = MemoryLog::new(Clock::system(), 1000);
    let envelope = inputs::envelope();
    runtime.block_on(remember(&log, &envelope));
    let Envelope { room, user, id, .. } = envelope;
    let known = MessageKey { room, user, id };
    assert!(matches!(runtime.block_on(log.known(&known)), Ok(Some(_))));
    criterion.bench_function("dedup", |bencher| {
        bencher.iter(|| runtime.block_on(log.known(black_box(&known))));
    });
}

/// Has a log of its own remember an entry as one that is stored.
async fn remember(log: &MemoryLog, envelope: &Envelope) {
    let (shard, room) = (envelope.room.shard(), envelope.room.clone());
    let claim = log.claim(shard, 0, Uuid::nil()).await;
    assert!(matches!(claim, Ok(Claim::Token(_))), "nobody has claimed it");
    let epoch = Epoch { number: 1, minted_at: Timestamp(0), quiet: true };
    log.arm(shard, Uuid::nil(), epoch, LogId::ZERO).await.expect("it is armed");
    let (asked_at_ms, heads) = (Clock::system().now_ms(), vec![(room.clone(), Position::ZERO)]);
    let hydration = Hydration { shard, asked_at_ms, heads, refused: Vec::new() };
    log.hydrate(1, &hydration).await.expect("it has a head");
    let (envelope, digest) = (envelope.clone(), Uuid::nil());
    let entries = [Append { envelope, digest, cost: None, author: None }];
    let watermark = Watermark {
        shard,
        epoch: 1,
        upto: LogId { epoch: 1, n: 1 },
        rooms: vec![(room, Position::new(1, 1))],
        rejected: Vec::new(),
        forget: LogId::ZERO,
        balances: Vec::new(),
        ids: Vec::new(),
        load: LogLoad::default(),
        movements: Vec::new(),
    };
    // It is answered when it is stored.
    let (placed, stored) =
        join(log.append(shard, 1, &entries, Past::Nothing), log.trim(&watermark)).await;
    placed.expect("it is placed");
    stored.expect("it is stored");
}

fn rates(criterion: &mut Criterion) {
    let (rates, user) = (Rates::default(), UserId::parse("ann").expect("a user"));
    criterion.bench_function("rate limit", |bencher| {
        bencher.iter(|| rates.count(black_box(&user), u32::MAX, inputs::NOW_MS));
    });
}

criterion_group!(benches, frames, envelopes, fan_out, dedup, rates);
criterion_main!(benches);
