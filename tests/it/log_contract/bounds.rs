//! What a log holds at most, and what one reading of it gives, in entries and bytes.

use harness::eventually;
use shared::contract::limits::{LOG_BYTES_MAX, LOG_READ_BYTES_MAX, RING_BYTES_MAX};

use super::*;

/// The content of a large entry.
const LARGE: usize = 500 * 1024;

/// The content of one that is nearly as large as an envelope may be.
const LARGEST: usize = 1400 * 1024;

fn largest(room: &RoomId, n: usize) -> Append {
    entry(room, "ann", &format!("m{n}"), &"x".repeat(LARGEST))
}

fn large(room: &RoomId, n: usize) -> Append {
    entry(room, "ann", &format!("m{n}"), &"x".repeat(LARGE))
}

async fn until_persisted(log: &Arc<dyn Log>, room: &RoomId, upto: Position) {
    let persisted = || async {
        let page = log.room(room, upto.epoch, Position::MAX, 0).await.unwrap().unwrap();
        if page.persisted == upto { Ok(()) } else { Err(format!("{}", page.persisted)) }
    };
    eventually(PATIENCE, "the room is persisted", persisted).await;
}

/// The ring above the beginning, page by page, and the most bytes of a page.
async fn ring(log: &Arc<dyn Log>, room: &RoomId, epoch: u64) -> (Vec<Position>, usize, usize) {
    let (mut all, mut bytes, mut most) = (Vec::new(), 0, 0);
    loop {
        let after = all.last().copied().unwrap_or(Position::ZERO);
        let page = log.room(room, epoch, after, 1000).await.unwrap().unwrap();
        let size = page.entries.iter().map(|entry| entry.raw.len()).sum::<usize>();
        (bytes, most) = (bytes + size, most.max(size));
        all.extend(page.entries.iter().map(|entry| entry.position));
        if !page.more {
            return (all, bytes, most);
        }
    }
}

pub(super) async fn what_is_persisted_does_not_fill_the_log(subject: Subject) {
    const BATCH: u64 = ENTRIES_MAX as u64 / 3;
    let lobby = room("lobby");
    let (subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    for round in 1..=5 {
        let from = (round - 1) * BATCH;
        let batch: Vec<Append> =
            (from..from + BATCH).map(|n| entry(&lobby, "ann", &format!("m{n}"), "x")).collect();
        let answers = subject.append(epoch, &batch).await;
        assert_eq!((answers.done.len() as u64, answers.stop), (BATCH, None), "round {round}");
        until_persisted(&subject.log, &lobby, Position::new(epoch, round * BATCH)).await;
    }
}

pub(super) async fn a_log_is_full_by_its_bytes_too(subject: Subject) {
    let lobby = room("lobby");
    let shard = lobby.shard();
    let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let log = Arc::clone(&subject.log);
    let mut calls = Vec::new();
    // One at a time: a call of all of them would be too much for whoever waits for it.
    while log.len(shard).await.unwrap() == calls.len() as u64 {
        let (appending, next) = (Arc::clone(&subject.log), largest(&lobby, calls.len()));
        let wanted = calls.len() as u64 + 1;
        let call = tokio::spawn(async move {
            appending.append(shard, epoch, &[next], Past::Nothing).await.unwrap()
        });
        let taken = || async { call.is_finished() || log.len(shard).await.unwrap() == wanted };
        eventually(PATIENCE, "it is taken or refused", taken).await;
        calls.push(call);
    }
    let refused = calls.pop().unwrap().await.unwrap();
    assert_eq!((refused.done, refused.stop), (Vec::new(), Some(AppendStop::Full)));
    let accepted = calls.len();
    assert!((accepted * LARGEST).abs_diff(LOG_BYTES_MAX) < 2 * LARGEST, "{accepted} are in it");
    let (subject, _) = subject.at_work(shard).await;
    for call in calls {
        let answers = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap();
        assert_eq!((answers.done.len(), answers.stop), (1, None));
    }
    until_persisted(&subject.log, &lobby, Position::new(epoch, accepted as u64)).await;
    let answers = subject.append(epoch, &[largest(&lobby, accepted + 1)]).await;
    assert_eq!((answers.done.len(), answers.stop), (1, None), "there is room again");
}

pub(super) async fn a_reading_ends_at_its_bytes_and_the_next_goes_on(subject: Subject) {
    const COUNT: usize = 12;
    let lobby = room("lobby");
    let shard = lobby.shard();
    let epoch = establish(shard, 0, &*subject.log, &*subject.store).await.unwrap().number;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    let (log, appending) = (Arc::clone(&subject.log), Arc::clone(&subject.log));
    let batch: Vec<Append> = (0..COUNT).map(|n| large(&lobby, n)).collect();
    let appended = tokio::spawn(async move {
        appending.append(shard, epoch, &batch, Past::Nothing).await.unwrap()
    });
    let there = || async { log.len(shard).await.unwrap() == COUNT as u64 };
    eventually(PATIENCE, "the log has them", there).await;
    let most = LOG_READ_BYTES_MAX + 2 * LARGE;
    let (mut read, mut at) = (0, LogId::ZERO);
    loop {
        let page = log.read(shard, epoch, at, PageLimit::entries(1000)).await.unwrap();
        let Some(last) = page.last() else { break };
        (read, at) = (read + page.len(), last.id);
        assert!(page.iter().map(|entry| entry.raw.len()).sum::<usize>() < most);
    }
    assert_eq!(read, COUNT);

    let (subject, _) = subject.at_work(shard).await;
    appended.await.unwrap();
    let head = Position::new(epoch, COUNT as u64);
    until_persisted(&subject.log, &lobby, head).await;
    let (positions, _, largest) = ring(&subject.log, &lobby, epoch).await;
    assert_eq!((positions.len(), positions.last()), (COUNT, Some(&head)));
    assert!(largest < most, "{largest} bytes at once");
    let latest = subject.log.latest(&lobby, epoch, 1000).await.unwrap().unwrap();
    let last: Vec<Position> = latest.entries.iter().map(|entry| entry.position).collect();
    assert!(latest.more && last.len() < COUNT);
    assert_eq!(last, positions[COUNT - last.len()..]);
    let two = subject.log.latest(&lobby, epoch, 2).await.unwrap().unwrap();
    assert_eq!((two.entries.len(), two.entries[1].position), (2, head));
}

pub(super) async fn a_ring_keeps_so_many_bytes_of_what_is_persisted(subject: Subject) {
    const COUNT: usize = 2 * RING_BYTES_MAX / LARGE;
    let lobby = room("lobby");
    let (subject, epoch) = subject.at_work(lobby.shard()).await;
    subject.hydrate(epoch, &lobby, Position::ZERO).await;
    for n in 0..COUNT {
        subject.append(epoch, &[large(&lobby, n)]).await;
    }
    let head = Position::new(epoch, COUNT as u64);
    until_persisted(&subject.log, &lobby, head).await;
    let bounded = || async {
        let (positions, bytes, _) = ring(&subject.log, &lobby, epoch).await;
        assert_eq!(positions.last(), Some(&head));
        if bytes <= RING_BYTES_MAX { Ok(()) } else { Err(format!("{bytes} bytes")) }
    };
    eventually(PATIENCE, "the ring is cut", bounded).await;
    let (positions, _, _) = ring(&subject.log, &lobby, epoch).await;
    assert!(positions.len() > COUNT / 3, "{} are left", positions.len());
}
